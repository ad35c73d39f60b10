#!/usr/bin/env bash
# Addresses that guests have from others: droverd learns those of IPv6 from their neighbour discovery,
# and what it cannot see from their agent. Guests are namespaces (net-lib.sh), agents are of fakes.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
ip link add vmbr7 type bridge && ip link set vmbr7 up
ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up
ip -6 addr add 2001:db8::1/64 dev vmbr7 nodad
cat >"$W/script" <<'END'
reply guest-network-get-interfaces [{"name":"eth0","hardware-address":"52:54:00:00:00:77","ip-addresses":[{"ip-address-type":"ipv6","ip-address":"fe80::77","prefix":64},{"ip-address-type":"ipv4","ip-address":"192.0.2.77","prefix":24},{"ip-address-type":"ipv6","ip-address":"2001:db8:7::77","prefix":64}]}]
END
config <<END
on_exit = stop
[network office]
kind = bridge
bridge = vmbr7
[network lan]
kind = macvtap
port = lan0
[network lab]
kind = nat
cidr = 10.77.0.0/24
$(fake_template)
[vm one]
template = fake
network = office
network = lab
[vm two]
template = fake
network = lan mac=52:54:00:00:00:77
agent = yes
qemu_args = -fake-file
	$W/script
[vm three]
template = fake
network = lan
agent = yes
END
start_droverd
for m in one two three; do
	ok "machine $m" vm_wait $m running
done
addresses() { vm "$1" ".nics[$2].addresses | join(\" \")"; }
is "$(addresses one 0)" '' 'nothing is known of a guest that says nothing'
ok 'its guest' net_wire one
in_guest one ip link set eth0 up
in_guest one ip -6 addr add 2001:db8::5/64 dev eth0
in_guest one ip addr add 192.0.2.5/24 dev eth0
ip addr add 192.0.2.1/24 dev vmbr7
# While it still asks, it may speak under its address of the link; whoever speaks to this one asks for it.
v6() { ping -6 -c 1 -W 1 2001:db8::5; }
ok 'it speaks IPv6' wait_for 30 v6
known() { [ "$(addresses one 0)" = "$1" ]; }
ok 'and its address is known' wait_for 30 known 2001:db8::5
ok 'IPv4, too' wait_for 30 in_guest one ping -c 1 -W 1 192.0.2.1
ok 'both are' wait_for 30 known '192.0.2.5 2001:db8::5'
events() { drover events -o json | jq -r "select(.event == \"address\" and .name == \"$1\") | .address" | sort | xargs; }
is "$(events one)" '192.0.2.5 2001:db8::5' 'with an event each'
is "$(drover net show office -o json | jq -r '.nics[0] | "\(.address) \(.address6)"')" '192.0.2.5 2001:db8::5' \
	'the network shows them'
told() { [ "$(addresses two 0)" = '192.0.2.77 2001:db8:7::77' ]; }
ok 'what cannot be seen the agent tells' wait_for 60 told
is "$(events two)" '192.0.2.77 2001:db8:7::77' 'with an event each, too'
ok 'the list has it' says '^two +running +192\.0\.2\.77 ' drover list
is "$(addresses three 0)" '' 'an agent that cannot tell does no harm'
ok 'which is well' says running vm three .state
stop_droverd KILL
start_droverd
ok 'the next daemon asks again' wait_for 60 told
ok 'and hears' wait_for 60 v6
net_unwire one
ok 'droverd leaves' stop_droverd
done_testing

#!/usr/bin/env bash
# Networks that change while machines use them, and those on a bridge of the host's own: nobody's network
# is taken from under it, and the host has back what was its.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
ip link add host0 address 02:00:00:00:00:01 type bridge && ip link set host0 up
ip addr add 192.0.2.1/24 dev host0
ip netns add lan
ip link add lan0 type veth peer name eth0 netns lan
ip link set lan0 master host0 up
ip -n lan addr add 10.90.0.77/24 dev eth0 && ip -n lan link set eth0 up && ip -n lan link set lo up
busybox httpd -f -p 9998 -h "$W" &
HTTPD=$!

# configured CIDR [LINE]
configured() {
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[network lab]
	kind = nat
	cidr = $1
	open = ping
	[network host]
	kind = bridge
	bridge = host0
	cidr = 10.90.0.0/24
	gateway = 10.90.0.1
	$(fake_template)
	[vm stays]
	template = fake
	network = lab
	on_change = defer
	[vm goes]
	template = fake
	network = lab
	[vm guest]
	template = fake
	network = host
	${2-}
	END
}
configured 10.77.0.0/24
baseline
start_droverd
for m in stays goes guest; do
	vm_wait $m running
	ok "$m has an address" net_guest $m
done
gateway() { drover net show lab -o json | jq -r .gateway; }
problem() { drover net show lab -o json | jq -r .problem; }
address() { vm "$1" '.nics[0].addresses[0]' | sed 's:/.*::'; }

# ---- a bridge of the host's own ----
ok 'a machine reaches its gateway' reaches guest 10.90.0.1
ok 'the LAN is there, too' reaches guest 10.90.0.77
ok 'which reaches what it did of the host' in_guest lan curl -sm 5 -o "$W/none" http://10.90.0.1:9998/

# ---- a change that machines have to be stopped for ----
PID=$(vm_pid goes)
configured 10.88.0.0/24
ok 'another cidr' drover reload
another() { [ "$(vm_pid goes)" != "$PID" ] && vm_is goes running; }
await 60 another
ok 'one that shall not be disturbed runs on' vm_is stays running
is "$(gateway)" 10.77.0.1 'its network is as it was'
ok 'it reaches its gateway' reaches stays 10.77.0.1
ok 'one that was restarted is there, too' says '10\.77\.0\.' address goes
is "$(problem)" "its change waits until no machine uses it any more" 'which is told'
ok 'taken back' configured 10.77.0.0/24
drover reload >"$W/reload" 2>&1
no_problem() { [ "$(problem)" = null ]; }
ok 'there is nothing to wait for' wait_for 30 no_problem
configured 10.88.0.0/24
ok 'and another one again' drover reload
waits() { says waits problem; }
ok 'waits' wait_for 30 waits
net_unwire stays
net_unwire goes
ok 'when the machines stop' drover stop stays goes
changed() { [ "$(gateway)" = 10.88.0.1 ]; }
ok 'the network is changed' wait_for 60 changed
ok 'nothing is left of it' not says 10.77.0.1 ip addr
ok 'they start' drover start stays goes
for m in stays goes; do
	vm_wait $m running
	is "$(address $m | cut -d. -f1-3)" 10.88.0 "$m is on it"
done

# ---- an address that another one has ----
took=$(address goes)
configured 10.88.0.0/24 "[vm new]
template = fake
network = lab address=$took"
ok 'a new machine with the address of one that runs' drover reload
refused() { drover show new -o json | grep -q "address=$took is that of vm goes until it stops"; }
ok 'is refused with a sentence' wait_for 30 refused
ok 'the other one stops' drover stop goes
ok 'and the new one starts' drover start new
is "$(address new)" "$took" 'then it has it'
ok 'and the other one another' drover start goes
vm_wait goes running
ok 'indeed' test "$(address goes)" != "$took"

net_unwire guest
ok 'droverd leaves' stop_droverd
is "$(ip -o -4 addr show dev host0 | awk '{ print $4 }' | xargs)" 192.0.2.1/24 "the host's bridge has what it had"
audit_clean 'all'
kill $HTTPD
done_testing

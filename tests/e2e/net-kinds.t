#!/usr/bin/env bash
# One guest with a nic on each kind of network: routed, the host's own bridge with somebody else's
# DHCP, a bridge with a physical port behind which somebody is, isolated with a small mtu, p2p. The
# host's own bridge and the port are afterwards as they were.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
# What is beyond the host's links: the world, and two stations on cables.
station() { # station NAME LINK ADDRESS
	ip netns add "$1" && ip link add "$2" type veth peer name in0 netns "$1" &&
		ip -n "$1" addr add "$3" dev in0 && ip -n "$1" link set in0 up &&
		ip -n "$1" link set lo up
}
station world out0 203.0.113.2/24
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip netns exec world ip route add 10.81.0.0/24 via 203.0.113.1
ip netns exec world ip route add 10.83.0.0/24 via 203.0.113.1
station lan lan0 192.0.2.9/24
ip link add vmbr7 type bridge && ip addr add 192.0.2.1/24 dev vmbr7 && ip link set vmbr7 up
ip link set lan0 master vmbr7 up
ip netns exec lan dnsmasq -C /dev/null -k --port=0 --no-ping --interface=in0 --bind-interfaces \
	--dhcp-range=192.0.2.50,192.0.2.99,1h --dhcp-leasefile="$W/lan.leases" --dhcp-option=3 \
	>"$W/lan.log" 2>&1 &
station cable phys0 10.83.0.200/24
ip link set phys0 up && ip link set phys0 down # the first time is another
echo from >"$W/index.html" && ip netns exec world busybox httpd -f -v -p 80 -h "$W" >"$W/www.log" 2>&1 &
config <<END
on_exit = stop
reconcile_interval = 1h
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network direct]
kind = routed
cidr = 10.81.0.0/24
[network office]
kind = bridge
bridge = vmbr7
[network floor]
kind = bridge
cidr = 10.83.0.0/24
port = phys0
[network quiet]
kind = isolated
cidr = 10.84.0.0/29
mtu = 1300
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[vm many]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 128M
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
network = direct
network = office mac=52:54:00:00:00:77
network = floor
network = quiet address=10.84.0.6
network = taps
network = quiet address=none
[template nano]
kernel = $(nano)
memory = 16M
[vm routed]
template = nano
network = direct
[vm host]
template = nano
network = office
[vm port]
template = nano
network = floor
END
links() { ip -o link show dev "$1" | grep -oE "<[A-Z,_-]*>|mtu [0-9]+|master [a-z0-9]+"; }
before=$(links vmbr7; ip -4 -o addr show dev vmbr7; links phys0)
out0_is_up() { ip -6 -o addr show dev out0 | grep fe80; }
await 30 out0_is_up
start_origin
baseline
start_droverd
for m in routed host port many; do ok "$m runs" vm_wait $m running; done
ok 'the guest answers by its first nic' ssh_wait many

nic() { vm many ".nics[$1].$2"; }
addresses() { guest many "ip -4 -o addr show dev eth$1" | grep -oE '([0-9]+\.){3}[0-9]+/[0-9]+' || true; }
has() { [ "$(addresses "$1")" = "$2" ]; }
is "$(vm many '[.nics[].network] | join(" ")')" 'direct office floor quiet taps quiet' 'nics in their order'
first=$(nic 0 'addresses[0]')/24 third=$(nic 2 'addresses[0]')/24 last=$(nic 4 'addresses[0]')/30
ok 'an address of the routed network' has 0 "$first"
like "$first" '^10\.81\.0\.' 'which it is'
ok 'one from the DHCP that is on the bridge' wait_for 60 says '192\.0\.2\.[0-9]+/24' addresses 1
ok 'it is not ours' grep -q 52:54:00:00:00:77 "$W/lan.leases"
ok 'one of the network with a port' wait_for 60 has 2 "$third"
ok 'the one that was chosen' wait_for 60 has 3 10.84.0.6/29
ok 'and one of p2p' wait_for 60 has 4 "$last"
is "$(vm many '.nics[5].addresses | length') $(addresses 5)" '0 ' 'none for the one that wants none'
guest many 'ip link set eth3 down; ip addr add 10.84.0.5/29 dev eth5'
ok 'which may have any' ping -c 1 -W 5 10.84.0.5
guest many 'ip link set eth3 up' >/dev/null
known() { [ "$(nic "$1" 'addresses[0]')" = "$2" ]; }
ok 'and it is learned' wait_for 60 known 5 10.84.0.5
is "$(drover events -o json | jq -r 'select(.event == "address" and .network == "quiet") | .address')" \
	10.84.0.5 'and an event'
is "$(guest many 'cat /sys/class/net/eth0/mtu /sys/class/net/eth3/mtu' | xargs)" '1500 1300' \
	'the guest was told of the mtu'
bridge() { drover net show "$1" -o json | jq -r .bridge; }
quiet=$(bridge quiet) floor=$(bridge floor)
is "$(cat "/sys/class/net/$quiet/mtu" "/sys/class/net/$(nic 3 tap)/mtu" | xargs)" '1300 1300' \
	'bridge and TAP have it'
master() { basename "$(readlink "/sys/class/net/$1/master")"; }
is "$(master phys0) $(master "$(nic 2 tap)")" "$floor $floor" 'TAP and port are on one bridge'
is "$(master "$(nic 1 tap)") $(bridge office)" 'vmbr7 vmbr7' 'and another on the bridge of the host'
is "$(ip -4 -o addr show dev "$floor" | grep -o '10.83.0.1/24')" 10.83.0.1/24 'the host is on the bridge'

ping_from() { ip netns exec "$1" ping -c 1 -W 5 "$2"; }
ok 'the world reaches a routed guest' ping_from world "${first%/*}"
ok 'with whatever it likes' ip netns exec world bash -c "exec 3<>/dev/tcp/${first%/*}/22"
fetch() { guest many '(echo GET / HTTP/1.0; echo; sleep 1) | busybox nc -w 5 203.0.113.2 80'; }
ok 'it reaches the world' wait_for 30 says '^from' fetch
ok 'under its own address' grep -qF "${first%/*}]:" "$W/www.log" || diag "$(cat "$W/www.log")"
ok 'what is behind the port is reached' guest many 'busybox ping -c 1 -W 5 10.83.0.200'
ok 'and reaches it' ping_from cable "${third%/*}"
office=$(addresses 1)
ok 'as is who is on the bridge of the host' guest many 'busybox ping -c 1 -W 5 192.0.2.9'
guest many 'busybox arping -c 1 -I eth1 192.0.2.9' >/dev/null # it may know it without having asked
ok 'so what the DHCP of others has given is known' wait_for 60 known 1 "${office%/*}"
ok 'and so back' ping_from lan "${office%/*}"
ok 'the host, too' ping -c 1 -W 5 "${office%/*}"
ok 'the world does not reach the isolated one' not ping_from world 10.84.0.6
ok 'all are up' drover net check

like "$(drover net graph)" $'direct \\(routed, 10.81.0.0/24\\) on dbr[0-9a-f]+\n  => the world, under its own addresses\n(  -- routed [^\n]*\n)?  -- many +nic0 +10.81.0' \
	'a picture of it'
ok 'with the port' says '^  => phys0$' drover net graph
ok 'for graphviz' says '"net quiet" -- "vm many" \[label="10.84.0.6"\];' drover net graph --dot
is "$(drover net graph --svg | python3 -c 'import sys, xml.dom.minidom as x
print(len(x.parse(sys.stdin).getElementsByTagName("line")))')" 9 'and drawn, with a line for each nic'
pid=$(vm_pid many)
stop_droverd KILL
ip link set phys0 nomaster
start_droverd
is "$(vm_pid many)" "$pid" 'the next daemon takes it up'
ok 'with the port' wait_for 60 guest many 'busybox ping -c 1 -W 5 10.83.0.200'
is "$(drover net list -o json | jq -r '[.[] | select(.name != "taps") | .state] | unique | .[]')" up \
	'all networks are up'
ok 'droverd leaves, and its machines' stop_droverd
is "$(links vmbr7; ip -4 -o addr show dev vmbr7; links phys0)" "$before" \
	'bridge and port of the host are as they were'
is "$(master lan0)" vmbr7 'as is who was on it'
ok 'and works as before' ping -c 1 -W 5 192.0.2.9
audit_clean 'all'
done_testing

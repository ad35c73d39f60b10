#!/usr/bin/env bash
# What would keep a network with a bridge from working is found before anything of it is made, and
# said in one sentence; and when it is out of the way, the network comes up by itself.
. "$(dirname "$0")/lib.sh"
world
command -v dnsmasq >/dev/null || skip_all 'dnsmasq is not installed'
# one KIND LINE...: droverd with this network alone.
one() {
	config <<-END
	on_exit = stop
	[network lab]
	kind = $1
	$(printf '%s\n' "${@:2}")
	END
}
problem() { drover net check lab -o json | jq -r '.[].problem'; }
links() { ip -o link show type bridge | cut -d: -f2; }
# refused TEXT WHAT: the network does not come up, with a sentence, and nothing is there.
refused() {
	start_droverd
	ok "$2" wait_for "$patience" says "$1" problem || diag "$(problem)"
	is "$(links) $(pgrep -c -f -- --dhcp-hostsdir) $(cat /proc/sys/net/ipv4/ip_forward)" "$before" \
		'nothing was made'
}
# comes: what was in the way has gone.
comes() {
	up() { [ "$(drover net show lab -o json | jq -r .state)" = up ]; }
	ok "$1" wait_for "$patience" up
	stop_droverd || fail 'it leaves'
}
snapshot() { before="$(links) 0 0"; }
echo 0 >/proc/sys/net/ipv4/ip_forward

# ---- ports ----
baseline
snapshot
socat -u UDP-LISTEN:67 /dev/null &
holder=$!
bound() { ss -Huln "sport = :$1" | grep .; }
await 30 bound 67
one nat 'cidr = 10.80.0.0/24'
refused "UDP port 67 is taken by socat \(pid $holder\): machines could get no address" 'DHCP'\''s port'
kill $holder && wait $holder
comes 'the port is free'
socat -u UDP-LISTEN:53 /dev/null &
holder=$!
await 30 bound 53
refused "UDP port 53 is taken by socat \(pid $holder\)" 'the port of DNS'
kill $holder && wait $holder
comes 'the port is free'
audit_clean 'ports'

# ---- addresses ----
ip link add lan0 type veth peer name lan1 && ip addr add 10.80.0.77/25 dev lan0 && ip link set lan0 up
ip link set lan1 up
snapshot
refused '10\.80\.0\.0/24 is in use on this host: .*lan0' 'an address of the host'
ip addr del 10.80.0.77/25 dev lan0
comes 'the address is gone'
ip route add 10.80.0.0/26 dev lan0
refused '10\.80\.0\.0/24 is in use on this host: ' 'a route of the host'
ip route del 10.80.0.0/26 dev lan0
comes 'the route is gone'

# ---- links ----
ip link add br-mine type veth peer name other
one nat 'cidr = 10.80.0.0/24' 'bridge = br-mine'
refused 'there is a link br-mine already, which is not ours; choose another name' 'a name that is taken'
ip link del br-mine
comes 'the name is free'
ip link add br-mine type bridge
snapshot
refused 'there is a bridge br-mine already, which is not ours' 'by a bridge, too'
ip link del br-mine
comes 'it is gone'
snapshot
one bridge 'cidr = 10.80.0.0/24' 'port = none0'
refused 'port none0: ' 'a port that is not there'
ip link add none0 type veth peer name none1
comes 'a port that comes'
ip link add br-mine type bridge && ip link set none0 master br-mine
snapshot
refused 'none0 is a port of another bridge' 'a port of another bridge'
ip link set none0 nomaster
comes 'it is free'
ip link del br-mine
snapshot
one bridge 'cidr = 10.80.0.0/24' 'port = none0' 'vlan = 5'
if ip link add link none0 name none0.9 type vlan id 9 2>/dev/null; then
	ip link del none0.9
	start_droverd
	comes 'a port with a VLAN'
else
	start_droverd
	ok 'a kernel without VLANs' wait_for "$patience" says \
		'VLAN 5 of none0: this kernel has no 802\.1Q VLANs \(module 8021q\)' problem
	stop_droverd || fail 'it leaves'
fi
is "$(links)$(ip -o link show up dev none0)" '' 'nothing is left of it'

# ---- programs, and what the host does not permit ----
one nat 'cidr = 10.80.0.0/24'
dnsmasq=$(command -v dnsmasq)
mount --bind /dev/null "$dnsmasq"
start_droverd
ok 'a program that is missing' wait_for "$patience" says 'dnsmasq is not installed \(Debian package dnsmasq-base\)' problem
is "$(links) $(cat /proc/sys/net/ipv4/ip_forward)" ' 0' 'nothing was made'
umount "$dnsmasq"
comes 'it is installed'
mount --bind /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_forward
mount -o remount,bind,ro /proc/sys/net/ipv4/ip_forward
refused 'ip_forward.*Read-only file system' 'forwarding that cannot be turned on'
umount /proc/sys/net/ipv4/ip_forward
comes 'it can be turned on'
ip link del lan0
ip link del none0
audit_clean 'all'
done_testing

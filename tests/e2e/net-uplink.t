#!/usr/bin/env bash
# The host's way to the world becomes another one: told for the networks whose machines leave by it,
# whose guests go on, and where the host takes its routes by RA, it goes on to.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
for i in 0 1; do
	ip netns add world$i
	ip link add out$i type veth peer name in0 netns world$i
	ip addr add 203.0.$i.1/24 dev out$i && ip link set out$i up
	ip -n world$i addr add 203.0.$i.2/24 dev in0 && ip -n world$i link set in0 up
	ip -n world$i addr add 198.51.100.1/32 dev in0 && ip -n world$i link set lo up
done
ip route add default via 203.0.0.2 dev out0
config <<END
on_exit = stop
reconcile_interval = 1h
[network lab]
kind = nat
cidr = 10.77.0.0/24
cidr6 = fd00:77::/64
[network quiet]
kind = isolated
cidr = 10.78.0.0/24
$(fake_template)
[vm a]
template = fake
network = lab
END
start_droverd
ok 'a machine' vm_wait a running
ok 'its guest' net_guest a
ok 'reaches the world' reaches a 198.51.100.1
uplinks() { drover events -o json | jq -r 'select(.event == "uplink") | "\(.name) \(.family) \(.from) \(.to)"'; }
last_is() { [ "$(uplinks | tail -n 1)" = "$1" ]; }
is "$(uplinks)" '' 'what there was at the start is no news'
ip route replace default via 203.0.1.2 dev out1
ok 'another uplink is told' wait_for 60 last_is 'lab IPv4 out0 out1'
ok 'with a sentence' says 'IPv4 reaches the world by out1 now, and not by out0' grep uplink "$W/state/events.jsonl"
ok 'the guest reaches the world' reaches a 198.51.100.1
ip route add default via 203.0.0.2 dev out0 metric 100
ip link set out1 down
ok 'one that went down is told, and the one that is left' wait_for 60 last_is 'lab IPv4 out1 out0'
ok 'the guest goes on' reaches a 198.51.100.1
ip route del default
ok 'none is told' wait_for 60 last_is 'lab IPv4 out0 null'

# A link that comes later: without droverd the host would take its routes from the router there.
ip netns add world2
ip link add out2 type veth peer name in0 netns world2
ip -n world2 link set in0 up && ip -n world2 link set lo up
ip -n world2 -6 addr add 2001:db8:2::1/64 dev in0 nodad
ip netns exec world2 dnsmasq -C /dev/null -k --port=0 --interface=in0 --bind-interfaces --enable-ra \
	--dhcp-range=2001:db8:2::,ra-only --ra-param=in0,4,1800 --pid-file= >"$W/ra.log" 2>&1 &
router=$!
ip link set out2 up
ok 'a new one of IPv6, by RA, is told' wait_for 60 last_is 'lab IPv6 null out2'
accepts() { [ "$(cat "/proc/sys/net/ipv6/conf/$1/accept_ra")" = "$2" ]; }
ok 'as it goes on to be' accepts out2 2
is "$(uplinks | grep -c quiet)" 0 'who does not leave hears nothing'
net_unwire a
ok 'droverd leaves' stop_droverd
ok 'and the link is as it was' accepts out2 1
kill $router && wait $router
done_testing

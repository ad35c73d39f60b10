#!/usr/bin/env bash
# IPv6 of a real guest, whose kernel makes its addresses up from what it is told: on p2p, where each
# machine has a prefix of its own, and as the second nic on a network with a bridge.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 2001:db8:f::1/64 dev out0 nodad && ip link set out0 up
ip -n world addr add 2001:db8:f::2/64 dev in0 nodad && ip -n world link set in0 up
ip -n world link set lo up
ip -n world route add 2001:db8:2::/64 via 2001:db8:f::1
config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[registry cache]
	upstream = http://$ORIGIN_HOST
	listen = 127.0.0.1:5000
	[network taps]
	cidr = 172.16.0.0/24
	cidr6 = fd00:10::/58
	ra_autonomous = yes
	dns6 = 2001:db8:f::53
	[network pairs]
	cidr = 172.17.0.0/16
	cidr6 = fd00:20::/64
	length6 = 127
	nat6 = no
	[network made]
	kind = routed
	cidr = 10.78.0.0/24
	bridge = made0
	cidr6 = 2001:db8:2::/64
	[key test]
	file = $W/key.pub
	[vm one]
	kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
	rootfs = $ORIGIN_HOST/test/guest-image:1
	memory = 128M
	ssh_key = test
	cmdline = console=ttyS0 panic=-1 quiet mitigations=off
	network = taps
	  made
	[vm two]
	kernel = $(nano)
	memory = 16M
	accel = tcg
	network = pairs
END
start_origin
baseline
start_droverd
ok 'a guest answers' ssh_wait one
slot=$(($(vm one .address | awk -F. '{ print $4 }') / 4))
prefix=$(printf 'fd00:10:0:%x:' $slot)
[ $slot != 0 ] || prefix=fd00:10::
is "$(vm one '.nics[0].addresses[1]')" "$(sed 's/:$/::2/; s/:::*2/::2/' <<<"$prefix")" \
	'its prefix stands where its subnet does'
addresses() { guest one "busybox ip -6 addr show dev $1 scope global"; }
ok 'it makes up an address of its own' wait_for 60 says "$prefix" addresses eth0
ok 'its way out is the host' says '^default via fe80::1 dev eth0' guest one busybox ip -6 route show default
ok 'the world is reached' wait_for 60 guest one busybox ping -6 -c 1 -W 5 2001:db8:f::2
guest one 'busybox ip link set eth1 up'
ok 'another on the bridge' wait_for 60 says 2001:db8:2: addresses eth1
made=$(addresses eth1 | awk '/inet6/ { sub("/.*", "", $2); print $2; exit }')
# The other nic has a router, too, and from there this address is not its own.
one_way='while busybox ip -6 route del default dev eth0 2>/dev/null; do :; done'
reached() { guest one "$one_way"; ip netns exec world ping -6 -c 1 -W 5 "$made"; }
ok 'under which it is reached' wait_for 60 reached
forged="$one_way"'
	busybox ip addr add 2001:db8:2::bad/64 dev eth1; busybox ip addr add fd00:bad::1/64 dev eth1
	busybox ping -6 -I 2001:db8:2::bad -c 1 -W 5 2001:db8:f::2 && ! busybox ping -6 -I fd00:bad::1 -c 1 -W 2 2001:db8:f::2'
ok 'another of its prefix is well, one of none is not' wait_for 60 guest one "$forged"

tap=$(vm two '.nics[0].tap')
like "$(vm two '.nics[0].addresses[1]')" '^fd00:20::' 'a pair of addresses has one for the machine'
host=$(vm two '.nics[0].addresses[1]')
ok 'and one for the host' says 'inet6 fd00:20::[0-9a-f:]*/127' ip -6 addr show dev "$tap"
ok 'beside each other' says "^$host .*dev $tap" ip -6 route get "$host"
running() { pgrep -f -- "--interface=$tap.*--dhcp-range=fd00:20::.*static,127,"; }
ok 'which its dnsmasq tells' running
pid=$(vm_pid one)
ip -6 addr flush dev "$tap"
mended() { ip -6 addr show dev "$tap" | grep -q /127; }
ok 'addresses that are taken away are back' wait_for 60 mended
stop_droverd KILL
start_droverd
is "$(vm_pid one) $(vm two '.nics[0].addresses[1]')" "$pid $host" 'the next droverd takes it up'
ok 'the world is there' wait_for 60 guest one busybox ping -6 -I eth0 -c 1 -W 5 2001:db8:f::2
ok 'droverd leaves, and its machines' stop_droverd
is "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" 0 'forwarding is as it was'
audit_clean 'all'
done_testing

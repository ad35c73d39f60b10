#!/usr/bin/env bash
# Names on a network of kind = p2p, where each machine has a DHCP server of its own: guests that know
# what that told them find each other, records and the world; a network that serves no names is as ever.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip -6 addr add fd99::1/64 dev out0 nodad && ip link set out0 up
ip -n world -6 addr add fd99::2/64 dev in0 nodad
ip -n world link set in0 up && ip -n world link set lo up
ip netns exec world dnsmasq -C /dev/null -k --pid-file= --no-resolv --no-hosts --interface=in0 \
	--bind-dynamic --address=/#/198.51.100.9 &
config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
kind = p2p
cidr = 172.16.0.0/16
domain = taps.test
dns = fd99::2
record = real.example = 10.0.0.5
[network plain]
kind = p2p
cidr = 172.20.0.0/16
dns = 1.1.1.1
[key test]
file = $W/key.pub
[template linux]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 128M
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
[vm one]
template = linux
network = taps
[vm two]
template = linux
network = taps
[vm three]
template = linux
network = plain
END
start_origin
baseline
start_droverd
for m in one two three; do ok "$m answers ssh" ssh_wait $m; done
one=$(vm one .address) two=$(vm two .address)
router=${one%.*}.$((${one##*.} - 1))
told() { guest "$1" cat /etc/resolv.conf | awk '$1 == "nameserver" { print $2 }' | xargs; }
is "$(told one)" "$router" 'a guest is told to ask its router'
is "$(told three)" 1.1.1.1 'or the server that is configured, where no names are served'
name() { guest "$1" busybox nslookup "$2" "$(told "$1")"; }
ok 'another is found by its name' says "Address.*$two" name one two.taps.test
ok 'and the other way' says "Address.*$one" name two one.taps.test
ok 'reverse' says 'name = two.taps.test' name one "$two"
ok 'a record' says 'Address.*10\.0\.0\.5' name two real.example
ok 'and the world, by an upstream of IPv6' says 'Address.*198\.51\.100\.9' name one other.example
ok 'one is stopped' drover stop two
ok 'and its name is gone' wait_for "$patience" not says "$two" name one two.taps.test
stop_droverd KILL
start_droverd
ok 'it starts with a later droverd' drover start two
ok 'and has its name again' wait_for "$patience" says "Address.*$two" name one two.taps.test
ok 'droverd leaves, and its machines' stop_droverd
audit_clean 'names'
done_testing

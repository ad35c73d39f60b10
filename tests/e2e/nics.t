#!/usr/bin/env bash
# Nics that come to a running machine and go again: own TAP, address and dnsmasq; known to the next
# droverd; gone with the run. On a Linux guest that takes them and lets go of them, on one that does
# not, and on a cloud-hypervisor.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
kernel=$(nano)
config <<END
on_exit = stop
probe_interval = 200ms
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[network more]
cidr = 172.20.0.0/16
[key test]
file = $W/key.pub
[vm web]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
accel = tcg
network = taps
hotplug_slots = 2
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
[vm deaf]
kernel = $kernel
memory = 16M
accel = tcg
machine = pc
stop_timeout = 1
[vm none]
kernel = $kernel
memory = 16M
accel = tcg
[vm ch]
hypervisor = cloud-hypervisor
binary = $B/fakes/fake-ch
kernel = $B/e2e/nano64.elf
memory = 64M
network = taps
stop_timeout = 1
END
start_origin
baseline
start_droverd
for m in deaf none ch web; do ok "$m runs" vm_wait $m running; done

ids() {
	drover nic list "$1" -o json |
		jq -r '[.[] | .name + ":" + .network + (if .added then "+" else "" end)] | join(" ")'
}
dnsmasqs() { pgrep -c -f "dnsmasq.*$1" || true; }
there() { # there TAP: all that belongs to it
	ip link show dev "$1" && [ "$(dnsmasqs "$1")" = 1 ] && nft list table inet drover | grep -q "$1"
}
nowhere() { # nowhere TAP
	[ -n "$1" ] && ! ip link show dev "$1" && [ "$(dnsmasqs "$1")" = 0 ] &&
		! nft list table inet drover | grep -q "$1" && ! grep -rq "$1" /run/drover/ledger
}

# A guest that knows how to take a nic.
ok 'the guest answers' ssh_wait web
pid=$(vm_pid web)
is "$(ids web)" nic0:taps 'the nic of its own is listed'
ok 'a nic is added' drover nic add web --network more --mac 52:54:00:ab:cd:ee
is "$(ids web)" 'nic0:taps nic1:more+' 'it is listed, as added'
like "$(drover nic list web | tail -n 1)" \
	'^nic1 +more +52:54:00:ab:cd:ee +tap[0-9a-f]{12} +172\.20\.[0-9.]+ +yes$' 'with its address'
tap=$(vm web '.nics[1].tap') address=$(vm web '.nics[1].addresses[0]') address=${address%%/*}
ok 'TAP, dnsmasq and firewall are there' there "$tap"
ok 'the guest has it' wait_for 60 guest web 'grep -qi 52:54:00:ab:cd:ee /sys/class/net/*/address'
lease() {
	guest web 'd=$(grep -li 52:54:00:ab:cd:ee /sys/class/net/*/address | cut -d/ -f5) &&
		ip link set $d up && udhcpc -n -q -t 10 -i $d -s /bin/true 2>&1' | grep "$address"
}
ok 'and is offered its address there' wait_for 60 lease
is "$(vm web .address)" "$(vm web '.nics[0].addresses[0]')" 'the first address stays'
is "$(vm web '.conditions | length')" 0 'nothing is wrong'

# What cannot be.
refused() { # refused TEXT ARGUMENT...
	local text
	text=$(drover nic "${@:2}" 2>&1)
	like "$?,$text" "^[12345],drover: $1" "refused: ${*:2}"
}
refused "vm web: there is no network 'nope'" add web --network nope
refused "vm web: '52:54:00:ab:cd' is no MAC" add web --network more --mac 52:54:00:ab:cd
refused "vm web: '53:54:00:ab:cd:ee' is no MAC" add web --network more --mac 53:54:00:ab:cd:ee
refused 'vm web: 52:54:00:ab:cd:ee is the MAC of nic1 of vm web' \
	add web --network more --mac 52:54:00:ab:cd:ee
refused "vm web: it has no nic 'nic7'" remove web nic7
refused 'vm web: nic0 is in its configuration' remove web nic0
refused 'vm none: QEMU .* cannot do add-nic here: it has no slots' add none --network taps
refused '--network is not given' add web
like "$(drover snapshot create web s 2>&1)" 'it has nics that were added to this run' \
	'no snapshot of what the next run would not have'

# The next droverd.
stop_droverd KILL
start_droverd
ok 'adopted' vm_wait web running
is "$(vm_pid web) $(ids web)" "$pid nic0:taps nic1:more+" 'the next droverd knows it'
ok 'what belongs to it is there' there "$tap"
quiet() { [ "$(api GET /doctor | jq '.differences | length')" = 0 ]; }
ok 'nothing is amiss' wait_for 30 quiet
ip link del "$tap"
ok 'its TAP comes back, too' wait_for 60 there "$tap"
has_address() { ip -4 address show dev "$tap" | grep -q 172.20.; }
ok 'with its address' wait_for 30 has_address
ok 'the guest is offered its address' wait_for 60 lease
ok 'another one' drover nic add web --network taps
tap2=$(vm web '.nics[2].tap')

# Out again.
ok 'it is removed' drover nic remove web nic1
is "$(ids web)" 'nic0:taps nic2:taps+' 'the others keep their names'
ok 'nothing of it is left' nowhere "$tap"
ok 'the guest has let go' not guest web 'grep -qi 52:54:00:ab:cd:ee /sys/class/net/*/address'
stop_droverd KILL
start_droverd
is "$(vm_pid web) $(ids web)" "$pid nic0:taps nic2:taps+" 'the next droverd sees the gap'
ok 'its place is given again' drover nic add web --network more
is "$(ids web)" 'nic0:taps nic1:more+ nic2:taps+' 'to the next one'
is "$(vm_pid web)" "$pid" 'all that in one process'

# A guest without a driver lets go only when it is reset. What an earlier daemon had begun is ended.
ok 'a machine without any takes one' drover nic add deaf --network taps
is "$(ids deaf)" nic0:taps+ 'as its first'
dtap=$(vm deaf '.nics[0].tap')
drover nic remove deaf nic0 >"$W/removed" 2>&1 &
removing=$!
begun() { jq -r '.nics[0].stage' "$W/state/vm/deaf/state.json" | grep -q removing; }
ok 'the guest holds it' wait_for 60 begun
ok 'meanwhile the machine is busy' says 'busy with remove-nic' drover nic add deaf --network more
stop_droverd KILL
wait $removing
start_droverd
ok 'what was begun goes on' says 'nic0 is being taken away' drover nic add deaf --network more
drover qmp --write deaf system_reset >/dev/null
gone() { [ "$(ids deaf)" = '' ]; }
ok 'and ends when the guest lets go' wait_for 60 gone
ok 'with nothing left' nowhere "$dtap"

# The end of the run.
ok 'one more' drover nic add deaf --network more
dtap=$(vm deaf '.nics[0].tap')
kill -KILL "$(vm_pid deaf)"
ok 'it goes with the run' wait_for 60 nowhere "$dtap"
ok 'and is not listed any more' wait_for 60 gone
ok 'the next run' drover start deaf
is "$(ids deaf)" '' 'begins without it'

# The same on cloud-hypervisor.
ok 'cloud-hypervisor: a nic is added' drover nic add ch --network more
is "$(ids ch)" 'nic0:taps nic1:more+' 'it is listed'
ctap=$(vm ch '.nics[1].tap')
ok 'and all there' there "$ctap"
ch_nics() { drover ch ch GET /vm.info | jq -c '[.config.net[].id]'; }
is "$(ch_nics)" '["nic0","nic1"]' 'the hypervisor has it'
pid=$(vm_pid ch)
stop_droverd KILL
start_droverd
is "$(vm_pid ch) $(ids ch)" "$pid nic0:taps nic1:more+" 'adopted with it'
ok 'removed' drover nic remove ch nic1
is "$(ch_nics)" '["nic0"]' 'it is gone'
ok 'with nothing left' nowhere "$ctap"
ok 'once more, for the end' drover nic add ch --network more
ctap=$(vm ch '.nics[1].tap')

ok 'stop' drover stop web deaf none ch --timeout 100
is "$(ids web) $(ids ch)" 'nic0:taps nic0:taps' 'what was added went with the run'
ok 'all of it' nowhere "$tap2"
ok 'there, too' nowhere "$ctap"
stop_droverd
audit_clean nics
done_testing

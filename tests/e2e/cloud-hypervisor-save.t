#!/usr/bin/env bash
# A machine on cloud-hypervisor (the fake one): its snapshot, a restore of it, and suspend, over the
# command line.
. "$(dirname "$0")/lib.sh"
world
nano >/dev/null
disk=$(nano_disk)
mkdir -p "$W/bin"
# scripted NAME DIRECTIVES: a fake that misbehaves; prints its path.
scripted() {
	ln -sf "$B/fakes/fake-ch" "$W/bin/$1"
	printf '%s\n' "${@:2}" >"$W/bin/$1.script"
	echo "$W/bin/$1"
}
config <<END
[network taps]
cidr = 172.16.0.0/16
[template ch]
hypervisor = cloud-hypervisor
binary = $B/fakes/fake-ch
kernel = $B/e2e/nano64.elf
memory = 64M
stop_timeout = 3
autostart = no
[vm one]
template = ch
rootfs = $disk
network = taps
volume = data size=1M
[vm full]
template = ch
binary = $(scripted full 'error vm.snapshot 500 ["The VM could not be snapshotted","No space left on device"]')
[vm stuck]
template = ch
binary = $(scripted stuck 'error vm.restore 500 ["The VM could not be restored","Error opening VM state snapshot file"]')
[vm lingers]
template = ch
binary = $(scripted lingers 'wait vmm.shutdown 3000')
END
baseline
start_droverd
dir=$W/state/vm/one
mark() {
	printf '%s' "$1" | dd of="$dir/disk.raw" bs=1 seek=3000000 conv=notrunc status=none
	printf '%s' "$1" | dd of="$dir/volume-data.raw" bs=1 seek=500000 conv=notrunc status=none
}
marked() {
	[ "$(dd if="$dir/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ] &&
		[ "$(dd if="$dir/volume-data.raw" bs=1 skip=500000 count=3 status=none)" = "$1" ]
}
left() { find "$W/state/vm" \( -name '*.tmp' -o -name '*.restore' -o -name '*.before' \) | grep .; }
letter() { printf %s "$2" | socat -u - "UNIX-CONNECT:$(vm "$1" .console)"; }
# Each letter counts in its memory, and this one tells.
count() { letter "$1" c && wait_for 60 console_has "$1" "COUNTER $2"; }
runs() { [ "$(drover ch "$1" GET /vm.info | jq -r .state)" = Running ]; }
booted() { drover log one | grep -c FAKE-READY; }

ok 'it starts' drover start one
ok 'its guest is up' wait_for 60 console_has one FAKE-READY
ok 'and counts' count one 1
mark one
pid=$(vm_pid one) tap=$(vm one '.nics[0].tap')
ok 'a snapshot' drover snapshot create one first
is "$(vm_pid one)" "$pid" 'it runs on in its process'
ok 'its guest, too' runs one
is "$(drover snapshot show one first -o json | jq -c '[.hypervisor, .kind, [.files[].name | select(test("^(disk|vol)"))], (.files | length)]')" \
	'["cloud-hypervisor","full",["disk0","volume-data"],5]' 'it holds memory and disks'
ok 'the guest counts on' count one 2
mark two
ok 'restored' drover snapshot restore one first
ok 'it runs, as another process' runs_anew one "$pid"
ok 'its guest goes on' runs one
ok 'its disks are those of then' marked one
ok 'it counts from where it was' count one 2
is "$(vm one '.nics[0].tap')" "$tap" 'on its own TAP'
ok 'whose carrier is up' wait_for 30 grep -q 1 "/sys/class/net/$tap/carrier"
is "$(booted)" 0 'it did not boot'
ok 'nothing unfinished lies about' wait_for "$patience" not left

ok 'suspended' drover suspend one
is "$(vm one '.state + " " + (.pid | tostring)')" 'suspended null' 'it has no process'
stop_droverd KILL
start_droverd
ok 'the next droverd knows' vm_wait one suspended
ok 'resumed' drover resume one
ok 'it counts from where it was' count one 3
ok 'its guest runs' runs one
is "$(booted)" 0 'it did not boot'

pid=$(vm_pid one)
ok 'droverd is killed' stop_droverd KILL
start_droverd
ok 'the restored one is adopted' vm_wait one running
is "$(vm_pid one)" "$pid" 'in the same process'
ok 'and its snapshots are there' drover snapshot show one first
ok 'a paused guest' drover pause one
ok 'is suspended' drover suspend one
ok 'and taken up' drover resume one
is "$(vm one .state)" paused 'it is paused as it was'
ok 'stop' drover kill one

# It refuses.
ok 'one whose disk is full runs' drover start full
like "$(drover snapshot create full s 2>&1)" 'No space left on device' 'what it says is passed on'
ok 'its guest runs on' runs full
like "$(drover suspend full 2>&1)" 'No space left on device' 'likewise of a suspend'
ok 'after which it runs on' runs full
is "$(vm full .state)" running 'and is called running'
ok 'nothing unfinished lies about' wait_for "$patience" not left
ok 'one that cannot load' drover start stuck
ok 'is suspended' drover suspend stuck
like "$(drover resume stuck 2>&1)" 'Error opening VM state snapshot file' 'why it cannot go on is said'
ok 'what it was suspended with is kept' test -d "$W/state/vm/stuck/suspend"
rm "$W/bin/stuck.script"
ok 'it goes on when it can' drover resume stuck
ok 'its guest runs' runs stuck

# A stop that comes when the memory is on disk already does not let the guest run again.
ok 'one that takes its time to end' drover start lingers
ok 'its guest is up' wait_for 60 console_has lingers FAKE-READY
drover suspend lingers >"$W/suspend" 2>&1 &
suspending=$!
put_down() { jq '.suspended' "$W/state/vm/lingers/state.json" | grep -q true && vm_is lingers stopping; }
ok 'its memory is on disk, and it ends' wait_for "$patience" put_down
ok 'a stop' drover stop lingers
wait $suspending
is "$?,$(cat "$W/suspend")" '0,lingers suspended' 'is no failure of the suspend'
is "$(vm lingers .state)" suspended 'which it is'
ok 'its guest was not let run again' not says '(resume|power)' drover why lingers
ok 'and goes on now' drover resume lingers
is "$(drover log lingers | grep -c FAKE-READY)" 0 'where it was'
ok 'killed' drover kill lingers
ok 'kill' eval 'drover kill stuck && drover kill full'
ok 'droverd leaves' stop_droverd
audit_clean 'after all'
done_testing

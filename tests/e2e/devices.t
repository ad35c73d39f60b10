#!/usr/bin/env bash
# What is asked of a run while it lasts: reset, NMI, disks, size, counters, picture, core; what was
# added is still known to the next droverd, and goes with the run.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 3
network = taps
[vm roomy]
template = nano
machine = pc
qemu_args = -device VGA
[vm slots]
template = nano
hotplug_slots = 1
[vm none]
template = nano
[vm micro]
template = nano
machine = microvm
END
baseline
start_droverd
for m in roomy slots none micro; do
	ok "$m runs" vm_wait $m running
	await 60 console_has $m NANO-READY
done
pid=$(vm_pid roomy)

boots() { drover log roomy | grep -c NANO-READY; }
booted() { [ "$(boots)" = "$1" ]; }
ok 'a reset' drover reset roomy
ok 'boots it again' wait_for 60 booted 2
is "$(vm_pid roomy),$(vm roomy .reboots)" "$pid,0" 'in the same process, and it is not the guest that did it'
ok 'the story tells' says 'reset.*asked for by a person' drover why roomy
ok 'an NMI' drover nmi roomy

# Disks
truncate -s 1M "$W/extra" "$W/other" "$W/third"
ok 'a disk is added' drover disk add roomy "$W/extra"
is "$(drover disk list roomy -o json | jq -c '[.[] | [.id, .path, .format]]')" \
	"[[\"added0\",\"$W/extra\",\"raw\"]]" 'it is listed'
like "$(drover disk add slots "$W/extra" 2>&1)" "^drover: vm slots: '$W/extra' is a disk of vm roomy, which runs$" \
	'another machine is told who has it'
like "$(drover disk add roomy "$W/extra" --readonly 2>&1)" "is a disk of vm roomy, which runs and writes to it$" \
	'and so is this one'
ok 'QEMU has it' says added0 drover qmp roomy query-block
ok 'it is counted' says '^added0 ' drover stats roomy
ok 'another, for reading, by another name' drover disk add roomy "$W/other" --id data --readonly
ok 'the list says so' says "^data +raw +ro +$W/other" drover disk list roomy
text=$(drover disk add roomy "$W/other" --id data 2>&1)
is "$?,$text" "1,drover: vm roomy: there is a disk 'data' already" 'no two of one name'
text=$(drover disk add roomy "$W/none" 2>&1)
is "$?,$text" "1,drover: vm roomy: '$W/none': No such file or directory" 'nor what is not there'
text=$(drover disk add roomy "$W/other" --id Disk/1 2>&1)
is $? 1 'nor a name that is none'
text=$(drover disk add roomy "$W/other" --format vmdk 2>&1)
is "$?,$text" "1,drover: vm roomy: unknown format 'vmdk': raw or qcow2" 'nor a format that is none'
text=$(drover disk add roomy "$W/third" --format qcow2 2>&1)
is $? 1 'what QEMU refuses is refused'
is "$(vm roomy '.added | length')" 2 'and leaves nothing'
text=$(drover disk remove roomy nope 2>&1)
like "$text" "no disk 'nope' was added to this run" 'what is not there cannot be removed'

# A guest without a driver lets go of a device when it is reset: by somebody else, for now.
drover disk remove roomy data >"$W/removed" 2>&1 &
removing=$!
ok 'a disk that the guest holds stays' wait_for 60 says true \
	sh -c "curl -s --unix-socket $DROVER_SOCKET http://x/vms/roomy | jq '.added[1].removing'"
ok 'meanwhile the machine is busy' says 'busy with remove-disk' drover disk add roomy "$W/other"
ok 'it lets go of it when it boots' drover qmp --write roomy system_reset
wait $removing
is "$?,$(cat "$W/removed")" '0,roomy has let go of the disk data' 'then it is gone'
is "$(vm roomy '[.added[].id] | join(",")')" added0 'and the other is there'

# A daemon that comes after this one
kill -KILL "$DROVERD"
await 60 dead "$DROVERD"
start_droverd
is "$(vm_pid roomy),$(vm roomy '[.added[].id] | join(",")')" "$pid,added0" 'the next droverd knows of it'
ok 'and chooses another name' drover disk add roomy "$W/other"
is "$(vm roomy '[.added[].id] | join(",")')" added0,added1 'for the next one'

ok 'a q35 takes a disk in its slot' drover disk add slots "$W/third"
like "$(drover disk add none "$W/third" 2>&1)" \
	'vm none: QEMU [0-9.]+ cannot do add-disk here: it has no slots for devices: hotplug_slots is 0' \
	'without slots it says so'

# What it cannot do it says, with its name and the reason.
text=$(drover disk add micro "$W/other" 2>&1)
like "$text" '^drover: vm micro: QEMU [0-9.]+ cannot do add-disk here: a microvm has no bus' 'a microvm takes no disk'
text=$(drover resize roomy --vcpus 2 2>&1)
like "$text" '^drover: vm roomy: QEMU [0-9.]+ cannot do resize-cpu here: .*vcpus_max' 'without room nothing grows'
text=$(drover screendump micro "$W/none.png" 2>&1)
like "$text" 'cannot do screendump here: the machine has no display' 'without a display there is no picture'
ok 'no file of it' test ! -e "$W/none.png"
text=$(drover resize roomy 2>&1)
is $? 2 'a resize of nothing is no resize'

# The guest's memory
ok 'a dump' says "/vm/roomy/core-1.elf" drover dump roomy
core=$(vm roomy .core)
is "$(head -c 4 "$core" | tail -c 3)" ELF 'is an ELF file'
is "$(stat -c %a "$core")" 600 'that only root reads'

# Each is as large as the memory: only the last are kept.
for i in 2 3 4 5; do cp "$core" "${core%-1.elf}-$i.elf"; done
ok 'another dump' drover dump roomy
cores() { (cd "$W/state/vm/roomy" && echo core-*); }
three() { [ "$(cores)" = 'core-3.elf core-4.elf core-5.elf' ]; }
ok 'leaves the last three' wait_for 30 three

ok 'stop' drover stop roomy
is "$(vm roomy '.added | length')" 0 'what was added went with the run'
ok 'its file did not' test -e "$W/extra"
text=$(drover disk add roomy "$W/extra" 2>&1)
is "$?" 4 'a machine that does not run takes no disk'

ok 'stop the others' drover stop slots none micro --timeout 100
rm -f "$W/extra" "$W/other" "$W/third"
stop_droverd
audit_clean devices
done_testing

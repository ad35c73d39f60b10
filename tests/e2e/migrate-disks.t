#!/usr/bin/env bash
# A running guest goes to another droverd that shares no disk with this one: its disk and its volumes
# are copied while it runs, what is left behind is nobody's, and comes back when it does. What is
# cancelled or breaks off while they are copied leaves all as it was.
. "$(dirname "$0")/migrate-lib.sh"
command -v qemu-img >/dev/null || skip_all 'there is no qemu-img (Debian package qemu-utils)'
world
volumes='volume = data size=24M format=qcow2
volume = plain size=48M format=raw'
start_two
write_a "$volumes"
restart_a() { stop_droverd && start_droverd "$W/a.ini"; }
copy() { migrate m --copy-disks "$@"; }
mine=$W/state/vm/m theirs=$W/b/vm/m

# same FORMAT FILE: that file is the same disk on both sides.
same() { qemu-img compare -U -q -f "$1" -F "$1" "$mine/$2" "$theirs/$2"; }
all_same() { same raw disk.raw && same qcow2 volume-data.qcow2 && same raw volume-plain.raw; }
virtual() { qemu-img info -U --output=json "$1" | jq -r '[.format, ."virtual-size"] | join(" ")'; }
files() { find "$1" -maxdepth 1 \( -name 'disk*' -o -name 'volume*' \) -printf '%f ' | tr ' ' '\n' | sort | xargs; }

ok 'it runs here' vm_wait m running
before=$(vm_pid m)
ok 'with volumes' drover reload
ok 'from its next start on' wait_for "$patience" runs_anew m "$before"
ok 'stop' drover stop m
qemu-io -f qcow2 -c 'write -P 0x5a 1M 3M' -c 'write -P 0xa5 20M 64k' "$mine/volume-data.qcow2" >/dev/null
head -c 40000000 /dev/urandom | dd of="$mine/volume-plain.raw" conv=notrunc status=none
ok 'start' drover start m
ok 'it is ready' wait_for "$patience" console_has m NANO-READY
ok 'it counts' count m 0001
like "$(migrate m 2>&1)" 'which the other host does not share' 'without --copy-disks it stays'
ok 'with it, it goes' copy
like "$(cat "$W/output")" '^m: migrated to' 'and says so'
is "$(vm m .last_cause)" migrated 'here it is stopped'
ok 'it runs there' at_b vm_is m running
ok 'and goes on where it was' at_b count m 0002
is "$(files "$theirs")" 'disk.raw volume-data.qcow2 volume-plain.raw' 'with disks of its own'
is "$(virtual "$theirs/volume-data.qcow2")" "$(virtual "$mine/volume-data.qcow2")" 'of the same format and size'
ok 'and what is in them' all_same
is "$(at_b drover qmp m query-jobs | jq -c '.return // .')" '[]' 'no job is left'
ok 'no record is left here' wait_for "$patience" no_migrations
ok 'nor there' wait_for "$patience" at_b no_migrations
like "$(drover why m)" 'copies of those here, which nobody uses' 'why tells what is left here'
is "$(vm m .migrated_disks)" true 'it says that these disks are nobody'"'"'s'
like "$(drover start m 2>&1)" 'what is here is as it was then' 'it does not start from them'
like "$(drover rm m 2>&1)" 'is still here, as it was when it migrated' 'they do not go by themselves'
ok 'a new droverd' restart_a
like "$(drover start m 2>&1)" 'what is here is as it was then' 'knows it, too'

# And back: what was left here is replaced, if all goes well.
qemu-io -f qcow2 -c 'write -P 0x11 2M 1M' "$mine/volume-data.qcow2" >/dev/null
sum=$(md5sum <"$mine/volume-data.qcow2")
like "$(at_b drover migrate m --to unix:/run/drover/api.sock 2>&1)" 'does not share' 'not without its disks'
at_b touch_memory m
ok 'slowly' at_b drover migrate m --to unix:/run/drover/api.sock --copy-disks --max-bandwidth 64K --no-wait
ok 'its disks are copied' wait_for "$patience" at_b step_is m disks
ok 'cancel' at_b drover cancel m
ok 'it runs on there' at_b vm_wait m running
ok 'it has stayed' wait_for "$patience" at_b runs_settled
ok 'here, too' wait_for "$patience" no_migrations
is "$(md5sum <"$mine/volume-data.qcow2")" "$sum" 'what was left here is as it was'
is "$(files "$mine")" 'disk.raw volume-data.qcow2 volume-plain.raw' 'and nothing else'
is "$(at_b drover qmp m query-jobs | jq -c '.return // .')" '[]' 'no job is left there'
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock --copy-disks --via tcp:10.9.0.1:0
ok 'it runs here' vm_is m running
ok 'where it goes on' count m 0003
is "$(files "$mine")" 'disk.raw volume-data.qcow2 volume-plain.raw' 'with its disks'
ok 'as they were there' all_same
is "$(vm m .migrated_disks)" false 'which are its own again'
ok 'those there go' at_b drover rm m --disks

# What does not come to its end. QEMU finds out when it writes again, which is in an hour.
ok 'slowly, while its disks are copied' copy --max-bandwidth 1K --no-wait
ok 'is under way' wait_for "$patience" step_is m disks
kill -9 "$(at_b vm_pid m)"
ok 'the hypervisor there is killed: it runs on here' wait_for "$patience" runs_settled
like "$(drover why m)" 'has closed the connection of its disks' 'and why'
ok 'and counts' count m 0004
ok 'there nothing is left' wait_for "$patience" at_b not drover show m
is "$(ls "$W/b/vm" 2>/dev/null)" '' 'no disk either'
is "$(drover qmp m query-jobs | jq -c '.return // .')" '[]' 'nor a job here'
is "$(drover qmp m query-named-block-nodes | jq -c '[(.return // .)[] | select(.drv == "nbd")]')" '[]' 'nor a node'
ok 'and it goes all the same' copy
ok 'it runs there' at_b count m 0005
ok 'with its disks' all_same
is "$(hypervisors)" 1 'one hypervisor is left'
ok 'there it is stopped' at_b drover stop m
ok 'and removed' at_b drover rm m --disks
ok 'what was left here goes' drover rm m --disks
is "$(files "$mine" 2>/dev/null)" '' 'all of it'
stop_two
done_testing

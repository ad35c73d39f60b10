#!/usr/bin/env bash
# Ephemeral machines: the clone and the machine's own volumes live as long as a run, whatever ends
# it; files that the user named stay.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
truncate -s 1M "$W/mine.raw"
mine="volume = $W/mine.raw"
write_config() { # write_config EXTRA
	config <<END
[vm job]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
stop_timeout = 2
ephemeral = yes
volume = scratch size=1M
$mine
$1
END
}
write_config ''
baseline
start_droverd
dir=$W/state/vm/job

mark() { printf one | dd of="$1" bs=1 seek=500000 conv=notrunc status=none; }
marked() { [ "$(dd if="$1" bs=1 skip=500000 count=3 status=none)" = one ]; }
mark_all() { mark "$dir/disk.raw" && mark "$dir/volume-scratch.raw" && mark "$W/mine.raw"; }
gone() { [ ! -e "$dir/disk.raw" ] && [ ! -e "$dir/volume-scratch.raw" ] && ! ls "$dir"/*.tmp >/dev/null 2>&1; }
is_new() { ! marked "$dir/disk.raw" && ! marked "$dir/volume-scratch.raw" && marked "$W/mine.raw"; }

ok 'it runs' vm_wait job running
ok 'its disks are written to' mark_all
ok 'suspend' drover suspend job
ok 'that is no end: the disks are there' marked "$dir/disk.raw"
ok 'resume' drover resume job
ok 'and are the same' marked "$dir/volume-scratch.raw"
ok 'stop' drover stop job
ok 'its disks are gone' wait_for "$patience" gone
ok 'the file that the user named is not' marked "$W/mine.raw"
like "$(drover why job)" 'thrown away with the run' 'why tells it'
ok 'start' drover start job
ok 'with new disks' is_new

ok 'written to' mark_all
ok 'a restart' drover restart job
ok 'has new ones too' is_new

ok 'written to' mark_all
write_config 'restart = always
restart_delay = 10ms'
ok 'restart = always' drover reload
pid=$(vm_pid job)
kill -9 "$pid"
ok 'killed, it is started again' wait_for "$patience" runs_anew job "$pid"
ok 'with new disks' is_new
write_config ''
ok 'restart = no' drover reload

# Both die at once: the next daemon sees to it.
ok 'written to' mark_all
pid=$(vm_pid job)
kill -9 "$DROVERD" "$pid"
await "$patience" dead "$pid"
start_droverd
ok 'the next daemon throws them away' wait_for "$patience" gone
is "$(vm job .state)" failed 'the machine has ended'
ok 'the file that the user named is there' marked "$W/mine.raw"
ok 'start' drover start job
ok 'with new disks' is_new

# The host has crashed before the names were on disk: what came back is not begun with.
ok 'stop' drover stop job
ok 'its disks are gone' wait_for "$patience" gone
cp "$disk" "$dir/disk.raw" && truncate -s 1M "$dir/volume-scratch.raw" &&
	mark "$dir/disk.raw" && mark "$dir/volume-scratch.raw"
ok 'start' drover start job
ok 'with new disks all the same' is_new

# A snapshot outlives the run. One could not put back what is not the machine's own.
mine=
write_config ''
ok 'without the file of the user' drover reload
ok 'the machine is started again' vm_wait job running
ok 'written to' mark_all
ok 'a snapshot' drover snapshot create job first
ok 'stop' drover stop job
ok 'restored' drover snapshot restore job first
ok 'with the disk of then' marked "$dir/disk.raw"
ok 'stop' drover stop job
ok 'its disks are gone' wait_for "$patience" gone

write_config 'disk = keep'
like "$(drover reload 2>&1)" 'ephemeral: disk = keep says that the disk stays' 'a contradiction is refused'
write_config ''
ok 'it is removed' drover rm job
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

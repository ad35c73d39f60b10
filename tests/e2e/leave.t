#!/usr/bin/env bash
# droverd is told to leave, or to execute itself anew, while it is still starting: a machine that
# does not answer holds the adoption up.
. "$(dirname "$0")/lib.sh"
world_for droverd drover-jail drover-image
kernel=$(nano)
config <<END
[network taps]
cidr = 172.16.0.0/16
[vm slow]
kernel = $kernel
memory = 16M
accel = tcg
network = taps
[vm other]
kernel = $kernel
memory = 16M
accel = tcg
END
baseline
start_droverd
ok 'slow runs' vm_wait slow running
ok 'other runs' vm_wait other running
pid=$(vm_pid slow) other=$(vm_pid other)
adopting() { contains "$W/droverd-$starts.log" 'other: unknown -> running'; }
for sig in TERM INT; do
	kill -STOP "$pid"
	ok 'kill -9 of droverd' stop_droverd KILL
	launch_droverd
	ok 'the next one is at it' wait_for "$patience" adopting
	ok "SIG$sig meanwhile" stop_droverd $sig
	kill -CONT "$pid"
	start_droverd
	ok 'the machine that was slow runs' vm_wait slow running
	is "$(vm_pid slow),$(vm_pid other)" "$pid,$other" 'as the same process, and so does the other'
done
kill -STOP "$pid"
ok 'kill -9 of droverd' stop_droverd KILL
launch_droverd
ok 'the next one is at it' wait_for "$patience" adopting
kill -USR2 "$DROVERD"
ok 'SIGUSR2 meanwhile: it comes back' wait_for "$patience" \
	contains "$W/state/events.jsonl" '"event":"re-executing"'
kill -CONT "$pid"
ok 'as the same process' wait_for "$patience" api_is_up
ok 'the machine that was slow runs' vm_wait slow running
is "$(vm_pid slow),$(vm_pid other)" "$pid,$other" 'as the same process, and so does the other'
for m in slow other; do api POST "/vms/$m/kill?wait=60" >/dev/null; done
ok 'the end' stop_droverd
audit_clean 'after all of this'
done_testing

#!/usr/bin/env bash
# kill -9 of a QEMU: seen, explained, and by the policy restarted or not; nothing is left of it.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
network = taps
[vm once]
template = nano
[vm again]
template = nano
restart = on-failure
restart_delay = 200ms
[vm bare]
template = nano
jail = no
[vm other]
template = nano
END
baseline
start_droverd
for m in once again bare other; do
	ok "$m runs" vm_wait $m running
	await 60 console_has $m NANO-READY
done
other=$(vm_pid other)
# The level that a machine which is gone must come back to: all as it is, without these two.
for m in once bare; do
	seq=$(last_seq)
	pid=$(vm_pid $m) tap=$(vm $m '.nics[0].tap')
	kill -9 "$pid"
	ok "$m: the death is seen" wait_for 60 not vm_is $m running
	ok "$m: it ends as failed" vm_wait $m failed
	is "$(vm $m .last_cause)" hypervisor-crash "$m: the cause"
	like "$(drover why $m)" '(SIGKILL|signal 9)' "$m: why says by which signal"
	like "$(drover why $m)" NANO-READY "$m: why shows the last lines of the console"
	is "$(drover why $m -o json | jq -r .cause)" hypervisor-crash "$m: why for programs"
	is "$(events_of $m "$seq" | jq -s '[.[] | select(.cause == "hypervisor-crash" and .event == "ended")] | length')" \
		1 "$m: one event tells the cause"
	is "$(vm $m .pid)" null "$m: no pid any more"
	ok "$m: its TAP is gone" wait_for 30 not test -e "/sys/class/net/$tap"
	ok "$m: so is its dnsmasq" wait_for 30 not pgrep -f "dnsmasq.*$tap"
done
pid=$(vm_pid again)
kill -9 "$pid"
ok 'again: it is started again' wait_for 60 runs_anew again "$pid"
is "$(vm again .restarts)" 1 'again: as the first restart'
is "$(vm again .last_cause)" hypervisor-crash 'again: and the cause is remembered'
is "$(vm_pid other)" "$other" 'the other machine was left alone'
ok 'a failed machine can be started' drover start once
ok 'and runs' vm_wait once running
for m in once again other; do drover stop $m >/dev/null || fail "stop $m"; done
ok 'SIGTERM' stop_droverd
audit_clean 'after the kills'

# A droverd whose starter ignores SIGCHLD learns the status of its children all the same.
perl -e '$SIG{CHLD} = "IGNORE"; exec @ARGV' droverd -c "$W/drover.ini" >"$W/ignoring.log" 2>&1 </dev/null &
DROVERD=$!
wait_for "$patience" drover_up || bail 'droverd does not answer'
ok 'SIGCHLD ignored by the starter: start' drover start bare
kill -9 "$(vm_pid bare)"
ok 'SIGCHLD ignored by the starter: the end is seen' vm_wait bare failed
like "$(drover why bare)" '(SIGKILL|signal 9)' 'SIGCHLD ignored by the starter: the signal is known'
ok 'SIGTERM' stop_droverd
audit_clean 'after that'
done_testing

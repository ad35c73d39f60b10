#!/usr/bin/env bash
# Hypervisors that misbehave (tests/fakes/fake-qemu.c), as the supervisor meets them: what each is
# taken for, what the machine ends as, and that the others go on.
. "$(dirname "$0")/lib.sh"
world_for droverd drover drover-jail fakes/fake-qemu
kernel=$(nano)
fake() { # fake NAME SCRIPT [LINE...]
	printf '[vm %s]\ntemplate = fake\nqemu_args = -fake\n\t"%s"\n' "$1" "$2"
	[ $# = 2 ] || printf '%s\n' "${@:3}"
}
{
	cat <<-END
	[template fake]
	kernel = $kernel
	binary = $B/fakes/fake-qemu
	END
	fake dies 'say no such disk; exit greeting 3'
	fake killed 'kill query-status 11'
	fake closes 'close greeting'
	fake babbles 'garbage connect'
	fake mute 'ignore qmp_capabilities' 'start_timeout = 1'
	fake late 'late qmp_capabilities 1200'
	fake pieces 'fragments 3 1'
	fake noise 'garbage +1000'
	fake hangs-up 'close +1000'
	fake stubborn 'ignore quit; no-acpi; no-term' 'stop_timeout = 1'
	fake reboots 'reboot +1000'
	fake once 'reboot +1000' 'reboot = no'
	fake panics 'panic +1000; exit +1500 1'
	fake stuck 'status +1000 internal-error; event +1000 STOP' 'on_panic = ignore'
	fake stillborn 'status start internal-error' 'on_panic = ignore'
	fake aghast 'status start guest-panicked'
	fake leaves 'poweroff +1000'
	fake again "once $W/again; exit +500 4" 'restart = on-failure' 'restart_delay = 100ms'
	fake calm ''
	echo '[vm oops]'
	printf 'template = fake\nqemu_args = -fake-file %s\n' "$W/oops"
} | config
echo 'console +1000 Kernel panic - not syncing: no init\n' >"$W/oops"
baseline
start_droverd

has_event() { events_of "$1" | grep -q "\"event\":\"$2\""; }
ended() { events_of "$1" | jq -r 'select(.event == "ended") | .cause' | paste -sd' '; }
failed_with() { # failed_with MACHINE REGEX
	ok "$1: it ends as failed" vm_wait "$1" failed
	is "$(ended "$1")" start-failure "$1: the start has failed, once"
	like "$(vm "$1" .error)" "$2" "$1: and it is said why"
}
failed_with dies 'exited with status 3: no such disk'
failed_with killed 'was killed by SIGSEGV'
failed_with closes 'the connection was closed'
failed_with babbles "garbage: '%!garbage"
failed_with mute 'did not answer in time'
for m in late pieces; do ok "$m: it starts all the same" vm_wait $m running; done

# Only its exit ends a run: a monitor that is lost is found again.
for m in noise hangs-up; do
	ok "$m: the monitor is lost" wait_for "$patience" has_event $m monitor-lost
	ok "$m: and answers again" wait_for "$patience" has_event $m responsive
	is "$(vm $m '"\(.state) \(.boot) \(.conditions | length)"')" 'running 1 0' "$m: in the same run"
done

ok 'reboots: it is seen' wait_for "$patience" has_event reboots rebooted
is "$(vm reboots '"\(.state) \(.boot)"')" 'running 1' 'reboots: the run goes on'
ok 'once: stopped by its reboot' vm_wait once stopped
is "$(ended once)" guest-reboot 'once: which is the cause'
ok 'leaves: stopped' vm_wait leaves stopped
is "$(ended leaves)" guest-shutdown 'leaves: by its guest'
ok 'panics: failed' vm_wait panics failed
is "$(ended panics)" guest-panic 'panics: whatever the hypervisor exits with'
for m in stuck stillborn; do
	ok "$m: failed" vm_wait $m failed
	is "$(ended $m)" hypervisor-crash "$m: the hypervisor could not go on"
	like "$(drover why $m)" 'internal error; .*/hypervisor\.log' "$m: and where to read more is told"
done
ok 'aghast: failed' vm_wait aghast failed
is "$(ended aghast)" guest-panic 'aghast: a panic before its monitor answered'
ok 'again: ends and starts again' wait_for "$patience" has_event again ended
ok 'again: and runs' vm_wait again running
is "$(ended again) $(vm again .restarts)" 'hypervisor-crash 1' 'again: as the first restart'

drover stop stubborn >/dev/null
is "$(vm stubborn .state)" stopped 'stubborn: it stops'
is "$(events_of stubborn | jq -r 'select(.event == "stop-step") | .step' | paste -sd' ')" \
	'power-button quit sigterm sigkill' 'stubborn: by the last means'
is "$(ended stubborn)" requested 'stubborn: as it was asked to'
is "$(vm calm '"\(.state) \(.boot)"')" 'running 1' 'calm: it was not touched'

# The kernel's panic has been read from the console: a new daemon does not read it again.
drover kill oops >/dev/null
sed -i 's/+1000/+2000/' "$W/oops"
seq=$(last_seq)
drover start oops >/dev/null
panicked() { events_of oops "$seq" | grep -q '"event":"panic"'; }
await "$patience" panicked
ok 'oops: killed with its panic just seen: droverd' stop_droverd KILL
start_droverd
ok 'oops: ends all the same' vm_wait oops failed
is "$(events_of oops "$seq" | jq -r 'select(.event == "ended") | .cause' | paste -sd' ')" guest-panic \
	'oops: by its panic'
for m in late pieces noise hangs-up reboots again calm; do drover kill $m >/dev/null; done
ok 'SIGTERM' stop_droverd
audit_clean 'after all of them'
done_testing

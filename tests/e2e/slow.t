#!/usr/bin/env bash
# Slow is not dead: a QEMU that stands still is noticed though nobody asks anything of it, shown as
# unresponsive, in nobody's way, and as before once it goes on. What must stop it still can.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
machines() { # machines PROBE-INTERVAL
	config <<END
probe_interval = $1
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
network = taps
restart = always
stop_timeout = 2
[vm other]
template = nano
[vm slow]
template = nano
END
}
machines 200ms
baseline
start_droverd

conditions() { vm "$1" '.conditions | join(" ")'; }
condition_is() { [ "$(conditions "$1")" = "$2" ]; }
told() { events_of "$1" "$2" | jq -r .event | grep -c "^$3\$"; } # told NAME SINCE EVENT: how often
ms() { echo $(($(date +%s%N) / 1000000)); }
# The API's own answer, without a program's start: how long it takes is told, never judged.
listing() {
	api GET /vms -o "$W/list" -w '%{time_total}' >"$W/took" &&
		[ "$(jq length "$W/list")" = 2 ]
}

for m in slow other; do
	ok "$m runs" vm_wait $m running
	await 60 console_has $m NANO-READY
done
pid=$(vm_pid slow) other=$(vm_pid other) seq=$(last_seq)

# Nobody sends it a command: droverd looks by itself.
kill -STOP "$pid"
ok 'a stopped QEMU is unresponsive' wait_for 60 condition_is slow unresponsive
ok 'the list for people says so' says '^slow .*unresponsive' drover list
is "$(vm slow .state)" running 'it is still a machine that runs'
is "$(told slow "$seq" unresponsive)" 1 'one event tells'
ok 'the list answers' listing
diag "the list took $(cat "$W/took") s with a machine that stands still"
is "$(conditions other)" '' 'nothing is said of the other machine'
ok 'which can be paused' drover pause other
ok 'and resumed' drover resume other
ok 'and answers its monitor' says running drover qmp other '{"execute":"query-status"}'
text=$(drover pause slow 2>&1)
is $? 1 'a command to the one that stands still fails'
like "$text" '^drover: vm slow: .*(stop|query-status).*(no answer|did not answer|not answer|timed out)' \
	'with a sentence that says why'
ok 'the list answers after that too' listing
is "$(told slow "$seq" unresponsive)" 1 'nothing is told twice'

kill -CONT "$pid"
ok 'when it goes on, its condition goes' wait_for 60 condition_is slow ''
is "$(told slow "$seq" responsive)" 1 'one event tells'
# The late `stop` may have been carried out; whose doing it was is known.
vm_is slow running || ok 'what was asked for late has been done' drover resume slow
ok 'it runs' vm_wait slow running
is "$(vm_pid slow),$(vm slow .restarts)" "$pid,0" 'nothing was restarted'
is "$(vm_pid other)" "$other" 'nor the other'
is "$(told slow "$seq" ended)" 0 'and nothing has ended'
like "$(drover why slow)" 'unresponsive.*' 'the story has it'
ok 'with its end' says 'responsive +the monitor answers again' drover why slow

# A new daemon finds it standing still.
kill -STOP "$pid"
stop_droverd KILL
start_droverd
is "$(vm_pid slow)" "$pid" 'after kill -9 of droverd it is adopted'
ok 'and unresponsive or not yet known' wait_for 60 says unresponsive conditions slow
ok 'the list answers' listing
ok 'the other one is controllable' drover pause other
drover resume other >/dev/null
kill -CONT "$pid"
ok 'it runs again' vm_wait slow running
ok 'without a condition' wait_for 60 condition_is slow ''
is "$(vm_pid slow),$(vm slow .restarts)" "$pid,0" 'in the same process'

# A stop goes all the way.
seq=$(last_seq)
kill -STOP "$pid"
ok 'it stands still again' wait_for 60 condition_is slow unresponsive
ok 'a stop of it works' drover stop slow
is "$(events_of slow "$seq" | jq -r 'select(.event == "stop-step") | .step' | paste -sd' ')" \
	'power-button quit sigterm sigkill' 'by SIGKILL, after all else'
ok 'the process is gone' dead "$pid"
is "$(vm slow '[.state, .last_cause] | join(" ")')" 'stopped requested' 'as requested'
is "$(told slow "$seq" ended)" 1 'with one end'
ok 'it can be started' drover start slow
pid=$(vm_pid slow)
kill -STOP "$pid"
# What the hypervisor does not answer any more fails with the process; the kill does not.
drover pause --no-wait slow >/dev/null
ok 'and killed while it stands still, with a pause under way' drover kill slow
ok 'the process is gone' dead "$pid"
is "$(vm_pid other)" "$other" 'the other machine was left alone throughout'

# Switched off, nothing looks.
drover start slow >/dev/null
pid=$(vm_pid slow)
machines 0
ok 'probe_interval = 0' drover reload
kill -STOP "$pid"
sleep 5
is "$(conditions slow)" '' 'then nobody notices'
machines 200ms
ok 'on again' drover reload
ok 'then it is noticed' wait_for 60 condition_is slow unresponsive
kill -CONT "$pid"
ok 'and back' wait_for 60 condition_is slow ''
drover stop slow other >/dev/null || fail 'stop'
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

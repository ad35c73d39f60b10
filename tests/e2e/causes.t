#!/usr/bin/env bash
# How runs end, on real QEMU: each end is one event with the right cause and the last lines of the
# console, `drover why` tells the run in order, and the restart policy goes by the cause. What the
# supervisor itself does is never taken for the guest's doing.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
kernel=$(nano)
machines() { # machines ON_PANIC-OF-SHRUGS
	config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
stop_timeout = 30
restart_delay = 200ms
[vm plain]
template = nano
[vm final]
template = nano
reboot = no
[vm oldpc]
template = nano
machine = pc
[vm failing]
template = nano
restart = on-failure
[vm always]
template = nano
restart = always
reboot = no
[vm shrugs]
template = nano
on_panic = $1
[vm linux]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
autostart = no
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
END
}
machines ignore
start_origin
baseline
start_droverd

type_in() { printf %s "$2" | socat -u - "UNIX-CONNECT:$(vm "$1" .console)"; }
up() { # up NAME: started, its guest has spoken; since is where its events begin
	since=$(last_seq)
	drover start "$1" >/dev/null || fail "start $1"
	wait_for 60 console_has "$1" NANO-READY || fail "$1: its guest comes up"
	pid=$(vm_pid "$1")
}
told() { events_of "$1" "$since" | jq -r .event | grep -c "^$2\$"; } # told NAME EVENT: how often
told_times() { [ "$(told "$1" "$2")" = "$3" ]; }
booted() { [ "$(drover log "$1" | grep -c NANO-READY)" -ge "$2" ]; }
# ended NAME CAUSE STATE [CONSOLE-LINE]: and all that must be told of it.
ended() {
	ok "$1: it ends as $3" vm_wait "$1" "$3"
	is "$(events_of "$1" "$since" | jq -r 'select(.event == "ended") | .cause' | paste -sd' ')" "$2" \
		"$1: one event tells that it was $2"
	is "$(vm "$1" .last_cause),$(drover why "$1" -o json | jq -r .cause)" "$2,$2" \
		"$1: so do the machine and why"
	ok "$1: the process is gone" dead "$pid"
	why "$1" "${4-NANO-READY}"
}
why() {
	drover why "$1" -o json >"$W/why"
	like "$(jq -r '.console[]' "$W/why")" "${2-NANO-READY}" "$1: why has the console"
	ok "$1: at most 20 lines of it" [ "$(jq '.console | length' "$W/why")" -le 20 ]
	is "$(jq -c '[.story[].time] | . == sort and length > 3' "$W/why")" true "$1: the story is in order"
	is "$(jq -r '.story | [.[0].event, .[-1].event] | join(" ")' "$W/why")" "start ended" \
		"$1: from its start to its end"
	text=$(jq -r '.story[-1].text' "$W/why" | cut -c 1-30)
	ok "$1: the same for people" grep -qF -- "$text" <(drover why "$1")
}

# The guest powers off.
up plain
for i in $(seq 30); do echo "line-$i"; done | tr -d 'qrcwp' |
	socat -u - "UNIX-CONNECT:$(vm plain .console)"
await 30 console_has plain 'line-30'
type_in plain q
ended plain guest-shutdown stopped line-30
is "$(jq -r '.console[-1]' "$W/why" | grep -c NANO-BYE)" 1 'the last line is the last'
is "$(jq '.console | length' "$W/why")" 20 'twenty lines are kept'

# It reboots: allowed, the run goes on; else that is the end.
up plain
type_in plain r
ok 'an allowed reboot: the guest boots again' wait_for 60 booted plain 2
ok 'it is told as a reboot' wait_for 30 told_times plain rebooted 1
is "$(vm plain '[.state, .pid, .restarts] | map(tostring) | join(" ")')" "running $pid 0" 'of the same run'
# So soon after a reboot another one is taken for the firmware's part in it.
sleep 3
type_in plain r
ok 'and again' wait_for 60 booted plain 3
ok 'each is counted' wait_for 30 told_times plain rebooted 2
is "$(vm plain .reboots)" 2 'and shown'
is "$(told plain ended)" 0 'nothing has ended'
ok 'stop' drover stop plain
ended plain requested stopped
up final
type_in final r
ended final guest-reboot stopped
is "$(told final rebooted)" 0 'a reboot that is the end is no reboot'

# It panics.
for m in plain oldpc; do
	up $m
	type_in $m p
	ended $m guest-panic failed
	is "$(told $m panic)" 1 "$m: the panic is told once"
	like "$(jq -r '.console[]' "$W/why")" NANO-PANIC "$m: with its last words"
done
up failing
type_in failing p
ok 'restart = on-failure: a panic is one' wait_for 60 runs_anew failing "$pid"
is "$(vm failing '[.last_cause, .restarts] | map(tostring) | join(" ")')" 'guest-panic 1' 'it is counted'
is "$(told failing ended)" 1 'with one end'
await 60 console_has failing NANO-READY
pid=$(vm_pid failing) since=$(last_seq)
type_in failing q
ended failing guest-shutdown stopped
up shrugs
type_in shrugs p
ok 'on_panic = ignore: it is told' wait_for 30 told_times shrugs panic 1
type_in shrugs hello
ok 'and the guest goes on' wait_for 30 console_has shrugs hello
is "$(vm shrugs '[.state, .pid] | map(tostring) | join(" ")')" "running $pid" 'in the same run'
machines stop
drover reload >/dev/null || fail 'reload'
type_in shrugs p
ended shrugs guest-panic failed
up shrugs
machines ignore
drover reload >/dev/null || fail 'reload'
type_in shrugs p
ok 'and back: the hypervisor holds the guest, droverd lets it go' wait_for 30 told_times shrugs panic 1
type_in shrugs hello
ok 'it goes on' wait_for 30 console_has shrugs hello
ok 'it runs' vm_wait shrugs running
drover stop shrugs >/dev/null

# Nobody was looking.
up plain
up failing
stop_droverd KILL
printf p | socat -u - UNIX-CONNECT:/run/drover/vm/plain/serial.sock
held() { echo '{"execute":"qmp_capabilities"}{"execute":"query-status"}' |
	socat -t 1 - UNIX-CONNECT:/run/drover/vm/plain/mon.sock | grep guest-panicked; }
ok 'a panic while droverd is away: the hypervisor holds the guest' wait_for 30 held
since=$(tail -n 1 "$W/state/events.jsonl" | jq .seq) pid=$(pgrep -f '^[^ ]*qemu-system.*guest=plain,')
start_droverd
ended plain guest-panic failed
drover stop failing >/dev/null

# Somebody else ends it.
up plain
kill -TERM "$pid"
ended plain host-shutdown stopped
up plain
ok 'quit over the monitor' drover qmp --write plain '{"execute":"quit"}'
ended plain requested stopped
like "$(jq -r .sentence "$W/why")" 'quit by uid 0' 'it is said that it was not drover'
up always
kill -KILL "$pid"
ok 'restart = always: after a crash' wait_for 60 runs_anew always "$pid"
is "$(vm always .last_cause)" hypervisor-crash 'the cause is remembered'
like "$(events_of always "$since" | jq -r 'select(.event == "ended") | .reason')" 'SIGKILL|signal 9' \
	'the signal is told'
await 60 console_has always NANO-READY
pid=$(vm_pid always) since=$(last_seq)
type_in always q
ok 'after a shutdown' wait_for 60 runs_anew always "$pid"
is "$(vm always .last_cause)" guest-shutdown 'the cause is remembered'
await 60 console_has always NANO-READY
pid=$(vm_pid always)
type_in always r
ok 'after a reboot that is not allowed' wait_for 60 runs_anew always "$pid"
is "$(vm always '[.last_cause, .restarts] | map(tostring) | join(" ")')" 'guest-reboot 3' 'three in all'

# The supervisor's own doing: no reboot, no crash, no shutdown of the guest, and no restart.
await 60 console_has always NANO-READY
pid=$(vm_pid always) since=$(last_seq)
ok 'a restart on request' drover restart always
is "$(events_of always "$since" | jq -r 'select(.event == "ended") | .cause')" requested 'ends as requested'
is "$(vm always .restarts)" 3 'and is none of the policy'
await 60 console_has always NANO-READY
pid=$(vm_pid always) since=$(last_seq)
ok 'stop' drover stop always
ended always requested stopped
up always
ok 'kill' drover kill always
ended always requested stopped
sleep 1
is "$(vm always .state)" stopped 'and it stays so'

# Linux.
since=$(last_seq)
drover start linux >/dev/null
ok 'linux answers ssh' ssh_wait linux
pid=$(vm_pid linux) boot=$(guest linux cat /proc/sys/kernel/random/boot_id)
guest linux 'reboot' >/dev/null 2>&1
again() { b=$(SSH_CONNECT=2 SSH_LIMIT=10 guest linux cat /proc/sys/kernel/random/boot_id) && [ "$b" != "$boot" ]; }
ok 'a reboot: it is up again' wait_for "$patience" again
is "$(vm linux '[.state, .pid, .reboots] | map(tostring) | join(" ")')" "running $pid 1" 'in the same run'
is "$(told linux rebooted)" 1 'told once'
guest linux 'echo c >/proc/sysrq-trigger' >/dev/null 2>&1
ok 'a kernel panic ends it' vm_wait linux failed
is "$(events_of linux "$since" | jq -r 'select(.event == "ended") | .cause')" guest-panic 'with its cause'
is "$(told linux panic)" 1 'told once'
like "$(drover why linux)" 'Kernel panic - not syncing: sysrq triggered crash' 'why has the words'
like "$(vm linux .last_cause)" guest-panic 'so has the machine'
since=$(last_seq)
drover start linux >/dev/null
ok 'linux answers ssh' ssh_wait linux
pid=$(vm_pid linux)
guest linux 'poweroff' >/dev/null 2>&1
ok 'poweroff' vm_wait linux stopped
is "$(events_of linux "$since" | jq -r 'select(.event == "ended") | .cause')" guest-shutdown 'is a shutdown of the guest'

ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

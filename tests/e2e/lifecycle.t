#!/usr/bin/env bash
# A machine's life over the command line, on real QEMU with a guest of 5 KB: start, stop, pause,
# resume, restart, kill, console, log, the exit statuses; and that none of it leaks.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 3
[vm web]
template = nano
rootfs = $disk
network = taps
[vm off]
template = nano
autostart = no
[vm micro]
template = nano
machine = microvm
autostart = no
[vm oldpc]
template = nano
machine = pc
autostart = no
jail = no
[vm still]
template = nano
autostart = no
start_paused = yes
END
baseline
start_droverd

ok 'a new machine starts by itself' vm_wait web running
ok 'one with autostart = no does not' vm_is off stopped
ok 'its guest speaks on the console' wait_for 60 console_has web NANO-READY
pid=$(vm_pid web)
ok 'its process is a QEMU' contains "/proc/$pid/cmdline" qemu-system
is "$(drover list -o json | jq -c '[.[].name]')" '["micro","off","oldpc","still","web"]' \
	'list has all machines by name'
is "$(drover list -o json | jq -c '.[0] | keys')" \
	'["address","address6","conditions","hypervisor","image","last_cause","mac","name","network","pid","restarts","state","uptime_s"]' \
	'list has exactly the members that others build on'
is "$(drover list -o json | jq -c '.[] | select(.name == "web") | [.state, .hypervisor, .pid, .network, .restarts]')" \
	"[\"running\",\"qemu\",$pid,\"taps\",0]" 'and their values'
like "$(drover list)" 'web +running' 'list for people'
like "$(drover show web)" running 'show for people'
is "$(drover show web -o json | jq -r '.nics[0].tap' | cut -c 1-3)" tap 'show has the nics'
ok 'the TAP is up with its address' grep -q '172\.16\.[0-9.]*/30' \
	<(ip -o address show dev "$(vm web '.nics[0].tap')")

# Pause and resume.
ok 'pause' drover pause web
ok 'it is paused' vm_is web paused
ok 'pausing it again changes nothing' drover pause web
ok 'resume' drover resume web
ok 'it runs' vm_is web running
is "$(vm_pid web)" "$pid" 'in the same process'

# The monitor and the console.
is "$(drover qmp web '{"execute":"query-status"}' | jq -r '.return.status')" running 'a QMP command'
like "$(drover qmp web '{"execute":"query-no-such-thing"}' 2>&1)" CommandNotFound 'a QMP error'
socket=$(vm web .console)
ok 'the console is a socket' test -S "$socket"
# Not q, r or c: those are orders to this guest.
echoed() { { printf hello; sleep 0.5; } | socat -t 0.5 - "UNIX-CONNECT:$socket" | grep -q hello; }
ok 'what is written there is echoed by the guest' wait_for 60 echoed
ok 'and is in the log' wait_for 30 console_has web hello

# Restart and stop.
ok 'restart' drover restart web
ok 'it runs again' vm_wait web running
ok 'in another process' [ "$(vm_pid web)" != "$pid" ]
ok 'whose guest comes up' wait_for 60 console_has web NANO-READY
is "$(vm web .restarts)" 0 'a restart by a person is none of the policy'
ok 'stop' drover stop web
ok 'it is stopped' vm_is web stopped
is "$(vm web .last_cause)" requested 'because it was asked to'
ok 'the guest was asked by its power button' console_has web NANO-BYE
is "$(vm web .pid)" null 'no process'
ok 'stopping it again changes nothing' drover stop web
drover pause web >/dev/null 2>&1
is $? 4 'pausing what is stopped is the wrong state: exit status 4'

# What else can end a run.
ok 'start' drover start web
ok 'it runs' vm_wait web running
ok 'its guest is up' wait_for 60 console_has web NANO-READY
ok 'a guest that powers off' socat -u - "UNIX-CONNECT:$(vm web .console)" <<<q
ok 'is stopped' vm_wait web stopped
is "$(vm web .last_cause)" guest-shutdown 'with the cause guest-shutdown'
drover start web >/dev/null
await "$patience" vm_is web running
pid=$(vm_pid web)
ok 'kill' drover kill web
ok 'is stopped' vm_wait web stopped
is "$(vm web .last_cause)" requested 'with the cause requested'
ok 'its process is gone' dead "$pid"

for m in micro oldpc; do
	ok "$m starts" drover start $m
	ok "$m: the guest comes up" wait_for 60 console_has $m NANO-READY
	ok "$m stops" timeout 100 drover stop $m
done
ok 'start_paused: starts' drover start still
is "$(vm still .state)" paused 'start_paused: is paused'
ok 'start_paused: nothing ran' not console_has still NANO
ok 'start_paused: resume' drover resume still
ok 'start_paused: now the guest runs' wait_for 60 console_has still NANO-READY
ok 'start_paused: stop' drover stop still
ok 'start_paused: start again' drover start still
ok 'start_paused: stop before it ever ran' timeout 15 drover stop still

# Names and places that are not there.
drover show nobody >/dev/null 2>&1
is $? 3 'show of a machine that is not there: exit status 3'
like "$(drover start nobody 2>&1)" nobody 'and a message that names it'
drover frobnicate >/dev/null 2>&1
is $? 2 'an unknown verb: exit status 2'
drover --socket /run/none.sock list >/dev/null 2>&1
is $? 5 'no daemon: exit status 5'

# A machine whose configuration is gone keeps its disk until rm --disks.
ok 'without --disks a machine that has one cannot be removed' not drover rm web
cp "$W/drover.ini" "$W/all.ini"
sed -i '/^\[vm web\]/,/^network/d' "$W/drover.ini"
ok 'reload without it' drover reload
ok 'list does not show it' not says web drover list
ok 'list --all does, as removed' wait_for 30 says 'web +removed' drover list --all
ok 'its disk is still there' test -n "$(find "$W/state/vm/web" -size +0 -name '*raw*' -o -name '*disk*' 2>/dev/null)"
ok 'rm --disks' drover rm web --disks
ok 'now it is gone' not test -e "$W/state/vm/web"
cp "$W/all.ini" "$W/drover.ini"
ok 'reload with it' drover reload
ok 'a new machine of that name starts' vm_wait web running
drover stop web >/dev/null

# Round and round: what it costs must not grow.
drover start web >/dev/null && drover stop web >/dev/null
ok 'a round, and it is at rest' audit_rest "$W/level" --fds "droverd=$DROVERD"
for _ in 1 2 3 4 5; do
	drover start web >/dev/null && drover pause web >/dev/null && drover resume web >/dev/null &&
		drover stop web >/dev/null
done
level() { audit_take "$W/now" --fds "droverd=$DROVERD" && "$here/audit" diff "$W/level" "$W/now"; }
ok 'five more rounds change nothing, down to the open descriptors' wait_for 15 level || diag "$(level)"

ok 'events are numbered without a gap' jq -es '[.[].seq] as $s | $s == [range($s[0]; $s[0] + ($s | length))]' \
	<(drover events -o json)
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

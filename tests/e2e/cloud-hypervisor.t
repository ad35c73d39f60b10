#!/usr/bin/env bash
# A machine on cloud-hypervisor, over the command line: the same life as on QEMU. On the fake one,
# whose answers are the real one's (cloud-hypervisor-api.t), and on the real one where
# DROVER_CLOUD_HYPERVISOR names it.
. "$(dirname "$0")/lib.sh"
real=${DROVER_CLOUD_HYPERVISOR-}
world
nano >/dev/null
kernel=$B/e2e/nano64.elf disk=$(nano_disk)
fake=$B/fakes/fake-ch

# life NAME READY [echo]: what its guest says, and whether it answers.
life() {
	local m=$1 ready=$2 pid socket
	ok "$m: it starts" drover start "$m"
	ok "$m: it runs" vm_is "$m" running
	pid=$(vm_pid "$m")
	ok "$m: its guest speaks on the console" wait_for 60 console_has "$m" "$ready"
	is "$(drover list -o json | jq -r ".[] | select(.name == \"$m\") | .hypervisor")" \
		cloud-hypervisor "$m: the list says what runs it"
	like "$(vm "$m" '.nics[0].tap')" '^tap' "$m: it has a TAP"
	ok "$m: whose carrier is up" wait_for 30 grep -q 1 \
		"/sys/class/net/$(vm "$m" '.nics[0].tap')/carrier"
	ok "$m: pause" drover pause "$m"
	is "$(drover ch "$m" GET /vm.info | jq -r .state)" Paused "$m: it is paused"
	ok "$m: resume" drover resume "$m"
	is "$(drover ch "$m" GET /vm.info | jq -r .state)" Running "$m: it runs again"
	socket=$(vm "$m" .console)
	echoed() { { printf 'hello\n'; sleep 0.5; } | socat -t 0.5 - "UNIX-CONNECT:$socket" | grep -q hello; }
	[ $# = 2 ] || ok "$m: what is written to the console is echoed" wait_for 60 echoed
	is "$(vm_pid "$m")" "$pid" "$m: in the same process"
	ok "$m: restart" drover restart "$m"
	ok "$m: another process" runs_anew "$m" "$pid"
	ok "$m: whose guest comes up" wait_for 60 console_has "$m" "$ready"
	ok "$m: stop" drover stop "$m"
	is "$(vm "$m" .last_cause)" requested "$m: because it was asked to"
	ok "$m: kill" eval "drover start $m && drover kill $m"
	is "$(vm "$m" '.state + " " + .last_cause')" 'stopped requested' "$m: is stopped on request"
}

# letter NAME LETTER: an order to the guest, over its console.
letter() { printf %s "$2" | socat -u - "UNIX-CONNECT:$(vm "$1" .console)"; }
# scripted NAME DIRECTIVES: a fake that misbehaves; prints its path.
scripted() {
	mkdir -p "$W/bin"
	ln -sf "$fake" "$W/bin/$1"
	printf '%s\n' "${@:2}" >"$W/bin/$1.script"
	echo "$W/bin/$1"
}
# somebody METHOD PATH NAME: at its API behind droverd's back.
somebody() {
	curl -sS --fail --max-time 20 --unix-socket "/run/drover/vm/$3/ch.sock" -X "$1" \
		"http://localhost/api/v1$2"
}
kill_droverd() { stop_droverd KILL; }
why() { vm "$1" .last_cause; }

config <<END
[drover]
probe_interval = 200ms
[network taps]
cidr = 172.16.0.0/16
[template ch]
hypervisor = cloud-hypervisor
binary = $fake
kernel = $kernel
memory = 64M
stop_timeout = 3
autostart = no
[vm one]
template = ch
rootfs = $disk
network = taps
[vm once]
template = ch
reboot = no
[vm always]
template = ch
restart = always
restart_delay = 10ms
[vm still]
template = ch
start_paused = yes
[vm old]
template = ch
binary = $(scripted old 'version v49.0')
[vm other]
template = ch
binary = /bin/true
[vm broken]
template = ch
binary = $(scripted broken 'error vm.boot 500 ["The VM could not boot","Cannot open the kernel"]')
[vm dies]
template = ch
binary = $(scripted dies 'say no such machine; exit vm.create 3')
[vm slowly]
template = ch
binary = $(scripted slowly 'wait vm.create 2000')
[vm real]
template = ch
binary = ${real:-$fake}
network = taps
END
baseline

# The example differs from its twin in the one key.
twin=$top/etc/examples/kernel-testing
is "$(diff "$twin.ini" "$twin-cloud-hypervisor.ini" | grep '^[<>]')" \
	$'< hypervisor = qemu\n> hypervisor = cloud-hypervisor' 'the example differs by one line'
ok 'both are configurations' eval 'drover check "$twin.ini" && drover check "$twin-cloud-hypervisor.ini"'

start_droverd
life one FAKE-READY echo

# What the guest does.
drover start one >/dev/null
await 60 console_has one FAKE-READY
pid=$(vm_pid one)
letter one r
ok 'a guest may reboot' wait_for 60 eval '[ "$(vm one .reboots)" = 1 ]'
is "$(vm_pid one)" "$pid" 'in the same run'
two() { [ "$(drover log one | grep -c FAKE-READY)" = 2 ]; }
ok 'and its console is there again' wait_for 60 two
letter one q
ok 'a guest may power off' vm_wait one stopped
is "$(why one)" guest-shutdown 'with the cause guest-shutdown'
drover start once >/dev/null
await 60 console_has once FAKE-READY
letter once r
ok 'with reboot = no a reboot ends the run' vm_wait once stopped
is "$(why once)" guest-reboot 'with the cause guest-reboot'
drover start one >/dev/null
await 60 console_has one FAKE-READY
letter one p
ok 'a panic ends the run' vm_wait one failed
is "$(why one)" guest-panic 'with the cause guest-panic'
drover start one >/dev/null
await 60 console_has one FAKE-READY

# What is asked of it while it runs.
ok 'reset' drover reset one
ok 'its guest comes up again' wait_for 60 two
is "$(vm one .reboots)" 0 'which was not its own doing'
ok 'nmi' drover nmi one
is "$(drover stats one -o json | jq -c '.disks | keys')" '["disk0"]' 'stats has its disk'
truncate -s 1M "$W/more.raw"
ok 'a disk is added' drover disk add one "$W/more.raw" --id more
is "$(drover ch one GET /vm.info | jq -c '[.config.disks[].id]')" '["disk0","more"]' 'it has it'
ok 'and removed' drover disk remove one more
is "$(drover ch one GET /vm.info | jq -c '[.config.disks[].id]')" '["disk0"]' 'it is gone'
like "$(drover screendump one "$W/x.png" 2>&1)" \
	'cloud-hypervisor v53.0 cannot do screendump here: it has no display' \
	'a picture is refused, with the reason'
like "$(drover dump one 2>&1)" 'built without the feature guest_debug' 'so is a dump by this one'
ok 'stop' drover stop one
drover start always >/dev/null
pid=$(vm_pid always)
kill -9 "$pid"
ok 'one that is killed is restarted' wait_for 60 runs_anew always "$pid"
is "$(why always)" hypervisor-crash 'and the cause was a crash'
ok 'start_paused: starts' drover start still
is "$(vm still .state)" paused 'start_paused: is paused'
is "$(drover ch still GET /vm.info | jq -r .state)" Created 'start_paused: nothing was booted'
ok 'start_paused: resume' drover resume still
ok 'start_paused: now the guest runs' wait_for 60 console_has still FAKE-READY

# Starts that fail, in a sentence.
like "$(drover start old 2>&1)" 'cloud-hypervisor v49.0, which is too old: drover needs v50.0' \
	'an old one is refused by its version'
like "$(drover start other 2>&1)" '/bin/true.* is no cloud-hypervisor' 'so is another program'
like "$(drover start broken 2>&1)" 'vm.boot: The VM could not boot: Cannot open the kernel' \
	'what it says of a failed boot is passed on'
like "$(drover start dies 2>&1)" 'exited with status 3: no such machine' 'its last words, too'

# Its API, by drover.
is "$(drover ch still GET /api/v1/vmm.ping | jq -r .build_version)" v53.0 'ch: with the base path'
drover ch still PUT /vm.pause >"$W/out" 2>&1
is $? 1 'ch: without --write nothing is changed'
like "$(cat "$W/out")" 'PUT /vm.pause may change something' 'ch: and it says so'
ok 'ch: with --write it is' drover ch still PUT /vm.pause --write
ok 'the machine is paused' vm_wait still paused
ok 'by somebody' wait_for 30 eval "events_of still | grep -q '\"to\":\"paused\".*at the monitor'"
like "$(drover ch still PUT /vm.pause --write 2>&1)" 'HTTP status 500: Error from API: The VM could not be paused' \
	'ch: what it refuses is an error'
like "$(drover ch still PUT /vm.resize '{"desired_vcpus":' --write 2>&1)" 'not JSON' 'ch: bad JSON is'
like "$(drover ch still DELETE / 2>&1)" 'expected GET or PUT' 'ch: and so is another method'
ok 'ch: it is on record' eval "events_of still | grep -q '\"command\":\"PUT /vm.pause\".*\"write\":true'"
like "$(drover qmp still query-status 2>&1)" 'cloud-hypervisor v53.0 cannot do passthrough here: ' \
	'it has no QMP, and says why'
is "$(vm still '.cannot.screendump')" 'it has no display' 'show says what it cannot, and why'
is "$(vm still '.capabilities | index("resize-cpu") != null')" true 'and what it can'
pid=$(vm_pid always)
drover ch always PUT /vmm.shutdown --write >/dev/null 2>&1
ok 'ch: whoever ends it has asked for that' vm_wait always stopped
is "$(why always)" requested 'so that it is not restarted'

# A silent one.
drover start one >/dev/null
pid=$(vm_pid one)
kill -STOP "$pid"
ok 'one that is stopped is unresponsive' wait_for 60 eval \
	'[ "$(vm one ".conditions | index(\"unresponsive\") != null")" = true ]'
is "$(vm one .state)" running 'and called running'
kill -CONT "$pid"
ok 'until it goes on' wait_for 60 eval '[ "$(vm one ".conditions | length")" = 0 ]'
is "$(vm_pid one)" "$pid" 'nothing was done to it'

# Adoption.
drover resume still >/dev/null
kill_droverd
letter_behind() { printf r | socat -u - UNIX-CONNECT:/run/drover/vm/one/serial.sock; }
letter_behind
somebody PUT /vm.pause still
start_droverd
ok 'adopted: it runs' vm_wait one running
is "$(vm_pid one)" "$pid" 'adopted: the same process'
ok 'adopted: its reboot meanwhile is known' wait_for 60 eval '[ "$(vm one .reboots)" = 1 ]'
ok 'adopted: another one was paused meanwhile' vm_wait still paused
echoed() { { printf 'hello\n'; sleep 0.5; } |
	socat -t 0.5 - "UNIX-CONNECT:$(vm one .console)" | grep -q hello; }
ok 'adopted: the console works' wait_for 60 echoed
kill_droverd
kill -9 "$pid"
start_droverd
ok 'adopted: one that was killed meanwhile has failed' vm_wait one failed
is "$(why one)" hypervisor-crash 'adopted: as a crash'
drover start slowly >/dev/null 2>&1 &
ok 'a start is under way' wait_for 60 eval '[ "$(vm_pid slowly)" -gt 0 ]'
pid=$(vm_pid slowly)
kill_droverd
start_droverd
ok 'adopted: a start that was cut off goes on' vm_wait slowly running
is "$(vm_pid slowly)" "$pid" 'adopted: in the same process'
ok 'adopted: its guest speaks' wait_for 60 console_has slowly FAKE-READY
for m in still slowly; do
	ok "$m: stop" drover stop "$m"
done

# The real one. It has neither the timer nor the ACPI registers that the nano guest knows of QEMU:
# there the guest speaks, and is deaf.
if [ -n "$real" ]; then
	life real NANO-READY
else
	skip 'the real cloud-hypervisor' 'DROVER_CLOUD_HYPERVISOR names none'
fi
ok 'droverd leaves' stop_droverd
audit_clean 'after all'
done_testing

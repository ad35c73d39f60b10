#!/usr/bin/env bash
# Operations: one at a time for each machine, cancelled wherever they wait, each with an end; the
# order and the number of starts; stops that are waited for and that escalate; counters that
# outlive the daemon; a host that was rebooted.
. "$(dirname "$0")/lib.sh"
world_for droverd drover drover-image fakes/fake-qemu
kernel=$(nano) fake=$B/fakes/fake-qemu

# A registry that accepts and never answers.
socat TCP-LISTEN:5999,bind=127.0.0.1,fork,reuseaddr EXEC:'sleep 100000' &
cat >"$W/all.ini" <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
restart_delay = 300ms
[vm plain]
template = nano
stop_timeout = 30
[vm firm]
template = nano
stop_timeout = 1
[vm pulls]
template = nano
kernel = 127.0.0.1:5999/test/kernel:1
[vm mute]
template = nano
binary = $fake
start_timeout = 100
qemu_args = -fake
	"ignore qmp_capabilities"
[vm late]
template = nano
binary = $fake
start_timeout = 2
qemu_args = -fake
	"ignore qmp_capabilities"
[vm waits]
template = nano
after = mute
[vm counts]
template = nano
network = taps
restart = on-failure
restart_limit = 3
[vm always-on]
template = nano
network = taps
autostart = yes
[vm put-out]
template = nano
autostart = yes
END
config <"$W/all.ini"
baseline
start_droverd

post() { api POST "$1"; }
op() { api GET "/operations/$1"; } # op ID
op_is() { [ "$(op "$1" | jq -r .state)" = "$2" ]; }
at_step() { [ "$(vm "$1" .operation.step)" = "$2" ]; } # at_step NAME STEP
type_in() { printf %s "$2" | socat -u - "UNIX-CONNECT:$(vm "$1" .console)"; }
hang() { type_in "$1" c; wait_for 60 console_has "$1" NANO-HANG; }
steps_of() { events_of "$1" "$2" | jq -r 'select(.event == "stop-step") | .step' | paste -sd' '; }
ends_of() { events_of "$1" "$2" | jq -r 'select(.event == "ended") | .cause' | paste -sd' '; }

# A stop that is waited for, and for how long.
ok 'start' drover start plain
await 60 console_has plain NANO-READY
hang plain
out=$(drover stop --wait --wait-limit 1 plain 2>&1)
is $? 1 'a stop that is not over in its time: exit status 1'
like "$out" 'plain: not yet stopped after 1 s \(operation [0-9]+, at ACPI power button\)' 'it says how far it is'
out=$(drover restart plain 2>&1)
is $? 4 'what is asked for meanwhile is refused: exit status 4'
like "$out" 'plain: busy with stop \(for [0-9]+s\)' 'busy, with what and since when'
is "$(post /vms/plain/restart | jq -r .error.code)" busy 'so for programs'
id=$(vm plain .operation.id)
is "$(post /vms/plain/stop | jq -c '[.id, .verb, .state]')" "[$id,\"stop\",\"running\"]" 'a second stop joins the first'
# Every one of many has what it asked for, and there is one end.
for i in {1..20}; do
	api POST '/vms/plain/stop?wait=60' >"$W/join-$i" &
	pids[i]=$!
done
out=$(drover stop --timeout 1 plain 2>&1)
is $?,"$out" '0,plain stopped' 'one that leaves the guest less time hastens it'
wait "${pids[@]}"
is "$(cat "$W"/join-* | jq -r .state | sort | uniq -c | tr -s ' ')" ' 20 done' 'and all that joined it are done'
ok 'start' drover start plain
await 60 console_has plain NANO-READY
hang plain
out=$(drover stop --no-wait plain)
seq=$(last_seq)
ok 'a kill overrules it' drover kill plain
is "$(vm plain .state)" stopped 'it is stopped'
is "$(steps_of plain "$seq")" sigkill 'by SIGKILL'
seq=$(last_seq)
drover start firm >/dev/null
await 60 console_has firm NANO-READY
hang firm
ok 'stop of a guest that does not obey' drover stop --wait firm
is "$(steps_of firm "$seq")" 'power-button quit' 'goes on to the next step'
like "$(events_of firm "$seq" | jq -r 'select(.event == "ended") | .reason')" 'after: monitor quit' \
	'the step that was reached is in the event'

# The guest's time, for this stop only.
ok 'start' drover start plain
await 60 console_has plain NANO-READY
hang plain
seq=$(last_seq)
ok 'stop --timeout: the guest has so long' drover stop --timeout 1 plain
is "$(steps_of plain "$seq")" 'power-button quit' 'then it is stopped harder'
is "$(drover stop --timeout=-1 plain >/dev/null 2>&1; echo $?)" 2 'less than no time is a mistake'
is "$(post '/vms/plain/stop?timeout=soon' | jq -r .error.code)" invalid 'by the API as well'

# A machine that there is not has no events; that is said.
out=$(drover events nope 2>&1)
is $? 3 'events of a machine that there is not: exit status 3'
like "$out" "there is no machine 'nope'" 'by name'

# Cancelled wherever a start waits.
cancelled() { # cancelled NAME STEP
	local id
	seq=$(last_seq)
	id=$(post "/vms/$1/start" | jq .id)
	ok "$1: it waits at $2" wait_for 60 at_step "$1" "$2"
	out=$(drover pause "$1" 2>&1)
	like "$out" "$1: busy with start \(for " "$1: a second operation is refused"
	post "/operations/$id/cancel" >"$W/cancel"
	ok "$1: cancelled at $2" wait_for 60 op_is "$id" cancelled
	ok "$1: it is stopped" vm_wait "$1" stopped
	is "$(ends_of "$1" "$seq")" requested "$1: with one end, as requested"
	is "$(post "/operations/$id/cancel" | jq -r .error.code)" wrong-state "$1: once"
}
cancelled pulls kernel
cancelled mute 'starting the hypervisor'
id=$(post /vms/mute/start | jq .id)
await 60 at_step mute 'starting the hypervisor'
cancelled waits order
post "/operations/$id/cancel" >/dev/null
await "$patience" vm_is mute stopped
drover start --no-wait pulls >/dev/null
await 60 at_step pulls kernel
ok 'a stop overrules a start' drover stop pulls
is "$(vm pulls '[.state, .last_cause] | join(" ")')" 'stopped requested' 'which then was not to be'
ok 'no process is left of them' not pgrep -f 'guest=(mute|pulls|waits),'

# A deadline.
out=$(drover start late 2>&1)
is $? 1 'a monitor that does not answer in start_timeout: the start fails'
like "$out" 'vm late: .*did not answer in time' 'and says so'
is "$(vm late '[.state, .last_cause] | join(" ")')" 'failed start-failure' 'it is failed'
is "$(pgrep -f 'guest=late,')" '' 'and its process gone'

# Counters outlive the daemon.
crash() { # crash N: the Nth time
	await "$patience" vm_is counts running
	pid=$(vm_pid counts)
	kill -9 "$pid"
	ok "crash $1: it is started again" wait_for 60 runs_anew counts "$pid"
	is "$(vm counts .restarts)" "$1" "crash $1: and counted"
}
drover start counts >/dev/null
crash 1
stop_droverd KILL
start_droverd
is "$(vm counts .restarts)" 1 'after kill -9 of droverd the count is as it was'
crash 2
crash 3
stop_droverd KILL
kill -9 "$(pgrep -f '^[^ ]*qemu-system.*guest=counts,')"
start_droverd
ok 'and the limit holds, though the last crash came while droverd was away' vm_wait counts failed
is "$(vm counts '[.restarts, .last_cause] | map(tostring) | join(" ")')" '3 hypervisor-crash' 'with its cause'

# The host was rebooted: other boot id, no process, no link; what lay on disks is there, what was
# in run_dir as well, should it not be on a tmpfs.
ok 'always-on runs' vm_wait always-on running
ok 'put-out runs' vm_wait put-out running
drover stop put-out >/dev/null
drover start counts plain >/dev/null
tap=$(vm always-on '.nics[0].tap') seq=$(last_seq)
stop_droverd KILL
pgrep -f 'qemu-system|drover-jail|dnsmasq' | xargs kill -9
wait_for 60 eval '! pgrep -f "qemu-system|drover-jail|dnsmasq"'
ip -o link show type tun | awk -F'[: ]+' '{ print $2 }' | xargs -n 1 ip link del
nft delete table inet drover
echo 0 >/proc/sys/net/ipv4/ip_forward
# By now another process has the number that a machine's hypervisor had.
sleep 10000 &
foreign=$!
jq --argjson pid $foreign --argjson start "$(awk '{ print $22 }' /proc/$foreign/stat)" \
	'.pid = $pid | .starttime = $start' "$W/state/vm/always-on/state.json" >"$W/edited"
cp "$W/edited" "$W/state/vm/always-on/state.json"
echo 01234567-89ab-cdef-0123-456789abcdef >"$W/boot_id"
mount --bind "$W/boot_id" /proc/sys/kernel/random/boot_id || bail 'no other boot id'
start_droverd
ok 'after a reboot of the host: what starts by itself starts' vm_wait always-on running
is "$(vm always-on .last_cause)" host-shutdown 'its last run ended with the host'
is "$(ends_of always-on "$seq")" host-shutdown 'which is told once'
wait_for 60 console_has always-on NANO-READY || fail 'its guest comes up'
ok 'with its TAP' test -e "/sys/class/net/$tap"
ok 'and dnsmasq' wait_for 60 pgrep -f "dnsmasq.*$tap"
is "$(vm put-out .state)" stopped 'what was stopped by a person stays so'
ok 'the process that has the number now is left alone' alive $foreign
kill $foreign
wait $foreign 2>/dev/null
ok 'what a person had started runs again' vm_wait plain running
ok 'counts too' vm_wait counts running
drover stop plain counts always-on >/dev/null || fail 'stop'
umount /proc/sys/kernel/random/boot_id
ok 'SIGTERM' stop_droverd

# Order, and how many at once.
{
	printf 'max_starts = 1\n[template fake]\nkernel = %s\nmemory = 16M\nbinary = %s\n' "$kernel" "$fake"
	printf 'qemu_args = -fake\n\t"late qmp_capabilities 300"\n'
	for m in a b c d; do printf '[vm %s]\ntemplate = fake\n' $m; done
	printf 'after = e\n[vm e]\ntemplate = fake\nafter = c\n'
} | config "$W/order.ini"
seq=$(tail -n 1 "$W/state/events.jsonl" | jq .seq)
start_droverd "$W/order.ini"
for m in a b c d e; do ok "$m runs" vm_wait $m running; done
order=$(drover events -o json --since "$seq" |
	jq -r 'select(.event == "state" and (.to == "starting" or .to == "running")) | "\(.name)-\(.to)"')
is "$(paste -sd' ' <<<"$order" | sed -E 's/([a-e])-starting \1-running/\1/g')" 'a b c e d' \
	'with max_starts = 1 they start one after the other, in turn, and after those that they name'
drover stop a b c d e >/dev/null || fail 'stop'
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

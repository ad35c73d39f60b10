#!/usr/bin/env bash
# Many machines at once, with fakes for hypervisors: 500 start, an unchanged file is reloaded, they
# are listed, droverd is killed and the next one adopts them, all stop. Counts and states only.
. "$(dirname "$0")/lib.sh"
world
count=500
config <<END
[template fake]
binary = $B/fakes/fake-qemu
kernel = $(nano)
memory = 16M
accel = tcg
stop_timeout = 5
$(for i in $(seq $count); do printf '[vm f%03d]\ntemplate = fake\n' "$i"; done)
END

in_state() { api GET /vms | jq --arg s "$1" '[.[] | select(.state == $s)] | length'; }
all_are() { [ "$(in_state "$1")" = $count ]; }
pids() { api GET /vms | jq -c '[.[] | [.name, .pid]]'; }
# Each has a jail too, whose command line begins with its own name.
hypervisors() { pgrep -c -f '^[^ ]*/fake-qemu ' || true; }
no_hypervisors() { [ "$(hypervisors)" = 0 ]; }
ended() { drover events -o json --since "$1" | jq -s '[.[] | select(.event == "ended")] | length'; }

baseline
start_droverd
ok "$count machines start" wait_for "$patience" all_are running
is "$(api GET /vms | jq '[.[].pid] | unique | length')" $count 'each in a process of its own'
is "$(hypervisors)" $count 'of which there are no more'
is "$(drover list -o json | jq -c '[.[].name] | [. == sort, length]')" "[true,$count]" \
	'the list has them all, by name'
before=$(pids)

is "$(drover plan -o json | jq -c .actions)" '[]' 'the plan for the same file is empty'
ok 'reload of the same file' drover reload
is "$(pids)" "$before" 'leaves all of them alone'

seq=$(last_seq)
ok 'kill -9 of droverd' stop_droverd KILL
is "$(hypervisors)" $count 'all of them live on'
start_droverd
ok 'the next one has them all' wait_for "$patience" all_are running
is "$(pids)" "$before" 'with the same pids'
is "$(hypervisors)" $count 'and has started none'
is "$(ended "$seq")" 0 'no run has ended'

seq=$(last_seq)
drover list -o json | jq -r '"url = \"http://drover/vms/\(.[].name)/stop\""' >"$W/stops"
ok 'all are told to stop' curl -sf --max-time "$patience" --unix-socket "$DROVER_SOCKET" -X POST \
	-o /dev/null -K "$W/stops"
ok 'and stop' wait_for "$patience" all_are stopped
is "$(ended "$seq")" $count 'each once'
ok 'no hypervisor is left' wait_for 30 no_hypervisors
is "$(drover plan -o json | jq -c .actions)" '[]' 'the plan does not start them again'
ok 'the end' stop_droverd
audit_clean 'at the end'
done_testing

#!/usr/bin/env bash
# What somebody takes from under a running droverd or between two of them: a machine's state file,
# the API's socket, the event log. No machine is ended for it, and no disk is written over.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
config <<END
on_exit = stop
reconcile_interval = 1s
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 30
[vm web]
template = nano
rootfs = $disk
network = taps
[vm plain]
template = nano
jail = no
[vm off]
template = nano
rootfs = $disk
autostart = no
END
baseline
start_droverd

for m in web plain; do
	ok "$m runs" vm_wait $m running
done
ok 'a third ran once' drover start off
ok 'and is stopped' drover stop off
pids=$(vm_pid web),$(vm_pid plain)
address=$(vm web .address) tap=$(vm web '.nics[0].tap') index=$(cat "/sys/class/net/$tap/ifindex")
state=$W/state/vm
inode() { stat -c %i "$state/$1/disk.raw"; }
inodes=$(inode web),$(inode off)
lose() { # lose VM: a file that cannot be read, and none before it
	rm -f "$state/$1"/state.json*
	[ "${2-}" = gone ] || echo '{"version":1,"na' >"$state/$1/state.json"
}

ok 'killed' stop_droverd KILL
lose web
lose plain gone
lose off
start_droverd
for m in web plain; do
	ok "$m runs on without its state file" vm_wait $m running
done
is "$(vm_pid web),$(vm_pid plain)" "$pids" 'in the same processes'
is "$(vm web .address),$(cat "/sys/class/net/$tap/ifindex")" "$address,$index" 'with its network'
is "$(vm web '.conditions | length')" 0 'and nothing is wrong'
ok 'nothing differs' wait_for 30 eval '[ "$(drover doctor -o json | jq -c .differences)" = "[]" ]'
like "$(droverd_log)" 'vm web: state file: .*taking it up from its process' 'the log says what happened'
like "$(drover why web)" 'taken up from its process' 'and so does the story'
is "$(inode web),$(inode off)" "$inodes" 'the disks stay'
ok 'it is stopped as always' drover stop web
ok 'and started' drover start web
ok 'the one that was stopped, too' drover start off
is "$(inode web),$(inode off)" "$inodes" 'from the disks that they had'

# The API's socket.
rm /run/drover/api.sock
ok 'a socket that was removed comes back' wait_for 60 api_is_up
rm /run/drover/api.sock
kill -HUP "$DROVERD"
ok 'at once by SIGHUP' wait_for 60 api_is_up
is "$(stat -c %a /run/drover/api.sock)" 660 'for whom it was'

# The event log.
log=$W/state/events.jsonl
seqs() { drover events -o json --since "$1" | jq .seq | tr '\n' ' '; }
seq=$(last_seq)
mv "$log" "$W/moved"
kill -HUP "$DROVERD"
ok 'an event log that was moved away is made anew' wait_for 60 test -s "$log"
ok 'stop' drover stop off
rm "$log"
ok 'so is one that was deleted' wait_for 60 test -e "$log"
ok 'start' drover start off
first=$(head -n 1 "$log" | jq .seq) last=$(last_seq)
is "$(jq .seq "$log" | tr '\n' ' ')" "$(seq "$first" "$last" | tr '\n' ' ')" 'no number is lost or comes twice'
ok 'killed' stop_droverd KILL
start_droverd
ok 'and the next daemon goes on counting' eval '[ "$(last_seq)" -gt "$last" ]'

ok 'SIGTERM' stop_droverd
rm "$W/moved"
audit_clean 'after it all'
done_testing

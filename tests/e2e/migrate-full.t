#!/usr/bin/env bash
# The record that gives a guest away, or takes it, cannot be written: the guest does not stand still
# for that, but goes on where it was, and what went wrong is said. There is one owner all the same.
. "$(dirname "$0")/migrate-lib.sh"
world
# A file that something is mounted on cannot be replaced: as on a full disk nothing new is written.
full() { mount --bind "$1/vm/m/state.json" "$1/vm/m/state.json"; }
room() { umount "$1/vm/m/state.json"; }
start_two

ok 'it runs here' vm_wait m running
ok 'and counts' count m 0001
touch_memory m
before=$(vm_pid m)
slow() { drover migrate m --to "unix:$there/api.sock" --max-bandwidth "512K" --no-wait && wait_for "$patience" step_is m memory; }
failed() { events_of m "$seq" | jq -e 'select(.event == "migrate-failed")' | grep .; }

seq=$(last_seq)
ok 'a migration' slow
full "$W/state"
ok 'whose source cannot write down that it gives the machine away' wait_for "$patience" failed
like "$(failed)" 'its record cannot be written: .*busy' 'says so'
ok 'it runs on here' vm_wait m running
is "$(vm_pid m)" "$before" 'in the same process'
ok 'and counts' count m 0002
like "$(vm m '.conditions | join(" ")')" unsaved 'and has a condition that says what is wrong'
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
# Before anything else is written down: the daemon dies, and the record is still the old one.
ok 'droverd is killed' stop_droverd KILL
room "$W/state"
start_droverd "$W/a.ini"
ok 'it runs on here' vm_wait m running
is "$(vm_pid m)" "$before" 'in the same process'
ok 'no record here' wait_for "$patience" no_migrations
ok 'it counts' count m 0003

seq=$(last_seq)
ok 'a migration' slow
full "$W/b"
ok 'whose target cannot write down that it has come' wait_for "$patience" failed
like "$(at_b events_of m | jq -r 'select(.event == "receive-failed") | .reason' | tail -n 1)" \
	'its record cannot be written: .*busy' 'says so there'
ok 'it runs on here' vm_wait m running
is "$(vm_pid m)" "$before" 'in the same process'
ok 'and counts' count m 0004
room "$W/b"
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
ok 'no record here' wait_for "$patience" no_migrations

# Once it can be written it goes over.
ok 'it migrates' migrate m
ok 'and counts there' at_b count m 0005
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock
ok 'no record is left there' wait_for "$patience" at_b no_migrations
# Asked until it has been done: what else still has to do with it there says so.
removed_there() { at_b drover rm m --disks || at_b not drover show m; }
ok 'there it can be removed' wait_for "$patience" removed_there
is "$(hypervisors)" 1 'one hypervisor is left'
ok 'stop' drover stop m
stop_two
done_testing

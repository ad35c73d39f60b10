#!/usr/bin/env bash
# A running guest goes to another droverd, in a network namespace of its own, and back: it goes on
# where it was, runs on one side only, and each side tells what has happened. What cannot go is
# refused, and what is cancelled, stopped or breaks off stays where it is.
. "$(dirname "$0")/migrate-lib.sh"
world
start_two

ok 'it runs here' vm_wait m running
ok 'and counts' count m 0001
ok 'to 2' count m 0002
was=$(vm m '[.mac, .address, .nics[0].tap] | join(" ")')
ok 'it migrates' migrate m
like "$(cat "$W/output")" "^m: migrated to unix:$there/api.sock" 'and says where to'
is "$(vm m .state)" stopped 'here it is stopped'
is "$(vm m .last_cause)" migrated 'because it has migrated'
like "$(drover why m)" "migrated to unix:$there" 'why tells it'
is "$(vm m .migrated_to)" "unix:$there/api.sock" 'and where it is'
is "$(hypervisors)" 1 'one hypervisor is left'
ok 'it runs there' at_b vm_is m running
ok 'with the same MAC, address and TAP' [ "$(at_b vm m '[.mac, .address, .nics[0].tap] | join(" ")')" = "$was" ]
ok 'it goes on where it was' at_b count m 0003
like "$(at_b drover why m)" 'received +it came from' 'why tells where it came from'
ok 'no record is left here' wait_for "$patience" no_migrations
ok 'nor there' wait_for "$patience" at_b no_migrations
like "$(events_of m | jq -r .event | tr '\n' ' ')" 'migrate-begun .*migrated ' 'the events here'
like "$(at_b events_of m | jq -r .event | tr '\n' ' ')" 'receive-begun .*received ' 'the events there'

# It is not to run twice on its disk.
like "$(drover start m 2>&1)" 'cannot start it: it has migrated to' 'it does not start here'
like "$(drover rm m 2>&1)" 'is in use at' 'nor does its disk go'
ok 'a reload leaves it' drover reload
is "$(vm m .state)" stopped 'stopped'
ok 'so does a new droverd' stop_droverd
start_droverd "$W/a.ini"
is "$(vm m .state)" stopped 'stopped'
like "$(drover start m 2>&1)" 'it has migrated to' 'and keeps in mind where it is'
ok 'the other one is followed by a new one, too' restart_b
ok 'which has it' at_b vm_wait m running

# And back, the memory over TCP; who connects without the id is sent away.
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock --via tcp:10.9.0.1:0
ok 'it runs here' vm_is m running
ok 'where it goes on' count m 0004
is "$(vm m .migrated_to)" null 'it is here'
is "$(at_b vm m .state)" stopped 'there it is stopped'
ok 'there it can be removed' at_b drover rm m --disks
ok 'with its section' [ ! -e "$W/b/conf.d" ]
is "$(hypervisors)" 1 'one hypervisor is left'

# What does not come to its end leaves it here.
touch_memory m
before=$(vm_pid m)
ok 'a migration that is slow' drover migrate m --to "unix:$there/api.sock" --max-bandwidth 64K --no-wait
ok 'is under way' wait_for "$patience" step_is m memory
like "$(vm m .state)" migrating 'its state says so'
like "$(drover pause m 2>&1)" 'busy with migrate' 'nobody else does anything to it'
ok 'there it waits' at_b vm_is m migrating
like "$(at_b drover resume m 2>&1)" 'busy with receive' 'and is not let run there'
like "$(at_b drover qmp --write m cont 2>&1)" 'cannot change it while it comes here' 'not by its monitor either'
ok 'cancel' drover cancel m
ok 'it runs on' vm_wait m running
is "$(vm_pid m)" "$before" 'in the same process'
ok 'and counts' count m 0005
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
ok 'no record here' wait_for "$patience" no_migrations
is "$(hypervisors)" 1 'one hypervisor is left'

ok 'another one' drover migrate m --to "unix:$there/api.sock" --max-bandwidth 64K --no-wait
ok 'is under way' wait_for "$patience" step_is m memory
kill -9 "$(at_b vm_pid m)"
ok 'the hypervisor there is killed: it runs on here' wait_for "$patience" runs_settled
ok 'and counts' count m 0006
like "$(events_of m | jq -r 'select(.event == "migrate-failed") | .event' | wc -l)" 2 'both have failed'

# A target that is gone holds nobody up. Its hypervisor must have the stream by then: until that is so
# the stream ends with the target, and there is nothing to cancel.
hypervisor_there_reads() { [ "$(at_b drover qmp m query-migrate | jq -r '(.return // .).status')" = active ]; }
ok 'one more' drover migrate m --to "unix:$there/api.sock" --max-bandwidth 64K --no-wait
ok 'is under way' wait_for "$patience" step_is m memory
ok 'from hypervisor to hypervisor' wait_for "$patience" hypervisor_there_reads
ok 'the other droverd is killed' stop_b KILL
ok 'cancel' drover cancel m
ok 'it runs on' vm_wait m running
ok 'it can be paused' drover pause m
is "$(vm m .migration.state)" keeping 'while nobody over there has heard of it'
ok 'that outlives droverd' stop_droverd
start_droverd "$W/a.ini"
ok 'it stays paused' vm_wait m paused
ok 'and goes on' drover resume m
ok 'the other droverd is back' start_b
ok 'and hears of it' wait_for "$patience" runs_settled
ok 'nothing is left there' wait_for "$patience" at_b not drover show m
ok 'it counts' count m 0007
is "$(hypervisors)" 1 'one hypervisor is left'

# What cannot go.
refused() { # refused DESCRIPTION REGEX ARGUMENT...
	like "$(drover migrate m "${@:3}" 2>&1)" "$2" "$1"
}
refused 'nobody there' 'does not answer' --to unix:/run/nobody.sock
refused 'no address' 'neither unix:/PATH nor http' --to there
refused 'no address for the memory' 'is no IP address' --to "unix:$there/api.sock" --via tcp:there:1
refused 'to itself' 'there is a machine .m. already' --to unix:/run/drover/api.sock
ok 'it runs on' vm_is m running
config_b '[network taps]
cidr = 172.17.0.0/16'
ok 'another range there' restart_b
refused 'its address is not of that' 'which is not free here or not of \[network taps\]' --to "unix:$there/api.sock"
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
config_b 'run_id = other
[network taps]
cidr = 172.16.0.0/16'
ok 'another run_id there' restart_b
refused 'its MAC would change' 'run_id must be the same' --to "unix:$there/api.sock"
config_b ''
ok 'no network there' restart_b
refused 'it needs one' 'there is no \[network taps\] here' --to "unix:$there/api.sock"
ok 'it runs on' vm_is m running
ok 'and counts' count m 0008
write_a 'volume = data size=1M'
before=$(vm_pid m)
ok 'a volume in its folder' drover reload
ok 'it runs with that' wait_for "$patience" runs_anew m "$before"
refused 'what lies in its folder' 'the other host does not share' --to "unix:$there/api.sock"
ok 'stop' drover stop m
refused 'one that does not run' 'cannot migrate a machine that is stopped' --to "unix:$there/api.sock"
stop_two
done_testing

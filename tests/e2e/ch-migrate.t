#!/usr/bin/env bash
# A running guest on cloud-hypervisor goes to another droverd and back. Its protocol lets it run at the
# receiver as soon as that has it, and go on at the sender as soon as the stream ends: it runs on one
# side only all the same, whoever is killed at the point where both could.
. "$(dirname "$0")/migrate-lib.sh"
world
. "$(dirname "$0")/ch-migrate-lib.sh"
start_two

ok 'it runs here' vm_wait m running
ok 'and counts' count m 1
ok 'to 2' count m 2
is "$(vm m '.capabilities | index("migrate") != null')" true 'it is among what it can'
was=$(vm m '[.mac, .address, .nics[0].tap] | join(" ")')
ok 'it migrates' migrate m
is "$(vm m '.state + " " + .last_cause')" 'stopped migrated' 'here it is stopped'
is "$(hypervisors)" 1 'one hypervisor is left'
ok 'it runs there' at_b vm_is m running
ok 'with the same MAC, address and TAP' [ "$(at_b vm m '[.mac, .address, .nics[0].tap] | join(" ")')" = "$was" ]
ok 'it goes on where it was' at_b count m 3
ok 'no record is left here' wait_for "$patience" no_migrations
ok 'nor there' wait_for "$patience" at_b no_migrations
ok 'it is one like any other there: pause' at_b drover pause m
ok 'and resume' at_b drover resume m
ok 'it comes back, over TCP' at_b drover migrate m --to unix:/run/drover/api.sock --via tcp:10.9.0.1:0
ok 'it runs here' vm_is m running
ok 'where it goes on' count m 4
ok 'there it can be removed' at_b drover rm m --disks

like "$(drover migrate m --to "unix:$there/api.sock" --copy-disks 2>&1)" \
	'cloud-hypervisor v53.0 .*its API has no way to copy a disk' 'it copies no disks'
ok 'it runs on' count m 5

# What does not come to its end leaves it here.
fake 'refuse state'
before=$(vm_pid m)
like "$(drover migrate m --to "unix:$there/api.sock" 2>&1)" 'refuses State' 'a receiver that cannot load it'
ok 'it runs on' wait_for "$patience" runs_settled
is "$(vm_pid m)" "$before" 'in the same process'
ok 'and counts' count m 6
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
fake 'kill wire.state'
ok 'a receiver that is killed' not migrate m
ok 'it runs on' wait_for "$patience" runs_settled
ok 'and counts' count m 7
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m

fake 'memory 4000000'
drover restart m >/dev/null
ok 'a guest with more memory' count m 1
ok 'a migration that is slow' drover migrate m --to "unix:$there/api.sock" --max-bandwidth 64K --no-wait
ok 'is under way' wait_for "$patience" step_is m memory
ok 'cancel' drover cancel m
ok 'it runs on' wait_for "$patience" runs_settled
ok 'and counts' count m 2
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
ok 'another one' drover migrate m --to "unix:$there/api.sock" --max-bandwidth 64K --no-wait
ok 'is under way' wait_for "$patience" step_is m memory
ok 'the other droverd is killed' stop_b KILL
ok 'it runs on' vm_wait m running
ok 'the other droverd is back' start_b
ok 'and hears of it' wait_for "$patience" runs_settled
ok 'and counts' count m 3
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
is "$(hypervisors)" 1 'one hypervisor is left'

# Older ones: the sender does nothing else meanwhile.
fake 'version v51.2'
before=$(vm_pid m)
drover restart m >/dev/null
ok 'one of v51' count m 1
ok 'it migrates' migrate m
ok 'and goes on' at_b count m 2
fake
like "$(at_b drover migrate m --to unix:/run/drover/api.sock 2>&1)" \
	'it runs in cloud-hypervisor v51.2 there, and here there is cloud-hypervisor v53.0' \
	'not to another version'
ok 'it runs on' at_b count m 3
fake 'version v51.2' 'protocol 1'
ok 'another protocol' at_b drover restart m
ok 'which runs' at_b count m 1
like "$(at_b drover migrate m --to unix:/run/drover/api.sock 2>&1)" \
	'speaks version 1 of its migration protocol, of which drover knows version 0' 'is refused'
ok 'it runs on' at_b count m 2
ok 'it is killed there' at_b drover kill m
ok 'and removed' at_b drover rm m --disks
ok 'two have never run at once' not both_ran
stop_two
done_testing

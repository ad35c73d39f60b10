#!/usr/bin/env bash
# A machine with nics on bridges goes to another droverd: it keeps the address that it was given and
# the MAC that its section sets, or stays where it is.
. "$(dirname "$0")/migrate-lib.sh"
world
# The bridges go with the daemons.
lab='on_exit = stop
[network lab]
kind = isolated
cidr = 10.77.0.0/24'
mac=52:54:00:12:34:56

write_lab() { # write_lab NETWORK
	config "$W/a.ini" <<-END
	$lab
	[vm m]
	kernel = $kernel
	rootfs = $disk
	memory = 16M
	accel = tcg
	network = $1
	stop_timeout = 1
	END
}
here() { "$@"; }
nic() { "$@" vm m '[.mac, .address] | join(" ")'; }

kernel=$(nano) disk=$(nano_disk)
mkdir -p "$W/b"
# An address that nobody would give to a machine of this name.
write_lab "lab address=10.77.0.99 mac=$mac"
config_b "$lab"
namespace
baseline
ok 'the other droverd' start_b || bail "$(tail -n 3 "$W/droverd-b.log")"
start_droverd "$W/a.ini"
ok 'it runs' vm_wait m running
before=$(vm_pid m)
write_lab "lab mac=$mac"
ok 'its address is no longer set' drover reload
ok 'it runs anew' wait_for "$patience" runs_anew m "$before"
is "$(nic here)" "$mac 10.77.0.99" 'and keeps the address'
ok 'and counts' count m 0001

ok 'it migrates' migrate m
is "$(nic at_b)" "$mac 10.77.0.99" 'it has its MAC and its address there'
ok 'where it goes on' at_b count m 0002
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock
is "$(nic here)" "$mac 10.77.0.99" 'and has them here, too'
ok 'no record is left there' wait_for "$patience" at_b no_migrations
ok 'there it can be removed' at_b drover rm m --disks

# There they are somebody else's.
config_b "$lab
[vm o]
kernel = $kernel
memory = 16M
autostart = no
network = lab address=10.77.0.99"
ok 'another machine has its address there' restart_b
like "$(migrate m 2>&1)" 'its address is 10.77.0.99 there, which is not free here' 'it is refused'
ok 'it runs on here' vm_wait m running
is "$(nic here)" "$mac 10.77.0.99" 'with its address'
ok 'there nothing is left of it' wait_for "$patience" at_b not drover show m
stop_two
done_testing

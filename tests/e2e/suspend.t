#!/usr/bin/env bash
# A machine is suspended to disk and goes on where it was: after a restart of the daemon, after a
# reboot of the host, by start and by resume; or boots afresh on request.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
write_config() { # write_config MEMORY EXTRA
	config <<END
[network taps]
cidr = 172.16.0.0/16
[vm web]
kernel = $kernel
rootfs = $disk
network = taps
memory = $1
accel = tcg
stop_timeout = 2
disk = run
restart = always
$2
END
}
write_config 16M ''
baseline
start_droverd

count() { # count VM NUMBER
	printf N | timeout 20 socat -u - "UNIX-CONNECT:/run/drover/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
mark() { printf '%s' "$1" | dd of="$W/state/vm/web/disk.raw" bs=1 seek=3000000 conv=notrunc status=none; }
marked() { [ "$(dd if="$W/state/vm/web/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ]; }
no_qemu() { ! pgrep -f 'guest=web,' >/dev/null; }
boot() { vm web .boot; }

ok 'the guest is up' wait_for "$patience" console_has web NANO-READY
ok 'and counts' count web 0001
mark one
ok 'suspend' drover suspend web
is "$(vm web .state)" suspended 'it is suspended'
ok 'no hypervisor runs' no_qemu
is "$(vm web .last_cause)" requested 'the run ended on request'
like "$(drover list)" 'web +suspended' 'list shows it'
ok 'suspending it again changes nothing' drover suspend web
ok 'resume' drover resume web
ok 'it runs' vm_wait web running
ok 'and counts on' count web 0002
ok 'without having booted' not grep -q NANO-READY "$W/state/log/web/2.log"
ok 'its disk was not made anew, although it is one for each run' marked one
ok 'the memory on disk is gone' wait_for "$patience" test ! -e "$W/state/vm/web/suspend"

# Over a restart of the daemon, and of the host.
ok 'suspended' drover suspend web
ok 'droverd leaves' stop_droverd
start_droverd
is "$(vm web .state)" suspended 'the next daemon knows it, and leaves it so'
ok 'droverd leaves' stop_droverd
sed -i -E 's/"boot_id":"[^"]*"/"boot_id":"another"/' "$W/state/vm/web"/state.json*
rm -rf /run/drover/*
start_droverd
is "$(vm web .state)" suspended 'so does the one after a reboot of the host'
ok 'start' drover start web
ok 'it counts on' count web 0003

# What does not match is said, and nothing is touched.
ok 'suspended' drover suspend web
n=$(boot)
write_config 20M ''
ok 'the configuration changes' drover reload
ok 'start says what does not match' says "memory was '16M' then and is '20M' now" drover start web
is "$(vm web .state) $(boot)" "suspended $n" 'and nothing has happened'
write_config 16M ''
ok 'it is put back' drover reload
mark two
ok 'a disk that was changed meanwhile is told of' says 'disk.raw. was changed since' drover start web
ok 'start --discard boots it' drover start web --discard
ok 'afresh' wait_for "$patience" grep -q NANO-READY "$W/state/log/web/$((n + 1)).log"
ok 'with a memory that knows nothing' wait_for "$patience" test ! -e "$W/state/vm/web/suspend"

# A paused guest stays paused.
ok 'paused' drover pause web
ok 'suspended' drover suspend web
ok 'start' drover start web
is "$(vm web .state)" paused 'it is paused again'
ok 'resume' drover resume web

# Not what does not run.
ok 'stopped' drover stop web
drover suspend web 2>/dev/null
is $? 4 'one that does not run cannot be suspended'
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

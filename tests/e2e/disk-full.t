#!/usr/bin/env bash
# A disk's filesystem is full: the guest stands still and loses nothing, the machine says nospace,
# and it goes on when there is room, through restarts of the daemon and beside what a person does.
# An I/O error of another kind that ends a run is its cause.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
# All that is of the machines lies on the small disk, their state files too.
mkdir -p "$W/state/vm"
mount -t tmpfs -o mode=755,size=24m tmpfs "$W/state/vm" || bail 'no small disk'
truncate -s 1M "$W/bad.raw"
config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[vm web]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
restart = no
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
qemu_args = -blockdev
	driver=blkdebug,node-name=bad,image.driver=file,image.filename=$W/bad.raw,inject-error.0.event=read_aio,inject-error.0.errno=5,inject-error.0.sector=1024
	-blockdev
	driver=raw,node-name=badraw,file=bad
	-device
	virtio-blk-pci,drive=badraw
END
start_origin
baseline
start_droverd

conditions() { vm web '.conditions | join(" ")'; }
# What droverd writes down of it lies there, too.
is_full() { [[ " $(conditions) " = *' nospace '* ]] && vm_is web paused; }
is_well() { [ "$(conditions)" = '' ] && vm_is web running; }
event() { events_of web "$1" | grep "\"event\":\"$2\""; }
enlarge() { mount -o "remount,size=$1" "$W/state/vm"; }
# The guest's writer is not waited for: it stands still with the guest.
fill() { guest web "(head -c $2 /dev/zero | tr '\\0' $1 >/$1; sync; echo $1 >>/written; sync) >/dev/null 2>&1 </dev/null &"; }
written() { guest web "cat /written" | grep -q "$1"; }
whole() { guest web "tr -d '$1' </$1 | wc -c; wc -c </$1" | tr '\n' ' '; }

ok 'the guest answers' ssh_wait web
pid=$(vm_pid web) seq=$(last_seq)
fill a 20000000
ok 'it fills the disk: nospace, and it stands still' wait_for "$patience" is_full
ok 'with an event' event "$seq" nospace
like "$(drover list)" 'web +paused.*nospace' 'drover list shows it'
like "$(drover why web)" 'No space left' 'and drover why tells it'
sleep 3
ok 'it stays so while there is no room' is_full
ok 'room' enlarge 44m
ok 'it goes on' wait_for "$patience" is_well
ok 'told' event "$seq" nospace-over
ok 'what it was writing is written' wait_for "$patience" written a
is "$(whole a)" '0 20000000 ' 'and whole'

# The next daemon finds it so; also what happened while there was none.
seq=$(last_seq)
fill b 20000000
ok 'full again' wait_for "$patience" is_full
stop_droverd KILL
start_droverd
ok 'the next daemon finds it so' wait_for "$patience" is_full
ok 'room' enlarge 64m
ok 'and lets it go on' wait_for "$patience" is_well
ok 'what it was writing is written' wait_for "$patience" written b
fill c 20000000
stop_droverd KILL
status() { printf '{"execute":"qmp_capabilities"}{"execute":"query-status"}' | socat -t 2 - UNIX-CONNECT:/run/drover/vm/web/mon.sock; }
ok 'it fills up while there is no daemon' wait_for "$patience" says '"io-error"' status
start_droverd
ok 'which the next one finds out' wait_for "$patience" is_full

# A person's pause is not overruled.
ok 'a person wants it to stand still' drover pause web
ok 'room' enlarge 84m
sleep 6
is "$(vm web .state)" paused 'it does'
ok 'until it shall go on' drover resume web
ok 'it does' wait_for "$patience" is_well
ok 'what it was writing is written' wait_for "$patience" written c
is "$(whole b)$(whole c)" '0 20000000 0 20000000 ' 'and whole'
is "$(vm_pid web)" "$pid" 'all that in one process'

# A resume without room changes nothing.
fill d 20000000
ok 'full again' wait_for "$patience" is_full
drover resume web
ok 'a resume without room does not help' wait_for "$patience" is_full
ok 'room' enlarge 104m
ok 'it goes on' wait_for "$patience" is_well
ok 'the guest answers' ssh_wait web

# A disk that cannot be read: the guest's affair, unless it dies of it.
seq=$(last_seq)
guest web 'cat /dev/vdb >/dev/null'
ok 'a read error is told' wait_for "$patience" event "$seq" io-error
ok 'the guest goes on' is_well
seq=$(last_seq)
guest web '(cat /dev/vdb; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &'
ok 'one of which it dies' vm_wait web failed
is "$(events_of web "$seq" | jq -r 'select(.event == "ended") | .cause')" io-error 'is the cause'
like "$(drover why web)" 'Input/output error' 'and told'

# A stop is always possible. It is written down when there is room again.
ok 'once more' drover start web
ok 'the guest answers' ssh_wait web
fill e 40000000
ok 'full' wait_for "$patience" is_full
head -c 1M /dev/zero >>"$W/state/vm/rest"
ok 'a stop on a full disk' drover stop web --timeout 100
is "$(vm web .state)" stopped 'stops it'
unsaved() { [ "$(conditions)" = unsaved ]; }
saved() { [ "$(conditions)" = '' ]; }
ok 'it is told that nothing of that is on disk' wait_for "$patience" unsaved
rm "$W/state/vm/rest"
ok 'room' enlarge 160m
ok 'it is written' wait_for "$patience" saved
stop_droverd KILL
start_droverd
ok 'the next droverd knows it' wait_for "$patience" vm_is web stopped

ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

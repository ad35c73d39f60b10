#!/usr/bin/env bash
# Where blocks cannot be shared, QEMU copies the disks of a snapshot while the guest runs on: whole,
# as they were in that moment, of either format, and whatever is killed or cancelled meanwhile,
# nothing of it stays.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
# A tmpfs shares no blocks.
mkdir -p "$W/state/vm"
mount -t tmpfs -o mode=755,size=900m tmpfs "$W/state/vm" || bail 'no filesystem without reflinks'
config <<END
[vm web]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
stop_timeout = 1
volume = data size=96M
	log size=64M format=qcow2
END
baseline
start_droverd
dir=$W/state/vm/web
ok 'it runs' vm_wait web running
wait_for "$patience" console_has web NANO-READY
ok 'stopped' drover kill web
head -c 96M /dev/urandom >"$dir/volume-data.raw"
qemu-io -f qcow2 -c 'write -P 7 1M 40M' "$dir/volume-log.qcow2" >/dev/null
ok 'it starts' drover start web
wait_for "$patience" grep -q NANO-READY "$W/state/log/web/2.log"
pid=$(vm_pid web)
like "$(vm web '.capabilities | join(" ")')" copy-disks 'its disks can be copied'

nothing_left() {
	! find "$dir" -name '*.tmp' | grep . &&
		[ "$(drover qmp web query-jobs | jq -c .return)" = '[]' ] &&
		! drover qmp web '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' | grep drover-copy
}
same() { # same SNAPSHOT
	local f
	for f in disk0:disk.raw volume-data:volume-data.raw volume-log:volume-log.qcow2; do
		cmp "$dir/snapshots/$1/${f%%:*}" "$dir/${f##*:}" || return 1
	done
}
# What its monitor tells: whether the guest went on before the copies were whole. On a host that does
# not let droverd run meanwhile it may take more than one.
overlapped() {
	drover snapshot create web first || return 1
	jq -r 'select(.event == "RESUME" or .event == "BLOCK_JOB_COMPLETED") | .event' "$W/events" |
		grep -A1 -m1 RESUME | grep -q BLOCK_JOB_COMPLETED && return
	: >"$W/events"
	drover snapshot delete web first
	return 1
}
mkfifo "$W/fifo"
socat UNIX-CONNECT:/run/drover/vm/web/qmp.sock - <"$W/fifo" >"$W/events" 2>/dev/null &
listener=$!
exec 9>"$W/fifo"
echo '{"execute":"qmp_capabilities"}' >&9
ok 'it hears the events' wait_for "$patience" grep -q return "$W/events"
ok 'a snapshot, during which the guest goes on' wait_for "$patience" overlapped
kill "$listener"
exec 9>&-
is "$(vm web '.state + " " + (.pid | tostring)')" "running $pid" 'it runs as before'
ok 'its disks are copied whole' same first
ok 'the format of the qcow2 is' qemu-img check -q "$dir/snapshots/first/volume-log"
ok 'nothing else is left' nothing_left
ok 'only the disks' drover snapshot create web second --disks --crash-consistent
ok 'are copied likewise' same second

# The memory that was saved with them fits them.
printf N | timeout 20 socat -u - "UNIX-CONNECT:/run/drover/vm/web/console.sock" >/dev/null
ok 'the guest counts' wait_for "$patience" console_has web 'NANO-COUNT 0001'
ok 'a restore' drover snapshot restore web first
ok 'runs' vm_is web running
pid=$(vm_pid web)

# Cancelled, at whatever point that finds it.
drover snapshot create web third >"$W/create" 2>&1 &
creating=$!
busy() { [ "$(vm web .operation.verb)" = snapshot ]; }
wait_for 20 busy
drover cancel web >/dev/null 2>&1
wait $creating
created=$?
is "$(test -d "$dir/snapshots/third" && echo 0 || echo 1)" "$([ $created = 0 ] && echo 0 || echo 1)" \
	'a cancelled one is there whole or not at all'
ok 'and nothing else' wait_for "$patience" nothing_left
ok 'the guest runs' vm_is web running

# The daemon is killed while QEMU copies: the next one ends that.
drover snapshot create web fourth >/dev/null 2>&1 &
creating=$!
copying() { drover qmp web query-jobs | grep -q drover-copy || [ -d "$dir/snapshots/fourth" ]; }
ok 'it copies' wait_for 20 copying
stop_droverd KILL
wait $creating
start_droverd
ok 'the guest runs' vm_wait web running
is "$(vm_pid web)" "$pid" 'as the same process'
ok 'the next daemon leaves nothing of it' wait_for "$patience" nothing_left
ok 'and makes the next snapshot' drover snapshot create web fifth
ok 'whole' same fifth

# The hypervisor is killed meanwhile.
drover snapshot create web sixth >"$W/create" 2>&1 &
creating=$!
wait_for 20 busy
kill -KILL "$pid"
wait $creating
ok 'without its hypervisor there is no half of one' eval \
	'[ ! -d "$dir/snapshots/sixth" ] || same sixth'
unfinished() { find "$dir" -name '*.tmp' | grep .; }
ok 'nothing unfinished' wait_for "$patience" not unfinished
ok 'at rest' drover stop web
stop_droverd
audit_clean 'after it all'
done_testing

#!/usr/bin/env bash
# Snapshots on real QEMU: memory, disk and configuration come back together; what does not match is
# refused before anything is touched; a failed or killed one leaves the machine running and nothing
# behind.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
write_config() { # write_config EXTRA
	config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 2
[vm web]
template = nano
rootfs = $disk
network = taps
$1
[vm diskless]
template = nano
autostart = no
END
}
write_config ''
baseline
start_droverd

# The guest counts in its memory; its disk is written to from here, where it does not look.
count() { # count VM NUMBER
	printf N | timeout 20 socat -u - "UNIX-CONNECT:/run/drover/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
mark() { printf '%s' "$1" | dd of="$W/state/vm/web/disk.raw" bs=1 seek=3000000 conv=notrunc status=none; }
marked() { [ "$(dd if="$W/state/vm/web/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ]; }
left() { find "$W/state/vm/web" \( -name '*.tmp' -o -name '*.restore' -o -name '*.before' \) | grep .; }
story_of() { events_of web "$1" | jq -r .event; }

ok 'the guest is up' wait_for "$patience" console_has web NANO-READY
ok 'and counts' count web 0001
mark one
pid=$(vm_pid web)
ok 'a snapshot' drover snapshot create web first --description 'before the flood'
ok 'the machine runs on' vm_is web running
is "$(vm_pid web)" "$pid" 'with the same process'
ok 'and nothing unfinished lies about' not left
is "$(drover snapshot list web -o json | jq -c '[.[] | [.name, .kind, .consistency, .description]]')" \
	'[["first","full","memory","before the flood"]]' 'it is listed'
like "$(drover snapshot list web)" 'first .*full' 'for people too'
is "$(drover snapshot show web first -o json | jq -c '[.vm, .config.memory, [.files[].name], (.hypervisor_version | test("^QEMU [0-9]"))]')" \
	'["web","16M",["disk0","memory"],true]' 'and its manifest tells what it holds'
ok 'the guest counts on' count web 0002
ok 'and on' count web 0003
mark two
ok 'one of the same name is refused' says 'there is a snapshot .first. already' drover snapshot create web first

# Back.
seq=$(last_seq)
ok 'the snapshot is restored' drover snapshot restore web first
ok 'it runs, as another process' runs_anew web "$pid"
ok 'its disk is that of then' marked one
ok 'the guest counts on from where it was then' count web 0002
ok 'it did not boot' not grep -q NANO-READY "$W/state/log/web/2.log"
ok 'nothing is left of it' wait_for "$patience" not left
like "$(story_of "$seq" | tr '\n' ' ')" 'restore-begun .*ended .*restored' 'the events tell it'
is "$(events_of web "$seq" | jq -r 'select(.event == "ended") | .cause')" requested 'the old run was ended on request'
like "$(drover why web)" 'becomes what it was in snapshot' 'why tells it'
ok 'restored once more' drover snapshot restore web first
ok 'it counts from there again' count web 0002


# What does not match is said, and nothing is touched. The files of the snapshot are put back.
snap=$W/state/vm/web/snapshots/first
unmatched() { # unmatched DESCRIPTION REGEX
	local seq pid
	seq=$(last_seq) pid=$(vm_pid web)
	like "$(drover snapshot restore web first 2>&1)" "$2" "$1"
	[ "$(vm_pid web)" = "$pid" ] && vm_is web running && ! left >/dev/null &&
		! events_of web "$seq" | jq -r .event | grep -qE 'ended|state' ||
		fail "$1: and nothing was touched" "$(events_of web "$seq")"
}
edit() { cp -a "$snap/manifest.json" "$W/manifest" && jq "$1" "$W/manifest" >"$snap/manifest.json"; }
put_back() { cp -a "$W/manifest" "$snap/manifest.json"; }
edit '.config.cpu = "qemu64"'
unmatched 'another cpu model' "vm web: snapshot 'first' does not match: cpu was 'qemu64' then and is not set now"
put_back
edit '.hypervisor_version = "QEMU 9.9.0"'
unmatched 'another version of the hypervisor' 'made by QEMU 9\.9\.0, and the hypervisor here is .QEMU emulator version'
put_back
edit '.config.vcpus = "2"'
unmatched 'another number of processors' "vcpus was '2' then and is '1' now"
put_back
mv "$snap/disk0" "$W/disk0"
unmatched 'a disk is missing' "snapshots/first/disk0': No such file"
mv "$W/disk0" "$snap/disk0"
cp -a "$snap/memory" "$W/memory"
truncate -s -1 "$snap/memory"
unmatched 'a memory that was cut' 'memory. has [0-9]+ bytes, and had'
cp -a "$W/memory" "$snap/memory"
printf X | dd of="$snap/memory" bs=1 seek=5000 conv=notrunc status=none
unmatched 'a memory that was changed' 'its digest is another one'
cp -a "$W/memory" "$snap/memory"
echo '{' >"$W/broken" && cp -a "$snap/manifest.json" "$W/manifest" && cp "$W/broken" "$snap/manifest.json"
unmatched 'a manifest that is none' 'manifest.json'
put_back
ok 'put back, it matches' drover snapshot restore web first
ok 'and counts from there' count web 0002

# The hypervisor is killed while it is saved, or while it loads: told, and nothing is left.
killed_in_save() {
	local pid
	pid=$(vm_pid web)
	kill -STOP "$pid"
	drover snapshot create web second >"$W/create" 2>&1 &
	wait_for "$patience" vm_is web saving
	kill -9 "$pid"
	! wait $!
}
ok 'the hypervisor is killed while a snapshot is taken: it fails' killed_in_save
like "$(cat "$W/create")" 'vm web: ' 'and says so'
ok 'nothing is left of it' wait_for "$patience" not left
is "$(drover snapshot list web -o json | jq -c '[.[].name]')" '["first"]' 'there is no such snapshot'
ok 'the machine has ended' vm_wait web failed
is "$(vm web .last_cause)" hypervisor-crash 'as by a crash'
ok 'it starts' drover start web
mark two

# QEMU cannot load it, although everything seems to match: all is as before.
cp -a "$snap" "$W/state/vm/web/snapshots/bad"
bad=$W/state/vm/web/snapshots/bad
head -c 6000 "$snap/memory" >"$bad/memory"
jq --argjson size 6000 --arg sha "$(sha256sum "$bad/memory" | cut -d' ' -f1)" '.name = "bad" |
	(.files[] | select(.name == "memory")) |= (.size = $size | .sha256 = $sha)' \
	"$snap/manifest.json" >"$bad/manifest.json"
like "$(drover snapshot restore web bad 2>&1)" 'vm web: ' 'a restore that the hypervisor refuses fails'
ok 'the old disk is back' marked two
ok 'nothing unfinished is left' wait_for "$patience" not left
ok 'the machine does not run' vm_wait web failed
ok 'it boots when it is started' drover start web
ok 'from its old disk' marked two
ok 'a snapshot whose memory is broken is deleted' drover snapshot delete web bad

# Disks alone.
like "$(drover snapshot create web d --disks 2>&1)" 'cannot be frozen, because it has no agent' \
	'without an agent, disks of a running guest are refused'
ok 'but for --crash-consistent' drover snapshot create web d --disks --crash-consistent
is "$(drover snapshot show web d -o json | jq -c '[.kind, .consistency, [.files[].name]]')" \
	'["disks","crash",["disk0"]]' 'its manifest says that'
mark six
pid=$(vm_pid web)
ok 'it is restored' drover snapshot restore web d
ok 'by a new boot' runs_anew web "$pid"
ok 'from that disk' marked two
ok 'a paused guest' drover pause web
ok 'has its snapshot' drover snapshot create web still
ok 'and stays paused' vm_is web paused
ok 'restored' drover snapshot restore web still
ok 'it is paused, too' vm_is web paused
ok 'and goes on' drover resume web
ok 'stopped' drover stop web
mark ten
ok 'the disk of a stopped machine' drover snapshot create web off
mark six
ok 'is restored' drover snapshot restore web off
ok 'without starting it' vm_is web stopped
ok 'as it was' marked ten
like "$(drover snapshot create diskless none 2>&1)" 'it has no disk, and no memory' 'of what has neither there is none'
ok 'all of them deleted' eval 'drover snapshot delete web d && drover snapshot delete web still && drover snapshot delete web off'
ok 'a stopped machine becomes what it was, too' drover snapshot restore web first
ok 'and runs' vm_is web running
stop_all() { drover kill web; }
ok 'a snapshot is deleted' drover snapshot delete web first
is "$(drover snapshot list web -o json)" '[]' 'and gone'
drover snapshot delete web first 2>/dev/null
is $? 3 'there is none any more'
ok 'killed' drover kill web
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

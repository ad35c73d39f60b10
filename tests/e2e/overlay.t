#!/usr/bin/env bash
# Disks that are overlays above an image's built disk: what is below is never written and never
# removed while anything lies above it; snapshots, copies and restores take it along; without it a
# start is refused; a filesystem that was left in disorder is mended in a disk of its own.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
mkdir -p "$W/tree/etc/ssh" "$W/tree/root"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$W/tree/etc/passwd"
echo 0123456789abcdef0123456789abcdef >"$W/tree/etc/machine-id"
head -c 1000000 /dev/urandom >"$W/tree/data"
mke2fs -q -t ext4 -d "$W/tree" "$W/source.raw" 8M >&2
public='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHoGWbbGbAIwcMqYI2Lsc9p1fQmRSBTqPOSvrkZ2yvKq me'
write_config() { # write_config EXTRA [EXTRA-OF-WEB]
	config <<END
[key me]
public = $public
[template t]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 1
autostart = no
ssh_key = me
qmp_write = yes
[vm web]
template = t
rootfs = file:$W/source.raw
clone = overlay
hostname = shop
${2-}
[vm db]
template = t
rootfs = file:$W/source.raw
clone = overlay
$1
END
}
write_config ''
# What a daemon leaves that is killed while it makes a disk.
mkdir -p "$W/state/vm/web"
echo junk >"$W/state/vm/web/disk.qcow2.part"
echo junk >"$W/state/vm/web/base-0123456789abcdef.raw"
baseline
start_droverd

dir=$W/state/vm/web
base() { ls "$W/state/vm/$1"/base-*.raw; }
built() { find "$W/state/oci/built" -type f; }
sum() { sha256sum <"$1"; }
up() { drover start "$1" >/dev/null && wait_for "$patience" console_has "$1" NANO-READY; }
# As the guest would, by its hypervisor: what it writes at 6 MiB; HMP's qemu-io answers elsewhere.
put() { # put VM BYTE
	jq -nc --arg c "qemu-io -d /machine/peripheral/disk0/virtio-backend \"write -P $2 6291456 4096\"" \
		'{execute: "human-monitor-command", arguments: {"command-line": $c}}' >"$W/command"
	drover qmp --write "$1" <"$W/command" >"$W/reply" 2>&1; contains "$W/reply" '^\{"return": ""\}$'
}
has() { [ "$(od -An -tx1 -j 6291456 -N 1 "$(disk_of "$1")")" = " ${2#0x}" ]; }
field() { vm "$1" ".$2"; }
inside() { debugfs -R "cat $2" "$W/$1.flat" 2>/dev/null; }

ok 'a machine starts' up web
ok 'and another one' up db
is "$(cd "$dir" && ls base-*.raw disk.* | wc -l)" 2 'its disk is one file above another one'
is "$(built | wc -l)" 1 'which is in the store, once'
before=$(sum "$(built)")
ok 'and the same file' [ "$(base web)" -ef "$(built)" -a "$(base db)" -ef "$(built)" ]
is "$(field web disk_layers.format)" qcow2 'show says so'
is "$(field web disk_layers.backing)" "$(base web)" 'and what is below'
is "$(field web disk_layers.virtual_size)" 8388608 'and how large it is'
like "$(drover show web)" 'disk' 'show prints it'
ok 'one writes' put web 0x41
ok 'stop' drover stop db
ok 'the other one does not see it' has db 0x00
ok 'it writes as well' up db
ok 'it writes as well' put db 0x42
ok 'stop' drover stop web
ok 'stop' drover stop db
ok 'the first one has what it wrote' has web 0x41
ok 'and so has the other one' has db 0x42
is "$(sum "$(built)")" "$before" 'what is below is as it was'
for vm in web db; do
	ok "$vm: its overlay is whole" qemu-img check -q "$W/state/vm/$vm/disk.qcow2"
	ok "$vm: so is the filesystem in it" e2fsck -fn "$(disk_of $vm)"
done
is "$(inside web /etc/hostname) $(inside db /etc/hostname)" 'shop db' 'each has its own name'

# Nothing takes it away.
reference=$(drover image list -o json | jq -r '.[0].reference')
like "$(drover image rm "$reference" 2>&1)" 'in use by vm' 'the image of machines stays'
write_config '' 'disk_size = 8M'
ok 'snapshot' drover snapshot create web first
is "$(cd "$dir/snapshots/first" && ls base-*.raw)" "$(basename "$(base web)")" 'it has what is below, too'
ok 'it is whole' qemu-img check -q "$dir/snapshots/first/disk0"
ok 'clone' drover clone web copy
ok 'and one of the snapshot' drover clone web other --from first
ok 'a clone of the clone' drover clone copy again
for vm in copy other again; do
	ok "$vm lies above the same file, without a layer between" [ "$(base $vm)" -ef "$(built)" ]
	disk_of $vm >/dev/null
	is "$(inside $vm /etc/hostname)" $vm "$vm has a name of its own"
	ok "$vm has a machine-id of its own" [ "$(inside $vm /etc/machine-id)" != 0123456789abcdef0123456789abcdef ]
	ok "$vm is in order" e2fsck -fn "$W/$vm.flat"
done
ok 'a clone has what its source had written' has copy 0x41
ok 'it runs' up copy
ok 'it writes' put copy 0x43
ok 'stop' drover stop copy

# Deleting the source, and the image, is harmless to the others.
config <<END
[key me]
public = $public
[vm keep]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
END
ok 'the machines are taken out of the configuration' drover reload
ok 'one goes with its disks and snapshots' drover rm web --disks
ok 'a clone of what is gone has its data' has copy 0x43
ok 'and runs' up copy
ok 'stop' drover stop copy
for vm in copy other again; do ok "$vm goes" drover rm $vm --disks; done
rm=$(drover image rm "$reference" 2>&1)
is $? 0 'the image may go'
like "$rm" '1 built disk stays in the store: disks of machines or snapshots lie above it' 'but what disks lie above stays, which is said'
is "$(sum "$(built)")" "$before" 'it does'
ok 'stop' stop_droverd
start_droverd
like "$("$B/drover-image" prune --store "$W/state/oci")" '"in_use":1' 'another daemon knows it as well'
write_config ''
ok 'a machine of what is gone from the list is back' drover reload
ok 'with its data' has db 0x42
ok 'it runs' up db
ok 'stop' drover stop db
config <<END
END
drover reload >/dev/null
ok 'it goes' drover rm db --disks
"$B/drover-image" prune --store "$W/state/oci" >/dev/null
is "$(built | wc -l)" 0 'with the last disk above it it can go'

# Restored, and without what is below.
write_config ''
ok 'they are back' drover reload
ok 'start' up web
ok 'written' put web 0x44
ok 'a snapshot with memory' drover snapshot create web second
ok 'written over' put web 0x45
ok 'restore' drover snapshot restore web second
ok 'it runs' vm_wait web running
ok 'stop' drover stop web
ok 'what was then is there' has web 0x44
mv "$(base web)" "$W/taken"
like "$(drover start web 2>&1)" 'lies above .*base-[0-9a-f]*\.raw.*without which it is nothing' \
	'what is missing below is named'
mv "$W/taken" "$(jq -r .disk "$dir/state.json" | xargs dirname)/$(cd "$dir/snapshots/second" && ls base-*.raw)"
ok 'put back it starts' up web

# A guest that was killed leaves its journal to be replayed.
ok 'stop' drover stop web
cp "$(disk_of web)" "$W/dirty"
debugfs -w -R 'set_super_value feature_incompat needs_recovery' "$W/dirty" 2>/dev/null
debugfs -w -R 'feature needs_recovery' "$W/dirty" >/dev/null 2>&1
qemu-io -f qcow2 -c "write -s $W/dirty 0 65536" "$dir/disk.qcow2" >/dev/null
write_config '' 'hostname = new'
sed -i 's/^hostname = shop$//' "$W/drover.ini"
ok 'another name' drover reload
ok 'it is written into a whole disk' up web
is "$(field web disk_layers.format)" raw 'which show tells'
ok 'stop' drover stop web
ok 'it has the data' has web 0x44
is "$(debugfs -R 'cat /etc/hostname' "$dir/disk.raw" 2>/dev/null)" new 'and the name'
ok 'the overlay is gone' [ ! -e "$dir/disk.qcow2" -a -z "$(ls "$dir" | grep '^base-')" ]

# cloud-hypervisor is given a whole disk.
ok 'db is an overlay' up db
is "$(field db disk_layers.format)" qcow2 'above the image'
ok 'it writes' put db 0x47
ok 'stop' drover stop db
write_config "hypervisor = cloud-hypervisor
binary = $B/fakes/fake-ch"
sed -i 's/^accel = tcg$//; /^\[vm db/,$s/^clone = overlay$//' "$W/drover.ini"
sed -i "s|^kernel = .*|kernel = $B/e2e/nano64.elf|" "$W/drover.ini"
ok 'another hypervisor for it' drover reload
ok 'which it starts on' drover start db
is "$(field db disk_layers.format)" raw 'from a whole disk'
ok 'kill' drover kill db
ok 'with what is in it' has db 0x47
is "$(ls "$W/state/vm/db" | grep -c '^disk\|^base')" 1 'and nothing else'

write_config '' 'hostname = new'
sed -i 's/^hostname = shop$//' "$W/drover.ini"
ok 'as it was' drover reload

# A snapshot of when it was an overlay: that comes back, and its successor, were it not to start.
ok 'the overlay is restored' drover snapshot restore web second
ok 'it runs' vm_wait web running
is "$(field web disk_layers.format)" qcow2 'as an overlay'
ok 'stop' drover stop web
is "$(cd "$dir" && ls -d disk.*)" disk.qcow2 'and nothing else'
ok 'it has the data of then' has web 0x44
ok 'it is whole' qemu-img check -q "$dir/disk.qcow2"

# Larger: what has no filesystem of its own, as a disk with partitions has none; else a whole disk.
head -c 8M /dev/urandom >"$W/parts.raw"
write_config "[vm large]
template = t
rootfs = file:$W/parts.raw
clone = overlay
ssh_key =
disk_size = 16M
[vm grown]
template = t
rootfs = file:$W/source.raw
disk_size = 16M
[vm stuck]
template = t
rootfs = file:$W/source.raw
clone = overlay
disk_size = 16M
[vm small]
template = t
rootfs = file:$W/source.raw
disk_size = 4M"
ok 'sizes' drover reload
ok 'a larger disk' up large
is "$(field large disk_layers.format) $(field large disk_layers.virtual_size)" 'qcow2 16777216' 'can be an overlay'
ok 'it can be written' put large 0x46
ok 'stop' drover stop large
ok 'and is whole' qemu-img check -q "$W/state/vm/large/disk.qcow2"
is "$(stat -c %s "$(disk_of large)")" 16777216 'and so large'
ok 'below is what was' cmp -n 6291456 "$(disk_of large)" "$W/parts.raw"
ok 'one whose filesystem grows' up grown
is "$(field grown disk_layers.format)" raw 'is a whole one'
ok 'stop' drover stop grown
like "$(dumpe2fs -h "$W/state/vm/grown/disk.raw" 2>/dev/null)" 'Block count: +(4096|16384)[^0-9]' 'which has grown'
like "$(drover start stuck 2>&1)" 'an overlay cannot have a filesystem that grows' 'an overlay would not'
like "$(drover start small 2>&1)" 'smaller than the original.s .*, and disks are not shrunk' 'none is shrunk'
for vm in stuck small; do is "$(find "$W/state/vm/$vm" -name 'disk*' -o -name 'base*')" '' "$vm: nothing is left"; done

write_config "[vm bad]
kernel = $kernel
rootfs = $W/source.raw
clone = overlay"
like "$(drover reload 2>&1)" 'an overlay cannot lie above .*source.raw.*, which may change' \
	'nor is one made above a file that may change'
ok 'droverd leaves' stop_droverd
audit_clean 'droverd'
done_testing

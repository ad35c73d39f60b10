#!/usr/bin/env bash
# What a machine boots by: a BIOS from disk and CD-ROM in the order that is asked for, UEFI from a
# disk or with a kernel, with variables of the machine's own; volumes made and kept.
. "$(dirname "$0")/lib.sh"
world
boot=$(firmware_guests) || bail 'the guests cannot be made'
cp "$boot/disk.raw" "$boot/esp.raw" "$boot/cd.iso" "$W/"
cp "$boot/esp.raw" "$W/unsigned.raw"
config <<END
[template pc]
memory = 64M
accel = tcg
autostart = no
stop_timeout = 0
[vm disk]
template = pc
rootfs = $W/disk.raw
volume = data size=3M
	more size=2G format=qcow2 serial=second
[vm order]
template = pc
volume = $W/disk.raw ro
cdrom = $W/cd.iso
boot = cdrom, disk
[vm cd]
template = pc
machine = pc
cdrom = $W/cd.iso
volume = empty size=1M
[vm efi]
template = pc
firmware = uefi
volume = $W/esp.raw
[vm secure]
template = pc
firmware = uefi
secure_boot = yes
volume = $W/unsigned.raw
[vm arm]
template = pc
arch = aarch64
memory = 256M
cdrom = $W/cd.iso
watchdog = i6300esb
tpm = yes
[vm uki]
template = pc
firmware = uefi
kernel = $boot/nano.efi
END
baseline
start_droverd

drover start disk order cd efi uki secure arm --no-wait >/dev/null
ok 'BIOS boots from the first disk' wait_for "$patience" console_has disk DISK-READY
ok 'boot = cdrom, disk: from the CD-ROM' wait_for "$patience" console_has order CD-READY
ok 'not from the disk' not console_has order DISK-READY
ok 'machine = pc: after a disk that boots nothing, from the CD-ROM' \
	await "$patience" console_has cd CD-READY
ok 'UEFI boots from a disk' wait_for "$patience" console_has efi EFI-READY
ok 'UEFI boots a kernel that is a UEFI program' wait_for "$patience" console_has uki EFI-READY

ok 'with Secure Boot it refuses what nobody has signed' \
	wait_for "$patience" console_has secure 'Access Denied|Security Violation'
ok 'which has not run' not console_has secure EFI-READY
is "$(stat -c %s "$W/state/vm/secure/vars-secure.fd")" "$(stat -c %s /usr/share/OVMF/OVMF_VARS_4M.ms.fd)" \
	'it has variables of its own, with the keys'
ok 'a virt machine of another architecture reaches its UEFI' \
	await "$patience" console_has arm 'UEFI firmware'
like "$(vm arm .accel)" '^tcg' 'which is emulated'
is "$(drover qmp arm '{"execute":"query-target"}' | jq -r .return.arch)" aarch64 'as that architecture'

# Volumes.
blocks() { drover qmp "$1" '{"execute":"query-block"}' | jq -c "[.return[] | select(.qdev) | $2]"; }
is "$(blocks disk '.inserted | [.["node-name"], .drv, .image["virtual-size"]]')" \
	'[["disk0","raw",1048576],["disk1","raw",3145728],["disk2","qcow2",2147483648]]' \
	'each volume is a disk of its own'
d=$W/state/vm/disk
is "$(cd "$d" && echo volume*)" 'volume-data.raw volume-more.qcow2' 'they are in its folder'
is "$(blocks order '.inserted.ro')" '[true,true]' 'a volume that is read-only, and a CD-ROM'
like "$(tr '\0' '\n' <"/proc/$(vm_pid disk)/cmdline")" 'drive=disk1,serial=data' \
	'its name is its serial number'
printf kept | dd of="$d/volume-data.raw" conv=notrunc status=none

# Variables.
is "$(stat -c %s "$W/state/vm/efi/vars.fd")" "$(stat -c %s /usr/share/OVMF/OVMF_VARS_4M.fd)" \
	'UEFI has variables of the machine'
ok 'of this machine alone' not cmp -s "$W/state/vm/efi/vars.fd" "$W/state/vm/uki/vars.fd"
before=$(stat -c %i "$W/state/vm/efi/vars.fd")

ok 'stop' drover stop efi
ok 'start again' drover start efi
ok 'it boots again' wait_for "$patience" console_has efi EFI-READY
is "$(stat -c %i "$W/state/vm/efi/vars.fd")" "$before" 'with the variables that it had'
ok 'stop' drover stop efi
truncate -s 128K "$W/state/vm/efi/vars.fd"
ok 'variables that do not fit' drover start efi
is "$(stat -c %s "$W/state/vm/efi/vars.fd.old")" 131072 'are kept aside'
like "$(drover why efi)" 'another firmware' 'which the story tells'

ok 'stop' drover stop disk
ok 'start again' drover start disk
is "$(head -c 4 "$d/volume-data.raw")" kept 'a volume keeps what is in it'

# One is no clone: the disk that the configuration names is used itself.
drover stop disk order cd efi uki arm >/dev/null
config <<END
[vm disk]
memory = 64M
accel = tcg
autostart = no
rootfs = $W/disk.raw
volume = data size=3M format=qcow2
[vm lone]
autostart = no
volume = $W/nothing.raw
END
ok 'reload' drover reload
like "$(drover start disk 2>&1)" "vm disk: volumes: 'data' is there with format=raw" \
	'another format of a volume that is there is refused'
like "$(drover start lone 2>&1)" "vm lone: volumes: '.*nothing.raw': No such file" \
	'a volume that is not there is'
ok 'a removed machine with volumes' not drover rm cd
like "$(drover rm cd 2>&1)" 'still has volumes' 'is not removed without --disks'
ok 'with --disks' drover rm cd --disks
ok 'it is gone' not test -e "$W/state/vm/cd"
ok 'stop droverd' stop_droverd
audit_clean 'firmware'
done_testing

#!/usr/bin/env bash
# Machines that boot from images that are one file, or hold one: a disk in qcow2 under a name of the
# configuration, a unified kernel image of a registry's kind, from a path and by http.
. "$(dirname "$0")/image-lib.sh"
world
boot=$(firmware_guests) || bail 'the guests cannot be made'
qemu-img convert -O qcow2 "$boot/disk.raw" "$W/disk.qcow2" || bail qemu-img
mkdir -p "$W/tree/EFI/Linux"
head -c 5000 /dev/urandom >"$W/linux"
objcopy --add-section .linux="$W/linux" --set-section-flags .linux=data,readonly,alloc,load \
	--change-section-vma .linux=0x20000 "$boot/nano.efi" "$W/tree/EFI/Linux/nano.efi" || bail objcopy
cp "$W/tree/EFI/Linux/nano.efi" "$W/uki.efi"
tar -C "$W/tree" --owner=0 --group=0 -cf "$W/tree.tar" .
make_layout "$W/layout" "$W/tree.tar"
"$B/fakes/bad-registry" "$W/bad.log" 5600 >"$W/bad.out" &
await "$patience" test -s "$W/bad.out"
layer=$(sed 's/ready sha256://' "$W/bad.out")
sum=$(sha256sum <"$W/disk.qcow2" | cut -d' ' -f1)
settings() { # settings SHA256
	config <<END
on_exit = stop
[image disk]
source = ./disk.qcow2
sha256 = $1
[image uki]
source = file:$W/uki.efi
[image other]
source = http://127.0.0.1:5600/v2/cut-once/files/disk.raw
sha256 = $layer
[template pc]
memory = 64M
accel = tcg
autostart = no
stop_timeout = 0
[vm named]
template = pc
rootfs = disk
[vm path]
template = pc
rootfs = $W/disk.qcow2
disk = run
[vm uki]
template = pc
firmware = uefi
kernel = uki
[vm layers]
template = pc
firmware = uefi
kernel = oci:$W/layout
[vm bios]
template = pc
kernel = uki
[vm other]
template = pc
rootfs = other
END
}
settings "$(printf '%064d' 1)"
baseline
start_droverd

drover start named >"$W/out" 2>&1
is $? 1 'a file with other content than it should have is no disk'
like "$(<"$W/out")" "wrong content: its sha256 is $sum, not 0000" 'and told of'
settings "$sum"
ok 'corrected' drover reload
drover start named path uki layers --no-wait >/dev/null 2>&1
ok 'a qcow2 by its name in the configuration boots' wait_for "$patience" console_has named DISK-READY
ok 'so it does by its path' wait_for "$patience" console_has path DISK-READY
ok 'a UKI in a file boots under UEFI' wait_for "$patience" console_has uki EFI-READY
ok 'and one in an image of layers' wait_for "$patience" console_has layers EFI-READY
is "$(drover image list -o json | jq -r '.[] | select(.used_by == ["named"]) | .reference')" \
	"file:$W/disk.qcow2#sha256=$sum" 'the list of images tells who needs them'
is "$(find "$W/state/oci/built" -type f | wc -l)" 1 'the two machines share what their disks are clones of'
drover start bios >"$W/out" 2>&1
is $? 1 'without UEFI there is no start'
like "$(<"$W/out")" 'is a unified kernel image, which only firmware = uefi boots' 'and why is said'
like "$(drover image inspect "oci:$W/layout")" 'layout +uki' 'inspect knows it'
like "$(drover image inspect "file:$W/disk.qcow2")" 'boot +rootfs = takes it, made raw by qemu-img' \
	'and the disk'

# What a path means is what is there.
qemu-img convert -O qcow2 "$boot/esp.raw" "$W/disk.qcow2" || bail qemu-img
ok 'the machine stops' drover stop path
ok 'and starts from the new file' drover start path
ok 'whose disk it has' cmp -n 1000000 "$(disk_of path)" "$boot/esp.raw"
ok 'while the other has its own' drover restart named
ok 'which boots' wait_for "$patience" console_has named DISK-READY

ok 'a machine with a disk by http starts, resumed where it was cut off' drover start other
ok 'with the right content' cmp -n 3145728 "$(disk_of other)" \
	"$W/state/oci/blobs/sha256/$layer"
is "$(grep -c range=bytes=1572864- "$W/bad.log")" 1 'once'
ok 'SIGTERM' stop_droverd
done_testing

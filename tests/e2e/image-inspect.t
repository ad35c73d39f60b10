#!/usr/bin/env bash
# What an image is taken for: kernels, filesystems, KubeVirt's disks, FeOS' artifacts; what has
# become of its tag; and whether what is stored is still what it was.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image

tree() { # tree NAME FILE...: a tar with these files, of random bytes
	local name=$1 f
	shift
	for f; do mkdir -p "$W/$name/$(dirname "$f")" && head -c 20000 /dev/urandom >"$W/$name/$f"; done
	tar -C "$W/$name" --owner=0 --group=0 -cf "$W/$name.tar" .
	make_layout "$W/$name.layout" "$W/$name.tar"
}
tree kernel boot/vmlinuz-6.1 boot/initrd.img-6.1
tree rootfs sbin/init etc/passwd
tree both sbin/init boot/vmlinux
tree disk disk/machine.img
tree qcow disk/machine.qcow2
tree files etc/thing
tree uki EFI/Linux/a.efi EFI/Linux/b.efi EFI/BOOT/c.efi boot/empty

# An artifact of FeOS: each layer is a file.
dir=$W/feos.layout layers=''
mkdir -p "$dir/blobs/sha256"
for part in rootfs initramfs vmlinuz; do
	head -c 30000 /dev/urandom >"$W/feos-$part"
	cp "$W/feos-$part" "$dir/new"
	layers+=${layers:+,}$(layout_put "$dir" application/vnd.ironcore.image.$part.v1alpha1.$part)
done
echo '{}' >"$dir/new"
config=$(layout_put "$dir" application/vnd.ironcore.image.config.v1alpha1+json)
printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$config" "$layers" >"$dir/new"
t=$(layout_put "$dir" application/vnd.oci.image.manifest.v1+json)
printf '{"schemaVersion":2,"manifests":[%s]}' "$t" >"$dir/index.json"

store=$W/store
inspected() { # inspected NAME LAYOUT BOOT
	run inspect --store "$store" --ref "oci:$W/$1.layout"
	is "$rc $(field layout)" "0 $2" "$1: it is known as $2"
	like "$(field boot)" "$3" "$1: and how it is started"
}
inspected kernel kernel '^kernel = takes it'
is "$(field kernel) $(field initrd)" '/boot/vmlinuz-6.1 /boot/initrd.img-6.1' 'kernel: the files are named'
inspected rootfs rootfs '^rootfs = takes it, made into an ext4'
is "$(field files) $(field 'layers[0].digest' | cut -c1-7)" '4 sha256:' 'rootfs: files and layers are told'
inspected both kernel-rootfs '^kernel = and rootfs = take it'
inspected disk container-disk 'firmware boots it$'
is "$(field disk)" /disk/machine.img 'disk: its name is told'
inspected uki uki 'which firmware = uefi boots$'
is "$(field kernel) $(field initrd)" '/EFI/Linux/b.efi ' 'uki: the one of the highest version is named'
run kernel --store "$store" --ref "oci:$W/uki.layout"
ok 'uki: and taken' cmp "$(field kernel)" "$W/uki/EFI/Linux/b.efi"
inspected files files 'nothing in it to start$'
inspected feos feos '^kernel = and rootfs ='

run rootfs --store "$store" --ref "oci:$W/disk.layout"
ok 'disk: the file is the disk, whatever it holds' cmp "$(field disk)" "$W/disk/disk/machine.img"
run rootfs --store "$store" --ref "oci:$W/qcow.layout"
is "$rc $code" '1 failed' 'qcow: what is no qcow2 although its name says so is told of'
run kernel --store "$store" --ref "oci:$W/feos.layout"
ok 'feos: its kernel is taken' cmp "$(field kernel)" "$W/feos-vmlinuz"
ok 'feos: and its initramfs' cmp "$(field initrd)" "$W/feos-initramfs"
run rootfs --store "$store" --ref "oci:$W/feos.layout"
ok 'feos: and its disk' cmp "$(field disk)" "$W/feos-rootfs"

# Images that are one file.
for f in raw:file qcow2:disk-file vmdk:disk-file efi:uki; do
	cp "$W/feos-rootfs" "$W/one.${f%:*}"
	run inspect --store "$W/one" --ref "file:$W/one.${f%:*}"
	is "$rc $(field layout) $(field format)" "0 ${f#*:} ${f%:*}" "${f%:*}: it is known by its name"
done

# Moved tags.
run outdated --store "$store"
is "$rc $(field moved)" '0 0' 'nothing has moved yet'
make_layout "$W/rootfs.layout" "$W/both.tar"
rm -r "$W/files.layout"
run outdated --store "$store"
is "$rc $(field moved)" '0 1' 'one has'
is "$(jq -r 'select(.event == "moved") | .ref' "$W/out")" "oci:$W/rootfs.layout" 'it is named'
is "$(jq -r 'select(.event == "unknown") | .ref' "$W/out")" "oci:$W/files.layout" \
	'what cannot be asked is told of'
run pull --store "$store" --ref "oci:$W/rootfs.layout"
is "$rc $(grep -c '"cached":true' "$W/out")" '0 1' 'looking moved nothing'

# Damage.
run verify --store "$store"
is "$rc $(field damaged)" '0 0' 'every blob is whole'
run inspect --store "$store" --ref "oci:$W/both.layout"
blob=$(field 'layers[0].digest')
printf x | dd of="$store/blobs/sha256/${blob#sha256:}" bs=1 seek=100 conv=notrunc status=none
run verify --store "$store"
is "$rc $(field damaged) $(jq -r 'select(.event == "damaged") | .digest' "$W/out")" "0 1 $blob" \
	'a damaged one is found'
run pull --store "$store" --ref "oci:$W/both.layout"
is "$rc" 0 'and fetched again'
ok 'whole' stored "$store" "$blob"

done_testing

#!/usr/bin/env bash
# Images that go into a file and come out of one: by way of skopeo and back, byte for byte, of each
# form that others write; and a machine that starts from one without any registry.
. "$(dirname "$0")/image-lib.sh"
world
elf=$(nano) || bail 'the guest cannot be made'
mkdir -p "$W/tree/boot" "$W/more/etc"
cp "$elf" "$W/tree/boot/vmlinux"
head -c 300000 /dev/urandom >"$W/more/etc/noise"
for t in tree more; do tar -C "$W/$t" --owner=0 --group=0 -cf "$W/$t.tar" .; done
make_layout "$W/layout" "$W/tree.tar" "$W/more.tar"
config <<END
on_exit = stop
group = games
[vm guest]
kernel = example.org/test/kernel:7
memory = 64M
accel = tcg
autostart = no
stop_timeout = 0
pull = never
END
baseline
start_droverd

drover start guest >"$W/out" 2>&1
is $? 1 'a machine whose image is not there does not start'
cd "$W" || bail cd
drover image import layout >"$W/out" 2>&1
is $? 1 'a layout that says no name needs one'
like "$(<"$W/out")" 'give its name \(--name\)' 'which is said'
ok 'with a name it is taken in' drover image import layout --name example.org/test/kernel:7
is "$(drover image list -o json | jq -r '.[].reference')" example.org/test/kernel:7 'and listed by it'
manifest=$(drover image list -o json | jq -r '.[].digest')
ok 'the machine starts, and there is no registry' drover start guest
ok 'its guest runs' wait_for "$patience" console_has guest NANO-READY

# Out, through skopeo, and in again.
drover image export example.org/test/kernel:7 --to out.tar -o json >"$W/out"
is $? 0 'it is exported'
is "$(jq -r 'select(.event == "done") | "\(.digest) \(.file) \(.size)"' "$W/out")" \
	"$manifest $W/out.tar $(stat -c %s "$W/out.tar")" 'and told what, where and how large'
ok 'progress was told of' jq -se 'any(.[]; .event == "build" and .done == .size)' "$W/out"
ok 'nothing is left beside it' test ! -e "$W/out.tar.part"
drover image export example.org/test/kernel:7 --to again.tar >/dev/null
ok 'the same image is the same file' cmp out.tar again.tar
is "$(skopeo inspect --raw "oci-archive:$W/out.tar:7" | sha256sum)" "${manifest#sha256:}  -" \
	'skopeo knows it, by its tag'
skopeo copy -q "oci-archive:$W/out.tar:7" "oci-archive:$W/skopeo.tar:example.org/test/kernel:8" &&
	skopeo copy -q "oci-archive:$W/out.tar" "docker-archive:$W/docker.tar:example.org/test/kernel:9" ||
	bail skopeo
drover image import out.tar >"$W/out" 2>&1
is $? 0 'what was exported says its name itself'
is "$(drover image list -o json | jq -r '.[].reference')" example.org/test/kernel:7 'which is the same'
is "$(drover image list -o json | jq -r '.[].digest')" "$manifest" 'with the same manifest'
ok 'an archive of skopeo is taken in' drover image import skopeo.tar
ok 'and what docker save writes' drover image import docker.tar
is "$(drover image list -o json | jq -r '.[] | select(.digest == "'"$manifest"'") | .reference')" \
	$'example.org/test/kernel:7\nexample.org/test/kernel:8' 'skopeo changed nothing'
kernel_of() { drover image inspect "$1" -o json | jq -r '"\(.layout) \(.kernel) \(.files)"'; }
is "$(kernel_of example.org/test/kernel:9)" "$(kernel_of example.org/test/kernel:7)" \
	'and all of them hold the same'
ok 'a disk can be taken in, too' eval 'qemu-img create -q -f qcow2 disk.qcow2 5M &&
	drover image import disk.qcow2 --name example.org/test/disk:1'
is "$(drover image inspect example.org/test/disk:1 -o json | jq -r '"\(.layout) \(.format)"')" \
	'disk-file qcow2' 'and is one'
drover image export example.org/test/disk:1 --to disk.tar >/dev/null && drover image rm example.org/test/disk:1 >/dev/null
ok 'it comes back' drover image import disk.tar
is "$(drover image inspect example.org/test/disk:1 -o json | jq -r '"\(.layout) \(.format)"')" \
	'disk-file qcow2' 'as what it was'

# A member of the group has no files of the host read or written by the daemon.
gid=$(getent group games | cut -d: -f3)
member() { setpriv --reuid=4321 --regid=4321 --groups="$gid" --inh-caps=-all drover "$@" >"$W/out" 2>&1; }
member image import "$W/out.tar"
is $? 1 'a member of the group takes no file in'
member image export example.org/test/kernel:7 --to "$W/x.tar"
is $? 1 'and writes none'
like "$(<"$W/out")" 'write images into files of the host' 'which is said'
member image inspect "file:$W/out.tar"
is $? 1 'nor is one looked at'
ok 'what the daemon has he sees' member image inspect example.org/test/kernel:7

# What is wrong.
drover image export example.org/no/such:1 --to x.tar >"$W/out" 2>&1
is $? 3 'what is not in the store is not exported'
ok 'and no file made' test ! -e x.tar -a ! -e x.tar.part
drover image export example.org/test/kernel:7 --to "$W/none/x.tar" >"$W/out" 2>&1
is $? 3 'nor is a folder'
head -c 3700 out.tar >cut.tar
drover image import cut.tar --name example.org/test/cut:1 >"$W/out" 2>&1
is $? 1 'an archive that is cut off is refused'
tar -cf none.tar tree.tar
drover image import none.tar >"$W/out" 2>&1
is $? 3 'so is one of something else'
like "$(<"$W/out")" 'is no archive of an image: it has neither index.json nor manifest.json' 'which says why'
blob=$(drover image inspect example.org/test/kernel:7 -o json | jq -r '.layers[1].digest | sub("sha256:"; "")')
blob=$W/state/oci/blobs/sha256/$blob
printf x | dd of="$blob" bs=1 seek=1000 conv=notrunc status=none
drover image export example.org/test/kernel:7 --to x.tar >"$W/out" 2>&1
is $? 1 'a damaged blob is not exported'
like "$(<"$W/out")" "blob sha256:${blob##*/} is damaged" 'but told of'
ok 'and no file made' test ! -e x.tar -a ! -e x.tar.part
ok 'nothing is left in the store' empty_tmp "$W/state/oci"
ok 'SIGTERM' stop_droverd
done_testing

#!/usr/bin/env bash
# Images made by other tools (umoci, skopeo), from a registry and from files: each gives the same
# disk, and file by file it holds what `umoci unpack` makes of the same image.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image

# Three layers by umoci, with what filesystems have: owners, modes, times, links, devices, holes,
# attributes; the second and third change and remove what is below.
bundle=$W/bundle rootfs=$W/bundle/rootfs layout=$W/layout
umoci init --layout "$layout" && umoci new --image "$layout:v1" || bail 'umoci new'
umoci unpack --image "$layout:v1" "$bundle" >"$W/umoci.log" 2>&1 || bail "umoci: $(<"$W/umoci.log")"
mkdir -p "$rootfs"/{etc,usr/bin,dev,tmp,boot,opaque/deep,gone,many} && chmod 1777 "$rootfs/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$rootfs/etc/passwd"
head -c 3000000 /dev/urandom >"$rootfs/usr/bin/tool" && chmod 4755 "$rootfs/usr/bin/tool"
ln "$rootfs/usr/bin/tool" "$rootfs/usr/bin/same"
ln -s ../../etc/passwd "$rootfs/usr/bin/passwd"
ln -s /no/such/thing "$rootfs/dangling"
mknod "$rootfs/dev/null" c 1 3 && mknod "$rootfs/dev/loop" b 7 0 && mkfifo "$rootfs/dev/pipe"
truncate -s 5M "$rootfs/sparse" && printf end >>"$rootfs/sparse"
printf x >"$rootfs/owned" && chown 1234:70000 "$rootfs/owned" && touch -d @1234567890 "$rootfs/owned"
printf x >"$rootfs/caps" && setcap cap_net_raw+ep "$rootfs/caps"
printf x >"$rootfs/attr" && setfattr -n user.note -v hello "$rootfs/attr"
printf x >"$rootfs/$(printf 'n%.0s' {1..200})"
printf x >"$rootfs/$(printf 'new\nline')"
printf x >"$rootfs/ünïcödé"
d=$rootfs/deep
for i in {1..60}; do d=$d/level$i; done
mkdir -p "$d" && printf x >"$d/bottom"
for i in {1..1500}; do printf '%s' "$i" >"$rootfs/many/$i"; done
printf x >"$rootfs/opaque/deep/below"; printf x >"$rootfs/gone/file"
head -c 50000 /dev/urandom >"$rootfs/boot/vmlinuz-6.1"
step() { umoci repack --image "$layout:v1" --refresh-bundle "$bundle" >"$W/umoci.log" 2>&1 ||
	bail "umoci repack: $(<"$W/umoci.log")"; }
step
rm -r "$rootfs/opaque" "$rootfs/gone" && mkdir "$rootfs/opaque" && printf y >"$rootfs/opaque/above"
rm "$rootfs/usr/bin/same"
chmod 700 "$rootfs/usr"
printf changed >"$rootfs/etc/passwd"
step
rm "$rootfs/dangling" && mkdir "$rootfs/dangling" && printf z >"$rootfs/dangling/file"
ln "$rootfs/usr/bin/tool" "$rootfs/across"
ln -f "$rootfs/owned" "$rootfs/owned2"
step

# What is there, a line a file; times of directories are not compared, umoci sets them as it goes.
describe() {
	python3 - "$1" <<-'END'
	import hashlib, os, stat, sys
	top = os.fsencode(sys.argv[1])
	names = []
	for path, dirs, files in os.walk(top):
	    if path == top and b'lost+found' in dirs:
	        dirs.remove(b'lost+found')
	    names += [os.path.join(path, n) for n in dirs + files]
	for f in sorted(names):
	    st = os.lstat(f)
	    row = [f[len(top):], oct(st.st_mode), st.st_uid, st.st_gid]
	    if not stat.S_ISDIR(st.st_mode):
	        row += [st.st_nlink, st.st_size, st.st_rdev, int(st.st_mtime)]
	    if stat.S_ISLNK(st.st_mode):
	        row.append(os.readlink(f))
	    elif stat.S_ISREG(st.st_mode):
	        row.append(hashlib.sha256(open(f, 'rb').read()).hexdigest())
	    row += sorted((n, os.getxattr(f, n, follow_symlinks=False))
	                  for n in os.listxattr(f, follow_symlinks=False))
	    print(*row)
	END
}
store=$W/store
rootfs_of() { run rootfs --store "$store" --ref "$1" --size 256M; }

rootfs_of "oci:$layout:v1"
is "$rc $(field event)" '0 done' "a layout of umoci's is made into a disk"
disk=$(field disk) digest=$(field digest)
ok 'it is clean' e2fsck -fn "$disk"
umoci unpack --image "$layout:v1" "$W/wanted" >"$W/umoci.log" 2>&1 || bail "umoci: $(<"$W/umoci.log")"
describe "$W/wanted/rootfs" >"$W/wanted.txt"
mkdir "$W/mnt" && mount -o ro,loop "$disk" "$W/mnt" || bail 'mount'
describe "$W/mnt" >"$W/made.txt"
umount "$W/mnt"
ok "every file is as umoci's ($(wc -l <"$W/wanted.txt"))" diff -u "$W/wanted.txt" "$W/made.txt"
ok 'and there were many' test "$(wc -l <"$W/made.txt")" -gt 1500

# The same image by other ways.
skopeo copy -q "oci:$layout:v1" "oci-archive:$W/image.tar:v1" || bail 'skopeo'
rootfs_of "oci-archive:$W/image.tar:v1"
is "$rc $(field disk)" "0 $disk" 'an archive of the layout is the same image, and the same disk'
registry origin 5001
skopeo copy -q --dest-tls-verify=false "oci:$layout:v1" docker://127.0.0.1:5001/a/b:1 || bail 'skopeo'
rootfs_of 127.0.0.1:5001/a/b:1
is "$rc $(field disk) $(field digest)" "0 $disk $digest" 'so it is by way of a registry'
unregistry origin
skopeo copy -q "oci:$layout:v1" "docker-archive:$W/docker.tar:a/b:v1" || bail 'skopeo'
rootfs_of "docker-archive:$W/docker.tar"
is "$rc" 0 "what docker save writes is made into a disk"
mount -o ro,loop "$(field disk)" "$W/mnt" && describe "$W/mnt" >"$W/docker.txt"
umount "$W/mnt"
ok 'with the same files' diff "$W/wanted.txt" "$W/docker.txt"
run kernel --store "$store" --ref "docker-archive:$W/docker.tar:v1"
ok 'its kernel is found' cmp "$(field kernel)" "$W/wanted/rootfs/boot/vmlinuz-6.1"

# Determinism: another store, the same bytes.
run rootfs --store "$W/store2" --ref "oci:$layout:v1" --size 256M
is "$(sha256sum <"$(field disk)")" "$(sha256sum <"$disk")" 'the same image gives the same bytes'

# Pinned, until it is asked for.
printf moved >"$rootfs/etc/passwd"
step
run pull --store "$store" --ref "oci:$layout:v1"
is "$(field digest)" "$digest" 'an image in files is pinned, as one of a registry'
run pull --store "$store" --ref "oci:$layout:v1" --policy always
ok 'until it is asked for' test "$(field digest)" != "$digest"

# What is wrong is said, and stored nowhere.
fails() { # fails REF CODE MESSAGE
	run pull --store "$W/store3" --ref "$1"
	is "$rc $code" "1 $2" "${1##*/}: fails as $2"
	case $message in *"$3"*) pass "${1##*/}: says why" ;; *) fail "${1##*/}: says why" "$message" ;; esac
	ok "${1##*/}: nothing is left" empty_tmp "$W/store3"
}
fails "oci:$layout:v2" not-found "has no image with the tag v2; there is 'v1'"
fails "oci:$W/nowhere" not-found "No such file or directory"
fails "docker-archive:$W/image.tar" not-found "has no file 'manifest.json'"
head -c 300000 "$W/docker.tar" >"$W/cut.tar"
fails "docker-archive:$W/cut.tar" failed 'no tar that can be read'
head -c 100000 /dev/urandom >"$W/noise.tar"
fails "oci-archive:$W/noise.tar" failed 'no tar that can be read'
cp -r "$layout" "$W/damaged"
blob=$(find "$W/damaged/blobs" -size +1000k | head -n 1)
printf x | dd of="$blob" bs=1 seek=1000 conv=notrunc status=none
fails "oci:$W/damaged:v1" failed 'wrong content for blob'
run pull --store "$W/store3" --ref oci:relative
is "$rc $(grep -c . "$W/out")" '1 1' 'a relative path is none'
mkfifo "$W/fifo"
fails "oci-archive:$W/fifo" invalid 'is no regular file'

done_testing

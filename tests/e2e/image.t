#!/usr/bin/env bash
# drover-image with real registries: through a pull-through cache, offline, killed and resumed,
# kernel, disk and clones, list, rm and prune.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image

# An image with a kernel and files in three layers, the last with a whiteout; 24 MiB, not
# compressible, so that a pull takes long enough to be killed.
mkdir -p "$W"/l1/{etc,root,boot} "$W"/l2/var "$W"/l3/etc
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$W/l1/etc/passwd"
echo old >"$W/l1/etc/old"
head -c 200000 /dev/urandom >"$W/l1/boot/vmlinuz-6.1.0-1"
head -c 100000 /dev/urandom >"$W/l1/boot/initrd.img-6.1.0-1"
head -c 24000000 /dev/urandom >"$W/l2/var/big"
: >"$W/l3/etc/.wh.old"
echo new >"$W/l3/etc/new"
for l in l1 l2 l3; do tar -C "$W/$l" --owner=0 --group=0 -cf "$W/$l.tar" .; done
make_layout "$W/layout" "$W"/l{1,2,3}.tar
registry origin 5001
push "$W/layout" http://127.0.0.1:5001/org/vm:1
registry cache 5000 'proxy: {remoteurl: "http://127.0.0.1:5001"}'

ref=ghcr.io/org/vm:1
mirror=(--mirror ghcr.io=http://127.0.0.1:5000)
store=$W/store
pull() { run pull --store "$store" --ref "$ref" "${mirror[@]}" "$@"; }

like "$("$image" --version) $?" '^drover-image [0-9.]+ 0$' 'it knows its version'
like "$("$image" --help) $?" '^usage: .* 0$' 'and tells how it is used'

# Pull.
pull
is "$rc $(field event) $(field architecture)" '0 done amd64' 'an image is pulled through the cache'
is "$(jq -r 'select(.event == "start") | "\(.cached) \(.layers | length)"' "$W/out")" '0 3' \
	'none of its three layers was there'
is "$(jq -r 'select(.event == "layer" and .cached == false) | .digest' "$W/out" | sort -u | wc -l)" 3 \
	'three layers came'
ok 'every line names the image' jq -es "all(.ref == \"$ref\")" "$W/out"
manifest=$(field digest)
ok 'the manifest is kept under its digest' stored "$store" "$manifest"
for blob in $(jq -r 'select(.event == "layer") | .digest' "$W/out"); do
	ok "layer ${blob:0:19} is what it should be" stored "$store" "$blob"
done
ok 'nothing is left in tmp' empty_tmp "$store"
# docker-registry 2.8 asks its upstream twice for a blob that it lacks: to store it, to pass it on.
is "$(grep 'GET /v2/org/vm/blobs/.* 200' "$W/origin.log" | grep -vc '"Go-http-client/')" 0 \
	'the origin was asked by the cache alone'
is "$(fetched | grep -vc '^[12] ')" 0 'and once for each blob'

# Kernel.
run kernel --store "$store" --ref "$ref"
is "$rc $(field event)" '0 done' 'the kernel is taken out'
ok 'it is the kernel' cmp "$(field kernel)" "$W/l1/boot/vmlinuz-6.1.0-1"
ok 'and the initrd' cmp "$(field initrd)" "$W/l1/boot/initrd.img-6.1.0-1"

# Disk.
run rootfs --store "$store" --ref "$ref"
is "$rc $(field event) $(field size)" "0 done $((8 << 30))" 'a disk of 8 GiB is made'
disk=$(field disk)
ok 'its filesystem is clean' e2fsck -fn "$disk"
debugfs -R 'dump /var/big '"$W/big" "$disk" 2>/dev/null
ok 'a file in it is as it was' cmp "$W/big" "$W/l2/var/big"
is "$(debugfs -R 'ls -p /etc' "$disk" 2>/dev/null | cut -d/ -f6 | grep -v '^\.' | sort | xargs)" \
	'new passwd' 'a whiteout removed what it should'
inode=$(stat -c %i "$disk")
run rootfs --store "$store" --ref "$ref"
is "$(field disk) $(stat -c %i "$disk") $(events build)" "$disk $inode 0" 'the second time it is there'
run rootfs --store "$store" --ref "$ref" --size 1G
is "$rc $(field size)" "0 $((1 << 30))" 'a disk of another size is made'
ok 'it is another disk' test "$(field disk)" != "$disk"
run rootfs --store "$store" --ref "$ref" --size 8M
is "$rc $code" '1 no-space' 'an image that does not fit the size is told of'
ok 'and leaves nothing' empty_tmp "$store"

# Killed while it is made: the next one makes it. It may be done before that (image-bad.t has one that
# cannot be): no sleep in between.
rm "$disk"
"$image" rootfs --store "$store" --ref "$ref" >"$W/killed.out" 2>&1 & pid=$!
while kill -0 $pid && ! compgen -G "$store/tmp/disk-*.part"; do :; done >/dev/null 2>&1
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
run rootfs --store "$store" --ref "$ref"
is "$rc $(field disk)" "0 $disk" 'a disk whose maker was killed is made again'
ok 'it is clean' e2fsck -fn "$disk"
ok 'and nothing else is left' empty_tmp "$store"

# Two at once make it once.
rm "$disk"
"$image" rootfs --store "$store" --ref "$ref" >"$W/a" & a=$!
"$image" rootfs --store "$store" --ref "$ref" >"$W/b" & b=$!
wait $a; rc_a=$?
wait $b
is "$rc_a $?" '0 0' 'two processes want the disk at once'
is "$(cat "$W/a" "$W/b" | jq -r 'select(.event == "done") | .disk' | uniq -c | xargs)" "2 $disk" \
	'both get it'

# Clones.
echo '{"hostname":"web","authorized_keys":["ssh-ed25519 AAAAC3Nza test"]}' >"$W/inject.json"
run clone --from "$disk" --to "$W/web.raw" --inject "$W/inject.json"
is "$rc $(field event) $(field disk)" "0 done $W/web.raw" 'a clone is made'
ok 'its filesystem is clean' e2fsck -fn "$W/web.raw"
is "$(jq -r 'select(.event == "warning") | .message' "$W/out")" \
	"the disk of 'web': the image has no sshd or dropbear" 'what it lacks is said, and whose'
is "$(debugfs -R 'cat /etc/hostname' "$W/web.raw" 2>/dev/null)" web 'it knows its name'
ok 'and the key' says AAAAC3Nza debugfs -R 'cat /root/.ssh/authorized_keys' "$W/web.raw"
ok 'the image does not' not says AAAAC3Nza debugfs -R 'cat /root/.ssh/authorized_keys' "$disk"
run clone --from "$disk" --to "$W/web.raw" --size 9G --no-sync
is "$rc $(field size) $(stat -c %s "$W/web.raw")" "0 $((9 << 30)) $((9 << 30))" \
	'a clone is replaced, and grown'
echo '{"authorized_keys":[7]}' >"$W/inject.json"
run clone --from "$disk" --to "$W/web2.raw" --inject "$W/inject.json"
is "$rc $code" '1 invalid' 'keys that are no strings are refused'
ok 'and no clone is left' not ls "$W"/web2.raw*

# Without any registry.
unregistry cache
unregistry origin
pull
is "$rc $(field digest)" "0 $manifest" 'what is in the store needs no registry'
rm -rf "$disk" "$store"/kernels/*
run rootfs --store "$store" --ref "$ref"
is "$rc $(field disk)" "0 $disk" 'nor does making the disk again'
run kernel --store "$store" --ref "$ref" --policy never
is "$rc" 0 'nor the kernel'
start=$SECONDS
pull --policy always
is "$rc $code" '1 unavailable' 'always to pull fails without a registry'
is "$message" "$ref: registry http://127.0.0.1:5000: connection refused" 'and says which'
ok 'soon' test $((SECONDS - start)) -lt 20
run pull --store "$store" --ref ghcr.io/org/other:1 --policy never
is "$rc $code" '1 not-found' 'never to pull fails for what is missing'

# A cache whose upstream has gone serves what it has, when it is served without its proxy part.
registry cache 5000
store=$W/store2
pull
is "$rc $(field digest)" "0 $manifest" 'the cache alone, offline, gives the image to a new store'
run pull --store "$store" --ref ghcr.io/org/other:1 "${mirror[@]}"
is "$rc $message" '1 ghcr.io/org/other:1: not found in registry http://127.0.0.1:5000' \
	'and says of another that it is not there'
unregistry cache

# Killed at any moment: the next pull completes it.
registry origin 5001
mirror=(--mirror ghcr.io=http://127.0.0.1:5001)
store=$W/store3
killed=0 whole=0
for i in {1..30}; do
	"$image" pull --store "$store" --ref "$ref" "${mirror[@]}" >"$W/killed.out" 2>&1 &
	pid=$!
	sleep 0.00$((i % 10))$((i * 7 % 10))
	[ $((i % 3)) = 0 ] && sleep 0.0$((i % 7))
	kill -9 $pid 2>/dev/null && killed=$((killed + 1))
	wait $pid 2>/dev/null
	for blob in "$store"/blobs/sha256/*; do
		[ ! -e "$blob" ] || [ "$(sha256sum <"$blob")" = "${blob##*/}  -" ] || whole=$blob
	done
	[ $((i % 10)) != 0 ] || rm -rf "$store"
	[ ! -e "$store/index.json" ] || rm -rf "$store"
done
ok "$killed of 30 pulls were killed" test $killed -gt 10
is "$whole" 0 'no blob was ever there that was not whole'
pull
is "$rc $(field digest)" "0 $manifest" 'a pull afterwards completes'
for blob in $(jq -r 'select(.event == "layer") | .digest' "$W/out"); do
	ok "layer ${blob:0:19} is what it should be" stored "$store" "$blob"
done
ok 'what the dead left is gone' empty_tmp "$store"

# Several pulls of one image at once share the downloads.
rm -rf "$store"
: >"$W/origin.log"
pids=()
for i in 1 2 3 4; do
	"$image" pull --store "$store" --ref "$ref" "${mirror[@]}" >"$W/par$i" 2>&1 &
	pids+=($!)
done
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
is $bad 0 'four pulls at once succeed'
big=$(jq -r 'select(.event == "start") | .layers | max_by(.size).digest' "$W/par1")
is "$(grep -c "GET /v2/org/vm/blobs/$big" "$W/origin.log")" 1 'and fetch the large layer once'

# A moved tag.
make_layout "$W/layout2" "$W"/l{1,3}.tar
push "$W/layout2" http://127.0.0.1:5001/org/vm:1
pull
is "$(field digest)" "$manifest" 'a moved tag stays pinned'
pull --policy always
ok 'until it is asked for' test "$(field digest)" != "$manifest"
run pull --store "$store" --ref "ghcr.io/org/vm@$manifest" "${mirror[@]}"
is "$rc $(field digest)" "0 $manifest" 'an image can be named by digest'

# list, rm, prune.
run list --store "$store"
is "$(jq -r 'select(.event == "image") | .ref' "$W/out" | sort | xargs)" \
	"ghcr.io/org/vm:1 ghcr.io/org/vm@$manifest" 'both are listed'
run rm --store "$store" --ref "ghcr.io/org/vm@$manifest"
is "$rc" 0 'one is removed'
ok 'with its own layer' not stored "$store" "$big"
pull --policy never
is "$rc" 0 'the other one is whole'
run rm --store "$store" --ref ghcr.io/org/no:1
is "$rc $code" '1 not-found' 'what is not there cannot be removed'
run rm --store "$store" --ref ghcr.io/org/vm:1
is "$(find "$store"/{blobs,built,kernels,tmp} -type f | wc -l)" 0 'at last nothing is left'

# A full disk.
mkdir "$W/small" && mount -t tmpfs -o size=12m tmpfs "$W/small"
registry origin2 5002
push "$W/layout" http://127.0.0.1:5002/org/vm:1
run pull --store "$W/small/s" --ref 127.0.0.1:5002/org/vm:1
is "$rc $code" '1 no-space' 'an image larger than the disk is not begun'
like "$message" 'it needs 23.* at least, but .* free: No space left on device' 'and the sentence says so'
mount -o remount,size=40m "$W/small"
run rootfs --store "$W/small/s" --ref 127.0.0.1:5002/org/vm:1
is "$rc $code" '1 no-space' 'nor one whose layers fit, but not its disk beside them'
like "$message" 'it needs 4[67].* at least' 'which is told of as well'
ok 'nothing half made is left' empty_tmp "$W/small/s"
umount "$W/small"

# Usage.
run pull --store "$store"
is "$rc" 2 'usage: no reference'
run pull --store "$store" --ref x --mirror ghcr.io
is "$rc" 2 'usage: no mirror'
run clone --from x --to y --policy never
is "$rc" 2 'usage: an option of another verb'
run fetch
is "$rc" 2 'usage: no such verb'
run --help
is "$rc" 0 'help'
run pull --store "$store" --ref 'Ghcr.io/UPPER:1'
is "$rc $code" '1 invalid' 'a reference that is none'
run pull --store "$store" --ref '127.0.0.1:1/x:1'
is "$message" '127.0.0.1:1/x:1: registry http://127.0.0.1:1: connection refused' 'nobody there'

done_testing

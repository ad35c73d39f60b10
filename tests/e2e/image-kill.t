#!/usr/bin/env bash
# From a registry to a disk, killed 200 times at any moment of it: what is in the store is whole at
# each of them, and in the end the disk is there, no different from one that was made in one go.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image

mkdir -p "$W"/l1/{etc,bin} "$W/l2/var"
for i in {1..300}; do echo "$i" >"$W/l1/etc/$i"; done
head -c 3000000 /dev/urandom >"$W/l1/bin/tool"
head -c 3000000 /dev/urandom >"$W/l2/var/data"
for l in l1 l2; do tar -C "$W/$l" --owner=0 --group=0 -cf "$W/$l.tar" .; done
make_layout "$W/layout" "$W"/l{1,2}.tar
registry origin 5001
ref=127.0.0.1:5001/a/b:1 store=$W/store
push "$W/layout" http://$ref
start=${EPOCHREALTIME/./}
run rootfs --store "$W/whole" --ref $ref --size 32M
is "$rc" 0 'made in one go'
took=$((${EPOCHREALTIME/./} - start)) wanted=$(sha256sum <"$(field disk)")

# The moments go through all of the time that it takes by what is seen of it; a store that came to
# its end is begun anew.
killed=0 ended=0 bad=''
for ((i = 1; killed < 200 && i <= 2000; i++)); do
	"$image" rootfs --store "$store" --ref $ref --size 32M >"$W/killed.out" 2>&1 &
	pid=$!
	us=$((took * (i * 37 % 100) / 100))
	sleep $((us / 1000000)).$(printf %06d $((us % 1000000)))
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ $? = 137 ] && killed=$((killed + 1)) took=$((took + took / 60)) || took=$((took * 9 / 10))
	for blob in "$store"/blobs/sha256/*; do
		[ ! -e "$blob" ] || [ "$(sha256sum <"$blob")" = "${blob##*/}  -" ] || bad=$blob
	done
	for disk in "$store"/built/*; do
		[ -e "$disk" ] || continue
		ended=$((ended + 1))
		[ "$(sha256sum <"$disk")" = "$wanted" ] || bad=$disk
		rm -rf "$store"
	done
done
is "$killed" 200 "200 were killed; $ended disks had been made"
is "$bad" '' 'nothing was ever in its place that was not whole'
run rootfs --store "$store" --ref $ref --size 32M
is "$rc $(sha256sum <"$(field disk)")" "0 $wanted" 'in the end the disk is as in one go'
run verify --store "$store"
is "$(field damaged)" 0 'every blob is whole'
ok 'what the dead left is gone' empty_tmp "$store"
done_testing

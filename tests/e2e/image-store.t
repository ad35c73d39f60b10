#!/usr/bin/env bash
# What the image store may occupy: images go by age and by size, never those that machines need; a pull
# that cannot fit is not begun; on a full disk the store stays whole.
. "$(dirname "$0")/image-lib.sh"
world . drover-image fakes/bad-registry

# Four images, a layer of about 2 MiB each; the first two have one layer in common.
store=$W/store
for i in a b c d; do
	mkdir -p "$W/$i/data"
	head -c 2M /dev/urandom >"$W/$i/data/$i"
	tar -C "$W/$i" --owner=0 --group=0 -cf "$W/$i.tar" .
done
make_layout "$W/A" "$W/a.tar"
make_layout "$W/B" "$W/a.tar" "$W/b.tar"
make_layout "$W/C" "$W/c.tar"
make_layout "$W/D" "$W/d.tar"
refs() { jq -r '.images | keys[]' "$1/index.json" | sed "s|oci:$W/||" | xargs; }
# used STORE NAME HOURS: that long ago, as the index has it.
used() {
	local t
	t=$(jq -n "(now - $3 * 3600) * 1000 | floor")
	jq --arg r "oci:$W/$2" --argjson t $t '.images[$r].used = $t | .images[$r].pulled = $t' \
		"$1/index.json" >"$W/index" && cp "$W/index" "$1/index.json"
}
fill() { # fill STORE: A is the oldest, D the youngest
	local i h=5
	for i in A B C D; do
		run pull --store "$1" --ref "oci:$W/$i"
		used "$1" $i $((h--))
	done
}
fill "$store"
is "$(refs "$store")" 'A B C D' 'four images'

# Age.
run prune --store "$store" --max-age 10h
is "$(refs "$store")" 'A B C D' 'none is older than it may be'
run prune --store "$store" --max-age 210m --keep "oci:$W/A"
is "$(refs "$store") $(jq -r 'select(.event == "removed") | .why' "$W/out")" 'A C D age' \
	'the one that is goes, but not the one that is needed'
run pull --store "$store" --ref "oci:$W/A" --policy never
is "$rc" 0 'which is whole, though it had a layer in common'
run pull --store "$store" --ref "oci:$W/B" --policy never
is "$rc $code" '1 not-found' 'the other one is gone'

# Size.
rm -rf "$store"
fill "$store"
run prune --store "$store" --budget 1G
is "$(refs "$store")" 'A B C D' 'all fit'
run prune --store "$store" --budget 7M
# A alone would free nothing, since B has its layer.
is "$(refs "$store")" 'C D' 'those go that were used longest ago, until the rest fits'
ok 'with their layers' test "$(du -sm "$store/blobs" | cut -f1)" -le 5
run prune --store "$store" --budget 1M --keep "oci:$W/C"
is "$(refs "$store")" 'C' 'what is needed stays, beyond any budget'
run pull --store "$store" --ref "oci:$W/D"
run prune --store "$store" --budget 1M
is "$(refs "$store")" 'D' 'and what has just been pulled'
# However often the index is written: used half an hour ago, and now.
run pull --store "$store" --ref "oci:$W/C"
used "$store" D 2
used "$store" C 0.5
run pull --store "$store" --ref "oci:$W/C"
run prune --store "$store" --budget 1M
is "$(refs "$store")" 'C' 'nor what was used now'
run pull --store "$store" --ref "oci:$W/D"
used "$store" C 2
run prune --store "$store" --budget 1M
run rootfs --store "$store" --ref "oci:$W/D" --size 16M
used "$store" D 3
run rootfs --store "$store" --ref "oci:$W/D" --size 16M
run prune --store "$store" --max-age 2h
is "$(refs "$store")" 'D' 'to make a disk of it, or find it made, is a use'
ok 'the disk is there' test -s "$(echo "$store"/built/*.ext4)"
used "$store" D 3
run prune --store "$store" --max-age 2h
is "$(find "$store"/{blobs,built,kernels,tmp} -type f | wc -l)" 0 'it goes with its image'

# Not begun.
run pull --store "$store" --ref "oci:$W/A" --budget 3M
is "$rc" 0 'one that fits is pulled'
run pull --store "$store" --ref "oci:$W/B" --budget 3M
is "$rc $code" '1 no-space' 'one that never could is not'
like "$message" 'needs 4.* at least, those that machines need take 0, and the image store may take 3M' \
	'and is told why'
run pull --store "$store" --ref "oci:$W/C" --budget 3M
is "$rc" 0 'nor is one refused because of others that may go'
run pull --store "$store" --ref "oci:$W/D" --budget 3M --keep "oci:$W/A"
is "$rc $code" '1 no-space' 'but because of those that may not'
run rootfs --store "$store" --ref "oci:$W/D" --budget 3M --size 16M
is "$rc $code" '1 no-space' 'a disk counts beside its layers'
for v in kernel inspect; do
	run $v --store "$store" --ref "oci:$W/B" --budget 3M
	is "$rc $code" '1 no-space' "$v: it is no other way in"
done
run import --store "$store" --from "oci:$W/B" --name example.org/b:1 --budget 3M
is "$rc $code" '1 no-space' 'nor is import'
run pull --store "$store" --ref "file:$W/b.tar#format=raw" --budget 3M --keep "oci:$W/A"
is "$rc $code" '1 no-space' 'nor a file of the host'
like "$message" 'needs 2.* at least, those that machines need take 2.*\(image_budget\)' 'and is told why'
run rootfs --store "$store" --ref "file:$W/b.tar#format=raw" --budget 3M
is "$rc $code" '1 no-space' 'its disk counts, too'
run pull --store "$store" --ref "file:$W/b.tar#format=raw" --budget 3M
is "$rc" 0 'which fits by itself'
ok 'nothing is left of any of them' empty_tmp "$store"

# From a URL, also if it does not say how much will come.
"$B/fakes/bad-registry" "$W/bad.log" 5600 >"$W/bad.out" &
bad=$!
await "$patience" test -s "$W/bad.out"
layer=$(sed 's/ready sha256://' "$W/bad.out")
for v in good unsized; do
	url="http://127.0.0.1:5600/v2/$v/files/x.raw#sha256=$layer"
	run pull --store "$store" --ref "$url" --budget 2M
	is "$rc $code" '1 no-space' "$v: nor is a URL"
	like "$message" 'more than the 2M that the image store may take .*image_budget' "$v: and is told why"
	run pull --store "$store" --ref "$url" --budget 4M --keep "oci:$W/A"
	is "$rc $code" '1 no-space' "$v: nor beside those that may not go"
	run pull --store "$store" --ref "$url" --budget 4M
	is "$rc" 0 "$v: one that fits is pulled"
	run rm --store "$store" --ref "$url"
	ok "$v: nothing is left of it" empty_tmp "$store"
done

# A full disk, while unpacking: 30 MB that fit into a small layer.
mkdir -p "$W/full" "$W/y"
yes 'not zeros at all' | head -c 30M >"$W/y/text"
tar -C "$W/y" --owner=0 --group=0 -cf "$W/y.tar" .
make_layout "$W/Y" "$W/y.tar"
mount -t tmpfs -o size=20m tmpfs "$W/full"
run rootfs --store "$W/full/s" --ref "oci:$W/Y" --size 64M
is "$rc $code" '1 no-space' 'a disk that turns out not to fit is told of'
ok 'nothing of it is left' empty_tmp "$W/full/s"
is "$(ls "$W/full/s/built")" '' 'nor in the place of one'
run verify --store "$W/full/s"
is "$rc" 0 'what was there before is whole'
mount -o remount,size=60m "$W/full"
run rootfs --store "$W/full/s" --ref "oci:$W/Y" --size 64M
is "$rc" 0 'with more room the same works'
rm -r "$W/full/s"
# And while fetching: half of the layer comes, then nothing for a while, in which others fill the disk.
mount -o remount,size=20m "$W/full"
for v in pull rootfs; do
	rm -f "$W/bad.log.gate"
	"$image" $v --store "$W/full/s" --ref 127.0.0.1:5600/gate:latest --stall 1h >"$W/out" 2>&1 &
	pid=$!
	half() { [ -n "$(find "$W/full/s/tmp" -name 'sha256*.part' -size 3072)" ]; }
	ok "$v: half of the layer has come" wait_for "$patience" half
	# The rest comes once the others have done it, however long they take.
	head -c 30M /dev/zero >"$W/full/other" 2>/dev/null
	touch "$W/bad.log.gate"
	wait $pid
	is "$? $(field code)" '1 no-space' "$v: a layer for which there is no more room is told of"
	ok "$v: nothing of it is left" empty_tmp "$W/full/s"
	rm "$W/full/other"
	run $v --store "$W/full/s" --ref 127.0.0.1:5600/good:latest
	is "$rc" 0 "$v: with room it comes"
	run verify --store "$W/full/s"
	is "$rc" 0 "$v: and is whole"
	rm -r "$W/full/s"
done
umount "$W/full"

# droverd: after pulls, and what its machines need.
config <<END
on_exit = stop
image_budget = 3M
[vm one]
kernel = $W/none
rootfs = oci:$W/A
autostart = no
END
start_droverd
fill "$W/state/oci"
drover image prune >"$W/out"
is "$(refs "$W/state/oci")" 'A' 'what the machines need stays'
# droverd does the same a second after its start, and may have come first.
like "$(cat "$W/out" "$W/state/events.jsonl")" \
	'oci:[^ ]*/C removed \(image_budget\)|oci:[^ ]*/C","event":"removed","reason":"budget"' 'the rest is named'
drover pull "oci:$W/D" >"$W/out" 2>&1
ok 'a pull that cannot fit beside them is refused' test $? != 0
like "$(<"$W/out")" 'image_budget' 'by the key that says so'
ok 'as is an import' not drover image import "oci:$W/D" --name example.org/d:1
drover image inspect "oci:$W/D" >"$W/out" 2>&1
like "$? $(<"$W/out")" '^[1-9].*image_budget' 'and to look into one'
config <<END
on_exit = stop
image_budget = 5M
[vm one]
kernel = $W/none
rootfs = oci:$W/A
autostart = no
END
ok 'another budget' drover reload
run pull --store "$W/state/oci" --ref "oci:$W/C"
used "$W/state/oci" C 2
ok 'then it is pulled' drover pull "oci:$W/D"
one_gone() { [ "$(refs "$W/state/oci")" = 'A D' ]; }
ok 'and what is too much goes by itself' wait_for "$patience" one_gone
ok 'which is an event' wait_for "$patience" grep -q '"kind":"image","name":"oci:.*/C","event":"removed","reason":"budget"' \
	"$W/state/events.jsonl"
ok 'SIGTERM' stop_droverd
done_testing

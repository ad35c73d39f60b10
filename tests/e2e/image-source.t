#!/usr/bin/env bash
# Images that are one file: by http and https from a server that misbehaves, and from the host; in
# raw, qcow2, vmdk and vhdx, which qemu-img makes raw in a sandbox of its own.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image fakes/bad-registry

"$B/fakes/bad-registry" "$W/bad.log" 5600 >"$W/bad.out" &
await "$patience" test -s "$W/bad.out"
layer=$(sed 's/ready sha256://' "$W/bad.out")
size=3145728

# TLS in front of it, by a certificate that this world alone believes in.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext \
	subjectAltName=DNS:localhost -keyout "$W/key.pem" -out "$W/cert.pem" 2>/dev/null || bail openssl
mount --bind "$W/cert.pem" /etc/ssl/certs/ca-certificates.crt || bail 'the certificate'
socat OPENSSL-LISTEN:5643,bind=127.0.0.1,reuseaddr,fork,cert="$W/cert.pem",key="$W/key.pem",verify=0 \
	TCP:127.0.0.1:5600 2>"$W/socat.log" &
tls_up() { curl -sf "https://localhost:5643/v2/good/files/x" -o /dev/null; }
await "$patience" tls_up

url() { echo "$1/v2/$2/files/disk.raw"; }
get() { # get REF [OPTION...]: into a fresh store
	rm -rf "$W/store"
	: >"$W/bad.log"
	run rootfs --store "$W/store" --ref "$@"
}
requests() { grep -c "$1" "$W/bad.log"; }
plain=http://127.0.0.1:5600

# goes_well SCENARIO DESCRIPTION [OPTION...]: by http, the content known
goes_well() {
	get "$(url $plain "$1")#sha256=$layer" "${@:3}"
	is "$rc $(field event)" '0 done' "$2"
	is "$(sha256sum <"$(field disk)")" "$layer  -" "$1: the disk is what it should be"
	ok "$1: nothing else is left" empty_tmp "$W/store"
}
# fails REF CODE MESSAGE [OPTION...]
fails() {
	get "$1" "${@:4}"
	is "$rc $code" "1 $2" "${1##*/v2/}: fails as $2"
	case $message in *"$3"*) pass "${1##*/v2/}: says why" ;; *) fail "${1##*/v2/}: says why" "$message" ;; esac
	ok "${1##*/v2/}: nothing is left" empty_tmp "$W/store"
	is "$(find "$W/store/built" -type f | wc -l)" 0 "${1##*/v2/}: nothing was made"
}

goes_well good 'a file by http, its content known'
is "$(requests files/)" 1 'good: one request'
run rootfs --store "$W/store" --ref "$(url $plain good)#sha256=$layer" --policy always
is "$rc $(requests files/)" '0 1' 'good: what is known and there is not asked for again'
fails "$(url $plain good)" invalid 'over http the content must be known by its sha256'
fails "http://u:p@127.0.0.1:5600/x#sha256=$layer" invalid 'a password in it is not taken'
wrong=$(printf '%064d' 1)
fails "$(url $plain good)#sha256=$wrong" failed "wrong content: its sha256 is $layer, not $wrong"
fails "$(url $plain wrong-digest)#sha256=$layer" failed 'wrong content: its sha256 is '
fails "$(url $plain short)#sha256=$layer" failed 'wrong content: its sha256 is '
fails "$(url $plain long)#sha256=$layer" failed 'wrong content: its sha256 is '
goes_well cut-once 'one that was cut off is resumed'
is "$(requests range=bytes=1572864-)" 1 'cut-once: from where it was cut off'
goes_well no-range 'a server that ignores Range sends it all again'
goes_well cut-416 'a server that refuses Range sends it all again'
goes_well limit 'what is limited (429) comes later'
goes_well redirect 'a redirect to another host is followed'
goes_well stall-once 'a stalled one is resumed' --stall 1s
fails "$(url $plain cut-always)#sha256=$layer" failed 'given up after 3 tries: the connection broke off' --tries 3
fails "$(url $plain stall)#sha256=$layer" timeout 'given up after 2 tries: it stopped sending' --tries 2 --stall 1s
fails "$(url $plain error-always)#sha256=$layer" unavailable 'given up after 2 tries: it answers 503' --tries 2
fails "$(url $plain other-range)#sha256=$layer" failed 'another range than asked for' --tries 3
fails "$(url $plain gone)#sha256=$layer" not-found 'it answers 404'
fails "$(url $plain good)#sha256=$layer" failed 'it has 3M, and an image may have 2M' --image-max 2M
fails "$(url $plain endless)#sha256=$layer" failed 'it has more than the 2M' --image-max 2M

# Killed in the middle, and resumed by the next process.
rm -rf "$W/store"
"$image" pull --store "$W/store" --ref "$(url $plain slow)#sha256=$layer" >"$W/slow.out" 2>&1 & pid=$!
part=$W/store/tmp/sha256-$layer.part
has_mib() { [ "$(stat -c %s "$part" 2>/dev/null)" = 1048576 ]; }
ok 'killed: a MiB came' wait_for "$patience" has_mib
: >"$W/bad.log"
kill -9 $pid
wait $pid 2>/dev/null
run pull --store "$W/store" --ref "$(url $plain good)#sha256=$layer"
is "$rc $(requests range=bytes=1048576-)" '0 1' 'killed: the next goes on from there'
ok 'killed: it is right' stored "$W/store" "sha256:$layer"

# All of it was there, but not yet taken for that; and all of it, but wrong.
mv "$W/store/blobs/sha256/$layer" "$part"
: >"$W/bad.log"
run pull --store "$W/store" --ref "$(url $plain whole)#sha256=$layer" --policy always
is "$rc $(requests files/)" '0 1' 'killed at its end: one question, and nothing is fetched again'
ok 'killed at its end: it is right' stored "$W/store" "sha256:$layer"
mv "$W/store/blobs/sha256/$layer" "$part" && printf x | dd of="$part" bs=1 seek=1000 conv=notrunc status=none
run pull --store "$W/store" --ref "$(url $plain whole)#sha256=$layer" --policy always
is "$rc" 0 'what was left and damaged is fetched again'
ok 'and is right' stored "$W/store" "sha256:$layer"

# By https, with nothing known before: what comes is kept together by its entity tag.
tls=https://localhost:5643
get "$(url $tls tagged)"
is "$rc $(sha256sum <"$(field disk)")" "0 $layer  -" 'a file by https, of which nothing is known'
: >"$W/bad.log"
run pull --store "$W/store" --ref "$(url $tls tagged)"
is "$rc $(requests files/)" '0 0' 'it is pinned'
run pull --store "$W/store" --ref "$(url $tls tagged)" --policy always
is "$rc $(requests files/) $(events layer)" '0 1 1' 'asked for again, nothing has changed'
is "$(jq -r 'select(.event == "layer") | .cached' "$W/out")" true 'and nothing is fetched'
run outdated --store "$W/store"
is "$rc $(field moved) $(events unknown)" '0 0 0' 'nor is it outdated'
get "$(url $tls dated)"
run pull --store "$W/store" --ref "$(url $tls dated)" --policy always
is "$rc $(requests files/) $(jq -r 'select(.event == "layer") | .cached' "$W/out")" '0 2 true' \
	'where there is no tag, its date serves: nothing is fetched'
run outdated --store "$W/store"
is "$rc $(field moved) $(events unknown)" '0 0 0' 'nor is it outdated'
get "$(url $tls changes)"
: >"$W/bad.log"
run outdated --store "$W/store"
is "$rc $(field moved) $(events unknown) $(requests files/)" '0 0 1 1' 'what cannot be told without fetching it is told of'
like "$(jq -r 'select(.event == "unknown") | .message' "$W/out")" 'to have it now, pull it' 'and what helps'
get "$(url $tls tagged-cut)"
is "$rc $(sha256sum <"$(field disk)")" "0 $layer  -" 'one that was cut off is resumed'
is "$(requests range=bytes=1572864-)" 1 'from where it was cut off'
get "$(url $tls changes-too)"
is "$rc" 0 'one that changes meanwhile comes from its beginning'
ok 'and whole' test "$(stat -c %s "$(field disk)")" = $size -a "$(sha256sum <"$(field disk)")" != "$layer  -"
get "$(url $tls cut-once)"
is "$rc $(sha256sum <"$(field disk)") $(requests range=bytes)" "0 $layer  - 0" \
	'without a tag nothing is joined to what came before'
fails "$(url $tls to-plain)" failed 'http' --tries 2
get "$(url https://127.0.0.1:5643 good)" --tries 1
is "$rc" 1 'a certificate for another name is not believed'

# Formats: all hold the same disk.
dir=$W/disks store=$W/store
mkdir "$dir" && rm -rf "$store"
head -c 3000000 /dev/urandom >"$dir/a.raw" && truncate -s 40M "$dir/a.raw"
printf x | dd of="$dir/a.raw" bs=1 seek=30000000 conv=notrunc status=none
for f in qcow2 vmdk vhdx; do qemu-img convert -O $f "$dir/a.raw" "$dir/a.$f" || bail qemu-img; done
qemu-img convert -c -O qcow2 "$dir/a.raw" "$dir/packed.qcow2"
cp "$dir/a.qcow2" "$dir/ubuntu.img"
sum=$(sha256sum <"$dir/a.raw")
disk_of() { run rootfs --store "$store" --ref "$1"; }
for f in a.raw a.qcow2 a.vmdk a.vhdx packed.qcow2 'ubuntu.img#format=qcow2'; do
	disk_of "file:$dir/$f"
	is "$rc $(sha256sum <"$(field disk)")" "0 $sum" "$f: its disk is raw"
	ok "$f: and sparse" test "$(($(stat -c %b "$(field disk)") * 512))" -lt 8000000
done
disk_of "file:$dir/a.qcow2" && first=$(field disk)
disk_of "file:$dir/ubuntu.img#format=qcow2"
is "$(field disk)" "$first" 'one content in one format is one disk'
disk_of "file:$dir/ubuntu.img"
is "$rc $code" '1 invalid' 'a format that nothing tells of is not guessed'
like "$message" 'begins as a qcow2 does, but its name does not say so' 'but asked for'
disk_of "file:$dir/ubuntu.img#format=raw"
ok 'and raw is what is said to be raw' cmp "$(field disk)" "$dir/ubuntu.img"
disk_of "file:$dir/a.raw#format=vmdk"
is "$rc $code" '1 failed' 'what is not in its format is told of'
like "$message" 'a.raw#format=vmdk: qemu-img failed: ' 'in the words of qemu-img'
cp "$dir/a.qcow2" "$dir/moves.qcow2" && disk_of "file:$dir/moves.qcow2"
cp "$dir/packed.qcow2" "$dir/moves.qcow2"
run outdated --store "$store"
is "$rc $(jq -r 'select(.event == "moved") | "\(.ref) \(.now)"' "$W/out")" \
	"0 file:$dir/moves.qcow2 sha256:$(sha256sum <"$dir/moves.qcow2" | cut -d' ' -f1)" 'a file that was replaced is outdated'
disk_of "file:$dir/a.qcow2#sha256=$wrong"
like "$message" "wrong content: its sha256 is " 'sha256 is for files of the host, too'
ok 'nothing is left of them' empty_tmp "$store"
run rootfs --store "$store" --ref "file:$dir/packed.qcow2" --image-max 30M
is "$rc" 0 'what was made is there'
run rootfs --store "$W/store2" --ref "file:$dir/packed.qcow2" --image-max 30M
is "$rc $code" '1 failed' 'a disk that is larger than it may be is not made'
like "$message" 'its disk has 40M, and one may have 30M' 'and is told of'
ok 'nor anything left' empty_tmp "$W/store2"

# Less room than the disk needs.
yes "$(printf 'some text %.0s' {1..50})" | head -c 40000000 >"$dir/text.raw"
qemu-img convert -c -O qcow2 "$dir/text.raw" "$dir/text.qcow2" && rm "$dir/text.raw"
mkdir "$W/small" && mount -t tmpfs -o size=20M tmpfs "$W/small" || bail mount
run rootfs --store "$W/small/store" --ref "file:$dir/text.qcow2"
is "$rc $code" '1 no-space' 'a filesystem that is full is told of'
ok 'and nothing is left of what did not fit' empty_tmp "$W/small/store"
ok 'and what there is of room is there again' test "$(df --output=used -k "$W/small" | tail -n 1)" -lt 8000
umount "$W/small"

# Files that were cut off, which qemu-img would convert as if zeros were behind.
for f in a.qcow2 packed.qcow2 a.vmdk a.vhdx; do
	head -c -400000 "$dir/$f" >"$dir/cut-$f"
	disk_of "file:$dir/cut-$f"
	is "$rc $code" '1 failed' "$f, cut off: it is not taken"
	# qemu-img itself opens no such vhdx.
	like "$message" "its ${f##*.} is damaged or was cut off|vhdx: qemu-img failed" 'and it is said why'
done
ok 'qemu-img would take it' qemu-img convert -O raw "$dir/cut-a.qcow2" "$W/flat"
qemu-img create -q -f qcow2 -b cut-a.qcow2 -F qcow2 "$dir/above.qcow2"
disk_of "file:$dir/above.qcow2#backing=$dir/cut-a.qcow2"
like "$message" 'backing file: its qcow2 is damaged or was cut off' 'nor below another'
rm "$dir"/cut-*
ok 'nothing is left of them' empty_tmp "$store"

# Files that name other files. A secret of the host would show in the disk.
head -c 1000000 /dev/urandom >"$W/secret"
qemu-img create -q -f qcow2 -b "$W/secret" -F raw "$dir/backed.qcow2" 1M
disk_of "file:$dir/backed.qcow2"
is "$rc $code" '1 invalid' 'a backing file is refused'
like "$message" 'a backing file, which is taken only if it is named: backing = /PATH$' 'and how it is allowed said'
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 "$dir/top.qcow2"
qemu-io -c 'write -P 0x41 20M 64k' "$dir/top.qcow2" >"$W/output" || bail "qemu-io: $(<"$W/output")"
disk_of "file:$dir/top.qcow2#backing=$dir/a.qcow2"
is "$rc $(qemu-img convert -O raw "$dir/top.qcow2" "$W/flat" && sha256sum <"$W/flat")" \
	"0 $(sha256sum <"$(field disk)")" 'one that is named is below it'
disk_of "file:$dir/top.qcow2#backing=$dir/packed.qcow2"
is "$(sha256sum <"$(field disk)")" "$(sha256sum <"$W/flat")" 'and no other than the one that is named'
disk_of "file:$dir/a.qcow2#backing=$W/secret"
like "$message" 'it has no backing file' 'one that has none cannot be given one'
# The file above is what it was, as its server says; the one below is not.
qemu-img rebase -u -b "$dir/below.qcow2" -F qcow2 "$dir/top.qcow2"
cp "$dir/top.qcow2" "$W/bad.log.given"
cp "$dir/a.qcow2" "$dir/below.qcow2"
disk_of "https://localhost:5643/v2/given/files/top.qcow2#backing=$dir/below.qcow2"
is "$rc $(sha256sum <"$(field disk)")" "0 $(sha256sum <"$W/flat")" 'a URL may lie above a file of the host'
qemu-io -c 'write -P 0x42 24M 64k' "$dir/below.qcow2" >"$W/output" || bail "qemu-io: $(<"$W/output")"
qemu-img convert -O raw "$dir/top.qcow2" "$W/flat"
run rootfs --store "$store" --policy always \
	--ref "https://localhost:5643/v2/given/files/top.qcow2#backing=$dir/below.qcow2"
is "$rc $(sha256sum <"$(field disk)")" "0 $(sha256sum <"$W/flat")" 'and a change of that one is seen'
run rootfs --store "$store" --policy always \
	--ref "https://localhost:5643/v2/given/files/top.qcow2#backing=$dir/below.qcow2"
is "$rc $(sha256sum <"$(field disk)")" "0 $(sha256sum <"$W/flat")" 'also where none has changed'
qemu-img create -q -f vmdk -b "$dir/a.vmdk" -F vmdk "$dir/middle.vmdk"
qemu-img create -q -f qcow2 -b middle.vmdk -F vmdk "$dir/above.qcow2"
disk_of "file:$dir/above.qcow2#backing=$dir/middle.vmdk"
like "$message" 'backing file: it has data in another file, .*a.vmdk' 'nor can a backing file name one that is not named'
qemu-img create -q -f qcow2 -o data_file="$W/secret2",data_file_raw=on "$dir/data.qcow2" 1M
disk_of "file:$dir/data.qcow2"
like "$message" 'its data is in another file, which is not taken$' 'an external data file is refused'
qemu-img convert -O vmdk -o subformat=monolithicFlat "$dir/a.raw" "$dir/flat.vmdk"
disk_of "file:$dir/flat.vmdk"
like "$message" 'whose data is in other files' 'so are the extents of a vmdk'
# By what no header shows: a vmdk with the description of another inside (QEMU, block/vmdk.c).
python3 - "$W/secret" "$dir/sly.vmdk" <<-'END'
	import struct, sys
	text = ('# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n'
	        f'createType="monolithicFlat"\nRW 1000 FLAT "{sys.argv[1]}" 0\n').encode()
	head = struct.pack('<4sIIQQQQIQQQ', b'KDMV', 1, 3, 0, 128, 1, 20, 512, 0, 0, 0)
	open(sys.argv[2], 'wb').write(head.ljust(512, b'\0') + text.ljust(20 * 512, b'\0'))
END
ok 'qemu-img would follow one' eval 'qemu-img info -f vmdk "$dir/sly.vmdk" | grep -q "$W/secret"'
disk_of "file:$dir/sly.vmdk"
is "$rc" 1 'which is not done'
like "$message" "(data in another file, '$W/secret'|Permission denied)" 'and told of'

# A container disk in qcow2.
mkdir -p "$W/tree/disk" && cp "$dir/a.qcow2" "$W/tree/disk/"
tar -C "$W/tree" --owner=0 --group=0 -cf "$W/tree.tar" .
make_layout "$W/layout" "$W/tree.tar"
disk_of "oci:$W/layout"
is "$rc $(sha256sum <"$(field disk)")" "0 $sum" 'the qcow2 of a container disk is made raw'
mv "$W/tree/disk/a.qcow2" "$W/tree/disk/disk.img"
tar -C "$W/tree" --owner=0 --group=0 -cf "$W/tree.tar" .
make_layout "$W/layout2" "$W/tree.tar"
disk_of "oci:$W/layout2"
like "$message" 'its disk begins as a qcow2 does, but its name does not say so' 'if its name says so'
disk_of "oci:$W/layout2#format=qcow2"
is "$rc $(sha256sum <"$(field disk)")" "0 $sum" 'or its reference'
# From a registry it is unpacked while it is fetched, and no less made raw.
registry disks 5602
push "$W/layout" http://127.0.0.1:5602/org/disk:1
push "$W/layout2" http://127.0.0.1:5602/org/disk:2
disk_there() { run rootfs --store "$W/there" --ref "127.0.0.1:5602/org/disk:$1"; }
disk_there 1
is "$rc $(sha256sum <"$(field disk)")" "0 $sum" 'also from a registry'
disk_there 2
like "$message" 'its disk begins as a qcow2 does, but its name does not say so' 'from there, too, by its name'
disk_there '2#format=qcow2'
is "$rc $(sha256sum <"$(field disk)")" "0 $sum" 'or its reference'
unregistry disks
ok 'nothing else is left' empty_tmp "$store"

# Killed at any time, what is there is whole, and the next one completes it.
whole=0
for i in {1..25}; do
	[ $((i % 5)) = 0 ] || rm -rf "$W/killed"
	"$image" rootfs --store "$W/killed" --ref "file:$dir/packed.qcow2" >/dev/null 2>&1 & pid=$!
	sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	for f in "$W/killed/built"/*; do
		[ ! -e "$f" ] || [ "$(sha256sum <"$f")" = "$sum" ] || bail "a disk in part: $f"
		[ ! -e "$f" ] || whole=$((whole + 1))
	done
done
pass "killed 25 times: never a disk in part ($whole were whole)"
run rootfs --store "$W/killed" --ref "file:$dir/packed.qcow2"
is "$rc $(sha256sum <"$(field disk)")" "0 $sum" 'killed 25 times: then complete'
ok 'killed 25 times: nothing is left' empty_tmp "$W/killed"

# The sandbox of qemu-img, looked at while it works.
# What is looked for is there for a moment only: by builtins alone, and again if it was missed.
head -c 60000000 /dev/urandom >"$dir/big.raw" && truncate -s 400M "$dir/big.raw"
qemu-img convert -O qcow2 "$dir/big.raw" "$dir/big.qcow2" && rm "$dir/big.raw"
catch() {
	"$image" rootfs --store "$store" --ref "file:$dir/big.qcow2" >"$W/out" 2>"$W/errout" & pid=$!
	local args=()
	while read -r child 2>/dev/null <"/proc/$pid/task/$pid/children" || kill -0 $pid 2>/dev/null; do
		[ -n "$child" ] || continue
		{ mapfile -d '' args <"/proc/${child% }/cmdline"; } 2>/dev/null
		[ "${args[0]-} ${args[1]-}" = 'qemu-img convert' ] || continue
		child=${child% }
		kill -STOP "$child" || break
		until grep -q '^State:.[TZ]' "/proc/$child/status" || [ ! -e "/proc/$child" ]; do :; done
		grep -q '^State:.T' "/proc/$child/status" && return
	done 2>/dev/null
	wait $pid
	run rm --store "$store" --ref "file:$dir/big.qcow2"
	return 1
}
ok 'qemu-img works' wait_for "$patience" catch
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
is "$(status "$child" CapEff) $(status "$child" CapBnd) $(status "$child" NoNewPrivs) $(status "$child" Seccomp)" \
	'0000000000000000 0000000000000000 1 2' 'it has no capabilities and a filter'
ok 'a user namespace' test "$(readlink "/proc/$child/ns/user")" != "$(readlink "/proc/$pid/ns/user")"
ok 'and an empty network' test "$(readlink "/proc/$child/ns/net")" != "$(readlink "/proc/$pid/ns/net")"
like "$(grep '^Max address space' "/proc/$child/limits")" ' 1073741824 ' 'its memory is bounded'
like "$(grep '^Max file size' "/proc/$child/limits")" ' 419430400 ' 'and what it writes'
kill -9 $pid
wait $pid 2>/dev/null
gone() { [ ! -e "/proc/$child" ] || grep -q '^State:.Z' "/proc/$child/status" 2>/dev/null; }
ok 'it does not outlive who started it' wait_for "$patience" gone
run prune --store "$store"
ok 'and what it began is swept away' empty_tmp "$store"

done_testing

#!/usr/bin/env bash
# drover-image against a registry that misbehaves: each kind of misbehaviour is either got over or
# told of in one sentence, and nothing that is wrong is ever stored.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image fakes/bad-registry

"$B/fakes/bad-registry" "$W/bad.log" 5600 >"$W/bad.out" &
await "$patience" test -s "$W/bad.out"
layer=$(sed 's/ready //' "$W/bad.out")
host=127.0.0.1:5600

pull() { # pull SCENARIO [OPTION...]: into a fresh store
	local ref=$host/$1:latest
	shift
	rm -rf "$W/store"
	: >"$W/bad.log"
	run pull --store "$W/store" --ref "$ref" "$@"
}
has() { # has TEXT PART DESCRIPTION
	[[ $1 == *"$2"* ]] && pass "$3" || fail "$3" "got:    $1"$'\n'"wanted: $2"
}
requests() { grep -c "$1" "$W/bad.log"; }

# goes_well SCENARIO DESCRIPTION [OPTION...]
goes_well() {
	pull "$1" "${@:3}"
	is "$rc $(field event)" '0 done' "$2"
	ok "$1: the layer is stored, and what it should be" stored "$W/store" "$layer"
	ok "$1: nothing else is left" empty_tmp "$W/store"
}

# fails SCENARIO CODE MESSAGE [OPTION...]: the message's end
fails() {
	pull "$1" "${@:4}"
	is "$rc $code" "1 $2" "$1: fails as $2"
	has "$message" "$3" "$1: says why"
	ok "$1: no wrong layer is stored" test ! -e "$W/store/blobs/sha256/${layer#sha256:}"
	ok "$1: nothing is left behind" empty_tmp "$W/store"
	is "$(events error)" 1 "$1: one error"
}

goes_well good 'a good image is pulled'
is "$(requests /blobs/)" 2 'good: one request for config and layer each'

# Digest and size.
fails wrong-digest failed "wrong content for blob $layer: its digest is sha256:"
goes_well wrong-once 'a layer that was damaged on its way is fetched again'
fails short failed 'ended after 1000 of 3145728 bytes'
fails long failed 'is longer than the 3145728 bytes announced'
fails other-manifest failed 'wrong content for sha256:'

# Broken off.
goes_well cut-once 'a layer that was cut off is resumed'
is "$(requests range=bytes=1572864-)" 1 'cut-once: from where it was cut off'
goes_well no-range 'a server that ignores Range sends it all again'
goes_well cut-416 'a server that refuses Range sends it all again'
fails cut-always failed 'given up after 3 tries: the connection broke off' --tries 3
is "$(requests "/blobs/$layer")" 3 'cut-always: tried as often as asked for'
fails other-range failed 'another range than asked for' --tries 3
fails stall timeout 'given up after 2 tries: it stopped sending (nothing for 1s)' \
	--tries 2 --stall 1s
goes_well stall-once 'a stalled layer is resumed' --stall 1s

# Overloaded.
start=$SECONDS
goes_well limit 'what is limited (429) comes later'
ok 'limit: Retry-After was heeded' test $((SECONDS - start)) -ge 2
start=$SECONDS
goes_well limit-date 'what is to come later by a date comes later'
ok 'limit-date: the date was heeded' test $((SECONDS - start)) -ge 1
goes_well error-once 'an error of the server (503) passes'
fails error-always unavailable "registry http://$host: given up after 2 tries: it answers 503" --tries 2
has "$message" "it says 'upstream is\\x1b down'" 'error-always: its words are escaped'

# Authentication.
goes_well token 'a token is fetched where one is asked for'
is "$(requests "/token?")" 1 'token: once for all requests'
has "$(grep "/token?" "$W/bad.log")" 'service=bad&scope=repository%3Atoken%3Apull' \
	'token: for service and scope of the challenge'
fails loop401 denied "unauthorized: registry http://$host wants credentials"
ok 'loop401: soon given up' test "$(wc -l <"$W/bad.log")" -le 4
fails basic denied 'wants credentials'
printf '{"auths":{"%s":{"auth":"dXNlcjpzZWNyZXQ="}}}' $host >"$W/auth.json"
goes_well basic 'credentials of a docker config.json are used' --auth-file "$W/auth.json"
# The same from a credential helper, which knows this one host.
mkdir "$W/helpers"
cat >"$W/helpers/docker-credential-test" <<END
#!/bin/sh
read -r host || [ -n "\$host" ]
echo "\$1 \$host" >>"$W/helper.log"
[ "\$host" = $host ] || { echo credentials not found in native keychain; exit 1; }
echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'
END
chmod +x "$W/helpers/docker-credential-test"
PATH=$W/helpers:$PATH
echo '{"credsStore":"test"}' >"$W/helper.json"
goes_well basic 'credentials of a credential helper are used' --auth-file "$W/helper.json"
is "$(sort -u "$W/helper.log")" "get $host" 'basic: it was asked for this host'
printf '{"credHelpers":{"%s":"test"}}' $host >"$W/helper.json"
goes_well basic 'also of one for this host alone' --auth-file "$W/helper.json"
cat >"$W/helpers/docker-credential-stays" <<END
#!/bin/sh
echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'
exec sleep 300 >/dev/null 2>&1
END
chmod +x "$W/helpers/docker-credential-stays"
echo '{"credsStore":"stays"}' >"$W/helper.json"
fails basic timeout 'stays'\'' does not answer' --auth-file "$W/helper.json"
echo '{"credsStore":"absent"}' >"$W/helper.json"
fails basic not-found 'the credential helper docker-credential-absent is not installed' \
	--auth-file "$W/helper.json"
echo '{"credsStore":"../../bin/sh"}' >"$W/helper.json"
fails basic invalid "is no name of a credential helper" --auth-file "$W/helper.json"
fails denied denied 'it answers 403'
goes_well redirect 'a redirect to another host is followed'
is "$(grep -c '^5601 .*auth=$' "$W/bad.log")" 1 'redirect: no credentials go to the other host'
is "$(grep -c '^5601 .*auth=.' "$W/bad.log")" 0 'redirect: none at all'
fails redirect-loop failed 'it redirects more than 5 times'

# Documents.
fails absent not-found "$host/absent:latest: not found in registry http://$host"
fails gone not-found "it answers 404, it says 'blob unknown'"
fails huge failed 'its answer is larger than 4M'
fails large failed 'its answer is larger than 4M'
large_ended() { grep -q '^large sent=' "$W/bad.log"; }
ok 'large: the server is left' wait_for "$patience" large_ended
ok 'large: most of it was not even taken' test "$(sed -n 's/^large sent=//p' "$W/bad.log")" -lt 50000000
fails schema1 unsupported 'it has the old schema 1'
fails garbage failed 'manifest: not JSON'
goes_well index 'an index leads to the manifest of the platform'
fails index-other not-found "no image for linux/amd64; there is 'linux/riscv64'"
fails good not-found "no image for linux/arm64; there is one for 'linux' and 'amd64'" --platform linux/arm64

# Killed in the middle, and resumed by the next process.
rm -rf "$W/store"
"$image" pull --store "$W/store" --ref $host/slow:latest >"$W/slow.out" 2>&1 &
pid=$!
part=$W/store/tmp/sha256-${layer#sha256:}.part
has_mib() { [ "$(stat -c %s "$part")" = 1048576 ]; }
ok 'killed: a MiB of the layer came' wait_for "$patience" has_mib
# A second one waits for the first, and takes over when it dies.
"$image" pull --store "$W/store" --ref $host/good:latest >"$W/second.out" 2>&1 &
second=$!
ok 'killed: a second pull of the layer waits' wait_for "$patience" grep -q '"event":"progress"' "$W/second.out"
: >"$W/bad.log"
kill -9 $pid
wait $pid 2>/dev/null
wait $second
is $? 0 'killed: it completes what the dead one began'
is "$(requests range=bytes=1048576-)" 1 'killed: from where that one came to'
ok 'killed: the layer is right' stored "$W/store" "$layer"
ok 'killed: nothing else is left' empty_tmp "$W/store"

# Disks made while the layer comes: of the same bytes as one that is made of a layer that was there.
disk() { (cd "$W/store/built" && sha256sum *.ext4); }
rootfs() { # rootfs SCENARIO [OPTION...]: into a fresh store
	rm -rf "$W/store"
	run rootfs --store "$W/store" --ref "$host/$1:latest" --size 16M "${@:2}"
}
pull good
run rootfs --store "$W/store" --ref $host/good:latest --size 16M
is "$rc" 0 'a disk is made of a layer that is there'
wanted=$(disk)
for i in good wrong-once cut-once no-range cut-416 redirect; do
	rootfs $i
	is "$rc $(disk)" "0 $wanted" "$i: so is the same disk while the layer comes"
	ok "$i: the layer is stored, and what it should be" stored "$W/store" "$layer"
	ok "$i: nothing else is left of that" empty_tmp "$W/store"
done
rootfs stall-once --stall 1s
is "$rc $(disk)" "0 $wanted" 'stall-once: the disk waits for what is resumed'
for i in wrong-digest short long gone; do
	rootfs $i --tries 2
	is "$rc" 1 "$i: no disk comes of it"
	is "$(ls -A "$W/store/built" "$W/store/tmp")" "$(printf '%s:\n\n%s:' "$W/store/built" "$W/store/tmp")" \
		"$i: nor a part of one"
done
rootfs wrong-digest
has "$message" "wrong content for blob $layer" 'it is the digest that is told of, not what was unpacked'

# Unpacking goes on while the layer comes; killed then, the next one makes the disk.
rm -rf "$W/store"
"$image" rootfs --store "$W/store" --ref $host/slow:latest --size 16M >"$W/slow.out" 2>&1 &
pid=$!
unpacking() { [ -n "$(find "$W/store/tmp" -name 'disk-*.part' -size +40k)" ]; }
ok 'slow: the disk is written to before the layer has come' wait_for "$patience" unpacking
ok 'slow: and is not in its place' test -z "$(ls "$W/store/built")"
child=$(<"/proc/$pid/task/$pid/children")
kill -9 $pid
wait $pid 2>/dev/null
gone() { ! kill -0 "${child% }" 2>/dev/null; }
ok 'slow: the unpacking process goes with the fetching one' wait_for "$patience" gone
run rootfs --store "$W/store" --ref $host/good:latest --size 16M
is "$rc $(disk)" "0 $wanted" 'slow: the next one makes the disk'
ok 'slow: nothing else is left' empty_tmp "$W/store"

done_testing

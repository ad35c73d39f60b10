#!/usr/bin/env bash
# From a registry to a bootable ext4: drover-image beside skopeo + umoci + mke2fs -d, and beside
# what inflating the same layers alone takes (igzip), interleaved in one run, medians of ROUNDS.
# 20,000 small and some large files, 300 MB. Needs skopeo, umoci and igzip.
. "$(dirname "$0")/../e2e/image-lib.sh"
for p in skopeo umoci igzip; do
	command -v $p >/dev/null || { echo "bench: $p is not installed" >&2; exit 1; }
done
world_for drover-image
rounds=${ROUNDS:-3}
python3 - "$W" <<'END'
import os, random, sys
random.seed(1)
words = [bytes(random.choices(b'abcdefghijklmnopqrstuvwxyz /.\n', k=random.randint(3, 12))) for _ in range(4000)]
def text(n):
    out = b''.join(random.choices(words, k=n // 7 + 2))
    return out[:n]
for l in range(3):
    for i in range(6667):
        d = f'{sys.argv[1]}/l{l}/usr/share/p{i % 250}'
        os.makedirs(d, exist_ok=True)
        open(f'{d}/f{l}-{i}', 'wb').write(text(random.randint(100, 9000)))
    os.makedirs(f'{sys.argv[1]}/l{l}/lib')
    for i in range(4):
        open(f'{sys.argv[1]}/l{l}/lib/big{l}{i}', 'wb').write(random.randbytes(9_000_000) + text(7_000_000))
END
for l in 0 1 2; do tar -C "$W/l$l" --owner=0 --group=0 -cf "$W/l$l.tar" .; rm -r "${W:?}/l$l"; done
make_layout "$W/layout" "$W"/l{0,1,2}.tar
registry origin 5001
ref=127.0.0.1:5001/bench/image:1
push "$W/layout" http://$ref
gz=$(find "$W/layout/blobs" -size +1000k)

timed() { # timed ROW COMMAND...: seconds
	local row=$1 start=${EPOCHREALTIME/./}
	shift
	"$@" >"$W/bench.out" 2>&1 || bail "$row: $(<"$W/bench.out")"
	echo "$((${EPOCHREALTIME/./} - start))" >>"$W/$row.us"
}
ours() { python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[2:], check=True)
open(sys.argv[1], "a").write("%d\n" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
	"$W/rss" "$image" rootfs --store "$W/store" --ref $ref --size 1G; }
theirs() {
	skopeo copy -q --src-tls-verify=false docker://$ref "oci:$W/theirs:1" &&
		umoci unpack --image "$W/theirs:1" "$W/bundle" &&
		mke2fs -q -F -b 4096 -t ext4 -d "$W/bundle/rootfs" "$W/theirs.ext4" 1G && sync "$W/theirs.ext4"
}
floor() { local f; for f in $gz; do igzip -dc <"$f" >/dev/null; done; }
again() { "$image" rootfs --store "$W/store" --ref $ref --size 1G; }
clone() { "$image" clone --from "$(echo "$W"/store/built/*)" --to "$W/clone.raw" --no-sync; }
# A second machine's disk: with a name and a key in it, and on the disk when it is told as made.
printf '{"hostname":"two","authorized_keys":["ssh-ed25519 AAAA me"]}' >"$W/inject.json"
overlay() {
	"$image" clone --from "$(echo "$W"/store/built/*)" --to "$W/clone.raw" --overlay "$W/clone.qcow2" \
		--method overlay --inject "$W/inject.json"
}
for ((i = 0; i < rounds; i++)); do
	rm -rf "$W"/{store,theirs,bundle,theirs.ext4}
	timed floor floor
	timed ours ours
	timed again again
	timed clone clone
	timed overlay overlay
	timed theirs theirs
done
median() { sort -n "$W/$1.us" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2e6 }'; }
rss=$(sort -n "$W/rss" | tail -n 1)
awk -v ours="$(median ours)" -v theirs="$(median theirs)" -v floor="$(median floor)" \
	-v again="$(median again)" -v clone="$(median clone)" -v overlay="$(median overlay)" -v rss="$rss" -v strict="${STRICT:-}" 'BEGIN {
	printf "registry to ext4        %7.3f s\n", ours
	printf "  skopeo + umoci + mke2fs %5.3f s   %5.1f times (at least 8)\n", theirs, theirs / ours
	printf "  igzip -dc alone       %7.3f s   %5.2f times (at most 2)\n", floor, ours / floor
	printf "  peak memory           %7.1f MB  (below 64)\n", rss / 1024
	printf "the same again          %7.3f s\n", again
	printf "clone                   %7.3f s   copy or reflink\n", clone
	printf "  overlay               %7.3f s   %5.1f times quicker (below 0.020 with reflink or overlay)\n", overlay, clone / overlay
	exit strict != "" && (theirs / ours < 8 || ours / floor > 2 || rss >= 65536)
}'

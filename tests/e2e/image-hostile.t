#!/usr/bin/env bash
# Images that mean harm: what drover-image's unpacking process may do while it has one before it, a
# layer that is far larger than it looks, and names that point out of the image.
. "$(dirname "$0")/image-lib.sh"
world_for drover-image

# A file of 10 GB of zeros in a layer of 10 MB: gzip members one behind the other.
python3 - "$W" <<'END'
import gzip, sys, tarfile
w = sys.argv[1]
size, piece = 10 * 1000 * 1000 * 1000, 100 * 1000 * 1000
zeros = gzip.compress(bytes(piece), 6, mtime=0)
info = tarfile.TarInfo('bomb')
info.size = size
with open(w + '/bomb.gz', 'wb') as f:
    f.write(gzip.compress(info.tobuf(tarfile.GNU_FORMAT), mtime=0))
    for _ in range(size // piece):
        f.write(zeros)
    f.write(gzip.compress(bytes(-size % 512 + 1024), mtime=0))

def entry(tar, name, kind=tarfile.REGTYPE, data=b'', **more):
    import io
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))

with tarfile.open(w + '/names.tar', 'w') as tar:
    entry(tar, 'etc', tarfile.DIRTYPE, mode=0o755)
    entry(tar, '/etc/absolute', data=b'inside')
    entry(tar, 'out', tarfile.SYMTYPE, linkname=w + '/outside')
    entry(tar, 'up', tarfile.SYMTYPE, linkname='../../../../../../../..' + w + '/outside')
    entry(tar, 'out/victim', data=b'written')
    entry(tar, 'up/victim2', data=b'written')
    entry(tar, 'new\nline\x1b[2J', data=b'x')
    entry(tar, 'dev', tarfile.DIRTYPE, mode=0o755)
    entry(tar, 'dev/sda', tarfile.BLKTYPE, devmajor=8, devminor=0)
    entry(tar, 'hard', tarfile.LNKTYPE, linkname='etc/absolute')
for name, kind, more in [
        ('dots', tarfile.REGTYPE, dict(name='a/../../../../victim')),
        ('link', tarfile.LNKTYPE, dict(name='passwd', linkname='../../../../etc/passwd')),
        ('nolink', tarfile.LNKTYPE, dict(name='passwd', linkname='/etc/no-such'))]:
    with tarfile.open(f'{w}/{name}.tar', 'w') as tar:
        entry(tar, kind=kind, **more)
END
mkdir "$W/outside"
: >"$W/outside/kept"

# The descriptor of a layer that is gzip already.
bomb_layout() {
	local dir=$1 layer t
	mkdir -p "$dir/blobs/sha256"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
	cp "$W/bomb.gz" "$dir/new"
	layer=$(layout_put "$dir" application/vnd.oci.image.layer.v1.tar+gzip)
	echo '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}' >"$dir/new"
	t=$(layout_put "$dir" application/vnd.oci.image.config.v1+json)
	printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$t" "$layer" >"$dir/new"
	t=$(layout_put "$dir" application/vnd.oci.image.manifest.v1+json)
	printf '{"schemaVersion":2,"manifests":[%s]}' "$t" >"$dir/index.json"
}

registry origin 5001
host=127.0.0.1:5001
bomb_layout "$W/bomb"
push "$W/bomb" http://$host/bad/bomb:1
for i in names dots link nolink; do
	make_layout "$W/$i" "$W/$i.tar"
	push "$W/$i" http://$host/bad/$i:1
done
store=$W/store

# The unpacking process, looked at while it works.
"$image" rootfs --store "$store" --ref $host/bad/bomb:1 >"$W/out" 2>"$W/errout" & pid=$!
unpacker() { child=$(<"/proc/$pid/task/$pid/children") && [ -n "$child" ] &&
	grep -q '^Seccomp_filters:.2' "/proc/${child% }/status"; }
ok 'the layers are unpacked by a process of its own' wait_for "$patience" unpacker
child=${child% }
kill -STOP "$child"
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; } # status PID KEY
is "$(status "$child" CapEff) $(status "$child" CapBnd)" '0000000000000000 0000000000000000' \
	'it has no capabilities, nor can it get any'
is "$(status "$child" NoNewPrivs) $(status "$child" Seccomp)" '1 2' 'its system calls are filtered'
ns() { readlink "/proc/$1/ns/$2"; }
ok 'it is in a user namespace of its own' test "$(ns "$child" user)" != "$(ns $$ user)"
ok 'and in a network of its own' test "$(ns "$child" net)" != "$(ns $$ net)"
is "$(sed -n 's/^ *\([^ ]*\):.*/\1/p' "/proc/$child/net/dev")" lo 'where there is nothing'
is "$(find "/proc/$child/fd" -lname 'socket:*' | wc -l)" 0 'it has no socket'
ok 'its memory is bounded' grep -q '^Max address space  *1073741824 ' "/proc/$child/limits"
ok 'its time is bounded' grep -qE '^Max cpu time  *[0-9]+ ' "/proc/$child/limits"
is "$(status $pid CapEff) $(status $pid NoNewPrivs) $(status $pid Seccomp)" '0000000000000000 1 2' \
	'the fetching process has no capabilities either, and a filter'
ok 'and is in a user namespace' test "$(ns $pid user)" != "$(ns $$ user)"
is "$(ns $pid net)" "$(ns $$ net)" 'but has the network'
kill -CONT "$child"

# The bomb.
wait $pid
is "$?" 0 '10 GB of zeros in a small layer are unpacked'
disk=$(field disk)
ok 'and take no room' test "$(($(stat -c %b "$disk") * 512))" -lt $((256 << 20))
is "$(debugfs -R 'stat /bomb' "$disk" 2>/dev/null | grep -o 'Size: [0-9]*' | head -n 1)" 'Size: 10000000000' \
	'the file has its size'
rm "$disk"
run rootfs --store "$store" --ref $host/bad/bomb:1 --time-limit 1s
is "$rc $code" '1 timeout' 'a time limit ends it'
like "$message" "^$host/bad/bomb:1: unpacking took more than 1" 'and is named'
ok 'nothing is left of it' empty_tmp "$store"
"$image" rootfs --store "$store" --ref $host/bad/bomb:1 >"$W/out" 2>"$W/errout" & pid=$!
wait_for "$patience" unpacker || fail 'a second unpacking begins'
child=${child% }
kill -9 $pid
wait $pid 2>/dev/null
gone() { [ ! -e "/proc/$child" ]; }
ok 'it does not outlive who started it' wait_for "$patience" gone

# Names.
run rootfs --store "$store" --ref $host/bad/names:1
is "$rc" 0 'names that are odd, but lead nowhere else, are kept'
disk=$(field disk)
ok 'the filesystem is clean' e2fsck -fn "$disk"
is "$(debugfs -R 'cat /etc/absolute' "$disk" 2>/dev/null)" inside 'an absolute name is within the image'
is "$(debugfs -R 'stat /dev/sda' "$disk" 2>/dev/null | grep -o 'Type: block special')" \
	'Type: block special' 'a device node is a node in the image'
is "$(debugfs -R 'ls -p /' "$disk" 2>/dev/null | grep -c 'line')" 1 'a name with a newline is one name'
is "$(ls "$W/outside")" kept 'links out of the image were not followed on the host'
for i in dots link nolink; do
	run rootfs --store "$store" --ref $host/bad/$i:1
	is "$rc $code" '1 invalid' "$i: an entry that leaves the image is refused"
	ok "$i: and nothing is left" empty_tmp "$store"
done
ok 'nothing was written outside' test ! -e "$W/victim"

unregistry origin
done_testing

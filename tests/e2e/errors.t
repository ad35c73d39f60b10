#!/usr/bin/env bash
# What can go wrong at a start: each gives one clear sentence on the command line, in the log and
# in `drover why`; the machine ends as failed with nothing left behind, and the others go on.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
kernel=$(nano) disk=$(nano_disk)
origin=$ORIGIN_HOST/test url=http://$ORIGIN_HOST/v2/test

# setup [LINE] <<SECTIONS: a daemon with a machine `good` that runs, and what is given beside it.
# LINE is one more of what all machines share.
setup() {
	config <<END
on_exit = stop
[network taps]
cidr = 172.16.0.0/16
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
${1-network = taps}
[vm good]
template = nano
[template bad]
template = nano
autostart = no
$(cat)
END
	start_droverd
	vm_wait good running || fail 'the machine beside it does not run'
}

# What a start that failed may leave in state_dir: the machine's state and the logs. Whole blobs
# too: they are right and the next pull has them; but nothing in the making.
errors_skip='^/(events\.jsonl.*|vm/[^/]+(/state\.json(\.synced)?)?|log(/.*)?|registry(/.*)?|oci(/tmp|/(blobs|built|kernels|index|lock)[^/]*(/.*)?)?)$'

# trial WHAT MACHINE REGEX: starting it must fail as the head of this file says.
trial() {
	local what=$1 m=$2 regex=$3 out good sentence
	good=$(vm_pid good)
	AUDIT_SKIP=$errors_skip audit_rest "$W/baseline" --fds "droverd=$DROVERD"
	out=$(drover start "$m" 2>&1)
	is $? 1 "$what: start fails with exit status 1" || diag "$out"
	like "$out" "$regex" "$what: one sentence says why"
	is "$(wc -l <<<"$out")" 1 "$what: and only one"
	is "$(vm "$m" .state)" failed "$what: the machine is failed"
	is "$(vm "$m" .last_cause)" start-failure "$what: because of its start"
	ok "$what: the log has it" grep -qE -- "$regex" "$W/droverd-$starts.log"
	like "$(drover why "$m")" "$regex" "$what: why has it"
	is "$(vm_pid good),$(vm good .state)" "$good,running" "$what: the other machine goes on"
	AUDIT_SKIP=$errors_skip audit_clean "$what" --fds "droverd=$DROVERD"
}

finish() {
	drover stop good >/dev/null || fail 'stop of the machine beside it'
	stop_droverd || fail 'SIGTERM'
	rm -rf "$W/state" && mkdir "$W/state"
}

# --- images ---

# An origin of our own to spoil: an index without our platform, and a layer that was changed.
origin_copy "$W/spoilt"
start_origin "$W/spoilt"
index=application/vnd.oci.image.index.v1+json
curl -s -H "Accept: $index" "$url/guest-image/manifests/1" |
	jq -c '.manifests |= map(select(.platform.architecture == "arm64"))' >"$W/arm.json"
is "$(curl -s -o "$W/answer" -w '%{http_code}' -X PUT -H "Content-Type: $index" --data-binary "@$W/arm.json" \
	"$url/guest-image/manifests/arm")" 201 'an image without our platform is there' ||
	diag "$(<"$W/answer")"
amd=$(curl -s -H "Accept: $index" "$url/guest-image/manifests/1" |
	jq -r '.manifests[] | select(.platform.architecture == "amd64") | .digest')
layer=$(curl -s -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
	"$url/guest-image/manifests/$amd" | jq -r '.layers[1].digest' | cut -d: -f2)
blob=$W/spoilt/docker/registry/v2/blobs/sha256/${layer:0:2}/$layer/data
printf x | dd of="$blob" bs=1 seek=1000 conv=notrunc status=none

setup <<END
[vm no-registry]
template = bad
rootfs = 127.0.0.1:5999/test/guest-image:1
[vm no-image]
template = bad
rootfs = $origin/no-such-image:1
[vm wrong-digest]
template = bad
rootfs = $origin/guest-image:1
[vm no-platform]
template = bad
rootfs = $origin/guest-image:arm
END
trial 'no registry' no-registry '127\.0\.0\.1:5999.*([Cc]onnection refused|connect)'
trial 'no such image' no-image 'no-such-image.*(not found|unknown|404)'
trial 'wrong digest' wrong-digest "(digest.*$layer|$layer.*digest)"
trial 'no platform' no-platform 'linux/amd64'
finish
stop_origin

# --- the disk ---

start_origin
mount -t tmpfs -o size=12M,mode=755 tmpfs "$W/state"
setup <<END
[vm disk-full]
template = bad
rootfs = $origin/guest-image:1
kernel = $origin/guest-kernel:${KERNELS[1]}
END
trial 'disk full' disk-full 'No space left on device'
# Now there is room for the layers, but not for what is made of them.
mount -o remount,size=32M "$W/state"
trial 'disk full later' disk-full 'No space left on device'
drover stop good >/dev/null || fail 'disk full: stop'
ok 'disk full: SIGTERM' stop_droverd
umount "$W/state"
stop_origin
rm -rf "$W/state" && mkdir "$W/state"

# --- the host ---

setup <<END
[vm no-tun]
template = bad
[network used]
cidr = 10.77.0.0/16
[vm no-subnet]
template = bad
network = used
END
mount -t tmpfs tmpfs /dev/net
trial 'no /dev/net/tun' no-tun '/dev/net/tun'
umount /dev/net
ip link add lan type bridge && ip address add 10.77.1.1/16 dev lan && ip link set lan up
trial 'a range that the host uses' no-subnet '10\.77\.0\.0/16.*lan'
ip link delete lan
finish

# The machine beside it must have no dnsmasq: that would share the port with another.
perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "0.0.0.0:67")
	or die; print "up\n"; close(STDOUT); sleep(1000)' >"$W/holder" &
holder=$!
await 10 contains "$W/holder" up
setup '' <<END
[vm no-dhcp]
template = bad
network = taps
END
trial 'port 67 taken' no-dhcp "67.*perl.*$holder"
kill $holder
wait $holder 2>/dev/null
finish

# --- the hypervisor and the guest ---

start_origin
setup <<END
[vm no-qemu]
template = bad
binary = /nowhere/qemu-system-x86_64
[vm no-program]
template = bad
binary = qemu-system-none
[vm bad-argument]
template = bad
qemu_args = -no-such-option
[vm bad-device]
template = bad
qemu_args = -device no-such-device
jail = no
[vm no-kernel]
template = bad
kernel = /nowhere/vmlinux
[vm panics]
template = bad
kernel = $origin/guest-kernel:${KERNELS[1]}
memory = 192M
cmdline = console=ttyS0 panic=-1 rdinit=/nowhere root=/dev/nowhere
reboot = no
END
trial 'no QEMU' no-qemu '/nowhere/qemu-system-x86_64'
trial 'no such program' no-program 'qemu-system-none'
trial 'QEMU refuses an argument' bad-argument 'no-such-option.*invalid option|invalid option.*no-such-option'
trial 'QEMU refuses a device, without a jail' bad-device 'no-such-device'
trial 'no kernel' no-kernel '/nowhere/vmlinux'

# A kernel that panics has started: start succeeds, and then the run ends by itself.
good=$(vm_pid good)
AUDIT_SKIP=$errors_skip audit_rest "$W/baseline" --fds "droverd=$DROVERD"
drover start panics >/dev/null 2>&1
ok 'kernel panic: the machine ends as failed' vm_wait panics failed
is "$(vm panics .last_cause)" guest-panic 'kernel panic: the cause'
like "$(drover why panics)" '[Kk]ernel panic' 'kernel panic: why says so'
ok 'kernel panic: the log has it' grep -q 'panics.*panic' "$W/droverd-$starts.log"
is "$(vm_pid good),$(vm good .state)" "$good,running" 'kernel panic: the other machine goes on'
AUDIT_SKIP=$errors_skip audit_clean 'kernel panic' --fds "droverd=$DROVERD"

# Two machines of one name.
good=$(vm_pid good)
printf '[vm good]\nkernel = %s\n' "$kernel" >>"$W/drover.ini"
n=$(($(wc -l <"$W/drover.ini") - 1))
out=$(drover reload 2>&1)
is $? 1 'two machines of one name: reload fails'
like "$out" "drover\.ini:$n: .*good.*([0-9]+)" 'two machines of one name: where, and where the first is'
out=$(droverd -n -c "$W/drover.ini" 2>&1)
is $? 1 'two machines of one name: droverd -n fails'
like "$out" "drover\.ini:$n: .*good" 'two machines of one name: and says the same'
is "$(vm_pid good)" "$good" 'two machines of one name: the running one goes on'
drover stop good >/dev/null
ok 'SIGTERM' stop_droverd
launch_droverd
wait "$DROVERD"
is $? 1 'two machines of one name: droverd does not start'
like "$(droverd_log)" "drover\.ini:$n: .*good" 'two machines of one name: and says why'
done_testing

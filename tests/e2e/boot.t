#!/usr/bin/env bash
# The main job: from a registry to ssh. Two machines of different kernels and one root filesystem
# image, each with a disk of its own; pause, stop by ACPI, restart.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
ssh-keygen -q -t ed25519 -N '' -C other -f "$W/other"
config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
dns = 1.1.1.1
[key test]
file = $W/key.pub
private = $W/key
[key other]
file = $W/other.pub
private = $W/other
[template linux]
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
[vm first]
template = linux
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[0]}
[vm second]
template = linux
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
[vm fresh]
template = linux
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
disk = run
autostart = no
END
start_origin
baseline
start_droverd

for i in 0 1; do
	m=$([ $i = 0 ] && echo first || echo second)
	ok "$m answers ssh" ssh_wait $m
	is "$(guest $m uname -r)" "${RELEASE[${KERNELS[i]}]}" "$m runs the kernel of its image"
	is "$(guest $m hostname)" $m "$m is called so"
	like "$(guest $m cat /etc/fstab)" '/dev/vda / ext4 ' "$m: its root disk is in fstab"
	ok "$m: by which it can be mounted anew" guest $m mount -o remount /
	like "$(guest $m cat /etc/hosts)" "127\\.0\\.1\\.1 $m" "$m: its name is in hosts"
	ok "$m: the layers were flattened as they should be" guest $m layer-check
	is "$(guest $m ip route | awk '/^default/ { print $3 }')" \
		"$(ip -o -4 address show dev "$(vm $m '.nics[0].tap')" | awk '{ sub("/.*", "", $4); print $4 }')" \
		"$m: its default route is the TAP"
	like "$(guest $m cat /etc/resolv.conf)" 'nameserver 1\.1\.1\.1' "$m: its DNS server is the network's"
	is "$(guest $m cat /sys/class/net/eth0/address)" "$(vm $m .mac)" "$m: its MAC is the one that is shown"
done
like "$(vm first .image)" guest-image 'the image is shown'
is "$(drover ssh first -- uname -r)" "${RELEASE[${KERNELS[0]}]}" 'drover ssh runs a command'
drover ssh first -- exit 7
is $? 7 'and gives its exit status'

# One image, two disks.
built=$(find "$W/state/oci/built" -type f)
sum=$(sha256sum $built)
guest first 'echo mine >/root/mark && sync'
ok 'what one machine writes the other does not see' not guest second test -e /root/mark

# A pause of 5 s: the guest's clock must stand still. What it may advance is the time that it ran.
ms() { echo $(($(date +%s%N) / 1000000)); }
h0=$(ms) t0=$(guest first ticks)
ok 'pause' drover pause first
h1=$(ms)
is "$(vm first .state)" paused 'it is paused'
ok 'the other one is not' guest second true
while [ $(($(ms) - h1)) -lt 5000 ]; do sleep 0.1; done
h2=$(ms)
ok 'resume' drover resume first
t1=$(guest first ticks) h3=$(ms)
ran=$((h1 - h0 + h3 - h2)) advanced=$((t1 - t0))
ok "a counter in the guest advanced by $advanced ms while it ran $ran ms and was paused $((h2 - h1)) ms" \
	[ $advanced -lt $((ran + 200)) ]

# Stop by ACPI, start, restart.
other=$(vm_pid second)
ok 'stop' drover stop first
is "$(vm first .state),$(vm first .last_cause)" stopped,requested 'it stopped because it was asked to'
like "$(drover why first -o json | jq -r .status)" 'status 0' 'and QEMU ended by itself'
ok 'start' drover start first
ok 'it answers ssh again' ssh_wait first
is "$(guest first cat /root/mark)" mine 'its disk was kept'
is "$(vm_pid second)" "$other" 'the other machine was left alone'
pid=$(vm_pid first)
ok 'restart' drover restart first
ok 'it answers ssh once more' ssh_wait first
ok 'in another process' [ "$(vm_pid first)" != "$pid" ]
is "$(guest first cat /root/mark)" mine 'its disk was kept'

# Another key: it is written into the disk that is there.
sed -i 's/^ssh_key = test$/ssh_key = other/' "$W/drover.ini"
is "$(drover plan -o json | jq -c '[.actions[] | select(.name == "first") | .op, .keys]')" \
	'["restart",["ssh_key"]]' 'another key: a restart'
ok 'another key: reload' drover reload
SSH_KEY=$W/other
export SSH_KEY
ok 'another key: ssh' ssh_wait first
is "$(guest first cat /root/mark)" mine 'another key: the disk was kept'
is "$(sha256sum $built)" "$sum" 'what their disks were made of is as it was'
with_old_key() { SSH_KEY=$W/key guest first true; }
ok 'another key: the old one is refused' not with_old_key
ok 'another key: while the new one still works' guest first true
is "$(vm first '.last_cause')" requested 'another key: a restart by us'

# disk = run: made anew at each start after a stop; not by a reboot of the guest.
ok 'disk = run: start' drover start fresh
ok 'disk = run: ssh' ssh_wait fresh
guest fresh 'echo mine >/root/mark && sync'
booted=$(guest fresh cat /proc/sys/kernel/random/boot_id)
guest fresh 'reboot -f >/dev/null 2>&1 &' || true
rebooted() { SSH_LIMIT=10 SSH_CONNECT=2 guest fresh 'cat /proc/sys/kernel/random/boot_id' | grep -vxq "$booted"; }
ok 'disk = run: the guest reboots' wait_for "$patience" rebooted
is "$(guest fresh cat /root/mark)" mine 'disk = run: and its disk stays'
ok 'disk = run: stop' drover stop fresh
ok 'disk = run: start' drover start fresh
ok 'disk = run: ssh' ssh_wait fresh
ok 'disk = run: the disk is new' not guest fresh test -e /root/mark

# Who asked the origin for blobs.
ok 'every blob came through the cache' not grep -E '"GET /v2/[^ ]*/blobs/' <(grep -v '"Go-http-client' "$W/origin.log")
ok 'and none was fetched again for another machine' not grep -qE '^([3-9]|[0-9]{2,}) ' <(fetched)

for m in first second fresh; do drover stop $m >/dev/null || fail "stop $m"; done
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

#!/usr/bin/env bash
# A Linux guest that writes all the time goes to a droverd that shares no disk with this one: what it
# counts in its memory, in a file on its disk (raw) and on a volume (qcow2) agrees there.
. "$(dirname "$0")/migrate-lib.sh"
need_guest
command -v qemu-img >/dev/null || skip_all 'there is no qemu-img (Debian package qemu-utils)'
world
ssh_key
keys="[key test]
file = $W/key.pub
private = $W/key"
boot=$top/build/guest/kernel-${KERNELS[0]}/boot
config "$W/a.ini" <<END
$taps
$keys
[vm web]
kernel = $boot/vmlinux
initrd = $boot/initrd
rootfs = $ORIGIN_HOST/test/guest-image:1
volume = data size=32M format=qcow2
memory = 192M
accel = tcg
network = taps
ssh_key = test
stop_timeout = 5
cmdline = console=ttyS0 root=/dev/vda rw panic=-1 quiet mitigations=off
END
mkdir -p "$W/b"
config_b "$taps
$keys"
start_origin
namespace
baseline
ok 'the other droverd' start_b || bail "$(tail -n 3 "$W/droverd-b.log")"
start_droverd "$W/a.ini"
ok 'it answers ssh' ssh_wait web

# One line of each disk for each count, written out before the next one: none may be missing.
cat >"$W/writes" <<'END'
#!/bin/sh
i=0
while [ ! -e /run/enough ]; do
	i=$((i + 1))
	printf '%08d\n' $i >>/root/lines
	printf '%08d\n' $i | dd of=/dev/vdb bs=9 seek=$i conv=notrunc,fsync 2>/dev/null
	sync
	echo $i >/run/written
done
echo $i >/run/last
END
guest web "cat >/root/writes <<'END'
$(cat "$W/writes")
END"
guest web 'head -c 8000000 /dev/urandom >/root/before; md5sum </root/before >/run/sum; sync'
guest web 'sh /root/writes >/dev/null 2>&1 </dev/null &'
written() { [ "$(guest web cat /run/written)" -gt "$1" ]; }
ok 'it writes' wait_for "$patience" written 5
boot_id=$(guest web cat /proc/sys/kernel/random/boot_id)

ok 'it goes with its disks' drover migrate web --to "unix:$there/api.sock" --copy-disks
ok 'it runs there' at_b vm_is web running
is "$(vm web .last_cause)" migrated 'here it is stopped'
there_guest() { in_b timeout 30 ssh -n -i "$W/key" -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no \
	-o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 -o IdentitiesOnly=yes "root@$address" "$@"; }
address=$(at_b vm web .address)
address=${address%%/*}
ok 'it answers there' wait_for "$patience" there_guest true
is "$(there_guest cat /proc/sys/kernel/random/boot_id)" "$boot_id" 'it is the same boot'
there_guest touch /run/enough
ok 'it has written enough' wait_for "$patience" there_guest test -e /run/last
last=$(there_guest cat /run/last)
diag "it counted to $last"
there_guest 'sync; echo 3 >/proc/sys/vm/drop_caches'
is "$(there_guest wc -l /root/lines | awk '{ print $1 }')" "$last" 'its file has as many lines as it counted'
is "$(there_guest cat /root/lines | awk '$1 != NR { print; exit }')" '' 'each in its place'
is "$(there_guest dd if=/dev/vdb bs=9 skip=1 count="$last" 2>/dev/null | awk '$1 != NR { print; exit }')" '' 'so has the volume'
is "$(there_guest dd if=/dev/vdb bs=9 skip=1 count="$last" 2>/dev/null | wc -l)" "$last" 'all of them'
ok 'what it wrote before is whole' there_guest 'md5sum </root/before | cmp - /run/sum'
is "$(find "$W/b/vm/web" -maxdepth 1 \( -name 'disk*' -o -name 'volume*' \) -printf '%f\n' | sort | xargs)" \
	'disk.raw volume-data.qcow2' 'the disks are there'
ok 'there it is stopped' at_b drover stop web
ok 'its disk is in order' fsck.ext4 -fn "$W/b/vm/web/disk.raw"
ok 'so is its volume' qemu-img check -q -f qcow2 "$W/b/vm/web/volume-data.qcow2"
ok 'it is removed there' at_b drover rm web --disks
ok 'what was left here goes, too' drover rm web --disks
stop_origin
ok 'the other droverd leaves' stop_b
ok 'droverd leaves' stop_droverd
is "$(in_b nft list ruleset)" '' 'no rule is left there'
done_testing

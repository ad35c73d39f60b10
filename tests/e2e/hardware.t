#!/usr/bin/env bash
# A Linux guest sees what the configuration gave it: disks by their serial numbers, nics each with an
# address, the topology of its processors, a folder of the host; and a unified kernel image boots
# under UEFI with its own command line.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
mkdir "$W/shared"
echo from-the-host >"$W/shared/greeting"

# uki OUT: kernel, initrd and command line in one UEFI program, on systemd's stub.
uki() {
	local deb
	for deb in "$top"/build/guest/debs/linux-image-"${RELEASE[${KERNELS[0]}]}"_*; do :; done
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./boot/vmlinuz-${RELEASE[${KERNELS[0]}]}" >"$W/linux" || return 1
	echo 'ID=test' >"$W/osrel"
	printf 'console=ttyS0 panic=-1 quiet mitigations=off root=/dev/vda rw from=uki' >"$W/cmdline"
	objcopy --add-section .osrel="$W/osrel" --change-section-vma .osrel=0x20000 \
		--add-section .cmdline="$W/cmdline" --change-section-vma .cmdline=0x30000 \
		--add-section .linux="$W/linux" --change-section-vma .linux=0x2000000 \
		--add-section .initrd="$top/build/guest/kernel-${KERNELS[0]}/boot/initrd" \
		--change-section-vma .initrd=0x4000000 \
		/usr/lib/systemd/boot/efi/linuxx64.efi.stub "$1"
}
ok 'a unified kernel image is made' uki "$W/guest.efi"
config <<END
[network taps]
cidr = 172.16.0.0/16
[network more]
cidr = 172.17.0.0/24
nat = no
[key test]
file = $W/key.pub
private = $W/key
[template linux]
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
autostart = no
[vm wide]
template = linux
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[0]}
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
vcpus = 2
cores = 2
volume = data size=8M
	log size=9M format=qcow2
network = taps
	more
	taps
share = data $W/shared
balloon = yes
[vm unified]
template = linux
memory = 384M
firmware = uefi
kernel = $W/guest.efi
[vm nofirmware]
template = linux
kernel = $W/guest.efi
END
start_origin
baseline
start_droverd
drover start wide unified --no-wait >/dev/null

ok 'the guest answers ssh' ssh_wait wide
is "$(guest wide 'cd /sys/block; for d in vd*; do echo $d $(cat $d/serial) $(cat $d/size); done' | tail -n +2)" \
	$'vdb data 16384\nvdc log 18432' 'it sees its volumes'
is "$(guest wide 'cd /sys/class/net; cat eth*/address')" "$(vm wide '.nics[].mac')" 'and its nics'
addresses() { guest wide ip -o -4 address show | awk '$2 ~ /^eth/ { sub("/.*", "", $4); print $4 }'; }
has_addresses() { [ "$(addresses)" = "$(vm wide '.nics[].addresses[]')" ]; }
ok 'each with the address that is shown' wait_for "$patience" has_addresses
last=$(vm wide '.nics[2].addresses[0]')
ok 'and reachable at the last of them' wait_for "$patience" guest_at "$last" true
is "$(guest wide 'cat /sys/devices/system/cpu/cpu1/topology/core_siblings_list /sys/devices/system/cpu/cpu1/topology/thread_siblings_list')" \
	$'0-1\n1' 'two cores of one socket'
is "$(guest wide 'mkdir -p /mnt/s && mount -t virtiofs data /mnt/s && cat /mnt/s/greeting && echo from-the-guest >/mnt/s/answer')" \
	from-the-host "it reads the host's folder"
is "$(cat "$W/shared/answer")" from-the-guest 'and writes into it'
guest wide 'printf written >/dev/vdb; sync'
ok 'stop' drover stop wide
is "$(head -c 7 "$W/state/vm/wide/volume-data.raw")" written 'what it wrote is in the volume'

ok 'a unified kernel image boots under UEFI' ssh_wait unified
like "$(guest unified cat /proc/cmdline)" 'from=uki$' 'with its own command line'
ok 'in UEFI mode' guest unified test -d /sys/firmware/efi
like "$(drover start nofirmware 2>&1)" 'unified kernel image, which only firmware = uefi boots' \
	'without UEFI it is refused'
ok 'stop' drover stop unified
ok 'stop droverd' stop_droverd
audit_clean 'hardware'
done_testing

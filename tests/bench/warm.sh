# shellcheck shell=bash
# A part of tests/bench/run: from the request to an SSH server that answers, of a machine that boots
# and of one that begins with a warm template's memory.
need_guest_list
progress "boot and warm start to ssh, $((rounds / 2 + 1)) rounds"
rm -rf "$W/state" && mkdir "$W/state"
boot=$top/build/guest/kernel-${KERNELS[0]}/boot
mke2fs -q -F -t ext4 -d "$top/build/guest/rootfs" "$W/guest.raw" 96M >&2
config <<END
[network taps]
cidr = 172.16.0.0/16
[template linux]
kernel = $boot/vmlinux
initrd = $boot/initrd
rootfs = $W/guest.raw
memory = 128M
accel = tcg
network = taps
agent = yes
autostart = no
stop_timeout = 0
cmdline = console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off cryptomgr.notests edd=off no_timer_check nokaslr 8250.nr_uarts=1
[vm boots]
template = linux
ephemeral = yes
[vm base]
template = linux
warm = yes
health = console:^GUEST-READY
[vm begins]
from = base
ephemeral = yes
autostart = no
END
start_droverd
frozen() { vm_is base stopped && [ "$(vm base .warm.good)" = true ]; }
drover start base >/dev/null && wait_for "$patience" frozen || bail 'the template is not frozen'
speaks() { # its server's first line
	timeout 0.3 bash -c "exec 3<>/dev/tcp/$1/22 && read -r line <&3 && [[ \$line == SSH-2* ]]" 2>/dev/null
}
to_ssh() { # to_ssh NAME FILE
	local address t0
	t0=$(date +%s%N)
	api POST "/vms/$1/start" >/dev/null
	until address=$(vm "$1" .address) && [ "$address" != null ] && speaks "$address"; do
		[ $(($(date +%s%N) - t0)) -lt 120000000000 ] || bail "$1 does not answer"
	done
	awk -v t0="$t0" -v t1="$(date +%s%N)" 'BEGIN { printf "%.1f\n", (t1 - t0) / 1e6 }' | sample "$2"
	wait_for "$patience" at_rest "$1"
	drover kill "$1" >/dev/null
}
at_rest() { [ "$(vm "$1" .operation)" = null ]; }
for i in $(seq $((rounds / 2 + 1))); do
	to_ssh boots boot-ssh.drover
	to_ssh begins warm-ssh.drover
done
cp "$W/boot-ssh.drover" "$W/warm-ssh.floor"
[ "$(vm begins '.conditions | length')" = 0 ] || bail 'it was no warm start'
stop_droverd || bail 'droverd does not end'

row boot-ssh ms none 0 "$((rounds / 2 + 1))" 'start request -> ssh answers: a boot'
row warm-ssh ms times 0.5 "$((rounds / 2 + 1))" 'the same of a warm start; floor: the boot'

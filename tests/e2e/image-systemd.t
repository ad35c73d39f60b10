#!/usr/bin/env bash
# A container's filesystem with systemd, which has neither fstab nor hosts nor a name nor a network,
# boots as a machine: what drover writes into its disk takes effect.
. "$(dirname "$0")/image-lib.sh"
if [ "${DROVER_WORLD-}" != inside ]; then
	"$top/contrib/guest/build-systemd" >&2 || bail 'the guest cannot be built'
fi
need_guest
world

baseline
registry origin 5001
push "$top/build/guest/oci/kernel-${KERNELS[0]}" http://127.0.0.1:5001/test/kernel:1
push "$top/build/guest-systemd/oci" http://127.0.0.1:5001/test/systemd:1
config <<END
on_exit = stop
[registry cache]
upstream = http://127.0.0.1:5001
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[vm one]
kernel = 127.0.0.1:5001/test/kernel:1
rootfs = 127.0.0.1:5001/test/systemd:1
memory = 384M
network = taps
autostart = no
cmdline = console=ttyS0 ro panic=-1 quiet mitigations=off cryptomgr.notests systemd.show_status=no
END
start_droverd

# said NAME KEY: what it said of itself.
said() { drover log "$1" 2>/dev/null | tr -d '\r' | sed -n "s/^.*REPORT $2=//p" | tail -n 1; }
ok 'it starts' drover start one
ok 'systemd comes up' wait_for "$patience" console_has one REPORT-END
ok 'and goes down by itself' wait_for "$patience" vm_is one stopped
is "$(said one hostname)" one 'it has its name'
is "$(said one hosts)" '127.0.1.1 one' 'by which it finds itself'
is "$(said one localhost)" 127.0.0.1 'as by localhost'
like "$(said one machine-id)" '^[0-9a-f]{32}$' 'it has a machine-id'
ok 'which is not the one that all machines of its image would have' \
	test "$(said one machine-id)" != 0123456789abcdef0123456789abcdef
is "$(said one root-from)" /etc/fstab 'its root is mounted by fstab'
is "$(said one remount)" active 'which systemd has done'
like "$(said one root)" '^/dev/vda ext4 rw' 'so that it is writable, though the kernel mounted it read-only'
is "$(said one network)" /etc/systemd/network/80-drover.network 'networkd has its network from the file'
like "$(said one address)" '^172\.16\.[0-9.]+$' 'and the address that it is given'
is "$(said one failed)" '' 'no unit failed'
ok 'SIGTERM' stop_droverd
unregistry origin
audit_clean 'at the end'
done_testing

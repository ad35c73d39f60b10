#!/usr/bin/env bash
# drover in a machine of drover's: an emulated processor with SVM has a /dev/kvm that is of use, and
# the guest's kernel has what this host may lack, all controllers of cgroup v2 and 802.1Q. The tests
# are those of nested/inside; what they print comes out by the console and is told again here.
. "$(dirname "$0")/lib.sh"
if [ "${DROVER_WORLD-}" != inside ]; then
	[ "$(id -u)" = 0 ] || skip_all 'needs root for its namespaces'
	"$top/contrib/guest/build-guest" >&2 || bail 'the guest cannot be built'
fi
world_for droverd drover drover-jail drover-image
need_guest_list
kernel=$(nano)
guest=$top/build/guest tag=${KERNELS[1]}
ok 'a disk with drover on it' "$here/nested/build" "$W/nested.raw" "$guest" "$tag" || done_testing
config <<END
console_max = 4M
[vm plain]
kernel = $kernel
memory = 16M
[vm host]
kernel = $guest/kernel-$tag/boot/vmlinux
initrd = $guest/kernel-$tag/boot/initrd
rootfs = $W/nested.raw
cmdline = console=ttyS0 panic=-1 quiet mitigations=off cryptomgr.notests edd=off tsc=reliable no_timer_check nokaslr
accel = tcg
cpu = EPYC,+svm
vcpus = 2
memory = 2G
reboot = no
END
baseline
start_droverd

ok 'a machine here' vm_wait plain running
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
	like "$(vm plain .accel)" ^kvm 'accel = auto takes what this host has'
else
	like "$(vm plain .accel)" ^tcg 'accel = auto emulates'
fi
drover kill plain >/dev/null

ok 'a machine with SVM' vm_wait host running
exec 3< <(timeout $((patience * 5)) drover log --follow host 2>&1)
told=0 plan='' end=''
while IFS= read -r line <&3; do
	line=${line%%$'\r'*}
	case $line in
	'inside> ok '*' # SKIP '*)
		line=${line#* - } told=$((told + 1))
		skip "inside: ${line% # SKIP *}" "${line##* # SKIP }"
		;;
	'inside> ok '*)
		pass "inside: ${line#* - }"
		told=$((told + 1))
		;;
	'inside> not ok '*)
		fail "inside: ${line#* - }"
		told=$((told + 1))
		;;
	'inside> 1..'*) plan=${line#*..} ;;
	'inside> END') end=yes ;;
	*'Kernel panic'* | *BUG:* | *Oops* | *'Call Trace'* | *RIP:*) diag "$line" ;;
	*) diag "${line#inside> }" ;;
	esac
done
exec 3<&-
is "$told tests, ended: $end" "$plan tests, ended: yes" 'inside everything was tested'
ok 'the machine powers itself off' vm_wait host stopped
is "$(vm host .last_cause)" guest-shutdown 'as a guest does'
ok 'the end' stop_droverd
audit_clean 'afterwards'
done_testing

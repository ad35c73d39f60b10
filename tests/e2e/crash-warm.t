#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point at which a machine begins with a warm template's
# memory: in the end it runs and is itself, once, or it boots and says why.
. "$(dirname "$0")/lib.sh"
need_guest
. "$(dirname "$0")/crash.sh"
codes=ENOSPC
boot=$top/build/guest/kernel-${KERNELS[0]}/boot
mke2fs -q -t ext4 -d "$top/build/guest/rootfs" "$W/guest.raw" 96M >&2
forget() {
	rm -rf "$W/state/vm/m" "$W/state/log" "$W/state"/events.jsonl* /run/drover
}
crash_config() {
	config <<-END
	cgroup_root = $cgroups
	[network taps]
	cidr = 172.16.0.0/16
	[vm base]
	warm = yes
	kernel = $boot/vmlinux
	initrd = $boot/initrd
	rootfs = $W/guest.raw
	memory = 128M
	accel = tcg
	network = taps
	agent = yes
	health = console:^GUEST-READY
	cmdline = console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off
	stop_timeout = 1
	autostart = no
	[vm m]
	from = base
	autostart = no
	END
}
crash_config
# The template is frozen once for all rounds.
launch ''
wait_for "$patience" up
api POST '/vms/base/start?wait=60' >/dev/null
frozen() { vm_is base stopped && [ "$(vm base .warm.good)" = true ]; }
ok 'the template is frozen' wait_for "$patience" frozen
image=$(vm base .warm.image)
api POST '/vms/m/start' >/dev/null
itself() { vm_is m running && [ "$(vm m .operation)" = null ] && [ "$(vm m .warm.image)" = null ] && events_tell; }
events_tell() { [ "$(jq -s '[.[] | select(.name == "m" and .event == "identity")] | length' "$W/state/events.jsonl")" -ge 1 ]; }
ok 'a machine begins with it' wait_for "$patience" itself
api POST '/vms/m/kill?wait=60' >/dev/null
stop_droverd
forget

round_warm() {
	launch "$1=kill"
	wait_for "$patience" up
	api POST /vms/m/start >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up || { fail "$1 killed: the next droverd comes up"; return; }
	if ! wait_for "$patience" itself; then
		fail "$1 killed: it runs, and is itself" "$(api GET /vms/m) $(api GET /vms/m/why)"
	elif [ "$(hypervisors)" != 1 ]; then
		fail "$1 killed: with one hypervisor" "$(pgrep -af qemu-system)"
	elif [ "$(vm base .warm.image)" != "$image" ]; then
		fail "$1 killed: the image is the same" "$(api GET /vms/base)"
	else
		api POST '/vms/m/kill?wait=60' >/dev/null
		clean_up "$1 killed"
	fi
}

booted() { vm_is m running && vm m '.conditions | join(" ")' | grep -q cold-start; }

round_warm_fail() {
	launch "$1=$2"
	wait_for "$patience" up
	api POST '/vms/m/start?wait=60' >/dev/null
	if ! wait_for "$patience" booted || ! reached "$1=$2" || ! says injected vm m .warm.reason; then
		fail "$1 $2: it boots, and says why" "$(api GET /vms/m) $(api GET /vms/m/why)"
	elif [ "$(vm m .warm.image)" != null ]; then
		fail "$1 $2: from its own disk" "$(api GET /vms/m)"
	else
		api POST '/vms/m/kill?wait=60' >/dev/null
		clean_up "$1 $2"
	fi
}

crash_matrix warm

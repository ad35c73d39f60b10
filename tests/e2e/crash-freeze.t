#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point at which a warm template is frozen: it goes on or
# it has ended, what is there is whole, and it can be frozen.
. "$(dirname "$0")/crash.sh"
codes=ENOSPC
unfinished() { find "$W/state/warm" "$W/state/vm" \( -name '*.tmp' -o -name warming \) 2>/dev/null | grep .; }
forget() { rm -rf "$W/state/vm" "$W/state/log" "$W/state/warm" "$W/state"/events.jsonl* /run/drover; }
frozen() { vm_is m stopped && [ "$(vm m .warm.good)" = true ]; }

# At rest, with an image or without one that could be taken for one; then it is frozen.
can_be_frozen() {
	if ! wait_for 15 not unfinished; then
		fail "$1: nothing unfinished" "$(unfinished)"
	elif [ "$(vm m .warm.image)" != null ] && ! frozen; then
		fail "$1: the image is whole" "$(api GET /vms/m)"
	elif [ "$(vm m .warm.image)" = null ] && { api POST '/vms/m/start?wait=60' >/dev/null; ! wait_for "$patience" frozen; }; then
		fail "$1: it can be frozen" "$(api GET /vms/m)"
	elif [ "$(hypervisors)" != 0 ]; then
		fail "$1: nothing runs" "$(pgrep -af qemu-system)"
	else
		clean_up "$1"
	fi
}

round_freeze() {
	launch "$1=kill"
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up || { fail "$1 killed: the next droverd comes up"; return; }
	vm_wait m stopped || { fail "$1 killed: its run ends" "$(api GET /vms/m/why)"; return; }
	can_be_frozen "$1 killed"
}

told_of() { vm_is m running && [ "$(vm m .operation)" = null ] && says injected vm m .warm.reason; }

round_freeze_fail() {
	launch "$1=$2"
	wait_for "$patience" up
	if ! wait_for "$patience" told_of || ! reached "$1=$2" || [ "$(vm m .warm.image)" != null ]; then
		fail "$1 $2: it runs on, and says why" "$(api GET /vms/m)"
		return
	fi
	api POST '/vms/m/stop?wait=60' >/dev/null
	can_be_frozen "$1 $2"
}

crash_matrix freeze

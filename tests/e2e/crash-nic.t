#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of adding a nic to a running machine and of
# removing one again (crash.sh): the nic is there whole or not at all, and the machine never stops.
. "$(dirname "$0")/crash.sh"

nic_ids() { vm m '[.nics[] | .name + (if .added then "+" else "" end)] | join(" ")'; }
nics_are() { [ "$(nic_ids)" = "$1" ]; }
added_tap() { vm m '.nics[1].tap'; }
whole() { [ "$(ip -o link show type tun | wc -l)" = "$1" ] && [ "$(pgrep -c dnsmasq)" = "$1" ]; }

nic_begin() { # nic_begin POINT FAULT: a machine at the point of its adding or removing
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	wait_for "$patience" grep -q NANO-READY "$W/state/log/m/1.log"
	case $1 in
	nic/unplug | nic/release | nic/removed)
		drover nic add m --network taps >/dev/null 2>&1
		# A guest without a driver lets go when it is reset.
		drover nic remove m nic1 >"$W/output" 2>&1 &
		wait_for "$patience" nic_over "$1" &&
			drover qmp --write m system_reset >/dev/null 2>&1
		wait $!
		;;
	*) drover nic add m --network taps >"$W/output" 2>&1 ;;
	esac
}
nic_over() { reached "$1" || jq -r '.nics[1].stage' "$W/state/vm/m/state.json" | grep -q removing; }

# What is there after it: whichever it is, the next add and the next daemon work with it.
nic_settle() { # nic_settle NAME
	local n
	wait_for "$patience" nics_settled || { fail "$1: comes to rest" "$(api GET /vms/m)"; return; }
	n=$(vm m '.nics | length')
	if ! adopted_as "$pid"; then
		fail "$1: the machine runs on" "$(api GET /vms/m)"
	elif ! wait_for 30 whole "$n"; then
		fail "$1: $n nics, each whole" "$(ip -br link) $(pgrep -a dnsmasq)"
	elif ! drover nic add m --network taps >"$W/output" 2>&1 || ! wait_for 30 whole $((n + 1)); then
		fail "$1: another one can be added" "$(cat "$W/output")"
	else
		clean_up "$1"
	fi
}
# A guest that was asked to let go by a daemon that is no more does so at its next reset.
nics_settled() {
	drover qmp --write m system_reset >/dev/null 2>&1
	! jq -r '.nics[].stage' "$W/state/vm/m/state.json" | grep -qE 'adding|removing'
}

round_nic() {
	nic_begin "$1" kill
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up && vm_wait m running || { fail "$1 killed: adopted"; return; }
	nic_settle "$1 killed"
}

round_nic_fail() {
	nic_begin "$1" "$2"
	if ! reached "$1=$2" || ! grep -q injected "$W/output"; then
		fail "$1 $2: says why" "$(cat "$W/output")"
		return
	fi
	nic_settle "$1 $2"
}

codes="ENOSPC EPERM"
crash_matrix nic

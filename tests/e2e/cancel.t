#!/usr/bin/env bash
# A start is cancelled at every one of its steps, while that step is under way; a restart too. The
# steps come from the program's own tables, as in the crash matrix (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_config 16M
baseline

op() { api GET "/operations/$1" | jq -r .state; }
op_is() { [ "$(op "$1")" = "$2" ]; }
ends() { jq -r 'select(.event == "ended") | .cause' "$W/state/events.jsonl" | paste -sd' '; }
no_links() { [ -z "$(ip -o link show type tun)" ]; }

# What is left of the machine while droverd runs on: its files, and nothing else.
nothing_held() {
	[ "$(hypervisors)" = 0 ] && no_links && ! pgrep dnsmasq >/dev/null &&
		! compgen -G '/run/drover/vm/m/*' >/dev/null &&
		! compgen -G "$W/state/vm/m/*.part" >/dev/null && [ ! -e "$W/state/vm/m/inject.json" ] &&
		! nft list table inet drover 2>/dev/null | grep -q '"tap'
}

# cancelled NAME ID: the operation ends so, and the machine is as if it had never been started.
cancelled() {
	api POST "/operations/$2/cancel?wait=60" >"$W/cancel"
	if [ "$(jq -r .state "$W/cancel")" != cancelled ]; then
		fail "$1: the operation ends as cancelled" "$(cat "$W/cancel")"$'\n'"$(api GET /vms/m)"
	elif ! vm_is m stopped || [ "$(vm m '[.wanted, .operation] | tojson')" != '["stopped",null]' ]; then
		fail "$1: it is stopped and stays so" "$(api GET /vms/m)"
	elif [ "$(ends | tr ' ' '\n' | tail -n 1)" != requested ]; then
		fail "$1: its run ended as requested" "$(ends)"
	elif ! wait_for 15 nothing_held; then
		fail "$1: nothing is held" "$(find /run/drover "$W/state/vm"; pgrep -af 'qemu|dnsmasq'; ip link)"
	else
		return 0
	fi
	return 1
}

# Afterwards it can be started, and everything goes.
usable() {
	api POST '/vms/m/start?wait=60' >"$W/start"
	if vm_is m running && [ "$(hypervisors)" = 1 ] && wait_for "$patience" console_has m NANO-READY; then
		clean_up "$1"
	else
		fail "$1: can be started afterwards" "$(cat "$W/start")"$'\n'"$(api GET /vms/m)"
	fi
}

machine_op() { vm m .operation.id; }
busy() { [ "$(machine_op)" != null ]; }

round_cancel() { # round_cancel TABLE/POINT
	launch "$1=stall"
	wait_for "$patience" reached "$1=stall" || { fail "$1: was not reached"; return; }
	wait_for "$patience" busy || { fail "$1: is under way" "$(api GET /vms/m)"; return; }
	cancelled "$1" "$(machine_op)" && usable "$1 cancelled"
}

for table in start attach; do
	n=0
	while read -r _ point _; do
		reset_world
		n=$((n + 1))
		round_cancel "$table/$point"
	done < <("$W/bin/faulty" --fault-points | grep "^$table ")
	diag "$table: $n points"
	[ $n -gt 0 ] || fail "$table: has no points"
done
done_testing

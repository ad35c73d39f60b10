#!/usr/bin/env bash
# A start is cancelled at every one of its steps, while that step is under way; a restart too. The
# steps come from the program's own tables, as in the crash matrix (crash.sh).
. "$(dirname "$0")/crash.sh"
# Programs that can be made to hang: what they do is under way then.
mkdir "$W/libexec"
for p in drover-image drover-jail; do
	spoils=''
	[ $p = drover-jail ] || spoils="touch $W/state/vm/m/disk.raw.part;"
	cat >"$W/libexec/$p" <<-END
	#!/bin/sh
	[ ! -e "$W/hold-$p" ] || { touch "$W/held-$p"; $spoils exec sleep 100000; }
	exec "$B/$p" "\$@"
	END
	chmod +x "$W/libexec/$p"
done
export DROVER_LIBEXEC=$W/libexec
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

# What a step has begun in another process ends with it.
round_held() { # round_held PROGRAM STEP
	reset_world
	rm -f "$W"/hold-*
	touch "$W/hold-$1"
	launch ''
	wait_for "$patience" test -e "$W/held-$1" || { fail "$1 hangs" "$(api GET /vms/m)"; return; }
	is "$(vm m .operation.step)" "$2" "$1 hangs at $2"
	cancelled "$1 hangs" "$(machine_op)" || return
	ok "$1 is gone" wait_for 15 not pgrep -f 'sleep 100000'
	rm "$W/hold-$1"
	[ "$1" = drover-jail ] || is "$(api GET /vms | jq -c '.[].operation')" null 'list: nothing is under way'
	usable "$1 hangs, cancelled"
}
round_held drover-image disk
round_held drover-jail 'starting the hypervisor'

# A restart, while it stops the machine: it becomes a stop.
hang() { printf c | socat -u - "UNIX-CONNECT:$(vm m .console)"; wait_for "$patience" console_has m NANO-HANG; }
at_power_button() { [ "$(vm m .operation.step)" = 'ACPI power button' ]; }
stop_timeout=15
reset_world
launch ''
await "$patience" vm_is m running
await "$patience" console_has m NANO-READY
ok 'a guest that hangs' hang
out=$(drover cancel m 2>&1)
is $? 4 'cancel when nothing is under way: exit status 4'
is "$out" 'drover: vm m: nothing is being done to it that could be cancelled' 'and says so'
ok 'restart' drover restart --no-wait m
await "$patience" at_power_button
like "$(drover list)" 'm +stopping .* restart, at ACPI power button' 'list names what is under way'
like "$(drover show m)" 'operation: +restart, at ACPI power button' 'show too'
id=$(machine_op)
out=$(drover cancel m)
is "$?$out" '0m: restart cancelled' 'drover cancel'
is "$(vm m '[.state, .wanted, .last_cause] | join(" ")')" 'stopped stopped requested' 'it is stopped'
is "$(op "$id")" cancelled 'the operation was cancelled'
is "$(vm m .boot)" 1 'and it was not started again'
out=$(drover cancel --id "$id" 2>&1)
is $? 4 'an operation that has ended cannot be cancelled: exit status 4'
is "$out" "drover: operation $id has ended" 'and says so'
ok 'nothing is held' wait_for 15 nothing_held
usable 'a restart cancelled while it stops'

# While it starts: as a start.
stop_timeout=1
reset_world
rm -f "$W"/hold-* "$W"/held-*
launch ''
await "$patience" vm_is m running
await "$patience" console_has m NANO-READY
touch "$W/hold-drover-jail"
ok 'restart' drover restart --no-wait m
await "$patience" test -e "$W/held-drover-jail"
cancelled 'a restart cancelled while it starts' "$(machine_op)" && rm "$W/hold-drover-jail" &&
	usable 'a restart cancelled while it starts'

# A stop is not to be had back.
stop_timeout=15
reset_world
launch ''
await "$patience" vm_is m running
await "$patience" console_has m NANO-READY
ok 'a guest that hangs' hang
ok 'stop' drover stop --no-wait m
await "$patience" at_power_button
out=$(drover cancel m 2>&1)
is $? 1 'a stop cannot be cancelled: exit status 1'
is "$out" 'drover: stop cannot be cancelled' 'and says so'
ok 'kill' drover kill m
usable 'a stop that was not cancelled'
done_testing

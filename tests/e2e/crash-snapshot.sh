# shellcheck shell=bash
# The crash matrix's rounds of snapshot, suspend and restore: whatever is killed or fails, the machine
# is as it was or as it was to become, its memory and its disk of the same moment, and nothing
# unfinished lies about.
. "$(dirname "$0")/crash.sh"
# Their steps fail in one place: which error it is makes no difference there.
codes=ENOSPC

# The guest counts in its memory; its disk is written to from here, where it does not look.
count() { # count NUMBER
	wait_for "$patience" grep -qsr -e NANO-READY -e NANO-COUNT "$W/state/log/m" || return 1
	printf N | timeout 20 socat -u - "UNIX-CONNECT:/run/drover/vm/m/console.sock" >/dev/null
	wait_for "$patience" console_has m "NANO-COUNT $1"
}
mark() { printf '%s' "$1" | dd of="$W/state/vm/m/disk.raw" bs=1 seek=3000000 conv=notrunc status=none; }
marked() { [ "$(dd if="$W/state/vm/m/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ]; }
unfinished() {
	find "$W/state/vm/m" \( -name '*.tmp' -o -name '*.restore' -o -name '*.before' \) |
		grep -v state.json | grep .
}
tidy() { wait_for 15 not unfinished; }
snapshots() { api GET /vms/m/snapshots | jq -r '[.[].name] | join(" ")'; }
snapshot() { api POST "/vms/m/snapshots?wait=60" -d "{\"name\":\"$1\"}"; }

# at_count FAULT: a machine that runs and has counted to one, its disk says so; its pid in PID.
at_count() {
	launch "$1"
	wait_for "$patience" vm_is m running
	count 0001 || return 1
	mark one
	PID=$(vm_pid m)
}

# as_before NAME COUNT MARK: it runs, with the process that it had, and goes on from there.
as_before() {
	if ! wait_for "$patience" adopted_as "$PID"; then
		fail "$1: runs on with its process" "$(api GET /vms/m)"
	elif ! count "$2" || ! marked "$3"; then
		fail "$1: memory and disk are as before" "$(cat "$W"/state/log/m/*.log)"
	elif ! tidy; then
		fail "$1: nothing unfinished" "$(unfinished)"
	else
		return 0
	fi
	return 1
}

next_daemon() {
	launch ''
	wait_for "$patience" up || { fail "$1: the next droverd comes up"; return 1; }
}

round_snapshot() {
	at_count "$1=kill"
	snapshot one >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" && next_daemon "$1 killed" || return
	as_before "$1 killed" 0002 one || return
	is_whole "$1 killed" && clean_up "$1 killed"
}

# A snapshot that is there is whole; if there is none, one can be made.
is_whole() {
	[ "$(snapshots)" = one ] || snapshot one >/dev/null
	if [ "$(snapshots)" != one ] || ! api POST '/vms/m/snapshots/one/restore?wait=60' | jq -e '.state == "done"' >/dev/null; then
		fail "$1: a snapshot can be made and restored" "$(api GET /vms/m)"
		return 1
	fi
}

round_snapshot_fail() {
	local answer
	at_count "$1=$2"
	answer=$(snapshot one)
	if ! says injected echo "$answer" || ! reached "$1=$2" || [ "$(snapshots)" != '' ]; then
		fail "$1 $2: says why, and there is no snapshot" "$answer $(snapshots)"
		return
	fi
	as_before "$1 $2" 0002 one && is_whole "$1 $2" && clean_up "$1 $2"
}

round_suspend() {
	at_count "$1=kill"
	api POST '/vms/m/suspend' >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" && next_daemon "$1 killed" || return
	wait_for 30 settled
	if vm_is m running; then
		as_before "$1 killed" 0002 one && clean_up "$1 killed"
		return
	fi
	comes_back "$1 killed" && clean_up "$1 killed"
}

settled() { vm_is m suspended || vm_is m running; }

# It is suspended, no hypervisor runs, and it goes on from there.
comes_back() {
	if ! vm_is m suspended || [ "$(hypervisors)" != 0 ]; then
		fail "$1: running or suspended" "$(api GET /vms/m)"
	elif ! api POST '/vms/m/resume?wait=60' >/dev/null || ! vm_wait m running ||
		! count 0002 || ! marked one || ! tidy; then
		fail "$1: goes on where it was" "$(api GET /vms/m) $(unfinished)"
	else
		return 0
	fi
	return 1
}

round_suspend_fail() {
	local answer
	at_count "$1=$2"
	answer=$(api POST '/vms/m/suspend?wait=60')
	if ! says injected echo "$answer" || ! reached "$1=$2"; then
		fail "$1 $2: says why" "$answer"
		return
	fi
	as_before "$1 $2" 0002 one || return
	api POST '/vms/m/suspend?wait=60' >/dev/null
	api POST '/vms/m/resume?wait=60' >/dev/null
	if count 0003; then
		clean_up "$1 $2"
	else
		fail "$1 $2: can be suspended when it works again" "$(api GET /vms/m)"
	fi
}

# to_restore FAULT: one snapshot, after which the guest has counted on and its disk was changed.
to_restore() {
	at_count "$1"
	snapshot one >/dev/null
	count 0002
	mark two
}

round_restore() {
	to_restore "$1=kill"
	api POST '/vms/m/snapshots/one/restore' >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" && next_daemon "$1 killed" || return
	wait_for "$patience" vm_is m running
	if marked two; then
		as_before "$1 killed" 0003 two && clean_up "$1 killed"
	elif [ "$(hypervisors)" != 1 ] || ! marked one || ! count 0002 || ! tidy; then
		fail "$1 killed: all is old or all is restored" "$(api GET /vms/m) $(unfinished)"
	else
		clean_up "$1 killed"
	fi
}

round_restore_fail() {
	local answer
	to_restore "$1=$2"
	answer=$(api POST '/vms/m/snapshots/one/restore?wait=60')
	if ! says injected echo "$answer" || ! reached "$1=$2"; then
		fail "$1 $2: says why" "$answer"
		return
	fi
	as_before "$1 $2" 0003 two && is_whole "$1 $2" && clean_up "$1 $2"
}

# ---- the hypervisor is killed there ----

cat >"$W/bin/kill-hypervisor" <<'END'
#!/bin/sh
pid=$(pgrep -f '^[^ ]*qemu-system-[^ ]* .*guest=m,') || exit 0
kill -9 $pid
while [ -d /proc/$pid ] && ! grep -q '^State:.[ZX]' /proc/$pid/status 2>/dev/null; do sleep 0.01; done
END
chmod +x "$W/bin/kill-hypervisor"
export DROVER_FAULT_RUN=$W/bin/kill-hypervisor

ended() { [ -n "$(vm m 'select(.operation == null and .pid == null and (.state == "failed" or .state == "suspended")) | .state')" ]; }

# starts_again NAME MARK: it boots, from the disk that it has, and what was to be done can be done.
starts_again() {
	if ! wait_for "$patience" ended || ! tidy || ! marked "$2"; then
		fail "$1: has ended, its disk is $2, nothing is unfinished" "$(api GET /vms/m) $(unfinished)"
		return 1
	fi
	[ "$(vm m .state)" = suspended ] && { comes_back "$1"; return; }
	if [ -e "$W/state/vm/m/suspend" ]; then
		fail "$1: is not suspended" "$(api GET /vms/m)"
		return 1
	fi
	rm -f "$W"/state/log/m/*
	api POST '/vms/m/start?wait=60' >/dev/null
	vm_wait m running && count 0001 && return
	fail "$1: starts again" "$(api GET /vms/m)"
	return 1
}

round_snapshot_hv() {
	at_count "$1=run"
	snapshot one >"$W/output"
	wait_for "$patience" reached "$1=run" || { fail "$1 hypervisor killed: was not reached"; return; }
	starts_again "$1 hypervisor killed" one && is_whole "$1 hypervisor killed" &&
		clean_up "$1 hypervisor killed"
}

round_suspend_hv() {
	at_count "$1=run"
	api POST '/vms/m/suspend?wait=60' >"$W/output"
	wait_for "$patience" reached "$1=run" || { fail "$1 hypervisor killed: was not reached"; return; }
	starts_again "$1 hypervisor killed" one && clean_up "$1 hypervisor killed"
}

round_restore_hv() {
	to_restore "$1=run"
	api POST '/vms/m/snapshots/one/restore?wait=60' >"$W/output"
	wait_for "$patience" reached "$1=run" || { fail "$1 hypervisor killed: was not reached"; return; }
	if vm_is m running; then
		count 0002 && marked one && tidy && clean_up "$1 hypervisor killed" ||
			fail "$1 hypervisor killed: all is restored" "$(api GET /vms/m)"
		return
	fi
	# The new run may be the one that was killed: then its disk is the restored one.
	starts_again "$1 hypervisor killed" "$([ "$1" = restore/loaded ] && echo one || echo two)" &&
		clean_up "$1 hypervisor killed"
}

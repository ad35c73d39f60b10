#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of a copy: the new machine is whole, or its disks
# are there as those of a removed one, or there is nothing of it; and it can be made.
. "$(dirname "$0")/crash.sh"
codes=ENOSPC
[ -z "${overlay-}" ] || disk=file:$disk$'\nclone = overlay' # crash-clone-overlay.t
mark() { # as the guest would
	local disk=$W/state/vm/$1/disk
	if [ -e "$disk.qcow2" ]; then
		qemu-io -f qcow2 -c 'write -q -P 0x6f 3000000 3' "$disk.qcow2"
	else
		printf ooo | dd of="$disk.raw" bs=1 seek=3000000 conv=notrunc status=none
	fi
}
marked() {
	{ [ -z "${overlay-}" ] || [ -e "$W/state/vm/$1/disk.qcow2" ]; } &&
		[ "$(dd if="$(disk_of "$1")" bs=1 skip=3000000 count=3 status=none)" = ooo ]
}
unfinished() { find "$W/state/vm" -name '*.tmp' | grep -v state.json | grep .; }
clone() { api POST '/vms/m/clone?wait=60' -d '{"name":"two"}'; }
machines() { api GET '/vms?all=1' | jq -r '[.[].name] | join(" ")'; }
remove() { api DELETE '/vms/two?disks=1&wait=60' | grep -q '"done"'; }

# A machine that is stopped, with a disk that tells it.
with_disk() {
	launch "$1"
	wait_for "$patience" vm_is m running
	api POST '/vms/m/stop?wait=60' >/dev/null
	mark m
}

# It can be made now, and starts from its copy.
can_be_made() {
	local answer
	answer=$(clone)
	if ! grep -q '"done"' <<<"$answer" || ! marked two; then
		fail "$1: it can be made" "$answer"
	elif ! api POST '/vms/two/start?wait=60' | grep -q '"done"' || ! marked two; then
		fail "$1: and started" "$(api GET /vms/two)"
	elif ! api POST '/vms/two/kill?wait=60' | grep -q '"done"' || ! remove; then
		fail "$1: and removed" "$(api GET /vms/two)"
	else
		return 0
	fi
	return 1
}

round_clone() {
	with_disk "$1=kill"
	clone >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up || { fail "$1 killed: the next droverd comes up"; return; }
	if ! wait_for 15 not unfinished; then
		fail "$1 killed: nothing unfinished" "$(unfinished)"
		return
	fi
	case "$(machines)" in
	m) ;;
	'm two')
		# Without its section it is one that was removed.
		if ! marked two || ! says '^(stopped|removed)$' vm two .state; then
			fail "$1 killed: it has its copy, and does not run" "$(api GET /vms/two)"
			return
		fi
		remove || { fail "$1 killed: it can be removed" "$(api GET /vms/two)"; return; }
		;;
	*) fail "$1 killed: there are machines that nobody made" "$(machines)"; return ;;
	esac
	can_be_made "$1 killed" && clean_up "$1 killed"
}

round_clone_fail() {
	local answer
	with_disk "$1=$2"
	answer=$(clone)
	if ! says injected echo "$answer" || ! reached "$1=$2" || [ "$(machines)" != m ]; then
		fail "$1 $2: says why, and there is no such machine" "$answer $(machines)"
	elif ! wait_for 15 not unfinished || [ -e "$W/state/vm/two" ] || [ -e "$W/state/conf.d" ]; then
		fail "$1 $2: nothing of it is left" "$(find "$W/state")"
	else
		can_be_made "$1 $2" && clean_up "$1 $2"
	fi
}

crash_matrix clone

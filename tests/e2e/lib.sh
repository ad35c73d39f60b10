# shellcheck shell=bash
# What every end-to-end test begins with:
#
#   . "$(dirname "$0")/lib.sh"
#   world                         # from here on in namespaces of our own
#   config <<'END' ... END        # writes $W/drover.ini, with run_dir and state_dir set
#   start_droverd
#   vm_wait web running; ok "it runs" vm_is web running
#   stop_droverd
#   done_testing
#
# world() runs the test again inside new network, mount, process, IPC, UTS and cgroup namespaces:
# the first process of a process namespace takes all others with it, so that whatever goes wrong
# nothing is left on the host. Output is TAP. $W is a short-named folder on a real disk that is
# removed at the end; /run and /dev/shm are empty tmpfs.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
B=$(cd "$top" && mkdir -p "${B:-build}" && cd "${B:-build}" && pwd)
export B
name=$(basename "$0" .t)
tests=0 failed=0 W=${W-}
# Everything that is waited for comes in seconds on an idle machine; only a hang shall meet these.
patience=${DROVER_PATIENCE:-120}

diag() { sed 's/^/# /' >&2 <<<"$*"; }

# --- TAP ---

# pass DESCRIPTION; fail DESCRIPTION [DETAIL]
pass() {
	tests=$((tests + 1))
	echo "ok $tests - $1"
}

fail() {
	tests=$((tests + 1))
	failed=$((failed + 1))
	echo "not ok $tests - $1"
	[ $# -lt 2 ] || diag "${@:2}"
	[ $failed -gt 1 ] || explain
}

# ok DESCRIPTION COMMAND...: passes when the command succeeds. It runs in this shell, so that
# functions can set variables and wait for children.
ok() {
	local what=$1 rc
	shift
	"$@" >"$W/output" 2>&1 && rc=0 || rc=$?
	if [ $rc = 0 ]; then
		pass "$what"
	else
		fail "$what" "status $rc: $*"$'\n'"$(tail -n 20 "$W/output")"
		return 1
	fi
}

# is GOT WANTED DESCRIPTION; like GOT REGEX DESCRIPTION
is() {
	if [ "$1" = "$2" ]; then
		pass "$3"
	else
		fail "$3" "got:    $1"$'\n'"wanted: $2"
		return 1
	fi
}

like() {
	if [[ $1 =~ $2 ]]; then
		pass "$3"
	else
		fail "$3" "got:           $1"$'\n'"does not match: $2"
		return 1
	fi
}

skip() { # skip DESCRIPTION REASON
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

bail() {
	diag "$@"
	explain
	echo "Bail out! $name: $*"
	exit 1
}

done_testing() {
	echo "1..$tests"
	[ $failed = 0 ]
	exit
}

# What a person wants to see of a test that failed.
explain() {
	local f
	[ -n "${W-}" ] || return 0
	for f in "$W"/droverd*.log; do
		[ -s "$f" ] && diag "--- $(basename "$f")"$'\n'"$(tail -n 15 "$f" | cut -c 1-300)"
	done
	f=$W/state/events.jsonl
	[ -s "$f" ] && diag "--- events"$'\n'"$(tail -n 8 "$f" | cut -c 1-300)"
	# The last words of guests and hypervisors.
	find "$W/state/log" -type f ! -name 'dnsmasq*' -mmin -1 2>/dev/null | sort | while read -r f; do
		diag "--- ${f#"$W/"}"$'\n'"$(tail -n 3 "$f" | tr -d '\r' | cut -c 1-300)"
	done
	[ ! -S "${DROVER_SOCKET-}" ] || diag "--- list"$'\n'"$(timeout 5 drover list 2>&1)"
	return 0
}

# --- the world ---

world() { world_for droverd drover; }

# world_for PROGRAM...: the same, for a test that needs no more of the build than these.
world_for() {
	if [ "${DROVER_WORLD-}" = inside ]; then
		world_inside
		return
	fi
	[ "$(id -u)" = 0 ] || skip_all 'needs root for its namespaces'
	local p
	for p; do
		[ -x "$B/$p" ] || skip_all "$p is not built"
	done
	world_run "$0"
	exit
}

# world_run PROGRAM ARGUMENT...: runs it in a new world and removes what is left of it.
world_run() {
	local rc cgroup=''
	# A time limit's SIGTERM goes to the world too; what is left of it is still ours to remove.
	trap : TERM INT HUP
	W=$(mktemp -d /tmp/dt.XXXXXX) || exit 1
	if grep -q ' - cgroup2 ' /proc/self/mountinfo; then
		cgroup=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)/${W##*/}
		mkdir "$cgroup" 2>/dev/null || cgroup=''
	fi
	# The subshell enters the cgroup, so that inside it is the root of all that can be seen.
	(
		[ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/cgroup.procs"
		export W DROVER_WORLD=inside
		exec unshare --net --mount --uts --ipc --pid --cgroup --fork --kill-child --mount-proc "$@"
	)
	rc=$?
	[ -z "$cgroup" ] || world_remove_cgroup "$cgroup"
	[ -n "${DROVER_KEEP-}" ] && diag "kept: $W" || rm -rf --one-file-system "$W"
	return $rc
}

# The last processes of the namespace may still be on their way out of it.
world_remove_cgroup() {
	local i dir
	for i in $(seq 100); do
		find "$1" -depth -type d | while read -r dir; do rmdir "$dir" 2>/dev/null; done
		[ -d "$1" ] || return 0
		sleep 0.05
	done
}

world_inside() {
	trap 'exit 1' TERM INT HUP
	# Mounts that are only covered would still be found in /proc/self/mounts.
	umount -R -l /sys
	mount -t sysfs sysfs /sys &&
		mount -t tmpfs -o mode=755 tmpfs /run &&
		mount -t tmpfs -o mode=1777 tmpfs /dev/shm &&
		ip link set lo up || bail 'cannot set up the namespaces'
	[ ! -d /sys/fs/cgroup ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null ||
		mount -t tmpfs tmpfs /sys/fs/cgroup
	# A link's own IPv6 address is there at once, not when the audit has looked already.
	echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
	mkdir -p "$W/home" "$W/tmp" "$W/state"
	hostname drover-test
	export HOME=$W/home TMPDIR=$W/tmp PATH=$B:$PATH DROVER_SOCKET=/run/drover/api.sock
	unset XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_STATE_HOME
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# await SECONDS COMMAND...: for a wait that is no test of its own. One that ends in vain is told where
# it happened, not by whatever fails next.
await() { wait_for "$@" || fail "waited in vain for: ${*:2}"; }

not() { ! "$@"; }
alive() { [ -d "/proc/$1" ] && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }
dead() { ! alive "$1"; }
says() { "${@:2}" 2>&1 | grep -qE -- "$1"; } # says REGEX COMMAND...
contains() { grep -qE -- "$2" "$1"; } # contains FILE REGEX

# --- droverd ---

# config [FILE] <<END: an INI file with the folders of this world.
config() {
	{
		printf '[drover]\nrun_dir = /run/drover\nstate_dir = %s\n' "$W/state"
		cat
	} >"${1:-$W/drover.ini}"
}

DROVERD='' starts=0

# start_droverd [FILE [ARGUMENT...]]: in the background, its pid in DROVERD; returns when the API
# answers. Its log is $W/droverd-N.log.
start_droverd() {
	launch_droverd "$@"
	wait_for "$patience" drover_up_or_dead || bail 'droverd does not answer'
	alive "$DROVERD" || bail "droverd ended at start: $(droverd_log | tail -n 3)"
}

launch_droverd() {
	local file=${1:-$W/drover.ini}
	[ $# = 0 ] || shift
	starts=$((starts + 1))
	droverd -c "$file" "$@" >"$W/droverd-$starts.log" 2>&1 </dev/null &
	DROVERD=$!
}

droverd_log() { cat "$W/droverd-$starts.log"; }

drover_up() {
	alive "$DROVERD" || bail "droverd ended at start: $(droverd_log | tail -n 3)"
	api_is_up
}

# wait_for keeps what is said to itself: a bail out must come after it.
drover_up_or_dead() { dead "$DROVERD" || api_is_up; }

# jq -e is content with no input at all: the answer is compared, not asked.
api_is_up() { [ "$(api GET /version | jq .pid)" = "$DROVERD" ]; }

# stop_droverd [SIGNAL]: with TERM by default; fails when it does not end or ends with an error.
stop_droverd() {
	local sig=${1:-TERM} pid=$DROVERD rc
	kill -"$sig" "$pid"
	wait_for "$patience" dead "$pid" || return 1
	wait "$pid" 2>/dev/null
	rc=$?
	DROVERD=''
	[ "$sig" = KILL ] || [ $rc = 0 ] || {
		echo "droverd ended with status $rc"
		return 1
	}
}

# api METHOD PATH [CURL ARGUMENT...]
api() {
	curl -sS --max-time "$patience" --unix-socket "$DROVER_SOCKET" -X "$1" "${@:3}" "http://drover$2"
}

vm() { api GET "/vms/$1" | jq -r "$2"; } # vm NAME JQ-FILTER
vm_is() { [ "$(vm "$1" .state)" = "$2" ]; }
vm_pid() { vm "$1" .pid; }
# runs_anew NAME PID: it runs, and not as PID any more.
runs_anew() { [ -n "$(vm "$1" "select(.state == \"running\" and .pid != $2) | .pid")" ]; }

# vm_wait NAME STATE [SECONDS]
vm_wait() { wait_for "${3:-$patience}" vm_is "$1" "$2"; }

console_has() { drover log "$1" 2>/dev/null | grep -qE -- "$2"; } # console_has NAME REGEX

# Events of a machine since a number, as "EVENT ..." lines for grep.
events_of() { drover events -o json --since "${2:-0}" | jq -c "select(.name == \"$1\")"; }
last_seq() { drover events -o json | tail -n 1 | jq .seq; }

# guest NAME COMMAND...: over ssh with the key that the test's configuration names.
guest() {
	local address
	address=$(vm "$1" .address)
	[ -n "$address" ] && [ "$address" != null ] || return 1
	guest_at "${address%%/*}" "${@:2}"
}

guest_at() { # guest_at ADDRESS COMMAND...
	# A guest that comes up loses the first packets: better many short tries than a long one.
	timeout "${SSH_LIMIT:-30}" ssh -n -i "${SSH_KEY:-$W/key}" -o BatchMode=yes -o LogLevel=ERROR \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o ConnectTimeout="${SSH_CONNECT:-10}" -o IdentitiesOnly=yes "root@$1" "${@:2}"
}

ssh_wait() { SSH_CONNECT=2 SSH_LIMIT=10 wait_for "${2:-$patience}" guest "$1" true; }

ssh_key() { [ -f "$W/key" ] || ssh-keygen -q -t ed25519 -N '' -C test -f "$W/key"; }

# --- the leak audit ---

# What legitimately stays: below state_dir images, built disks, logs, the event log, and for
# machines their folder, warm images; below run_dir folders. A test of a failure looks closer by AUDIT_SKIP=.
audit_skip='^/(events\.jsonl.*|oci(/.*)?|log(/.*)?|registry(/.*)?|keys(/.*)?|ca(/.*)?|vm(/.*)?|warm(/.*)?|net(/.*)?|guest_ids.*|qemu-probe\.json|(droverd\.)?lock)$'
audit_folders='^/drover(/(vm|net|ledger|registry|droverd\.lock))?$'

audit_take() { # audit_take FILE [ARGUMENT...]
	"$here/audit" snapshot "$1" --files /run --files /dev/shm --files "$W/tmp" \
		--files "$W/state" --skip "${AUDIT_SKIP-$audit_skip}" \
		--skip "$audit_folders" "${@:2}"
}

# audit_rest FILE [ARGUMENT...]: of a droverd at rest, with its descriptors. A process that looks at
# the ruleset, or a thread that syncs a state file, holds some for a moment, up to a second after
# what caused it.
audit_rest() {
	wait_for 30 audit_twice "$@"
}
audit_twice() {
	audit_take "$1" "${@:2}" && sleep 0.4 && audit_take "$W/now" "${@:2}" &&
		"$here/audit" diff "$1" "$W/now" >/dev/null
}

baseline() { audit_take "$W/baseline" "$@"; }
audit_same() {
	audit_take "$W/now" "$@" && "$here/audit" diff "$W/baseline" "$W/now"
}

# audit_clean DESCRIPTION [ARGUMENT...]: what droverd does in the background gets time to end.
audit_clean() {
	local what=$1
	shift
	if wait_for "${AUDIT_PATIENCE:-15}" audit_same "$@"; then
		pass "$what: nothing left behind"
	else
		audit_same "$@" >"$W/left"
		fail "$what: nothing left behind" "$(head -n 30 "$W/left")"
	fi
}

# --- guests and registries ---

# The guest of 5 KB that needs no Linux: prints NANO-READY, echoes, q powers off, r reboots.
nano() {
	mkdir -p "$B/e2e"
	flock "$B/e2e/.lock" "$here/nano/build" "$B/e2e/nano.elf" >&2 && echo "$B/e2e/nano.elf"
}

# A folder with what BIOS and UEFI can boot: disk.raw, cd.iso, esp.raw, nano.efi.
firmware_guests() {
	mkdir -p "$B/e2e"
	flock "$B/e2e/.lock" "$here/nano/boot/build" "$B/e2e/boot" >&2 && echo "$B/e2e/boot"
}

# disk_of NAME: a machine's disk as one raw file; a copy where it is an overlay.
disk_of() {
	local disk=$W/state/vm/$1/disk
	if [ -e "$disk.qcow2" ]; then
		qemu-img convert -U -f qcow2 -O raw "$disk.qcow2" "$W/$1.flat" && echo "$W/$1.flat"
	else
		echo "$disk.raw"
	fi
}

# A disk for it: 4 MiB of ext4, because a name and keys are written into every clone.
nano_disk() {
	local out=$B/e2e/nano-disk.raw
	if [ ! -s "$out" ]; then
		mkdir -p "$B/e2e/tree/etc" "$B/e2e/tree/root"
		printf 'root:x:0:0:root:/root:/bin/sh\n' >"$B/e2e/tree/etc/passwd"
		mke2fs -q -t ext4 -d "$B/e2e/tree" "$out.$$" 4M >&2 && mv "$out.$$" "$out" || return 1
	fi
	echo "$out"
}

# The Linux guest's images: call before world(), because building them may need the network.
# Afterwards start_origin serves them as test/guest-kernel:TAG (tags in KERNELS, uname -r of each
# in RELEASE[TAG]) and test/guest-image:1.
need_guest() {
	if [ "${DROVER_WORLD-}" != inside ]; then
		[ "$(id -u)" = 0 ] || skip_all 'needs root for its namespaces'
		"$here/preload-origin" "$B/e2e/origin" >&2 || bail 'the guest cannot be built'
	fi
	need_guest_list
}

# What contrib/guest has built: KERNELS and RELEASE.
need_guest_list() {
	declare -gA RELEASE=()
	KERNELS=()
	local image release
	while read -r _ image release; do
		[ "$release" != - ] || continue
		KERNELS+=("${image#*:}")
		RELEASE[${image#*:}]=$release
	done <"$top/build/guest/images"
}

# start_origin [STORAGE]: the registry that plays the world outside, on 127.0.0.1:5001; read-only
# unless it is given a storage folder of the test's own.
# Its access log is $W/origin.log, its pid in ORIGIN. The address stands in ORIGIN_HOST.
ORIGIN='' ORIGIN_HOST=127.0.0.1:5001
start_origin() {
	cat >"$W/origin.yml" <<-END
	version: 0.1
	storage:
	  filesystem: {rootdirectory: ${1:-$B/e2e/origin/storage}}
	  maintenance: {readonly: {enabled: $([ $# = 0 ] && echo true || echo false)}, uploadpurging: {enabled: false}}
	http: {addr: $ORIGIN_HOST}
	END
	docker-registry serve "$W/origin.yml" >>"$W/origin.log" 2>>"$W/origin.err" </dev/null &
	ORIGIN=$!
	wait_for "$patience" curl -sf "http://$ORIGIN_HOST/v2/" ||
		bail "the origin registry does not come up: $(tail -n 3 "$W/origin.err")"
}

stop_origin() {
	kill "$ORIGIN" && wait "$ORIGIN" 2>/dev/null
	ORIGIN=''
}

# origin_copy DIR: a copy of the storage that a test may spoil.
origin_copy() { cp -r "$B/e2e/origin/storage" "$1"; }

# fetched [REGEX]: "COUNT DIGEST" for each blob that was fetched from the origin.
fetched() {
	grep -oE '"GET /v2/[^ ]*/blobs/sha256:[0-9a-f]+ [^"]*" 200' "$W/origin.log" |
		grep -oE 'sha256:[0-9a-f]+' | sort | uniq -c | sed 's/^ *//'
}

# shellcheck shell=bash
# Two droverds: the one that lib.sh knows (A), and another one (B) in a network namespace of its own,
# with run_dir /run/b and state_dir $W/b. Both see the same disks.
. "$(dirname "$0")/lib.sh"
there=/run/b
DROVERD_B='' NS=''
taps='[network taps]
cidr = 172.16.0.0/16'

# at_b COMMAND...: with B for A.
at_b() {
	local rc
	local -x DROVER_SOCKET=$there/api.sock
	local RUN=$there
	"$@" && rc=0 || rc=$?
	return $rc
}

write_a() { # write_a EXTRA
	config "$W/a.ini" <<-END
	[network taps]
	cidr = 172.16.0.0/16
	[vm m]
	kernel = $kernel
	rootfs = $disk
	memory = 16M
	accel = tcg
	network = taps
	stop_timeout = 1
	$1
	END
}

config_b() { # config_b REST
	printf '[drover]\nrun_dir = %s\nstate_dir = %s\n%s\n' "$there" "$W/b" "$1" >"$W/b.ini"
}

# A network namespace that stays.
namespace() {
	unshare --net sleep infinity &
	NS=$!
	wait_for "$patience" other_namespace
	nsenter -t $NS --net ip link set lo up
	ip link add between type veth peer name between netns $NS
	ip addr add 10.9.0.1/24 dev between
	ip link set between up
	in_b ip addr add 10.9.0.2/24 dev between
	in_b ip link set between up
}
in_b() { nsenter -t $NS --net "$@"; }
other_namespace() { [ "$(readlink /proc/$NS/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }

launch_b() { # launch_b [PROGRAM]
	nsenter -t $NS --net "${1:-droverd}" -c "$W/b.ini" >>"$W/droverd-b.log" 2>&1 </dev/null &
	DROVERD_B=$!
}
b_is_up() { [ "$(at_b api GET /version | jq .pid)" = "$DROVERD_B" ]; }
start_b() {
	launch_b "$@"
	wait_for "$patience" b_is_up
}
stop_b() { # stop_b [SIGNAL]
	kill -"${1:-TERM}" "$DROVERD_B"
	wait_for "$patience" dead "$DROVERD_B" && { wait "$DROVERD_B" 2>/dev/null || [ "${1-}" = KILL ]; }
}
restart_b() { stop_b && start_b; }

start_two() {
	kernel=$(nano) disk=${disk_prefix-}$(nano_disk)${disk_suffix-}
	mkdir -p "$W/b"
	write_a ''
	config_b "$taps"
	namespace
	baseline
	ok 'the other droverd' start_b || bail "$(tail -n 3 "$W/droverd-b.log")"
	start_droverd "$W/a.ini"
}
stop_two() {
	ok 'the other droverd leaves' stop_b
	rm -rf "$there" "$W/b"
	ok 'droverd leaves' stop_droverd
	is "$(in_b ip -o link | wc -l)" 2 'no link is left there'
	is "$(in_b nft list ruleset)" '' 'and no rule'
	audit_clean 'the end'
	kill $NS
	wait $NS 2>/dev/null
}

migrate() { drover migrate "$1" --to "unix:$there/api.sock" "${@:2}"; }
hypervisors() { pgrep -c -f '^[^ ]*qemu-system-[^ ]* .*guest=m,' || true; }
no_migrations() { [ "$(api GET /migrations)" = '[]' ]; }
step_is() { [ "$(api GET /operations | jq -r "[.[] | select(.vm == \"$1\" and .state == \"running\")][0].step")" = "$2" ]; }
runs_settled() { vm_is m running && no_migrations; }

# count VM NUMBER: the guest counts in its memory.
count() {
	local log
	wait_for "$patience" grep -qsr -e NANO-READY -e NANO-COUNT "$W" --include='*.log' || return 1
	printf N | timeout 20 socat - "UNIX-CONNECT:${RUN:-/run/drover}/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
# Its memory is full of what cannot be left out.
touch_memory() {
	printf M | timeout 20 socat - "UNIX-CONNECT:${RUN:-/run/drover}/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" NANO-TOUCHED
}

#!/usr/bin/env bash
# Random kills of droverd, hypervisors and dnsmasq, SIGSTOPs, reloads, starts and stops, of 20 fake
# machines and 2 real ones, for CHAOS_SECONDS. Then it must all come to rest as it was wanted, and
# the event log must tell what was done: every number, every end once, every kill with its cause.
#
# CHAOS_SEED replays a sequence of actions (make chaos SEED=, MINUTES=). What a replayed action
# meets, a machine that runs or one that has just ended, still depends on the machine's speed.
. "$(dirname "$0")/lib.sh"
world_for droverd drover-jail drover-image fakes/fake-qemu fakes/one-each
CHAOS_SECONDS=${CHAOS_SECONDS:-30}
seed=${CHAOS_SEED:-$((SRANDOM % 1000000))}
diag "seed $seed for $CHAOS_SECONDS s"
kernel=$(nano) disk=$(nano_disk)
ulimit -c 0
names=(real1 real2)
for i in $(seq 20); do names+=("fake$i"); done
state() { echo "$W/state/vm/$1/state.json"; }

# --- what is wanted ---

declare -A want memory removed # of each machine; want: running, stopped, or ? when it is not known
for m in "${names[@]}"; do want[$m]=running memory[$m]=16 removed[$m]=''; done

chaos_config() {
	local m
	{
		cat <<-END
		events_max = 1G
		[network taps]
		cidr = 172.16.0.0/16
		[template each]
		rootfs = $disk
		kernel = $kernel
		network = taps
		restart = always
		restart_delay = 100ms
		restart_max_delay = 1s
		restart_limit = 0
		stop_timeout = 1
		END
		for m in "${names[@]}"; do
			[ -z "${removed[$m]}" ] || continue
			printf '[vm %s]\ntemplate = each\nmemory = %sM\n' "$m" "${memory[$m]}"
			case $m in
			fake*) echo "binary = $B/fakes/fake-qemu" ;;
			*) echo 'accel = tcg' ;;
			esac
		done
	} | config "$W/new.ini"
	mv "$W/new.ini" "$W/drover.ini"
}

# --- what is done ---

# What has been done to whom: a kill is judged by it at the end.
declare -A asked=() # of each machine: the boot at which we last asked for an end of its run
declare -A killed=() # [MACHINE/BOOT]: by which signal
declare -A dns_killed=() # [PID]: MACHINE/BOOT of that time
frozen=() # the processes that thaw what is frozen
answers=''
note() { echo "$step $*" >>"$W/actions"; }

# boot, pid (0: none), state and intent as the state file has them, droverd being there or not.
look() {
	read -r boot pid now intent < <(jq -r '"\(.boot) \(.pid // 0) \(.state) \(.intent)"' "$(state "$1")" 2>/dev/null)
	[ -n "${intent-}" ]
}

# A pid in a state file may be another process's by now.
is_hypervisor() { [ "$pid" != 0 ] && alive "$pid" && grep -qsa "guest=$m," "/proc/$pid/cmdline"; }

asks() { # asks MACHINE: its present run may end by our order from now on
	look "$1" && asked[$1]=$boot
}

up() {
	alive "$DROVERD" && api_is_up
}

# An answer of the API is waited for until it is known that it comes.
await_up() {
	[ -z "$answers" ] || return 0
	wait_for "$patience" up || return 1
	answers=yes
}

launch() {
	launch_droverd
	answers=''
}

# over KILLED: whoever ends of itself has a bug.
end_droverd() { # end_droverd SIGNAL
	alive "$DROVERD" || { fail "droverd had ended by itself at step $step"; return; }
	kill -CONT "$DROVERD"
	kill -"$1" "$DROVERD"
	wait_for "$patience" dead "$DROVERD" || fail "droverd does not end by SIG$1 at step $step"
	wait "$DROVERD" 2>/dev/null
}

do_droverd() { # SIGKILL, and whatever follows meets no droverd for a while
	end_droverd KILL
	down=$((how % 4))
}

# SIGKILL just after something has been begun, so that it is met halfway.
do_halfway() {
	case $((how % 4)) in
	0) do_kill ;;
	1) order stop stopped ;;
	2) order start running ;;
	3) order restart running ;;
	esac
	sleep "0.0$(printf %02d $((how / 4 % 30)))"
	do_droverd
}

do_leave() { # SIGTERM; the machines stay
	end_droverd TERM
	down=$((how % 4))
}

daemons_told() { cat "$W"/state/events.jsonl* | grep -c '"kind":"drover".*"event":"started"'; }
do_reexec() {
	local before
	await_up || return
	before=$(daemons_told)
	kill -USR2 "$DROVERD"
	# Process and socket stay what they are.
	anew() { [ "$(daemons_told)" -gt "$before" ] && up; }
	wait_for "$patience" anew || fail "droverd does not come back from SIGUSR2 at step $step"
}

do_freeze_droverd() {
	kill -STOP "$DROVERD"
	sleep "0.$((how % 5))"
	kill -CONT "$DROVERD"
}

do_kill() { # a hypervisor that runs
	local signals=(KILL KILL KILL SEGV ABRT TERM) sig
	sig=${signals[how % 6]}
	look "$m" && [ "$now" = running ] && [ "$intent" = 0 ] || return
	[ -z "${killed[$m/$boot]-}" ] && is_hypervisor || return
	kill -"$sig" "$pid" 2>/dev/null || return
	killed[$m/$boot]=$sig
	note "  SIG$sig to $pid, boot $boot"
}

do_freeze() { # a hypervisor is slow for a while
	look "$m" && is_hypervisor || return
	kill -STOP "$pid" 2>/dev/null || return
	{
		sleep "$((how % 2)).$((how % 10))"
		kill -CONT "$pid" 2>/dev/null
	} &
	frozen+=($!)
}

do_dnsmasq() {
	local tap p
	look "$m" || return
	tap=$(jq -r '.nics[0].tap // "none"' "$(state "$m")")
	for p in $(pgrep -x dnsmasq); do
		grep -qsa -- "$tap" "/proc/$p/cmdline" && alive "$p" && [ -z "${dns_killed[$p]-}" ] || continue
		kill -9 "$p" 2>/dev/null || continue
		dns_killed[$p]=$m/$boot
		note "  SIGKILL to dnsmasq $p"
	done
}

# order VERB WANTED: what was refused changes nothing; without an answer nobody knows.
order() {
	local code
	[ -z "${removed[$m]}" ] || return
	await_up || return
	asks "$m"
	code=$(curl -s -o "$W/answer" -w '%{http_code}' --max-time "$patience" \
		--unix-socket "$DROVER_SOCKET" -X POST "http://drover/vms/$m/$1" 2>/dev/null)
	case $code in
	2*) want[$m]=$2 ;;
	409) ;;
	*) want[$m]='?' ;;
	esac
	note "  $1: $code $(jq -r '.error.message // empty' "$W/answer" 2>/dev/null)"
}

do_start() { order start running; }
do_stop() { order stop stopped; }
do_kill_order() { order kill stopped; }
do_restart() { order restart running; }

do_reload() {
	local x
	while read -r x boot; do asked[$x]=$boot; done \
		< <(jq -r '"\(.name) \(.boot)"' "$W"/state/vm/*/state.json 2>/dev/null)
	case $((how % 3)) in
	0) ;;
	1) memory[$m]=$((36 - ${memory[$m]})) ;;
	2) [ -n "${removed[$m]}" ] && removed[$m]='' || removed[$m]=yes ;;
	esac
	chaos_config
	# Before it has answered it may not have its handlers yet.
	await_up && kill -HUP "$DROVERD"
}

# One line for each action; its share of the whole is the number of its lines.
actions=(droverd halfway halfway halfway halfway leave reexec freeze_droverd kill kill kill kill kill kill freeze freeze
	freeze dnsmasq dnsmasq dnsmasq start start start stop stop kill_order restart reload reload reload)

# --- it goes ---

chaos_config
baseline
start_droverd
all_up() { [ "$(api GET /vms | jq '[.[] | select(.state == "running")] | length')" = ${#names[@]} ]; }
ok "${#names[@]} machines run" wait_for "$patience" all_up || bail 'nothing to play with'
: >"$W/actions"
"$B/fakes/one-each" 20 >"$W/pairs" 2>"$W/looks" &
watcher=$!
RANDOM=$seed step=0 down=0
end=$((SECONDS + CHAOS_SECONDS))
while [ $SECONDS -lt $end ] && [ $failed = 0 ]; do
	# Each step takes as many numbers, whatever it meets.
	what=${actions[RANDOM % ${#actions[@]}]} m=${names[RANDOM % ${#names[@]}]} how=$RANDOM
	pause=$((RANDOM % 200))
	step=$((step + 1))
	if ! alive "$DROVERD"; then
		case $what in
		droverd | halfway | leave | reexec | freeze_droverd | start | stop | kill_order | restart | reload) down=0 ;;
		esac
		[ $((down--)) -gt 0 ] || launch
	fi
	note "$what $m $how"
	"do_$what"
	sleep "0.$(printf %03d $pause)"
done
[ ${#frozen[@]} = 0 ] || wait "${frozen[@]}"
diag "$step actions: ${#killed[@]} hypervisors and ${#dns_killed[@]} dnsmasqs killed, droverd started $starts times"

# --- it comes to rest ---

alive "$DROVERD" || launch
ok 'droverd is up' await_up
kill -HUP "$DROVERD"

# Everything is as it is wanted by the daemon, and that is what we have asked for.
at_rest() {
	local all
	all=$(api GET '/vms?all') || return 1
	for m in "${names[@]}"; do
		w=${want[$m]}
		if [ -n "${removed[$m]}" ]; then
			w=stopped
		elif [ "$w" = '?' ]; then
			w=$(vm "$m" .wanted)
		fi
		s=$(jq -r --arg m "$m" '.[] | select(.name == $m) | "\(.state) \(.conditions | length)"' <<<"$all")
		[ "$s" = "$w 0" ] || [ -n "${removed[$m]}" -a "${s:-removed 0}" = 'removed 0' ] || { echo "$m: $s, wanted: $w"; return 1; }
	done
}
ok 'every machine comes to its wanted state' wait_for "$patience" at_rest || at_rest | sed 's/^/# /' >&2

declare -A runs=()
for p in /proc/[0-9]*; do
	guest=$(tr '\0' '\n' 2>/dev/null <"$p/cmdline" | sed -n '1{/\/\(fake-qemu\|qemu-system-[^/]*\)$/!q};s/^guest=\([^,]*\).*/\1/p')
	[ -z "$guest" ] || runs[$guest]+="${p#/proc/} "
done
for m in "${names[@]}"; do
	pid=$(api GET "/vms/$m" | jq -r 'if .pid then "\(.pid) " else "" end' 2>/dev/null)
	[ "${runs[$m]-}" = "$pid" ] || fail "$m: drover knows of process $pid, there is ${runs[$m]-none}"
done
[ $failed != 0 ] || pass 'each machine has the hypervisor that drover knows, and no other'
dns_right() { [ "$(pgrep -cx dnsmasq)" = ${#runs[@]} ]; }
ok 'each has one dnsmasq' wait_for "$patience" dns_right

# --- what was seen ---

kill "$watcher"
wait "$watcher"
is "$(<"$W/pairs")" '' 'never two hypervisors of one machine at once'
like "$(<"$W/looks")" '^[0-9]{2,} looks, [0-9]{2,} hypervisors' 'and they were watched'

cat "$W/state/"events.jsonl >"$W/events"
is "$(jq -s '[.[].seq] == [range(1; length + 1)]' "$W/events")" true 'no event number is missing, none is there twice'
for m in "${names[@]}"; do
	[ ! -e "$(state "$m")" ] || jq -c '{name, boot, state}' "$(state "$m")"
done >"$W/boots"
# Runs without exactly one end; the last one of a machine that runs has none.
jq -nc --slurpfile ev "$W/events" --slurpfile boots "$W/boots" '
	($ev | map(select(.event == "ended")) | group_by(.name) | map({(.[0].name): map(.boot)}) | add // {}) as $ends
	| $boots[] | (.boot - (if .state == "running" then 1 else 0 end)) as $n
	| select((($ends[.name] // []) | sort) != [range(1; $n + 1)])
	| {name, boot, state, ends: ($ends[.name] | group_by(.) | map(select(length > 1) | .[0])),
	   missing: ([range(1; $n + 1)] - $ends[.name])}' >"$W/wrong"
is "$(<"$W/wrong")" '' 'each run has ended once'

# Each kill: "MACHINE BOOT SIGNAL ASKED", where ASKED says that the run may have ended by our order.
for k in "${!killed[@]}"; do
	m=${k%/*} boot=${k#*/}
	a=${asked[$m]-}
	echo "$m $boot ${killed[$k]} $([ -n "$a" ] && [ $((boot - a)) -le 1 ] && echo asked || echo alone)"
done | sort >"$W/kills"
jq -rn --slurpfile ev "$W/events" --rawfile kills "$W/kills" '
	($ev | map(select(.event == "ended") | {("\(.name) \(.boot)"): .}) | add // {}) as $ends
	| $kills | split("\n")[] | select(. != "") | split(" ") as [$m, $boot, $sig, $asked]
	| $ends["\($m) \($boot)"] as $e
	| select(($e.cause == "hypervisor-crash" and $sig != "TERM" and ($e.reason | test("SIG" + $sig)))
		or ($sig == "TERM" and ($e.cause | IN("host-shutdown", "guest-shutdown")))
		or ($asked == "asked" and $e.cause == "requested") | not)
	| "\($m) \($boot) SIG\($sig) \($asked): \($e.cause) \($e.reason)"' >"$W/wrong"
is "$(<"$W/wrong")" '' "each kill is in one event with its cause ($(wc -l <"$W/kills") of them)"

# What nobody killed has ended for us, or has been cut short with its droverd.
jq -rn --slurpfile ev "$W/events" --rawfile kills "$W/kills" '
	($kills | split("\n") | map(split(" ") | {"\(.[0]) \(.[1])": true}) | add // {}) as $killed
	| $ev[] | select(.event == "ended" and ($killed["\(.name) \(.boot)"] | not))
	| select(.cause == "requested" or
		(.cause == "start-failure" and (.reason | test("droverd ended while"))) | not)
	| "\(.name) \(.boot): \(.cause) \(.reason)"' >"$W/wrong"
is "$(<"$W/wrong")" '' 'and no other run has ended by itself'

# dnsmasq: one event for each that was killed, unless its machine has ended about then.
for p in "${!dns_killed[@]}"; do
	k=${dns_killed[$p]} m=${dns_killed[$p]%/*}
	last=$(jq -r .boot "$(state "$m")")
	n=$(jq -s --argjson p "$p" '[.[] | select(.event == "died" and .pid == $p)] | length' "$W/events")
	[ "$n" = 1 ] || [ "$n" = 0 -a "$last" != "${k#*/}" ] ||
		echo "dnsmasq $p of $k: $n events"
done >"$W/wrong"
is "$(<"$W/wrong")" '' "each kill of a dnsmasq is told once ($((${#dns_killed[@]})) of them)"

# --- and it ends clean ---

for m in "${names[@]}"; do api POST "/vms/$m/stop" >/dev/null; done
none_up() { [ "$(api GET '/vms?all' | jq -c '[.[].state] | unique - ["stopped", "removed"]')" = '[]' ]; }
ok 'all of them can be stopped' wait_for "$patience" none_up
ok 'SIGTERM' stop_droverd
audit_clean 'after the chaos'
if [ $failed != 0 ]; then
	diag "seed $seed; the actions:"
	tail -n 400 "$W/actions" | sed 's/^/# /' >&2
fi
done_testing

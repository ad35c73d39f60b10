# shellcheck shell=bash
# The crash matrix's rounds of a migration: whichever droverd or hypervisor is killed at whichever
# point, in the end the guest runs on exactly one side, and nothing is left on either.
. "$(dirname "$0")/crash.sh"
. "$(dirname "$0")/migrate-lib.sh"
extra='restart = always
restart_delay = 100ms'
rounds=0
copies=false # whether the disks go, too

cat >"$W/kill-hv" <<'END'
#!/bin/sh
# Kills the hypervisors that the droverd with this run_dir has started.
for p in $(pgrep -f '^[^ ]*qemu-system-[^ ]* .*guest=m,'); do
	grep -qsz "^DROVER_OWNER=$KILL_OF:" "/proc/$p/environ" && kill -9 "$p"
done
exit 0
END
chmod +x "$W/kill-hv"

# launch_two FAULT-OF-A FAULT-OF-B: both are up and the guest runs at A, having counted to one.
launch_two() {
	mkdir -p "$W/b"
	config_b "$taps"
	DROVER_FAULT=$2 launch_b "$W/bin/faulty"
	launch "$1"
	wait_for "$patience" b_is_up || return 1
	wait_for "$patience" vm_is m running && count m 0001 || return 1
}

b_reached() { grep -q "fault $1" "$W/droverd-b.log"; }
runs_at() { # runs_at A|B
	if [ "$1" = A ]; then vm_is m running; else at_b vm_is m running; fi
}
at_rest_at_a() { [[ $(vm m .state) =~ ^(stopped|failed)$ ]]; }
none_at_b() { ! at_b api GET /vms/m | jq -r .state | grep -qvE '^(null|stopped)$'; }
one_owner() {
	no_migrations && at_b no_migrations || return 1
	[ "$(hypervisors)" = 1 ] || return 1
	if vm_is m running; then none_at_b; else at_rest_at_a && at_b vm_is m running; fi
}

one_runs() { # one_runs NAME
	if wait_for "$patience" one_owner; then
		clean_two "$1"
	else
		fail "$1: one owner runs" "A: $(api GET /vms/m/why | jq -c .)"$'\n'"B: $(at_b api GET /vms/m/why | jq -c .)" \
			"$(api GET /migrations) $(at_b api GET /migrations) $(hypervisors) hypervisors" \
			"$(tail -n 12 "$W/droverd-b.log")"
	fi
}

clean_two() {
	at_b api POST '/vms/m/kill?wait=60' >/dev/null
	at_b api DELETE '/vms/m?disks=1&wait=60' >/dev/null
	stop_b >"$W/output" || { fail "$1: the other droverd does not leave" "$(cat "$W/output")"; return; }
	api POST '/vms/m/kill?wait=60' >/dev/null
	stop_droverd >"$W/output" || { fail "$1: droverd does not leave" "$(cat "$W/output")"; return; }
	if [ "$(in_b ip -o link | wc -l)" != 2 ] || [ -n "$(in_b nft list ruleset)" ] || [ -e "$W/b/conf.d" ]; then
		fail "$1: something is left there" "$(in_b ip -o link; find "$W/b")"
		return
	fi
	rm -rf "$W/b" "$there"
	if wait_for 15 audit_same; then
		pass "$1"
	else
		audit_same >"$W/left"
		fail "$1: something is left" "$(head -n 20 "$W/left")"
	fi
	forget
}

# Between rounds nothing of the last one may be left, whatever went wrong in it.
reset_world() {
	local pid
	for pid in $DROVERD $DROVERD_B; do kill -9 "$pid" 2>/dev/null; done
	for pid in $(grep -lsz '^DROVER_OWNER=/run/' /proc/[0-9]*/environ | cut -d/ -f3); do
		kill -9 "$pid" 2>/dev/null
		wait_for 15 dead "$pid"
	done
	DROVERD='' DROVERD_B=''
	forget
	rm -rf "$W/b" "$there"
	: >"$W/droverd-b.log"
	wait_for 10 no_cgroups
	for ns in '' in_b; do
		$ns nft flush ruleset
		for tap in $($ns ip -o link | grep -o 'tap[0-9a-f]*' | sort -u); do $ns ip link del "$tap"; done
		$ns sysctl -qw net.ipv4.ip_forward=0
	done
	crash_config 16M
}

body() { printf '{"to":"unix:%s/api.sock","copy_disks":%s%s}' "$there" "$copies" "${1-}"; }

# Until somebody has died or the migration has come to an end; one that must not end is cancelled.
go_over() { # go_over POINT
	case $1 in
	migrate/keeping | migrate/abort | receive/aborted | receive/dropped | receive/remove)
		touch_memory m
		api POST /vms/m/migrate -d "$(body ',"max_bandwidth":65536')" >/dev/null
		wait_for "$patience" step_is m "$($copies && echo disks || echo memory)"
		drover cancel --no-wait m >/dev/null 2>&1
		;;
	*) api POST '/vms/m/migrate' -d "$(body)" >/dev/null 2>&1 ;;
	esac
}

round_migrate() { # the source is killed
	launch_two "$1=kill" '' || { fail "$1 killed: it runs" "$(vm m .state)"; return; }
	go_over "$1"
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up || { fail "$1 killed: the next droverd comes up"; return; }
	one_runs "$1 killed"
}

round_receive() { # the target is killed
	launch_two '' "$1=kill" || { fail "$1 killed: it runs" "$(vm m .state)"; return; }
	go_over "$1"
	if ! wait_for "$patience" dead "$DROVERD_B" || ! b_reached "$1=kill"; then
		fail "$1 killed: was not reached" "$(tail -n 8 "$W/droverd-b.log")"
		return
	fi
	wait "$DROVERD_B" 2>/dev/null
	start_b "$W/bin/faulty" || { fail "$1 killed: the next droverd comes up"; return; }
	one_runs "$1 killed"
}

# round_hv POINT RUN_DIR: the hypervisor of that side is killed at the point.
round_hv() {
	local a='' b=''
	export DROVER_FAULT_RUN=$W/kill-hv KILL_OF=$2
	[[ $1 == migrate/* ]] && a="$1=run" || b="$1=run"
	launch_two "$a" "$b" || { fail "$1, hypervisor of $2 killed: it runs" "$(vm m .state)"; return; }
	go_over "$1"
	if [ -n "$a" ]; then wait_for "$patience" reached "$a"; else wait_for "$patience" b_reached "$b"; fi ||
		{ fail "$1, hypervisor of $2 killed: was not reached" "$(tail -n 5 "$W/droverd-b.log")"; return; }
	unset DROVER_FAULT_RUN KILL_OF
	one_runs "$1, hypervisor of $2 killed"
}

# The target forgets all while the source asks: a person decides.
cat >"$W/forget-b" <<'END'
#!/bin/sh
kill -9 "$(cat "$W/b.pid")"
"$W/kill-hv"
# What was killed may still be in a call that makes a file.
for _ in $(seq 600); do
	rm -rf "$W/b/vm" "$W/b/conf.d" && break
	sleep 0.05
done
touch "$W/forgotten"
END
chmod +x "$W/forget-b"
in_doubt() { [ "$(vm m .migration.doubt)" = true ]; }
round_doubt() { # round_doubt WORD STATE
	export DROVER_FAULT_RUN=$W/forget-b KILL_OF=$there
	launch_two migrate/sent=run '' || { fail "in doubt: it runs" "$(vm m .state)"; return; }
	rm -f "$W/forgotten"
	echo "$DROVERD_B" >"$W/b.pid"
	go_over migrate/sent
	wait_for "$patience" test -e "$W/forgotten" && wait_for "$patience" dead "$DROVERD_B" || { fail 'in doubt: the target is killed'; return; }
	unset DROVER_FAULT_RUN KILL_OF
	start_b "$W/bin/faulty"
	if ! wait_for "$patience" in_doubt; then
		fail 'in doubt: it says so' "$(vm m .migration)"
	elif ! says 'busy with migrate|cannot start it while it migrates' drover start m ||
		! says 'cannot stop it while it migrates' drover stop m ||
		! says 'migration to .* is not settled|busy|cannot remove' drover rm m; then
		fail 'in doubt: nobody else decides' "$(drover start m 2>&1)" "$(drover stop m 2>&1)"
	elif ! drover migrate m --resolve "$1" >"$W/output" 2>&1 || ! vm_wait m "$2" ||
		! wait_for "$patience" no_migrations; then
		fail "in doubt: $1" "$(cat "$W/output") $(api GET /vms/m/why)"
	elif [ "$1" = keep ] && ! count m 0002; then
		fail 'in doubt: kept, it goes on where it was' "$(drover log m)"
	else
		clean_two "in doubt: $1"
	fi
}

# The other side will never say its last word: a person ends what waits for it.
resolves() { drover migrate m --resolve "$1" >"$W/output" 2>&1; }
round_lost_target() {
	export DROVER_FAULT_RUN=$W/forget-b KILL_OF=$there
	launch_two migrate/gone=run '' || { fail 'lost target: it runs' "$(vm m .state)"; return; }
	rm -f "$W/forgotten"
	echo "$DROVERD_B" >"$W/b.pid"
	go_over migrate/gone
	wait_for "$patience" test -e "$W/forgotten" && wait_for "$patience" dead "$DROVERD_B" || { fail 'lost target: it is killed'; return; }
	unset DROVER_FAULT_RUN KILL_OF
	if ! wait_for "$patience" at_rest_at_a || ! says 'is not settled yet' drover rm m --disks ||
		! wait_for "$patience" says 'it was taken by unix:' drover migrate m --resolve keep; then
		fail 'lost target: nothing is decided here' "$(vm m .)"
	elif ! wait_for "$patience" resolves give || ! wait_for "$patience" no_migrations || ! vm_is m stopped; then
		fail 'lost target: it is forgotten' "$(cat "$W/output") $(vm m .)"
	else
		start_b
		clean_two 'lost target: a person says so'
	fi
}

# While the source's hypervisor is there its record is not for a person to end: without it the next
# daemon would take what stands still in it for its own. The question waits for droverd in its socket.
cat >"$W/forget-early" <<'END'
#!/bin/sh
for p in $(pgrep -f '^[^ ]*qemu-system-[^ ]* .*guest=m,'); do
	grep -qsz "^DROVER_OWNER=/run/drover:" "/proc/$p/environ" && kill -STOP "$p"
done
(drover migrate m --resolve give >"$W/early" 2>&1; touch "$W/asked") &
sleep 1
exec "$W/forget-b"
END
chmod +x "$W/forget-early"
round_early() {
	export DROVER_FAULT_RUN=$W/forget-early KILL_OF=$there
	launch_two migrate/gone=run '' || { fail 'asked early: it runs' "$(vm m .state)"; return; }
	rm -f "$W/forgotten" "$W/asked"
	echo "$DROVERD_B" >"$W/b.pid"
	go_over migrate/gone
	wait_for "$patience" test -e "$W/forgotten" && wait_for "$patience" test -e "$W/asked" &&
		wait_for "$patience" dead "$DROVERD_B" || { fail 'asked early: it was asked'; return; }
	unset DROVER_FAULT_RUN KILL_OF
	if ! grep -q 'its hypervisor here has not ended yet' "$W/early"; then
		fail 'asked early: it is refused' "$(cat "$W/early")"
	elif ! wait_for "$patience" resolves give || ! wait_for "$patience" no_migrations || ! vm_is m stopped; then
		fail 'asked early: it is forgotten when that has ended' "$(cat "$W/output") $(vm m .)"
	else
		start_b
		clean_two 'asked early: when its hypervisor has ended'
	fi
}

round_lost_source() {
	launch_two migrate/taken=kill '' || { fail 'lost source: it runs' "$(vm m .state)"; return; }
	go_over migrate/taken
	must_die 'lost source' migrate/taken=kill || return
	if ! wait_for "$patience" at_b vm_is m running ||
		! wait_for "$patience" at_b says 'was taken, and is here' drover migrate m --resolve give; then
		fail 'lost source: it is here' "$(at_b vm m .)"
	elif ! wait_for "$patience" at_b resolves keep || ! wait_for "$patience" at_b no_migrations; then
		fail 'lost source: it is forgotten' "$(cat "$W/output") $(at_b vm m .)"
	else
		# It was not lost: it cannot know, and asks a person.
		launch ''
		wait_for "$patience" in_doubt && resolves give ||
			{ fail 'lost source: it is back and in doubt' "$(vm m .migration)"; return; }
		one_runs 'lost source: a person says so'
	fi
}

# Of a migration with copies of the disks: what was copied, and what lies here, is one machine's.
round_copies() { # round_copies TABLE POINT
	reset_world
	copies=true
	"round_$1" "$1/$2"
	rounds=$((rounds + 1))
	case $1/$2 in
	migrate/copying | migrate/sent | receive/wanted | receive/arrived)
		reset_world
		round_hv "$1/$2" /run/drover
		reset_world
		round_hv "$1/$2" "$there"
		;;
	esac
	copies=false
}

# migrate_matrix TABLE
migrate_matrix() {
	local point
	namespace
	crash_config 16M
	baseline
	while read -r _ point _; do
		case $1/$point in
		migrate/disks | migrate/copying | receive/disks | receive/serving | receive/wanted)
			round_copies "$1" "$point"
			continue
			;;
		migrate/sent | migrate/giving | receive/loaded | receive/arrived | receive/dropped) round_copies "$1" "$point" ;;
		esac
		reset_world
		"round_$1" "$1/$point"
		rounds=$((rounds + 1))
		case $1/$point in
		migrate/sending | migrate/connected | migrate/sent | migrate/giving | migrate/taken | receive/arrived | receive/committed | receive/taken)
			reset_world
			round_hv "$1/$point" /run/drover
			reset_world
			round_hv "$1/$point" "$there"
			;;
		esac
	done < <("$W/bin/faulty" --fault-points | grep "^$1 ")
	if [ "$1" = migrate ]; then
		reset_world
		round_doubt keep running
		reset_world
		round_doubt give stopped
		reset_world
		round_lost_target
		reset_world
		round_early
		reset_world
		round_lost_source
	fi
	diag "$1: $rounds points to be killed at"
	[ $rounds -gt 0 ] || fail "$1: has no points"
	kill $NS
	done_testing
}

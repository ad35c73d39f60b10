# shellcheck shell=bash
# The crash matrix: at every fault point of the given tables droverd is killed, or the step fails,
# and started again. Afterwards the machine is as it was wanted, one hypervisor runs or none, and
# nothing is left behind. The points come from the program's own step tables
# (droverd --fault-points), so a new step is covered the day it is added.
. "$(dirname "$0")/lib.sh"
world_for droverd drover-jail drover-image faults/droverd
kernel=$(nano) disk=$(nano_disk)
mkdir -p "$W/bin"
ln -s "$B/faults/droverd" "$W/bin/faulty"
export DROVER_LIBEXEC=$B
# Where no cgroup can be made, an ordinary folder has to do.
cgroups=/sys/fs/cgroup/machines
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || ! mkdir $cgroups 2>/dev/null; then
	cgroups=$W/cgroups
	mkdir $cgroups
	export DROVER_CGROUP_FAKE=1
fi

stop_timeout=1
extra='' # a further line of [vm m], for a point that needs it
registry='' # a section that $network refers to
network='' # further lines of [network taps], and of [drover]: a bridge is there as long as droverd
cidr='cidr = 172.16.0.0/16'
leave=''
crash_config() { # crash_config MEMORY
	config <<-END
	cgroup_root = $cgroups
	$leave
	[network taps]
	$cidr
	$network
	$registry
	[vm m]
	kernel = $kernel
	rootfs = $disk
	memory = $1
	accel = tcg
	network = taps
	stop_timeout = $stop_timeout
	$extra
	END
}

hypervisors() { pgrep -c -f '^[^ ]*qemu-system-[^ ]* .*guest=m,' || true; }

# launch FAULT: droverd with the fault; an empty one is the program without faults.
launch() {
	starts=$((starts + 1))
	DROVER_FAULT=$1 "$W/bin/faulty" -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 </dev/null &
	DROVERD=$!
}

up() { api_is_up; }
reached() { grep -q "fault $1" "$W/droverd-$starts.log"; }

# What must hold at the end of every round; then all is put back for the next one.
settle() { # settle NAME STATE
	local pid
	launch ''
	wait_for "$patience" up || { fail "$1: the next droverd comes up" "$(tail -n 5 "$W/droverd-$starts.log")"; return; }
	if ! vm_wait m "$2"; then
		fail "$1: ends $2" "$(api GET /vms/m/why)"
	elif [ "$(hypervisors)" != "$([ "$2" = running ] && echo 1 || echo 0)" ]; then
		fail "$1: $2 with $(hypervisors) hypervisors" "$(pgrep -af qemu-system)"
	else
		clean_up "$1"
	fi
}

# The past of a round: a log or an event of the last one would be taken for one of this.
forget() {
	rm -rf "$W/state/vm" "$W/state/net" "$W/state/log" "$W/state"/events.jsonl* /run/drover
}

# Every run has ended, and the log tells each end once; no number is missing.
story_whole() {
	local runs
	runs=$(vm m .boot)
	jq -es --argjson runs "$runs" '
		([.[].seq] == [range(1; length + 1)]) and
		([.[] | select(.event == "ended" and .name == "m") | .boot] | sort) == [range(1; $runs + 1)]
	' "$W/state/events.jsonl"
}

clean_up() {
	api POST '/vms/m/stop?wait=60' >/dev/null
	vm_wait m stopped || { fail "$1: cannot be stopped afterwards" "$(api GET /vms/m)"; return; }
	story_whole >/dev/null ||
		{ fail "$1: one event for each end" "$(vm m .boot) runs" "$(<"$W/state/events.jsonl")"; return; }
	stop_droverd >"$W/output" || { fail "$1: droverd does not leave" "$(cat "$W/output")"; return; }
	if wait_for 15 audit_same; then
		pass "$1"
	else
		audit_same >"$W/left"
		fail "$1: something is left" "$(head -n 20 "$W/left")"
	fi
	forget
}

# What droverd has started bears its mark. Only for a shell that is the first of its namespace:
# there is no other droverd's process to be seen here.
end_marked() {
	local pid
	[ $$ = 1 ] || bail 'not in a process namespace of our own'
	for pid in $(grep -lsz '^DROVER_OWNER=/run/drover:' /proc/[0-9]*/environ | cut -d/ -f3); do
		kill -9 "$pid" 2>/dev/null
		wait_for 15 dead "$pid"
	done
}

no_cgroups() {
	if [ "${DROVER_CGROUP_FAKE-}" = 1 ]; then
		rm -rf "$cgroups"/*
	else
		rmdir "$cgroups"/* 2>/dev/null
		[ -z "$(find "$cgroups" -mindepth 1 -type d)" ]
	fi
}

# Between rounds nothing of the last one may be left, whatever went wrong in it.
reset_world() {
	[ -z "$DROVERD" ] || kill -9 "$DROVERD" 2>/dev/null
	end_marked
	DROVERD=''
	forget
	wait_for 10 no_cgroups
	nft flush ruleset
	echo 0 >/proc/sys/net/ipv4/ip_forward
	# Of a port whose ledger was just forgotten the next daemon would take what it finds for the
	# way it was.
	ip link set dummy0 nomaster down
	[ -n "$cidr" ] || ip link set dummy0 up
	crash_config 16M
}

# A daemon that ended instead of going on without something is followed by the next one.
up_or_next() {
	local old=$DROVERD
	wait_for "$patience" up_or_dead
	dead "$old" || return 0
	wait "$old" 2>/dev/null
	cp "$W/droverd-$starts.log" "$W/first.log"
	launch ''
	wait_for "$patience" up
}
up_or_dead() { up || dead "$DROVERD"; }

must_die() { # must_die NAME POINT
	wait_for "$patience" dead "$DROVERD" && wait "$DROVERD" 2>/dev/null
	if ! reached "$2"; then
		fail "$1: was not reached" "$(tail -n 8 "$W/droverd-$starts.log")"
		return 1
	fi
}

round_start() { # at a start: killed
	launch "$1=kill"
	must_die "$1 killed" "$1=kill" && settle "$1 killed" running
}

round_fail() { # at a start: the step fails with $2
	launch "$1=$2"
	wait_for "$patience" up
	if ! vm_wait m failed 30 || ! reached "$1=$2"; then
		fail "$1 $2: the machine fails" "$(api GET /vms/m)"
		return
	fi
	if ! says injected vm m .error || [ "$(hypervisors)" != 0 ]; then
		fail "$1 $2: says why, nothing runs" "$(api GET /vms/m)"
		return
	fi
	api POST '/vms/m/start?wait=60' >/dev/null
	vm_wait m running || { fail "$1 $2: starts when it works again" "$(api GET /vms/m)"; return; }
	clean_up "$1 $2"
}

# launch_to_stop POINT FAULT: a machine in the shape in which its stop comes to that point.
launch_to_stop() {
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	case $1 in
	stop/quit)
		# A guest that hangs does not heed its power button. What is sent before it is ready is
		# lost, and until it has heard us it would obey.
		wait_for "$patience" grep -q NANO-READY "$W/state/log/m/1.log"
		printf c | timeout 20 socat - "UNIX-CONNECT:/run/drover/vm/m/console.sock" >/dev/null
		wait_for "$patience" grep -q NANO-HANG "$W/state/log/m/1.log"
		;;
	stop/sigterm | stop/sigkill) kill -STOP "$(vm_pid m)" ;;
	esac
}

round_stop() { # at a stop: killed
	launch_to_stop "$1" kill
	api POST '/vms/m/stop' >/dev/null 2>&1
	must_die "$1 killed" "$1=kill" && settle "$1 killed" stopped
}

round_stop_fail() { # at a stop: the step fails with $2
	launch_to_stop "$1" "$2"
	api POST '/vms/m/stop?wait=60' >/dev/null
	if ! vm_wait m stopped || ! reached "$1=$2" || [ "$(hypervisors)" != 0 ]; then
		fail "$1 $2: it stops all the same" "$(api GET /vms/m/why)"
	elif [ "$(vm m .last_cause)" != requested ]; then
		fail "$1 $2: as it was asked to" "$(api GET /vms/m/why)"
	else
		clean_up "$1 $2"
	fi
}

runs_with_20m() {
	vm_is m running && tr '\0' ' ' <"/proc/$(vm_pid m)/cmdline" | grep -qE -- ' -m [^ ]*20'
}

round_reload() {
	launch "$1=kill"
	wait_for "$patience" vm_is m running
	crash_config 20M
	kill -HUP "$DROVERD"
	must_die "$1 killed" "$1=kill" || return
	# Whether the old or the new daemon restarts it: in the end it runs from the new file.
	launch ''
	wait_for "$patience" up
	if wait_for 60 runs_with_20m && [ "$(hypervisors)" = 1 ]; then
		clean_up "$1 killed"
	else
		fail "$1 killed: runs from the new file" "$(api GET /vms/m) $(tail -n 8 "$W/droverd-$starts.log")"
	fi
}

round_reload_fail() { # the reload fails with $2
	local pid
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	crash_config 20M
	# A plan that cannot be carried out as a whole is gone on with.
	if [ "$1" = reload/action ]; then
		api POST /reload >/dev/null
		wait_for "$patience" runs_with_20m && reached "$1=$2" && [ "$(hypervisors)" = 1 ] &&
			clean_up "$1 $2" || fail "$1 $2: it is tried again" "$(api GET /vms/m)"
		return
	fi
	if says injected api POST /reload && reached "$1=$2" &&
		[ "$(vm_pid m)" = "$pid" ] && ! runs_with_20m; then
		api POST /reload >/dev/null
		wait_for "$patience" runs_with_20m && clean_up "$1 $2" ||
			fail "$1 $2: the next reload is applied" "$(api GET /vms/m)"
	else
		fail "$1 $2: says why and changes nothing" "$(api GET /vms/m)"
	fi
}

# adopted_as PID: it runs, with that process and no other.
adopted_as() { vm_is m running && [ "$(vm_pid m)" = "$1" ] && [ "$(hypervisors)" = 1 ]; }

round_adopt_fail() { # the step fails with $2: what runs must not be taken for gone
	local pid
	launch ''
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	kill -9 "$DROVERD"
	wait "$DROVERD" 2>/dev/null
	launch "$1=$2"
	if wait_for "$patience" adopted_as "$pid" && reached "$1=$2" &&
		wait_for "$patience" no_differences; then
		clean_up "$1 $2"
	else
		fail "$1 $2: adopted in the end, with the same process" "$(api GET /vms/m)"
	fi
}

no_differences() { api GET /doctor | jq -se 'any(.[]; .differences == [])'; }

round_boot_fail() { # the step fails with $2: the same process, now or with the next daemon
	local pid
	launch ''
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	kill -9 "$DROVERD"
	wait "$DROVERD" 2>/dev/null
	: >"$W/first.log"
	launch "$1=$2"
	up_or_next
	if wait_for "$patience" adopted_as "$pid" && { reached "$1=$2" || grep -q "fault $1=$2" "$W/first.log"; }; then
		clean_up "$1 $2"
	else
		fail "$1 $2: adopted with the same process" "$(api GET /vms/m) $(tail -n 8 "$W/droverd-$starts.log")"
	fi
}

round_first_plan_fail() { # the first plan cannot be made with $2: then a little later
	launch "$1=$2"
	wait_for "$patience" up
	if vm_wait m running && reached "$1=$2" && [ "$(hypervisors)" = 1 ]; then
		clean_up "$1 $2"
	else
		fail "$1 $2: what is wanted is started in the end" "$(tail -n 8 "$W/droverd-$starts.log")"
	fi
}

recorded() { jq -se --argjson pid "$1" 'any(.[]; .pid == $pid)' "$W/state/vm/m/state.json"; }

round_record_fail() { # the state file cannot be written with $2 for once: the process is not lost
	local pid
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	if ! wait_for "$patience" recorded "$pid" || ! reached "$1=$2"; then
		fail "$1 $2: it is written later" "$(<"$W/state/vm/m/state.json")"
		return
	fi
	kill -9 "$DROVERD"
	wait "$DROVERD" 2>/dev/null
	launch ''
	if wait_for "$patience" adopted_as "$pid"; then
		clean_up "$1 $2"
	else
		fail "$1 $2: the next daemon knows it" "$(api GET /vms/m)"
	fi
}

round_release_fail() { # an object cannot be released with $2: whoever comes next does it
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	api POST '/vms/m/stop?wait=60' >/dev/null
	if ! vm_wait m stopped || ! wait_for "$patience" reached "$1=$2" || [ "$(hypervisors)" != 0 ]; then
		fail "$1 $2: it stops all the same" "$(api GET /vms/m/why)"
		return
	fi
	case $2 in
	ENOSPC) # the next run of the machine
		api POST '/vms/m/start?wait=60' >/dev/null
		vm_wait m running && [ "$(hypervisors)" = 1 ] ||
			{ fail "$1 $2: starts over what is left" "$(api GET /vms/m)"; return; }
		;;
	EPERM) # a person
		api POST '/doctor?fix=1' >/dev/null
		;;
	*) # the next daemon
		kill -9 "$DROVERD"
		wait "$DROVERD" 2>/dev/null
		launch ''
		wait_for "$patience" up
		;;
	esac
	clean_up "$1 $2"
}

round_boot() {
	local pid
	launch ''
	wait_for "$patience" vm_is m running
	pid=$(vm_pid m)
	kill -9 "$DROVERD"
	wait "$DROVERD" 2>/dev/null
	launch "$1=kill"
	must_die "$1 killed" "$1=kill" || return
	launch ''
	wait_for "$patience" up && vm_wait m running
	if adopted_as "$pid"; then
		clean_up "$1 killed"
	else
		fail "$1 killed: adopted with the same process" "$(api GET /vms/m)"
	fi
}

round_network_fail() { # a network cannot be made with $2: it is tried again, and so can be its machines
	launch "$1=$2"
	wait_for "$patience" up
	if ! wait_for "$patience" reached "$1=$2"; then
		fail "$1 $2: was not reached" "$(tail -n 8 "$W/droverd-$starts.log")"
		return
	fi
	wait_for "$patience" runs_or_failed
	api POST '/vms/m/start?wait=60' >/dev/null
	vm_wait m running && clean_up "$1 $2" || fail "$1 $2: runs in the end" "$(api GET /vms/m)"
}
runs_or_failed() { vm_is m running || vm_is m failed; }

# The only prefix there is to delegate is leased, to somebody whom kea does not know.
leased() {
	mkdir -p "$W/state/net"
	echo "fd00:57::,00,4000000,$(($(date +%s) + 4000000)),1,4000000,2,1,64,0,0,,,0,,," >"$W/state/net/taps.leases6"
}

round_leave() { # when droverd leaves and takes all down: killed
	launch "$1=kill"
	wait_for "$patience" vm_is m running
	kill -TERM "$DROVERD"
	must_die "$1 killed" "$1=kill" && settle "$1 killed" running
}

round_leave_fail() { # an object cannot be released with $2: the next daemon has it
	launch "$1=$2"
	wait_for "$patience" vm_is m running
	kill -TERM "$DROVERD"
	wait_for "$patience" dead "$DROVERD" && wait "$DROVERD" 2>/dev/null
	reached "$1=$2" || { fail "$1 $2: was not reached"; return; }
	settle "$1 $2" running
}

crash_matrix() { # crash_matrix TABLE...
	local table point how n fails
	crash_config 16M
	# A link that a network with a bridge takes as its port.
	ip link add dummy0 type veth peer name dummy1
	ip link set dummy0 up && ip link set dummy0 down # the first time is another
	ip link add host0 address 02:00:00:00:00:01 type bridge # and one on a bridge of the host
	sysctl -qw net.ipv6.conf.host0.disable_ipv6=1 # whose own would come and go with its ports
	ip link set host0 up
	# What is shared has to be up, and is the host's.
	[ "$1" != macvtap ] || ip link set dummy0 up
	baseline
	for table; do
		n=0 fails=0
		while read -r _ point how; do
			extra=''
			case $table/$point in
			stop/agent) extra='agent = yes' ;;
			# The board that takes devices without slots.
			nic/*) extra='machine = pc' ;;
			freeze/*) extra=$'warm = yes\nagent = yes\nhealth = console:NANO-READY' ;;
			start/volumes | start/firmware) extra='volume = v size=1M' ;;
			# A helper has something to leave behind from its step on.
			start/probe | start/helpers | start/spec | start/spawn | run/* | adopt/* | release/process)
				extra='tpm = yes'
				;;
			esac
			network='' leave='' registry='' cidr='cidr = 172.16.0.0/16'
			case $table/$point in
			attach/*) network='cidr6 = fd00:56::/48' ;;
			release/ifb) network='rate = 10M/10M' ;;
			release/address) network=$'kind = bridge\nbridge = host0' leave='on_exit = stop' ;;
			network/* | port/* | release/bridge | release/nft-elements | release/reservation | release/port | release/mirror | release/route)
				network=$'kind = bridge\nport = dummy0\ncidr6 = fd00:55::/64\ndhcp6 = yes'
				leave='on_exit = stop'
				;;
			esac
			case $table/$point in
			network/mirror* | network/firewall | release/mirror)
				network+=$'\nmirror = r'
				registry=$'[registry r]\nupstream = https://ghcr.io\nlisten = 127.0.0.1:5000\noffline = yes'
				;;
			esac
			case $table/$point in
			network/servers6 | network/dnsmasq | release/route)
				network+=$'\ndelegate = fd00:57::/64'
				;;
			esac
			case $table in
			user) network='kind = user' extra='forward = 8080:80' ;;
			macvtap) cidr='' network=$'kind = macvtap\nport = dummy0' ;;
			esac
			reset_world
			n=$((n + 1))
			case $table/$point in
			release/bridge | release/port | release/nft-elements | release/mirror | release/address | release/route)
				leased
				round_leave "$table/$point"
				for code in ${codes:-ENOSPC EMFILE ENOMEM EPERM}; do
					reset_world
					leased
					round_leave_fail "$table/$point" $code
				done
				continue
				;;
			esac
			case $table in
			start | run | attach | network | port | user | macvtap | service) round_start "$table/$point" ;;
			stop | teardown | release) round_stop "$table/$point" ;;
			reload) round_reload "$table/$point" ;;
			boot | adopt) round_boot "$table/$point" ;;
			snapshot | suspend | restore | clone | nic | freeze | warm) "round_$table" "$table/$point" ;;
			*) fail "table $table has no round: write one" ;;
			esac
			case $table in
			snapshot | suspend | restore)
				reset_world
				"round_${table}_hv" "$table/$point"
				;;
			esac
			[ "$how" = 'kill fail' ] || continue
			fails=$((fails + 1))
			for code in ${codes:-ENOSPC EMFILE ENOMEM EPERM}; do
				reset_world
				case $table/$point in
				run/record) round_record_fail "$table/$point" $code ;;
				network/*) round_network_fail "$table/$point" $code ;;
				release/*) round_release_fail "$table/$point" $code ;;
				boot/first-plan) round_first_plan_fail "$table/$point" $code ;;
				boot/*) round_boot_fail "$table/$point" $code ;;
				stop/* | teardown/*) round_stop_fail "$table/$point" $code ;;
				reload/*) round_reload_fail "$table/$point" $code ;;
				adopt/*) round_adopt_fail "$table/$point" $code ;;
				snapshot/* | suspend/* | restore/* | clone/* | nic/* | freeze/* | warm/*) "round_${table}_fail" "$table/$point" $code ;;
				*) round_fail "$table/$point" $code ;;
				esac
			done
		done < <("$W/bin/faulty" --fault-points | grep "^$table ")
		diag "$table: $n points to be killed at, $fails of them to fail at"
		[ $n -gt 0 ] || fail "$table: has no points"
	done
	# Nobody may forget a table.
	"$W/bin/faulty" --fault-points | cut -d' ' -f1 | sort -u >"$W/tables"
	is "$(sed -n 's/^crash_matrix //p' "$(dirname "$0")"/crash-*.t | tr ' ' '\n' | sort)" \
		"$(cat "$W/tables")" 'every table is in one of the tests'
	done_testing
}

# shellcheck shell=bash
# The benchmarks of many machines: reload, plan, list, adoption, kills in a storm of starts, what an
# idle daemon does and what a machine costs. Sourced by run. The floor has nothing to say here. Where
# the daemon alone is measured, the hypervisors are tests/fakes/fake-qemu.

fake_machines() { # fake_machines COUNT [LINE]
	cat <<-END
	[template bench]
	binary = $B/fakes/fake-qemu
	kernel = $kernel
	memory = 16M
	accel = tcg
	stop_timeout = 0
	jail = no
	${2-}
	END
	for i in $(seq "$1"); do printf '[vm f%04d]\ntemplate = bench\n' "$i"; done
}

running() { api GET /vms | jq '[.[] | select(.state == "running" or .state == "paused")] | length'; }
all_run() { [ "$(running)" = "$1" ]; }
ask() { clock call "$DROVER_SOCKET" "$@"; }
kill_all() {
	local -a paths
	mapfile -t paths < <(api GET /vms | jq -r '.[] | select(.pid) | "/vms/\(.name)/kill?wait=60"')
	[ ${#paths[@]} = 0 ] || ask POST "${paths[@]}" >/dev/null
}
fresh_daemon() { # one without a past
	rm -rf "$W/state" && mkdir "$W/state"
	start_droverd
}

# adopt COUNT ROW: kill -9 of droverd; milliseconds from the exec of the next one until its API lists
# them all. That is more than the adoption: the load of the configuration, the look for strays and
# the first plan are in it.
adopt() {
	stop_droverd KILL
	rm -f "$W/adopted"
	"$bench" boot "$DROVER_SOCKET" "$1" "$W/adopted" droverd -c "$W/drover.ini" \
		>"$W/droverd-adopts.log" 2>&1 </dev/null &
	DROVERD=$!
	wait_for "$patience" test -s "$W/adopted" || bail 'the machines are not adopted'
	sample "$2.drover" <"$W/adopted"
}

wakeups() { awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$DROVERD/task/$DROVERD/status"; }

progress "reload of and plan for 1000 machines, $rounds rounds"
fake_machines 1000 'autostart = no' | config
fresh_daemon
for _ in $(seq "$rounds"); do
	ask POST /reload | sample reload-1000.drover
	ask GET /plan | sample plan-1000.drover
done
stop_droverd || bail 'droverd does not end'

progress "adoption of 20 real machines, $rounds rounds"
machines 20 | config
fresh_daemon
wait_for "$patience" all_run 20 || bail 'the machines do not start'
for _ in $(seq "$rounds"); do adopt 20 adopt-20; done
kill_all
stop_droverd || bail 'droverd does not end'

progress 'an idle daemon with 100 machines'
fake_machines 100 | config
fresh_daemon
wait_for "$patience" all_run 100 || bail 'the machines do not start'
sleep 5
before=$(wakeups)
sleep 60
echo "$(($(wakeups) - before))" | awk '{ print $1 / 60 }' >"$W/idle-100.drover"
kill_all
stop_droverd || bail 'droverd does not end'

progress "list and adoption of 500 machines, $rounds rounds"
fake_machines 500 | config
fresh_daemon
wait_for "$patience" all_run 500 || bail 'the machines do not start'
sleep 2
anonymous >"$W/anonymous-500"
paste "$W/anonymous-0" "$W/anonymous-500" | awk '{ print ($2 - $1) / 500 }' >"$W/memory-500.drover"
for _ in $(seq "$rounds"); do
	ask GET /vms | sample list-500.drover
	adopt 500 adopt-500
done
kill_all
stop_droverd || bail 'droverd does not end'

# Kills one machine after the other for as long as the others start: real ones all of them.
progress "kills while $many others start, $rounds rounds"
{
	machines $many 'autostart = no'
	for i in $(seq 20); do printf '[vm k%02d]\ntemplate = bench\n' "$i"; done
} | config
fresh_daemon
victims=$(seq -f 'k%02.0f' 20)
group start $many >/dev/null
group stop $many >/dev/null
# A p99 of fewer than a hundred would be their maximum.
for _ in $(seq $((rounds > 6 ? rounds : 6))); do
	# shellcheck disable=SC2046
	ask POST $(printf '/vms/%s/start?wait=60 ' $victims) >/dev/null
	# shellcheck disable=SC2046
	clock storm "$DROVER_SOCKET" hypervisor-crash $(seq -f '/vms/m%02.0f/start?wait=60' $many) -- \
		$(api GET /vms | jq -r '.[] | select(.name[:1] == "k") | "\(.name) \(.pid)"') |
		sample kill-storm.all
	group stop $many >/dev/null
done
storm_kills=$(wc -l <"$W/kill-storm.all")
[ "$storm_kills" -ge 100 ] || bail "only $storm_kills kills fell into the starts: too few for a p99"
p99() { sort -n | awk '{ v[NR] = $1 } END { i = int(NR * 0.99); print v[i < NR * 0.99 ? i + 1 : i] }'; }
cut -d' ' -f1 "$W/kill-storm.all" | p99 >"$W/kill-storm.drover"
cut -d' ' -f2 "$W/kill-storm.all" | p99 >"$W/kill-storm.floor"
kill_all
stop_droverd || bail 'droverd does not end'

# One machine, started and stopped a thousand times: what it leaves behind in the daemon's memory
# must fit into what a machine may cost.
progress '1000 starts and stops'
fake_machines 1 'autostart = no' | config
fresh_daemon
cycles() { # cycles COUNT
	local i
	for i in $(seq "$1"); do
		start f0001
		stop f0001
	done >/dev/null
}
cycles 200
anonymous >"$W/before"
cycles 1000
anonymous | paste "$W/before" - | awk '{ print $2 - $1 }' >"$W/memory-cycles.drover"
stop_droverd || bail 'droverd does not end'

row reload-1000 ms most 50 "$rounds" 'reload of 1000 machines, nothing changed'
row plan-1000 ms most 20 "$rounds" 'plan for 1000 machines'
row adopt-20 ms most 60 "$rounds" 'exec of droverd -> 20 real QEMU adopted'
row adopt-500 ms most 1000 "$rounds" 'exec of droverd -> 500 fakes adopted'
row list-500 ms most 5 "$rounds" 'list of 500 machines over the API'
row kill-storm ms most 5 "$storm_kills" "kill -9 -> event while $many others start (p99); floor: -> its pidfd"
row idle-100 /s most 0.2 1 'wake-ups of an idle daemon with 100 machines'
row memory-500 KB most 40 1 'more anonymous memory for each machine (500 fakes)'
row memory-cycles KB most 40 1 'growth over 1000 starts and stops of one machine'

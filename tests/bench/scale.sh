# shellcheck shell=bash
# The benchmarks of many machines: reload, plan, list, adoption, what an idle daemon does and
# what a machine costs. Sourced by run. The floor has nothing to say here. Where
# the daemon alone is measured, the hypervisors are tests/fakes/fake-qemu.

running() { api GET /vms | jq '[.[] | select(.state == "running" or .state == "paused")] | length'; }
all_run() { [ "$(running)" = "$1" ]; }

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

row reload-1000 ms most 50 "$rounds" 'reload of 1000 machines, nothing changed'
row plan-1000 ms most 20 "$rounds" 'plan for 1000 machines'
row adopt-20 ms most 60 "$rounds" 'exec of droverd -> 20 real QEMU adopted'
row adopt-500 ms most 1000 "$rounds" 'exec of droverd -> 500 fakes adopted'
row list-500 ms most 5 "$rounds" 'list of 500 machines over the API'
row idle-100 /s most 0.2 1 'wake-ups of an idle daemon with 100 machines'
row memory-500 KB most 40 1 'more anonymous memory for each machine (500 fakes)'

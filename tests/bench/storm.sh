# shellcheck shell=bash
# Kills one machine after the other for as long as the others start, real ones all of them, and
# takes the time until that is known (storm.c). What is known to whom, and when, is the scheduler's
# business first: the bare watcher, which has a pidfd and nothing else, shows what part of it is.
# Each kind of watcher is there twice: at nice 0, like most clients, and at $nice. Sourced by run.
nice=-10

# As a service manager starts it: in a session of its own.
launch_service() {
	starts=$((starts + 1))
	setsid droverd -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 </dev/null &
	DROVERD=$!
	wait_for "$patience" drover_up_or_dead || bail 'droverd does not answer'
}

storm_rounds=$((rounds > 6 ? rounds : 6)) # a p99 of fewer than a hundred would be their maximum
progress "kills while $many others start, $storm_rounds rounds"
{
	machines $many 'autostart = no'
	for i in $(seq 20); do printf '[vm k%02d]\ntemplate = bench\n' "$i"; done
} | config
rm -rf "$W/state" && mkdir "$W/state"
launch_service
victims=$(seq -f 'k%02.0f' 20)
group start $many >/dev/null
for i in $(seq $many); do
	m=$(printf 'm%02d' "$i")
	cp "/proc/$(vm_pid "$m")/cmdline" "$W/$m.cmd"
done
group stop $many >/dev/null
for _ in $(seq "$storm_rounds"); do
	# shellcheck disable=SC2046
	ask POST $(printf '/vms/%s/start?wait=60 ' $victims) >/dev/null
	# shellcheck disable=SC2046
	"$B/bench/storm" "$DROVER_SOCKET" hypervisor-crash $nice \
		$(seq -f '/vms/m%02.0f/start?wait=60' $many) -- \
		$(api GET /vms | jq -r '.[] | select(.name[:1] == "k") | "\(.name) \(.pid)"') \
		>"$W/storm" || bail 'bench/storm'
	cat "$W/storm" >>"$W/storm.all"
	group stop $many >/dev/null
done
storm_kills=$(wc -l <"$W/storm.all")
[ "$storm_kills" -ge 100 ] || bail "only $storm_kills kills fell into the starts: too few for a p99"
p99() { cut -d' ' -f"$1" "$W/storm.all" | sort -n |
	awk '{ v[NR] = $1 } END { i = int(NR * 0.99); print v[i < NR * 0.99 ? i + 1 : i] }'; }
p99 1 >"$W/kill-storm.drover"
p99 2 >"$W/kill-storm.floor"
p99 3 >"$W/kill-storm-nice.drover"
p99 4 >"$W/kill-storm-nice.floor"
p99 5 >"$W/kill-storm-own.drover"
for i in 1 2 3 4 5; do
	cut -d' ' -f$i "$W/storm.all" >"$W/storm.column"
	echo "$i: median $(median "$W/storm.column"), p99 $(p99 $i)"
done >"$B/storm.txt"
kill_all
stop_droverd || bail 'droverd does not end'

row kill-storm ms most 5 "$storm_kills" "kill -9 -> event while $many start (p99, client at nice 0); floor: its pidfd"
row kill-storm-nice ms most 5 "$storm_kills" "the same, client and bare watcher both at nice $nice"
row kill-storm-own ms most 5 "$storm_kills" "the daemon's part: kill -9 -> time in the event"

# shellcheck shell=bash
# Sourced by run.
#
# query-status by the passthrough, against the same at a monitor of the same QEMU's own: one after
# the other, each answer awaited.
progress "the passthrough, $rounds rounds"
trips=1000
machines 1 "qemu_args = -qmp unix:$W/direct.sock,server=on,wait=off" | config
fresh_daemon
vm_wait m01 paused || bail 'the machine does not come up'
trip() { # trip SOCKET: the median, in microseconds
	"$B/fakes/qmp-stress" time "$1" $trips | awk '{ print $1 }'
}
for _ in $(seq "$rounds"); do
	trip "$W/direct.sock" | sample passthrough.floor
	trip /run/drover/vm/m01/qmp.sock | sample passthrough.drover
done
kill_all
stop_droverd || bail 'droverd does not end'

row passthrough us times 1.3 "$rounds" "query-status by the passthrough; floor: a monitor of the same QEMU (medians of $trips)"

# The longest turn of the loop while a monitor tells events faster than anybody wants them: as droverd
# measures it (SIGUSR1), and as a client of another machine's monitor sees it from outside. droverd and
# that client go before all others, or it would be the time slices of those that are measured.
fake_machines 2 'qmp_write = yes' | config
fresh_daemon
for m in f0001 f0002; do vm_wait $m running || bail "$m does not come up"; done
chrt --all-tasks --reset-on-fork --fifo --pid 1 "$DROVERD" || bail chrt
report() { # asks for one; the longest turn since the last, in milliseconds
	reports=$(($(droverd_log | grep -c 'loop: ') + 1))
	kill -USR1 "$DROVERD"
	wait_for "$patience" has_reports || bail 'no report of the turns'
	droverd_log | sed -n 's/.*loop: .* longest took \([0-9.]*\) ms.*/\1/p' | tail -n 1
}
has_reports() { [ "$(droverd_log | grep -c 'loop: ')" -ge "$reports" ]; }
report >/dev/null
for _ in $(seq "$rounds"); do
	report >/dev/null
	"$B/fakes/qmp-stress" events /run/drover/vm/f0001/qmp.sock /run/drover/vm/f0002/qmp.sock \
		10 10000 | sample events-wait.drover
	[ "${PIPESTATUS[0]}" = 0 ] || bail 'qmp-stress events'
	report | sample events-turn.drover
done
kill_all
stop_droverd || bail 'droverd does not end'

row events-turn ms most 5 "$rounds" '10,000 events to 10 clients, the longest turn of the loop'
row events-wait ms most 5 "$rounds" 'the same, the longest that another client waited'

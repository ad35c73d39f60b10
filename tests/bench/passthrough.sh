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

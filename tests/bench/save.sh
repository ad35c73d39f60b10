# shellcheck shell=bash
# Sourced by run.
#
# Pause, resume, snapshots and their restores of a guest with 128 MB, beside the same
# commands given to a QEMU that nobody supervises.
progress "pause, resume and snapshot of a guest with 128 MB, $rounds rounds"
rm -rf "$W/state" && mkdir "$W/state"
config <<END
[vm big]
kernel = $kernel
memory = 128M
accel = tcg
stop_timeout = 0
jail = no
END
start_droverd
vm_wait big running || bail 'the machine does not run'
tr '\0' '\n' <"/proc/$(vm_pid big)/cmdline" | tr '\n' '\0' >"$W/big.cmd"
# curl's own clock: from before the connection to the last byte.
timed() { api "$@" -o "$W/answer" -w '%{time_total}\n' | awk '{ printf "%.3f\n", $1 * 1000 }'; }
for i in $(seq "$rounds"); do
	# The floor's, too, are the second ones in a row.
	clock call "$DROVER_SOCKET" POST '/vms/big/pause?wait=60' >/dev/null
	clock call "$DROVER_SOCKET" POST '/vms/big/resume?wait=60' >/dev/null
	clock call "$DROVER_SOCKET" POST '/vms/big/pause?wait=60' | sample pause.drover
	clock call "$DROVER_SOCKET" POST '/vms/big/resume?wait=60' | sample resume.drover
	timed POST '/vms/big/snapshots?wait=60' -d "{\"name\":\"s$i\"}" | sample snapshot.drover
	jq -e '.state == "done"' "$W/answer" >/dev/null || bail "snapshot: $(cat "$W/answer")"
	timed POST "/vms/big/snapshots/s$i/restore?wait=60" | sample restore.drover
	jq -e '.state == "done"' "$W/answer" >/dev/null || bail "restore: $(cat "$W/answer")"
	drover snapshot delete big "s$i" >/dev/null
	"$floor" save "$W/big.cmd" 1 >"$W/one" || bail 'floor'
	cut -d' ' -f1 "$W/one" | sample pause.floor
	cut -d' ' -f2 "$W/one" | sample resume.floor
	cut -d' ' -f3 "$W/one" | sample snapshot.floor
	"$floor" restore "$W/big.cmd" | sample restore.floor
	[ "${PIPESTATUS[0]}" = 0 ] || bail 'floor'
done
drover kill big >/dev/null
stop_droverd || bail 'droverd does not end'

row pause ms above 0.5 "$rounds" 'pause request -> done; floor: QMP stop'
row resume ms above 0.5 "$rounds" 'resume request -> done; floor: QMP cont'
row snapshot ms times 1.2 "$rounds" 'snapshot of a guest with 128 MB; floor: QMP, fsync'
row restore ms times 1.2 "$rounds" 'its restore; floor: quit, the same QEMU anew, QMP'

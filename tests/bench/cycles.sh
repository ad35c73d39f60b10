# shellcheck shell=bash
# Sourced by run.
#
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

row memory-cycles KB most 40 1 'growth over 1000 starts and stops of one machine'

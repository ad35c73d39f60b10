#!/usr/bin/env bash
# Some of the crash matrix's rounds of a migration (crash-migrate.sh) with cloud-hypervisors, where the
# owner is not a matter of who is told to run, but of who has the stream: source, target and both
# hypervisors are killed around the points where it goes from one to the other.
. "$(dirname "$0")/crash-migrate.sh"
. "$(dirname "$0")/ch-migrate-lib.sh"
crash_config() { machine "$extra" | sed "1i cgroup_root = $cgroups" | config; }
touch_memory() { wait_for "$patience" vm_is "$1" running; }
cat >"$W/kill-hv" <<END
#!/bin/sh
for p in \$(pgrep -f '^$W/bin/ch '); do
	grep -qsz "^DROVER_OWNER=\$KILL_OF:" "/proc/\$p/environ" && kill -9 "\$p"
done
exit 0
END
fake 'memory 4000000'

rounds_of() { # rounds_of ROUND POINT...
	local round=$1 point
	for point in "${@:2}"; do
		reset_world
		rm -f "$W/witness.both"
		if [ "$round" = hv ]; then
			round_hv "$point" /run/drover
			reset_world
			round_hv "$point" "$there"
		else
			"round_$round" "$point"
		fi
		! both_ran || fail "$point: it has run on both sides"
	done
}

namespace
crash_config
baseline
rounds_of migrate migrate/{connected,sent,giving,taken,keeping}
rounds_of receive receive/{connected,arrived,committed,taken}
rounds_of hv migrate/sent receive/arrived
reset_world
round_doubt keep running
kill $NS
done_testing

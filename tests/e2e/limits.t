#!/usr/bin/env bash
# Limits: each machine has its own cgroup below the tree that it is given; limits are written there,
# changed while it runs, found again by the next droverd; a kill for want of memory is named as such;
# where there is no tree, or it lacks a controller, the machine runs and says so. Controllers are
# played by an ordinary folder; processes, kill and removal are tested on real cgroups where there are.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
fake=/run/cgroups
mkdir $fake

# write ROOT LIMITS
write() {
	config <<END
${1:+cgroup_root = $1}
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
[vm limited]
template = nano
rootfs = $disk
$2
[vm plain]
template = nano
[vm bare]
template = nano
jail = no
pids_limit = 100
END
}
limits='memory_limit = yes
memory_overhead = 64M
memory_high = 70M
cpu_limit = 250
cpu_weight = 50
io_weight = 200
pids_limit = 40'
conditions() { vm "$1" '.conditions | join(" ")'; }
values() { # values FOLDER FILE...: of the files, one line
	local dir=$1 f
	shift
	for f; do printf '%s=%s;' "$f" "$(cat "$dir/$f" 2>&1)"; done
}
all='memory.max memory.high cpu.max cpu.weight io.weight pids.max'
baseline

# --- limits, in a folder that plays the tree ---

export DROVER_CGROUP_FAKE=1
write $fake "$limits"
start_droverd
for m in limited plain bare; do ok "$m runs" vm_wait $m running; done
g=$fake/vm:default:limited
is "$(values $g $all)" \
	'memory.max=83886080;memory.high=73400320;cpu.max=250000 100000;cpu.weight=50;io.weight=default 200;pids.max=40;' \
	'its limits are written'
is "$(values $fake/vm:default:plain memory.max pids.max cpu.max)" \
	'memory.max=1361051648;pids.max=max;cpu.max=max 100000;' \
	'a machine that asks for none has what keeps the host from harm: 16M, 256M, an eighth, 1G for TCG'
is "$(cat $g/cgroup.procs)" "$(ps -o ppid= "$(vm_pid limited)" | tr -d ' ')" 'its jail entered, and the hypervisor with it'
is "$(cat $fake/vm:default:bare/cgroup.procs)" "$(vm_pid bare)" 'without a jail the hypervisor'
is "$(conditions limited)$(conditions plain)$(conditions bare)" '' 'nobody has a condition'
ok 'the ledger knows' contains /run/drover/ledger/vm:limited '"cgroup"'

# Live.
pid=$(vm_pid limited)
write $fake "${limits/cpu_limit = 250/}
cpu_limit = 50
memory = 32M"
sed -i 's/memory_overhead = 64M/memory_overhead = 96M/' "$W/drover.ini"
sed -i 's/^memory = 32M$//' "$W/drover.ini"
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name, (.keys | sort | join(" "))]]')" \
	'[["update","limited","cpu_limit memory_overhead"]]' 'a changed limit is applied live'
drover reload >/dev/null
is "$(values $g memory.max cpu.max pids.max)" 'memory.max=117440512;cpu.max=50000 100000;pids.max=40;' \
	'and is'
is "$(vm_pid limited)" "$pid" 'without a restart'

# Of its disk's device; there is none in a filesystem like overlayfs or tmpfs.
sed -i 's/^memory_high = 70M$/memory_high = 80M\nmemory_limit = no\nio_read_limit = 1M\nio_write_ops = 50/; /^memory_limit = yes$/d' "$W/drover.ini"
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name, (.keys | sort | join(" "))]]')" \
	'[["update","limited","io_read_limit io_write_ops memory_high memory_limit"]]' 'so are those of the disk and a soft one'
drover reload >/dev/null
is "$(values $g memory.max memory.high)" 'memory.max=max;memory.high=83886080;' 'and are'
if [ "$(stat -c %Hd "$(jq -r .disk "$W/state/vm/limited/state.json")")" = 0 ]; then
	is "$(conditions limited)" no-cgroup 'the disk has no device: a condition'
	like "$(drover why limited)" 'no block device of its own' 'that says so'
else
	like "$(cat $g/io.max)" '^[0-9]+:[0-9]+ rbps=1048576 wbps=max riops=max wiops=50$' 'for the device of its disk'
	is "$(conditions limited)" '' 'without a condition'
fi
sed -i '/^io_read_limit\|^io_write_ops/d; /^memory_high = 80M$/d; s/^memory_limit = no$/memory_limit = yes/' "$W/drover.ini"
drover reload >/dev/null
is "$(conditions limited),$(values $g memory.max memory.high)" ',memory.max=117440512;memory.high=max;' 'and taken back'

# Adoption: with what the file says by then.
stop_droverd KILL
sed -i 's/pids_limit = 40/pids_limit = 41/' "$W/drover.ini"
start_droverd
is "$(vm_pid limited),$(conditions limited)" "$pid," 'adopted'
is "$(values $g pids.max memory.max)" 'pids.max=41;memory.max=117440512;' 'with the limits as they are now'

# The kernel's kill, as it is counted.
printf 'low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n' >$g/memory.events
kill -9 "$pid"
ok 'a machine that was killed for want of memory' vm_wait limited failed
is "$(vm limited .last_cause)" oom-kill 'has that cause'
like "$(drover why limited)" 'needed more than its 112 MiB' 'and the limit is told'
is "$([ -e $g ] && echo there)" '' 'its cgroup is gone'
drover start limited >/dev/null
ok 'it starts again' vm_wait limited running
is "$(conditions limited)" '' 'with limits'
kill -9 "$(vm_pid limited)"
ok 'kill -9 of the next run' vm_wait limited failed
is "$(vm limited .last_cause)" hypervisor-crash 'is no lack of memory'
# Of the host, not of the cgroup; and while nobody watches.
drover start limited >/dev/null
ok 'again' vm_wait limited running
pid=$(vm_pid limited)
stop_droverd KILL
printf 'max 0\noom 0\noom_kill 1\n' >$g/memory.events
kill -9 "$pid"
await "$patience" dead "$pid"
start_droverd
ok 'a kill that no daemon saw' vm_wait limited failed
is "$(vm limited .last_cause)" oom-kill 'is known'
like "$(drover why limited)" 'host was out of memory' 'as the host'\''s'
# The restart policy takes it for a failure.
sed -i 's/^pids_limit = 41$/&\nrestart = on-failure\nrestart_delay = 100ms/' "$W/drover.ini"
ok 'with restart = on-failure' drover reload
drover start limited >/dev/null
ok 'it runs' vm_wait limited running
pid=$(vm_pid limited) restarts=$(vm limited .restarts)
printf 'oom 1\noom_kill 1\n' >$g/memory.events
kill -9 "$pid"
ok 'a machine that was killed for want of memory is started again' wait_for "$patience" runs_anew limited "$pid"
is "$(vm limited '[.last_cause, .restarts] | map(tostring) | join(" ")')" "oom-kill $((restarts + 1))" \
	'with its cause, and counted'
drover kill limited >/dev/null
# What others of the cgroup suffered is not the cause when somebody asked for the end.
drover start limited >/dev/null
ok 'once more' vm_wait limited running
printf 'oom_kill 1\n' >$g/memory.events
drover kill limited >/dev/null
is "$(vm limited .last_cause)" requested 'a kill on request stays one'
for m in limited plain bare; do drover stop $m >/dev/null; done
ok 'the end' stop_droverd
audit_clean 'after the folder'
rm -rf "$W/state/vm" # with the wish that they be stopped

# --- no tree ---

unset DROVER_CGROUP_FAKE
write $fake "$limits"
start_droverd
for m in limited plain bare; do ok "$m runs where there is no cgroup" vm_wait $m running; done
is "$(conditions limited),$(conditions plain),$(conditions bare)" no-cgroup,,no-cgroup 'who asked for limits says so'
is "$(ls $fake)" '' 'an ordinary folder is not taken for a cgroup'
is "$(droverd_log | grep -c 'limits are not enforced')" 1 'the log says it once'
like "$(droverd_log)" 'is not a folder of cgroup v2' 'and why'
like "$(drover why limited)" 'limits are not enforced' 'as does the story'
stop_droverd KILL
start_droverd
is "$(conditions limited),$(conditions plain)" no-cgroup, 'the next droverd knows it too'
write $fake ''
drover reload >/dev/null
is "$(conditions limited)" '' 'who asks for nothing any more has nothing to say'
for m in limited plain bare; do drover stop $m >/dev/null; done
write '' "$limits"
drover reload >/dev/null
drover start limited >/dev/null
ok 'it runs again' vm_wait limited running
is "$(conditions limited)" no-cgroup 'without any tree'
for m in limited plain bare; do drover stop $m >/dev/null; done
ok 'the end' stop_droverd
audit_clean 'without a tree'
rm -rf "$W/state/vm"

# --- real cgroups ---

real=/sys/fs/cgroup/machines
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || ! mkdir $real 2>/dev/null; then
	skip 'real cgroups' 'no cgroup v2 in which groups can be made'
	done_testing
fi
baseline
write $real 'pids_limit = 40'
start_droverd
for m in limited plain bare; do ok "$m runs" vm_wait $m running; done
g=$real/vm:default:limited
cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
is "$(cgroup_of "$(vm_pid limited)"),$(cgroup_of "$(vm_pid plain)")" \
	/machines/vm:default:limited,/machines/vm:default:plain 'each in its own'
is "$(cgroup_of "$(vm_pid bare)")" /machines/vm:default:bare 'also without a jail'
is "$(cgroup_of "$DROVERD")" / 'droverd is where it was'
if grep -qw pids $real/cgroup.controllers; then
	is "$(cat $g/pids.max),$(conditions limited)" 40, 'the limit is the kernel'\''s'
else
	is "$(conditions limited)" no-cgroup 'a controller that is missing is said'
	like "$(drover why limited)" 'pids.max' 'by its file'
fi
is "$(conditions plain)" '' 'who asked for nothing is well'
before=$(api GET /vms | jq -c '[.[].pid]')
stop_droverd KILL
start_droverd
is "$(api GET /vms | jq -c '[.[].pid]')" "$before" 'adoption'
is "$(cgroup_of "$(vm_pid plain)")" /machines/vm:default:plain 'changes nothing'
drover stop plain >/dev/null
ok 'a stop removes the cgroup' not test -e $real/vm:default:plain
# Somebody else's process in it does not keep it.
sleep 1000 &
other=$!
echo $other >$g/cgroup.procs
drover stop limited >/dev/null
ok 'also when something was left in it' wait_for "$patience" not test -e $g
ok 'which is killed' wait_for "$patience" dead $other
wait $other 2>/dev/null
# A machine that died while nobody watched.
pid=$(vm_pid bare)
stop_droverd KILL
kill -9 "$pid"
start_droverd
ok 'what a machine left that died meanwhile is removed' wait_for "$patience" not test -e $real/vm:default:bare
ok 'the end' stop_droverd
audit_clean 'after real cgroups'
rmdir $real
done_testing

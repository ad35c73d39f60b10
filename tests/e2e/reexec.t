#!/usr/bin/env bash
# SIGUSR2: the program at the path that droverd was started by takes its place, under the same pid.
# Machines and helpers keep their processes, no event is lost, no client is turned away; and what
# cannot take its place is refused beforehand, and the old one goes on.
. "$(dirname "$0")/lib.sh"
world_for droverd drover faults/droverd
kernel=$(nano) disk=$(nano_disk)
mkdir "$W/bin"
ln -s "$B/droverd" "$W/bin/droverd"
export DROVER_LIBEXEC=$B PATH=$W/bin:$PATH
# A hypervisor that takes its time, until it is let go.
cat >"$W/bin/slow-qemu" <<END
#!/bin/sh
until [ -e $W/go ]; do read -t 0.1 _ </dev/zero 2>/dev/null || sleep 0.1; done
exec qemu-system-x86_64 "\$@"
END
chmod 755 "$W/bin/slow-qemu"
write() {
	config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
network = taps
[vm one]
template = nano
restart = always
restart_delay = 0
[vm held]
template = nano
[vm bare]
template = nano
jail = no
[vm slow]
template = nano
binary = $W/bin/slow-qemu
autostart = no
start_timeout = 10m
$*
END
}
write
baseline
start_droverd
for m in one held bare; do ok "$m runs" vm_wait "$m" running; done
drover pause held >/dev/null
# A restart to be remembered.
pid=$(vm_pid one)
kill -9 "$pid"
ok 'one is restarted' wait_for "$patience" runs_anew one "$pid"
api POST /vms/slow/start >/dev/null
slow_spawned() { [ "$(vm slow .state)" = starting ] && [ "$(vm_pid slow)" -gt 0 ]; }
ok 'a start is in progress' wait_for "$patience" slow_spawned

pids() { api GET /vms | jq -c '[.[] | {(.name): .pid}] | add'; }
counters() { api GET /vms | jq -c '[.[] | {(.name): [.restarts, .last_cause]}] | add'; }
helpers() { pgrep -f 'dnsmasq' | sort | paste -sd' '; }
open_files() {
	local fd
	for fd in "/proc/$DROVERD"/fd/*; do readlink "$fd"; done | sed 's/:\[.*//' | sort | uniq -c
}
listens() { [ "$(grep -c ' listens at ' "$W/droverd-1.log")" = "$1" ]; }
zombies() { ps -o stat= --ppid "$DROVERD" | grep -c '^Z'; }

before=$(pids) services=$(helpers) counted=$(counters) files=$(open_files) seq=$(last_seq)
exe=$(readlink "/proc/$DROVERD/exe")

# Clients that ask all the time, one that has connected and says nothing yet, one that follows.
(
	while [ ! -e "$W/enough" ]; do
		curl -sS -o /dev/null -w '%{http_code}\n' --max-time 60 \
			--unix-socket /run/drover/api.sock http://drover/vms 2>&1
	done >"$W/asked"
) &
asking=$!
perl -MIO::Socket::UNIX -e '
	$s = IO::Socket::UNIX->new(Peer => "/run/drover/api.sock") or die "connect: $!\n";
	print "up\n"; close(STDOUT);
	select(undef, undef, undef, 0.1) until -e "$ENV{W}/speak";
	print $s "GET /version HTTP/1.0\r\n\r\n";
	open(F, ">", "$ENV{W}/said"); print F <$s>; close(F)' >"$W/up" &
silent=$!
await "$patience" contains "$W/up" up
await "$patience" contains "$W/asked" 200
inode=$(stat -c %i /run/drover/api.sock)
# The new program is another one.
ln -sfn "$B/faults/droverd" "$W/bin/droverd"
kill -USR2 "$DROVERD"
await "$patience" grep -q re-executing "$W/droverd-1.log"
touch "$W/speak"
ok 'the new program listens' wait_for "$patience" listens 2
wait $silent
like "$(head -n 1 "$W/said")" '^HTTP/1\.[01] 200' 'who had connected before is still answered'
sleep 0.3
touch "$W/enough"
wait $asking
is "$(sort -u "$W/asked")" 200 'nobody who asked was turned away'
ok 'the process is the same' alive "$DROVERD"
is "$exe,$(readlink "/proc/$DROVERD/exe")" "$B/droverd,$B/faults/droverd" 'the program another'
is "$(stat -c %i /run/drover/api.sock)" "$inode" 'the socket was never away'
is "$(pids)" "$before" 'the machines have the same pids'
is "$(helpers)" "$services" 'and their dnsmasqs'
is "$(vm one .state),$(vm held .state),$(vm bare .state)" running,paused,running 'in their states'
touch "$W/go"
ok 'the start that was in progress comes to its end' vm_wait slow running
is "$(vm_pid slow)" "$(jq .slow <<<"$before")" 'with the process that it had'
is "$(counters)" "$counted" 'the counters go on'
events=$(drover events -o json)
is "$(jq -s '[.[].seq] | . == [range(1; length + 1)]' <<<"$events")" true 'no event is missing'
for m in one held bare slow; do
	is "$(events_of $m "$seq" | jq -r 'select(.event == "adopted") | .event')" adopted "$m was adopted, once"
done
is "$(zombies)" 0 'no child was left unreaped'
ok 'no descriptor was left open' wait_for "$patience" eval '[ "$(open_files)" = "$files" ]'
ok 'what was paused can be resumed' drover resume held
ok 'the monitors answer' drover qmp one '{"execute":"query-status"}'

# What ends afterwards is explained as ever: the hypervisors are still our children.
kill -9 "$(jq .bare <<<"$before")"
ok 'a machine that is killed' vm_wait bare failed
like "$(drover why bare)" 'SIGKILL' 'is known to have been'
second() { timeout 20 droverd -c "$W/drover.ini"; }
ok 'the lock is held' says 'another droverd' second
elsewhere() { timeout 20 droverd -c "$W/drover.ini" --run-dir /run/elsewhere; }
ok 'that of the state, too' says 'another droverd .*works with .*/state' elsewhere
rm -rf /run/elsewhere

# Several signals at once, while it is away and comes back.
before=$(pids)
for _ in 1 2 3 4 5; do kill -USR2 "$DROVERD"; kill -HUP "$DROVERD"; done
ok 'many signals: once more' wait_for "$patience" listens 3
kill -HUP "$DROVERD"
kill -USR1 "$DROVERD"
ok 'and it lives' drover_up
is "$(pids)" "$before" 'with all machines'

# A configuration that is wrong.
write 'nonsense = 1'
kill -USR2 "$DROVERD"
ok 'a wrong configuration is refused' wait_for "$patience" grep -q 're-exec: .*this droverd goes on' "$W/droverd-1.log"
like "$(droverd_log)" "drover.ini:[0-9]+:.*nonsense" 'with its line'
ok 'the old one answers' drover_up
is "$(pids)" "$before" 'with the machines that it had'
is "$(drover events -o json | jq -r 'select(.event == "re-exec-refused") | .event')" re-exec-refused 'and an event tells'
write

# A program that cannot be executed, one that fails, and none.
refusals() { grep -c 'this droverd goes on' "$W/droverd-1.log"; }
refused_again() { [ "$(refusals)" -gt "$n" ]; }
rm "$W/bin/droverd"
n=$(refusals)
kill -USR2 "$DROVERD"
ok 'no program: refused' wait_for "$patience" refused_again
echo 'not a program' >"$W/bin/droverd"
chmod 755 "$W/bin/droverd"
n=$(refusals)
kill -USR2 "$DROVERD"
ok 'one that the kernel does not take: refused' wait_for "$patience" refused_again
printf '#!/bin/sh\necho "no such library" >&2\nexit 127\n' >"$W/bin/droverd"
n=$(refusals)
kill -USR2 "$DROVERD"
ok 'one that fails: refused' wait_for "$patience" refused_again
like "$(droverd_log)" 'no such library' 'in its own words'
is "$(pids)" "$before" 'the machines run on'
ok 'and droverd is there' drover_up
# It passes the check and then cannot be executed: the old program takes its own place.
cat >"$W/bin/droverd" <<END
#!/bin/sh
[ "\$4" = -n ] || [ "\$3" = -n ] || exit 1
rm -f "$W/bin/droverd"
END
kill -USR2 "$DROVERD"
ok 'a program that is gone when it is to be executed: the old one comes back' \
	wait_for "$patience" listens 4
ok 'in the same process' drover_up
is "$(pids)" "$before" 'with the same machines'

# A signal to leave while the check is under way is obeyed.
printf '#!/bin/sh\nexec sleep 1000\n' >"$W/bin/droverd"
chmod 755 "$W/bin/droverd"
kill -USR2 "$DROVERD"
ok 'the path to look at is still the one of the start' wait_for "$patience" pgrep -P "$DROVERD" sleep
ok 'SIGTERM during the check' stop_droverd
ok 'the machines run on' alive "$(jq .one <<<"$before")"
ln -sfn "$B/droverd" "$W/bin/droverd"
start_droverd
is "$(pids)" "$before" 'and are adopted'
for m in one held slow; do drover stop "$m" >/dev/null; done
ok 'the end' stop_droverd
audit_clean 'after all'
done_testing

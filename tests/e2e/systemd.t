#!/usr/bin/env bash
# What systemd sees of droverd, with a stand-in for systemd: readiness, status, reload, re-exec, the
# watchdog, a socket that was made beforehand, logs with priorities; and the units, as `make install`
# leaves them, are what systemd takes.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
mkdir "$W/bin"
ln -s "$B/droverd" "$W/bin/droverd"
export DROVER_LIBEXEC=$B PATH=$W/bin:$PATH

# --- the units ---

if command -v systemd-analyze >/dev/null; then
	make -s -C "$top" B="$B" PREFIX="$W/inst" install >"$W/install.log" 2>&1
	units=$W/inst/lib/systemd/system
	is "$(cd "$units" && echo *)" \
		'drover-machines.service drover-machines.slice drover.socket droverd.service' 'the units are installed'
	ok 'systemd takes them' systemd-analyze verify --man=no "$units"/*
	is "$(systemd-analyze verify --man=no "$units"/* 2>&1 | grep -F "$units")" '' 'and has nothing to say'
	is "$(sed -n 's/^ExecStart=//p' "$units/droverd.service")" "$W/inst/sbin/droverd" 'they name the installed program'
	# That it looks at all:
	sed 's/^KillMode=.*/KillMode=nonsense/' "$units/droverd.service" >"$W/droverd.service"
	like "$(systemd-analyze verify --man=no "$W/droverd.service" 2>&1)" 'kill mode' 'a mistake would be seen'
	rm -rf "$W/inst"
else
	skip 'the units' 'systemd-analyze is not installed'
fi

# --- a stand-in for systemd ---

baseline

# Every datagram as one line, its lines joined by "; ", after a stamp in ms.
perl -MSocket -MTime::HiRes=time -e '
	$| = 1;
	socket($s, AF_UNIX, SOCK_DGRAM, 0) && bind($s, pack_sockaddr_un("$ENV{W}/notify")) or die;
	print "up\n";
	while (defined recv($s, $m, 65536, 0)) { $m =~ s/\n/; /g; printf "%d %s\n", time() * 1000, $m }
' >"$W/told" &
systemd=$!
await "$patience" contains "$W/told" up
told() { cut -d' ' -f2- "$W/told" | grep -v '^WATCHDOG=1$'; }
was_told() { told | grep -qE -- "$1"; } # was_told REGEX
times_told() { [ "$(told | grep -cE -- "$2")" -ge "$1" ]; } # times_told N REGEX

write() {
	config <<END
$*
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
[vm one]
template = nano
[vm two]
template = nano
END
}
write

# launch_unit WATCHDOG_USEC COMMAND...: droverd with what a unit's process is given.
launch_unit() {
	starts=$((starts + 1))
	# As systemd does: the pid of who reads the variables is that of the shell that becomes it.
	NOTIFY_SOCKET=$W/notify WATCHDOG_USEC=$1 sh -c 'WATCHDOG_PID=$$ exec "$@"' sh "${@:2}" \
		>"$W/droverd-$starts.log" 2>&1 </dev/null &
	DROVERD=$!
}
launch_unit 400000 droverd -c "$W/drover.ini"
ok 'READY=1 comes' wait_for "$patience" was_told '^READY=1'
ok 'the API answers then' drover_up
ok 'STATUS follows the machines' wait_for "$patience" was_told '^STATUS=2 machines: 2 running$'
drover pause two >/dev/null
ok 'every change' wait_for "$patience" was_told '^STATUS=2 machines: 1 running, 1 paused$'
drover stop two >/dev/null
ok 'and the next one' wait_for "$patience" was_told '^STATUS=2 machines: 1 running, 1 stopped$'
# Nothing happens, and the watchdog is fed all the same. 20 pings take 4 s at least.
pings() { grep -c ' WATCHDOG=1$' "$W/told"; }
pings_at_least() { [ "$(pings)" -ge "$1" ]; }
ok 'the watchdog is fed while nothing happens' wait_for "$patience" pings_at_least $(($(pings) + 10))
is "$(tr '\0' '\n' <"/proc/$(vm_pid one)/environ" | grep -E '^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_)')" '' \
	'what is meant for droverd is not for its children'

pid=$(vm_pid one)
kill -HUP "$DROVERD"
ok 'SIGHUP: reloading' wait_for "$patience" was_told '^RELOADING=1; MONOTONIC_USEC=[0-9]+$'
ok 'and ready again' wait_for "$patience" times_told 2 '^READY=1'
kill -USR2 "$DROVERD"
ok 'SIGUSR2: reloading' wait_for "$patience" times_told 2 '^RELOADING=1'
ok 'and the new program is ready' wait_for "$patience" times_told 3 '^READY=1'
ok 'with the machines that it has' was_told '^READY=1; STATUS=2 machines: 1 running, 1 stopped$'
is "$(told | grep -c MAINPID)" 0 'the main pid is the same, so nothing is said of it'
n=$(pings)
ok 'it feeds the watchdog' wait_for "$patience" pings_at_least $((n + 3))
is "$(vm_pid one)" "$pid" 'the machine runs on'
ok 'SIGTERM' stop_droverd
ok 'systemd was told that it leaves' was_told '^STOPPING=1'

# No watchdog asked for, or another process's: no timer.
for usec in '' 0; do
	told=$(told | wc -l)
	launch_unit "$usec" droverd -c "$W/drover.ini"
	await "$patience" drover_up
	n=$(pings)
	sleep 1
	is "$(pings)" "$n" "WATCHDOG_USEC='$usec': no pings"
	stop_droverd
done
starts=$((starts + 1))
NOTIFY_SOCKET=$W/notify WATCHDOG_USEC=400000 WATCHDOG_PID=1 droverd -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 &
DROVERD=$!
await "$patience" drover_up
n=$(pings)
sleep 1
is "$(pings)" "$n" 'the watchdog of another process is not ours'
ok 'the end' stop_droverd

# --- socket activation ---

# A socket that is there before droverd is, with a client that waits in its queue.
cat >"$W/activate" <<'END'
use Socket; use POSIX; use Fcntl;
$^F = 255;
mkdir "/run/drover";
socket($s, AF_UNIX, SOCK_STREAM, 0) && bind($s, pack_sockaddr_un("/run/drover/given.sock")) && listen($s, 8) or die;
fileno($s) == 3 or POSIX::dup2(fileno($s), 3);
open(my $other, "<", "/dev/null"); fileno($other) == 4 or POSIX::dup2(fileno($other), 4);
for my $round (1 .. 2) {
	defined(my $pid = fork()) or die;
	if (!$pid) {
		$ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = 2; $ENV{LISTEN_FDNAMES} = "api:other";
		exec(@ARGV);
	}
	open(my $f, ">", "$ENV{W}/activated-$round"); print $f $pid; close($f);
	waitpid($pid, 0);
	open($f, ">", "$ENV{W}/ended-$round"); print $f $?; close($f);
	select(undef, undef, undef, 0.05) until -e "$ENV{W}/again";
}
END
export DROVER_SOCKET=/run/drover/given.sock
starts=$((starts + 1))
perl "$W/activate" droverd -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 </dev/null &
manager=$!
await "$patience" test -s "$W/activated-1"
DROVERD=$(cat "$W/activated-1")
ok 'the given socket is served' wait_for "$patience" drover_up
is "$([ -e /run/drover/api.sock ] && echo there)" '' 'and no other one is made'
is "$(vm_pid one)" "$pid" 'the machine was adopted'
like "$(droverd_log)" 'descriptor 4 .*ignoring' 'what else was given is said and closed'
is "$(readlink "/proc/$DROVERD/fd/4" | grep -c /dev/null)" 0 'indeed'
is "$(tr '\0' '\n' <"/proc/$(vm_pid one)/environ" | grep -c ^LISTEN_)" 0 'the children know nothing of it'
drover restart one >/dev/null
is "$(tr '\0' '\n' <"/proc/$(vm_pid one)/environ" | grep -c ^LISTEN_)" 0 'nor do new ones'
kill -USR2 "$DROVERD"
ok 'after a re-exec' wait_for "$patience" grep -q re-executing "$W/droverd-$starts.log"
listens() { [ "$(grep -c ' listens at ' "$W/droverd-$starts.log")" = "$1" ]; }
ok 'it is served again' wait_for "$patience" listens 2
ok 'by the same process' drover_up
kill -TERM "$DROVERD"
ok 'droverd ends' wait_for "$patience" test -s "$W/ended-1"
is "$(cat "$W/ended-1")" 0 'well'
ok 'the socket stays, it is not ours' test -S /run/drover/given.sock
# Who connects now waits for the next droverd.
api GET /version >"$W/waited" &
waiting=$!
sleep 0.3
ok 'a client waits' alive $waiting
touch "$W/again"
wait $waiting
is "$(jq .pid "$W/waited")" "$(cat "$W/activated-2")" 'and the next droverd answers it'
DROVERD=$(cat "$W/activated-2")
drover stop one >/dev/null
kill -TERM "$DROVERD"
wait $manager
is "$(cat "$W/ended-2")" 0 'the end'
rm /run/drover/given.sock
export DROVER_SOCKET=/run/drover/api.sock
# Variables that are another process's.
starts=$((starts + 1))
LISTEN_PID=1 LISTEN_FDS=1 droverd -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 3</dev/null &
DROVERD=$!
ok 'LISTEN_PID of another process: a socket of our own' wait_for "$patience" drover_up

# --- logs ---

like "$(droverd_log)" '^info: ' 'without the journal: levels as words'
ok 'the end of it' stop_droverd
: >"$W/droverd-9.log"
stream=$(stat -c %d:%i "$W/droverd-9.log")
JOURNAL_STREAM=$stream droverd -c "$W/drover.ini" >>"$W/droverd-9.log" 2>&1 </dev/null &
DROVERD=$!
starts=9
await "$patience" drover_up
is "$(grep -vcE '^<[0-7]>' "$W/droverd-9.log")" 0 'to the journal: every line has its priority'
like "$(droverd_log)" '<6>droverd .* listens at' 'which is what sd-daemon(3) says'
stop_droverd
starts=10
JOURNAL_STREAM=1:1 droverd -c "$W/drover.ini" >"$W/droverd-10.log" 2>&1 </dev/null &
DROVERD=$!
await "$patience" drover_up
like "$(head -n 1 "$W/droverd-10.log")" '^info: ' 'stderr that is not the journal: words'
kill -USR1 "$DROVERD"
ok 'USR1 writes the state to the log' wait_for "$patience" says '"name":"one".*"state"' droverd_log
kill -USR1 "$DROVERD"
ok 'the second one the longest turn, too' wait_for "$patience" says 'loop: [0-9]+ turns, the longest took [0-9.]+ ms' droverd_log
drover stop one >/dev/null
ok 'the very end' stop_droverd
kill $systemd
wait $systemd 2>/dev/null
audit_clean 'after all'
done_testing

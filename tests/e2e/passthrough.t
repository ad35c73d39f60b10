#!/usr/bin/env bash
# Other people's clients at a machine's monitor, on real QEMU: three kinds at once beside droverd's own
# commands, what they may and what it counts as, adoption, and `drover qmp` and `drover hmp`.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
machines() { # machines [LINE]: LINE is added to one
	config <<END
group = games
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
restart = always
restart_delay = 100ms
[vm one]
template = nano
${1-}
[vm once]
template = nano
reboot = no
restart = no
qmp_write = yes
[vm other]
template = nano
qmp_write = yes
cdrom = $W/cd.iso
END
}
head -c 1M /dev/zero >"$W/cd.iso"
machines
baseline
start_droverd
for m in one once other; do ok "$m runs" vm_wait "$m" running; done
sock() { echo "/run/drover/vm/$1/qmp.sock"; }
# ask MACHINE COMMAND...: by a client that knows no ids; prints the answers to the commands.
ask() {
	local m=$1
	shift
	printf '%s\n' '{"execute":"qmp_capabilities"}' "$@" |
		timeout "$patience" socat -t "$patience" - "UNIX-CONNECT:$(sock "$m")" |
		tr -d '\r' | grep -v '"event"' | tail -n +3
}
command() { printf '{"execute":"%s"}' "$1"; }

# --- what a client sees ---
greeting=$(timeout 10 socat -t 1 - "UNIX-CONNECT:$(sock one)" </dev/null | head -n 1)
is "$(jq -c .QMP.version <<<"$greeting")" "$(drover qmp one query-version | jq -c .return)" \
	'the greeting has the real version'
is "$(jq -c .QMP.capabilities <<<"$greeting")" '[]' 'and offers nothing out of band'
is "$(ask one "$(command query-status)" | jq -r .return.status)" running 'a client without ids'
like "$(ask one "$(command stop)")" 'qmp_write = yes' 'which may only read'
is "$(vm one .state)" running 'and has not stopped anything'

# --- three kinds at once, and droverd ---
for i in 1 2 3; do
	"$B/fakes/qmp-stress" talk "$(sock one)" $i 150 >"$W/talk-$i" 2>&1 &
	talkers[i]=$!
done
"$B/fakes/qmp-stress" deaf "$(sock one)" >"$W/deaf" 2>&1 &
deaf=$!
for i in 1 2 3 4 5; do
	ok "pause $i beside them" drover pause one
	is "$(ask one "$(command query-status)" | jq -r .return.status)" paused "socat sees it, $i"
	ok "resume $i" drover resume one
done
for i in 1 2 3; do
	wait "${talkers[i]}"
	is $? 0 "stress client $i had the answers it wanted: $(tail -n 1 "$W/talk-$i")"
done
ok 'the one that never reads is still there, and no harm' alive $deaf
is "$(vm one .conditions)" '[]' 'the machine was never unresponsive'
kill $deaf
wait $deaf 2>/dev/null
is "$(ask one "$(command query-status)" | jq -r .return.status)" running 'and nothing is stuck'

# --- the record ---
last=$(last_seq)
ask one "$(command query-name)" >/dev/null
ask one "$(command eject)" >/dev/null
of_qmp() { events_of one "$last" | jq -r 'select(.event == "qmp") | "\(.command) \(.uid) \(.pid > 0) \(.write) \(.refused)"'; }
is "$(of_qmp | paste -sd,)" 'query-name 0 true false false,eject 0 true true true' \
	'each command is on record, the refused one as that'

# --- drover qmp and drover hmp ---
is "$(drover qmp one 'qom-get {"path":"/machine","property":"type"}' | jq -r .return)" \
	"$(drover hmp one info qom-tree /machine | sed -n '1s/.*(\(.*\))/\1/p')" 'name and arguments; a human monitor'
is "$(printf 'query-status\n\n{"execute":"query-name"}\n' | drover qmp one | jq -r '.return | keys[0]' | paste -sd,)" \
	running,name 'lines from a pipe'
printf 'no-such-command\nquery-status\n' | drover qmp -w one >"$W/lines"
is $? 1 'one that fails'
is "$(wc -l <"$W/lines")" 2 'does not end the others'
drover qmp one stop 2>"$W/denied"
is $? 1 'stop needs --write'
like "$(<"$W/denied")" 'drover qmp --write' 'and is told so'
ok 'an integer of 64 bits comes whole' says 18446744073709551615 \
	drover qmp -w one '{"execute":"query-status","id":18446744073709551615}'
last=$(last_seq)
ok 'stop with --write' drover qmp --write one stop
is "$(vm one .state)" paused 'is a pause'
paused_by() { events_of one "$last" | jq -r 'select(.event == "state") | "\(.to) \(.by)"'; }
like "$(paused_by)" '^paused uid 0 \(pid [0-9]+\) at the monitor$' 'by somebody, says the event'
ok 'for that request only' not drover qmp one cont
ok 'cont by the human monitor' drover hmp --write one cont
is "$(vm one .state)" running 'is a resume'

# --- the prompt: a terminal, completion by Tab, history by Ctrl-P ---
mkfifo "$W/keys"
TERM=vt100 socat 'EXEC:drover qmp one,pty,setsid,ctty,stderr' - <"$W/keys" >"$W/screen" 2>&1 &
prompt=$!
exec {keys}>"$W/keys"
prompts() { [ "$(grep -o 'one> ' "$W/screen" | wc -l)" -ge "$1" ]; }
answers() { [ "$(grep -c '"name"' "$W/screen")" -ge "$1" ]; }
machine_name=$(drover qmp one query-name | jq -r .return.name)
ok 'a prompt' wait_for "$patience" prompts 1
printf 'query-nam\t\n' >&"$keys"
ok 'Tab completes a command: it has its answer' wait_for "$patience" contains "$W/screen" "\"$machine_name\""
ok 'and another prompt' wait_for "$patience" prompts 2
before=$(last_seq)
printf '\020\n' >&"$keys"
again() { [ "$(events_of one "$before" | grep -c query-name)" = 1 ]; }
ok 'Ctrl-P brings it back' wait_for "$patience" again
printf '\004' >&"$keys"
ok 'Ctrl-D ends it' wait_for "$patience" dead $prompt
exec {keys}>&-
rm "$W/keys"

# --- the group ---
# as UID GROUP COMMAND...
as() { setpriv --reuid="$1" --regid="$1" --groups="$2" --inh-caps=-all "${@:3}"; }
gid=$(getent group games | cut -d: -f3)
asked() { printf '%s\n' "$(command qmp_capabilities)" "$(command query-name)" |
	as "$1" "$2" timeout 20 socat -t 20 - "UNIX-CONNECT:$(sock one)" 2>&1; }
like "$(asked 4321 4321)" 'Permission denied' 'a stranger may not use the socket'
like "$(as 4321 4321 drover qmp one query-name 2>&1)" 'no permission' 'nor the API'
last=$(last_seq)
like "$(asked 4321 "$gid")" "\"name\": *\"$machine_name\"" 'a member of the group may use the socket'
is "$(as 4321 "$gid" drover qmp one query-name | jq -r .return.name)" "$machine_name" 'and the API'
is "$(as 4321 "$gid" drover console one --once </dev/null | grep -c NANO-READY)" 1 'and the console'
by_group() { events_of one "$last" | jq -r 'select(.event == "qmp") | .uid' | sort -u; }
is "$(by_group)" 4321 'and is on record with his uid'

# --- writing opened by a reload, and descriptors ---
pid=$(vm_pid one)
machines 'qmp_write = yes'
ok 'a reload' drover reload
is "$(ask one "$(command stop)")" '{"return": {}}' 'opens the socket'
is "$(vm one .state),$(vm_pid one)" "paused,$pid" 'of the running machine'
ask one "$(command cont)" >/dev/null
machines
drover reload >/dev/null
like "$(ask one "$(command stop)")" 'only reads' 'and closes it again'

# --- what a client does to a drive ---
drive() { vm other '.drives[0] | "\(.id) \(.open) \(.medium)"'; }
drive_is() { [ "$(drive)" = "$1" ]; }
trays() { events_of other "$last" | jq -r 'select(.event == "tray") | "\(.device) \(.open) \(.by)"'; }
on_cdrom() { printf '{"execute":"%s","arguments":{"id":"cdrom0"%s}}' "$1" "${2-}"; }
is "$(drive)" "cdrom0 false $W/cd.iso" 'a CD-ROM is in its drive'
last=$(last_seq)
is "$(ask other "$(on_cdrom eject)")" '{"return": {}}' 'a client ejects it'
ok 'it is out, and the tray open' wait_for "$patience" drive_is 'cdrom0 true null'
like "$(trays)" '^cdrom0 true uid 0 \(pid [0-9]+\) at the monitor$' 'by somebody, says the event'
like "$(drover show other)" 'cdrom0: no medium, the tray is open' 'drover show has it'
stop_droverd KILL
start_droverd
ok 'other is taken up' vm_wait other running
is "$(drive)" 'cdrom0 true null' 'so does the next daemon'
last=$(last_seq)
ask other "$(on_cdrom blockdev-change-medium ",\"filename\":\"$W/cd.iso\",\"format\":\"raw\"")" >/dev/null
ok 'a client puts it back' wait_for "$patience" drive_is "cdrom0 false $W/cd.iso"
like "$(trays)" '^cdrom0 false uid 0 \(pid [0-9]+\) at the monitor$' 'and closes the tray'

# --- what a client ends ---
last=$(last_seq)
pid=$(vm_pid once)
ok 'the guest is there' wait_for 60 console_has once NANO-READY
ask once "$(command system_reset)" >/dev/null
boots() { [ "$(drover log once | grep -c NANO-READY)" -ge "$1" ]; }
ok 'a reset by a client boots the guest anew' wait_for 60 boots 2
is "$(vm once .state),$(vm_pid once)" "running,$pid" 'and is no reboot of the guest, which would end it'
like "$(events_of once "$last" | jq -r 'select(.event == "reset").by')" '^uid 0 ' 'but a reset by somebody'
ask other "$(command quit)" >/dev/null
ok 'quit ends the machine' vm_wait other stopped
is "$(vm other '"\(.last_cause) \(.wanted) \(.restarts)"')" 'requested stopped 0' \
	'for good, although restart = always'
like "$(drover why other)" 'quit by uid 0 \(pid [0-9]+\)' 'why says who it was'
ok 'its socket is gone' not test -e "$(sock other)"
ok 'no reload starts it' drover reload
is "$(vm other .state)" stopped 'it stays stopped'
ok 'a person does' drover start other
ok 'so it runs' vm_wait other running
ok 'and can hear of a power button' wait_for 60 console_has other NANO-READY
ask other "$(command system_powerdown)" >/dev/null
ok 'a shutdown by the power button ends it' vm_wait other stopped
is "$(vm other .last_cause)" requested 'as requested'

# A quit that is on its way when the daemon dies counts, whoever sees the end of it.
ok 'once more' drover start other
ok 'it runs' vm_wait other running
last=$(last_seq)
pid=$(vm_pid other)
kill -STOP "$pid"
printf '%s%s' "$(command qmp_capabilities)" "$(command quit)" |
	timeout 5 socat -t 5 - "UNIX-CONNECT:$(sock other)" >/dev/null
sent() { events_of other "$last" | grep -q '"command":"quit"'; }
ok 'quit goes to a QEMU that does not look' wait_for 60 sent
ok 'the daemon dies' stop_droverd KILL
kill -CONT "$pid"
start_droverd
ok 'the next one lets it end' vm_wait other stopped
is "$(vm other '"\(.last_cause) \(.wanted)"')" 'requested stopped' 'as requested, and for good'

# --- adoption ---
ok 'kill -9 of droverd' stop_droverd KILL
ok 'the socket answers nobody' not timeout 5 socat -u "UNIX-CONNECT:$(sock one)" -
start_droverd
ok 'one is there again' vm_wait one running
is "$(ask one "$(command query-status)" | jq -r .return.status)" running 'and its socket'
is "$(vm other .state)" stopped 'what a client ended stays stopped'

ok 'the end' stop_droverd
start_droverd
for m in one once; do drover kill $m >/dev/null; done
ok 'the end, with all machines' stop_droverd
audit_clean 'after it'
done_testing

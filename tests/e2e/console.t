#!/usr/bin/env bash
# The console: who reads and who writes, replay, what reaches a terminal, what happens when droverd
# or the machine goes, on both hypervisors; and the logs of earlier boots.
. "$(dirname "$0")/lib.sh"
world_for droverd drover fakes/fake-qemu fakes/fake-ch
kernel=$(nano)
config <<END
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
[vm web]
template = nano
[vm again]
template = nano
autostart = no
[vm fast]
template = nano
binary = $B/fakes/fake-qemu
autostart = no
[vm cloud]
hypervisor = cloud-hypervisor
binary = $B/fakes/fake-ch
kernel = $B/e2e/nano64.elf
memory = 64M
autostart = no
END
baseline
start_droverd
ok 'web runs' vm_wait web running
ok 'its guest speaks' wait_for "$patience" console_has web NANO-READY

# person ID ARGUMENT...: drover console at a terminal of its own. says ID TEXT types.
declare -A line people
person() {
	local id=$1 fd
	shift
	mkfifo "$W/$id.in"
	socat "EXEC:drover console $*,pty,setsid,ctty,stderr" - <"$W/$id.in" >"$W/$id" 2>"$W/$id.err" &
	people[$id]=$!
	exec {fd}>"$W/$id.in"
	line[$id]=$fd
}
types() { printf "$2" >&"${line[$1]}"; }
sees() { wait_for "${3-$patience}" contains "$W/$1" "$2"; } # sees ID REGEX
left() { wait_for "$patience" dead "${people[$1]}"; }
closes() {
	local fd=${line[$1]}
	exec {fd}>&-
	rm -f "$W/$1.in"
}

# --- replay, and who writes ---
drover console web --once </dev/null >"$W/once" 2>"$W/once.err"
is "$?,$(grep -c NANO-READY "$W/once")" 0,1 'it begins with what there was'
is "$(<"$W/once.err")" '' 'without a word'
is "$(drover console web --once --no-replay </dev/null)" '' 'unless that is not wanted'

person one web
ok 'at a terminal' sees one 'Connected to web; Ctrl-\] leaves'
ok 'there is what there was' sees one NANO-READY
types one abel
ok 'what is typed comes back from the guest' sees one abel
person two web
ok 'a second one is told who writes' sees two 'you read along: uid 0 \(pid [0-9]+\), for [0-9]+s writes'
ok 'and sees what there was' sees two abel
types two 'nothing'
types one beta
ok 'it reads along' sees two beta
is "$(drover log web | grep -c nothing)" 0 'and what it types goes nowhere'
{ printf silent; sleep 0.5; } | socat -t 0.5 - "UNIX-CONNECT:$(vm web .console)" >"$W/plain"
like "$(<"$W/plain")" 'not passed on: somebody writes alone: uid 0' 'nor what comes by the socket'
is "$(printf silent | api POST /vms/web/console --data-binary @- | jq -r '.error.code')" busy 'nor by the API'
is "$(drover log web | grep -c silent)" 0 'nothing of it arrived'
types one '\035'
ok 'Ctrl-] leaves' left one
like "$(tail -n 1 "$W/one")" 'Left\.' 'and says so'
ok 'the second has its turn' sees two 'you write now'
types two gamma
ok 'and writes' wait_for "$patience" console_has web gamma
person three --force web
ok 'a third takes over' sees two 'you read along'
types three delta
ok 'and writes' wait_for "$patience" console_has web delta
person reader --read-only web
ok 'one who only wants to read' sees reader delta
types three '\035'
ok 'when it leaves' left three
last_line() { tail -n 3 "$W/two" | grep -q 'you write now'; }
ok 'the second writes again' wait_for "$patience" last_line
types two '\035'
ok 'that leaves too' left two
person four --share web
ok 'the fourth came' sees four 'Connected to web'
person five --share web
ok 'the fifth came' sees five 'Connected to web'
types four edith
ok 'two who share both write: one' wait_for "$patience" console_has web edith
types five zeta
ok 'two who share both write: the other' wait_for "$patience" console_has web zeta
is "$(grep -c 'you read along' "$W/five")" 0 'none was told to wait'
printf eta | api POST /vms/web/console --data-binary @-
ok 'and the API beside them' wait_for "$patience" console_has web eta
types five '\035'
ok 'the fifth leaves' left five

# --- what a terminal gets ---
printf '\033[31mhue\033[0m\033]0;title\007\033[5i\033]52;s;aGVsbG8=\007\005\033[?2004hbeyond' |
	api POST /vms/web/console --data-binary @-
ok 'a guest that sends more than text' sees four beyond
types four '\035'
ok 'the fourth leaves' left four
hue=$(printf '\033\\[31mhue\033\\[0m')
ok 'colours pass' contains "$W/four" "$hue"
is "$(grep -c 'title\|aGVsbG8=' "$W/four")" 0 'titles and the clipboard do not'
is "$(LC_ALL=C grep -c "$(printf '\033\\[5i\\|\005')" "$W/four")" 0 'nor the printer, nor a question'
ok 'what the guest has set is put back' contains "$W/four" "$(printf '\033\\[\\?2004l')"
person all --raw web
ok 'but --raw says so' sees all beyond
ok 'all of it' contains "$W/all" title
types all '\035'
ok 'and it leaves' left all
like "$(drover console web --once </dev/null | tr '\007' B)" ']0;titleB' 'and what is no terminal gets all'
like "$(drover help console)" 'control|clipboard' 'the help says what is left out'

# --- slow readers ---
stuck=()
mkfifo "$W/quiet"
exec {quiet}<>"$W/quiet"
drover start fast >/dev/null
ok 'a guest that says much' wait_for "$patience" console_has fast FAKE-READY
for m in one two; do
	drover console fast >"$W/stuck-$m" 2>"$W/stuck-$m.err" <&"$quiet" &
	stuck[${#stuck[@]}]=$!
done
curl -sSN --unix-socket "$DROVER_SOCKET" http://drover/vms/fast/console?write=none >"$W/curl" 2>&1 &
stuck[2]=$!
for f in stuck-one stuck-two curl; do
	ok "a reader, $f" wait_for "$patience" contains "$W/$f" FAKE-READY
done
kill -STOP "${stuck[@]:1}"
for i in 1 2 3 4 5; do
	head -c 400000 /dev/zero | tr '\0' "$i" >"$W/much"
	printf ' end-%s ' "$i" >>"$W/much"
	drover console --once --force fast <"$W/much" >/dev/null
	ok "two that stand still hold nobody up, $i" wait_for "$patience" console_has fast "end-$i"
done
ok 'one that reads has it all' wait_for "$patience" contains "$W/stuck-one" end-5
is "$(wc -c <"$W/stuck-one")" $((5 * 400007 + 12)) 'to the byte'
kill -CONT "${stuck[@]:1}"
ok 'one that was cut off comes back' wait_for "$patience" contains "$W/stuck-two" end-5
like "$(<"$W/stuck-two.err")" 'lost.*connected again.* bytes between are not kept any more' \
	'and knows what it has missed'
ok 'another client is cut off' wait_for "$patience" dead "${stuck[2]}"
is "$(grep -c end-5 "$W/curl")" 0 'and has not the end'
kill "${stuck[@]:0:2}"
wait "${stuck[@]}" 2>/dev/null
ok 'kill' drover kill fast

# --- droverd goes ---
person keen web
ok 'somebody is there' sees keen 'Connected to web'
{ drover console web; echo "status $?"; } >"$W/pipe" 2>"$W/pipe.err" <&"$quiet" &
ok 'and a program' wait_for "$patience" contains "$W/pipe" NANO-READY
kill -USR2 "$DROVERD"
ok 'a re-exec: it is lost' sees keen 'the connection to droverd is lost; trying again, Ctrl-. leaves'
ok 'and there again' sees keen 'connected again'
types keen theta
ok 'and works' sees keen theta
ok 'kill -9 of droverd' stop_droverd KILL
lost() { [ "$(grep -c 'is lost' "$W/keen")" = 2 ]; }
ok 'is seen' wait_for "$patience" lost
start_droverd
back() { [ "$(grep -c 'connected again' "$W/keen")" = 2 ]; }
ok 'the next one is found' wait_for "$patience" back
types keen iota
ok 'and works' sees keen iota
is "$(grep -c theta "$W/keen")" 1 'nothing came twice'
ok 'the log says that there was nobody, and when' console_has web \
	'drover: what the guest said after 20.*Z, when this log was last written, and before 20.*Z may be'
ok 'the program is there, too' wait_for "$patience" contains "$W/pipe" iota
is "$(grep -c theta "$W/pipe")" 1 'and nothing came twice to it'

# --- the run is over ---
ok 'it is not told to wait' not contains "$W/keen" 'you read along'
ok 'a restart' drover restart web
ok 'the person is told of the end' sees keen 'the run is over; waiting for another one'
ok 'and of the next run' sees keen 'a new run of the machine'
booted() { [ "$(grep -c NANO-READY "$W/keen")" = 2 ]; }
ok 'whose guest it sees' wait_for "$patience" booted
ok 'the program ends' wait_for "$patience" contains "$W/pipe" 'status 0'
ok 'a stop' drover stop web
ok 'ends the person, too' left keen
drover console web --once </dev/null 2>"$W/none"
is $? 4 'a stopped machine has none'
like "$(<"$W/none")" 'vm web has no console while it is stopped' 'and says so'

# --- cloud-hypervisor ---
ok 'a machine on cloud-hypervisor' drover start cloud
ok 'its guest speaks' wait_for "$patience" console_has cloud FAKE-READY
person six cloud
ok 'a person' sees six FAKE-READY
person seven cloud
ok 'and another' sees seven 'you read along'
types six abel
ok 'who reads what the first types' sees seven abel
ok 'kill -9 of droverd' stop_droverd KILL
ok 'is seen' sees six 'is lost'
start_droverd
for id in six seven; do ok "the next one is found, $id" sees $id 'connected again'; done
for id in six seven; do types $id ' beta '; done
ok 'one of them writes' sees six beta
for id in six seven; do
	types $id '\035'
	ok "$id leaves" left $id
done
ok 'kill' drover kill cloud

# --- logs of earlier boots ---
like "$(drover log web --boot -1)" theta 'the log of the boot before'
is "$(drover log web --boot -1 | grep -c NANO-BYE)" 1 'which has its end'
is "$(timeout "$patience" drover log web --boot -1 --follow)" "$(drover log web --boot -1)" \
	'followed it is the same, and ends'
is "$(drover log web --boot 0)" "$(drover log web)" 'boot 0 is the last'
drover log web --boot -7 2>"$W/none"
is $? 1 'one that never was'
like "$(<"$W/none")" 'no console log of boot -7: there are 1 to 2' 'what there is instead'
drover log again 2>"$W/none"
like "$(<"$W/none")" 'there is no console log yet' 'a machine that never ran'

for id in "${!line[@]}"; do closes "$id"; done
kill "${people[reader]}" 2>/dev/null
wait "${people[reader]}" 2>/dev/null
rm -f "$W"/*.in
exec {quiet}>&-
ok 'the end' stop_droverd
audit_clean 'after it'
done_testing

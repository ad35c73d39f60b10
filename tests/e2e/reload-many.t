#!/usr/bin/env bash
# A configuration in several files that changes faster than it can be applied: the last one counts.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
mkdir "$W/conf.d"
write() { # write STOP-TIMEOUT-OF-STAYS
	# By rename: a reload must not meet half of it.
	config "$W/drover.new" <<END
include = conf.d/*.ini
on_exit = stop
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
[vm stays]
template = nano
stop_timeout = $1
END
	mv "$W/drover.new" "$W/drover.ini"
}
vm_file() { printf '[vm %s]\ntemplate = nano\n' "$1" >"$W/conf.d/.new" && mv "$W/conf.d/.new" "$W/conf.d/$1.ini"; }
names() { drover list -o json | jq -r '.[].name' | paste -sd' '; }
names_are() { [ "$(names)" = "$1" ]; }
plan_is_empty() { [ "$(drover plan -o json)" = '{"actions":[]}' ]; }
write 10
vm_file first
baseline
start_droverd
for m in stays first; do ok "$m runs" vm_wait $m running; done
stays=$(vm_pid stays)

# A folder of files.
vm_file second
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name]]')" '[["start","second"]]' \
	'a file more in a folder that is included: one machine more'
ok 'reload' drover reload
ok 'it runs' vm_wait second running
rm "$W/conf.d/first.ini"
ok 'reload without another' drover reload
ok 'whose machine goes' wait_for "$patience" names_are 'second stays'
printf '[vm second]\ntemplate = nano\n[vm bad]\nmemory = lots\n' >"$W/conf.d/z.ini"
out=$(drover reload 2>&1)
is $? 1 'a mistake in one of them: reload fails'
like "$out" 'conf\.d/z\.ini:4: ' 'it names that file and its line'
like "$out" 'conf\.d/z\.ini:1: .*second' 'and a machine that is there twice'
rm "$W/conf.d/z.ini"

# A machine with a new name is another one.
pid=$(vm_pid second)
mv "$W/conf.d/second.ini" "$W/conf.d/renamed.ini"
sed -i 's/vm second/vm renamed/' "$W/conf.d/renamed.ini"
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name]] | sort')" '[["remove","second"],["start","renamed"]]' \
	'renamed: one is removed and one is new'
like "$(drover plan)" 'renamed|same' 'plan says that it looks like that'
ok 'reload' drover reload
ok 'the new one runs' vm_wait renamed running
ok 'the old one is gone' wait_for "$patience" dead "$pid"

# What comes back while it is on its way down starts when it is there.
printf '[vm back]\ntemplate = nano\nstop_timeout = 10\n' >"$W/conf.d/back.ini"
drover reload >/dev/null
await 60 console_has back NANO-READY
pid=$(vm_pid back)
printf c | socat -u - "UNIX-CONNECT:$(vm back .console)"
await 60 console_has back NANO-HANG
mv "$W/conf.d/back.ini" "$W/back"
drover reload >/dev/null
ok 'a machine that is removed is stopping' vm_wait back stopping
mv "$W/back" "$W/conf.d/back.ini"
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name]]')" '[["start","back"]]' \
	'when it is put back the plan is to start it'
ok 'reload' drover reload
ok 'and it does, after its stop' wait_for "$patience" runs_anew back "$pid"
rm "$W/conf.d/back.ini"
drover reload >/dev/null
await "$patience" names_are 'renamed stays'

# Faster than it can be read.
for i in $(seq 100); do
	write $((100 + i))
	vm_file "m$((i % 3))"
	rm -f "$W/conf.d/m$(((i + 1) % 3)).ini"
	kill -HUP "$DROVERD"
done
ok 'after 100 SIGHUPs the last file counts: its machines' wait_for "$patience" names_are 'm0 m1 renamed stays'
for m in m0 m1; do ok "$m runs" vm_wait $m running; done
ok 'there is nothing left to be done' wait_for "$patience" plan_is_empty
like "$(drover config)" 'stop_timeout = (200|200s|3m20s)' 'its values'
is "$(vm_pid stays)" "$stays" 'what did not need a restart had none'
sleep 1
is "$(names)" 'm0 m1 renamed stays' 'and so it stays'
ok 'droverd lives' alive "$DROVERD"
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

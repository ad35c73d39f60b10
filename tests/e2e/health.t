#!/usr/bin/env bash
# Health checks, readiness, what is done to an unhealthy machine, the watchdog and the guest agent:
# on real QEMU with the guest of 5 KB, whose network is stood in for; the agent on the fake.
. "$(dirname "$0")/lib.sh"
world_for droverd drover fakes/fake-qemu
kernel=$(nano)
mkdir "$W/www" && echo well >"$W/www/healthz"
machines() { # machines PORT-CHECK
	config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
stop_timeout = 20
health_interval = 200ms
health_timeout = 2s
health_retries = 2
health_start_period = 0
[vm sign]
template = nano
autostart = yes
health = console:^NANO-READY$
health_start_period = 1m
[vm net]
template = nano
autostart = yes
network = taps
health = $1
	http://:8081/healthz
health_start_period = 1m
[vm reset]
template = nano
network = taps
health = tcp:1
health_action = reset
health_start_period = 1s
[vm again]
template = nano
network = taps
health = tcp:1
health_action = restart
health_start_period = 1s
[vm dog]
template = nano
watchdog = i6300esb
watchdog_action = poweroff
[vm wakes]
template = nano
watchdog = i6300esb
[vm asked]
template = nano
binary = $B/fakes/fake-qemu
agent = yes
health = agent
[vm deaf]
template = nano
binary = $B/fakes/fake-qemu
agent = yes
health = agent
qemu_args = -fake no-agent
[vm obeys]
template = nano
binary = $B/fakes/fake-qemu
agent = yes
qemu_args = -fake
	"error guest-shutdown not today"
END
}
machines tcp:8080
baseline
start_droverd

health() { vm "$1" "$2"; }
conditions() { vm "$1" '.conditions | join(" ")'; }
condition_is() { [ "$(conditions "$1")" = "$2" ]; }
event_is_there() { events_of "$1" "${3:-0}" | grep -q "\"event\":\"$2\""; }
type_in() { printf %s "$2" | socat -u - "UNIX-CONNECT:$(vm "$1" .console)"; }
told() { drover why "$1" | grep -E -- "$2"; }

# A sign on the console.
ok 'a machine runs' vm_wait sign running
ok 'it is ready when its sign was seen' wait_for 60 event_is_there sign ready
is "$(vm sign '.health | [.state, .ready, .checks[0].check, .checks[0].ok] | join(" ")')" \
	'healthy true console:^NANO-READY$ true' 'and healthy'
is "$(conditions sign)" '' 'without a condition'
ok 'the story has it' told sign 'ready'
like "$(drover show sign)" 'check: +console:\^NANO-READY\$: ok' 'show tells each check'
is "$(vm wakes .health)" null 'a machine that is not up has no health'

# Ports of the guest, played by socat under its address.
ok 'a machine whose ports are closed runs' vm_wait net running
address=$(vm net .address)
ip address add "$address/32" dev lo
ok 'it is not ready' wait_for 30 condition_is net not-ready
is "$(health net .health.state)" starting 'nor unhealthy during the start period'
await 30 eval '[ "$(health net ".health.checks[0].error")" != null ]'
like "$(health net '.health.checks[0].error')" "connect to $address port 8080: Connection refused" \
	'the failing check says why'
socat "TCP-LISTEN:8080,bind=$address,fork,reuseaddr" /dev/null &
tcp=$!
busybox httpd -f -p "$address:8081" -h "$W/www" &
http=$!
ok 'when they are open it is ready' wait_for 60 event_is_there net ready
is "$(conditions net)" '' 'and healthy'
since=$(last_seq)
kill $http
wait $http 2>/dev/null
ok 'one closed port is unhealthy' wait_for 60 condition_is net unhealthy
is "$(events_of net "$since" | jq -c 'select(.event == "unhealthy") | .check')" \
	'"http://:8081/healthz"' 'the event names the check'
like "$(drover why net)" 'http://:8081/healthz: .*Connection refused' 'the story tells the reason'
is "$(vm net .state)" running 'nothing is done by default'
rm "$W/www/healthz"
busybox httpd -f -p "$address:8081" -h "$W/www" &
http=$!
refused() { [ "$(health net '.health.checks[1].error')" = 'the answer is HTTP status 404' ]; }
ok 'a page that is missing is a failure too' wait_for 60 refused
echo well >"$W/www/healthz"
ok 'healthy again' wait_for 60 event_is_there net healthy "$since"
is "$(events_of net "$since" | jq -s '[.[] | select(.event == "unhealthy")] | length')" 1 \
	'unhealthy was told once'

# A paused machine is not asked; nor is anything lost over a new daemon.
drover pause net >/dev/null
kill $http $tcp
wait $http $tcp 2>/dev/null
since=$(last_seq)
sleep 1.5
ok 'a paused machine is not checked' not event_is_there net unhealthy "$since"
pid=$(vm_pid sign)
stop_droverd KILL
start_droverd
is "$(vm_pid sign),$(conditions sign)" "$pid," 'after kill -9 of droverd the ready one is still so'
ok 'and it has its checks' wait_for 30 eval '[ "$(health sign .health.state)" = healthy ]'
is "$(events_of sign "$since" | grep -c '"event":"ready"')" 0 'it is not told again'
ok 'the paused one can go on' drover resume net
ok 'and is unhealthy' wait_for 60 condition_is net unhealthy

# The keys apply to a machine that runs.
pid=$(vm_pid net)
socat "TCP-LISTEN:8082,bind=$address,fork,reuseaddr" /dev/null &
tcp=$!
machines tcp:8082
sed -i '/8081/d' "$W/drover.ini"
ok 'reload' drover reload
ok 'now another port counts' wait_for 60 condition_is net ''
is "$(vm_pid net)" "$pid" 'in the same process'
kill $tcp
wait $tcp 2>/dev/null
drover stop net >/dev/null
ip address del "$address/32" dev lo

# Reset: the same process, a new boot of the guest.
drover start reset >/dev/null
pid=$(vm_pid reset)
twice() { [ "$(drover log reset | grep -c NANO-READY)" -ge 2 ]; }
ok 'an unhealthy machine with health_action = reset boots anew' wait_for 60 twice
is "$(vm_pid reset),$(vm reset .state)" "$pid,running" 'in the same run'
ok 'the reset was ours' told reset 'reset .*by drover'
ok 'the story says why' told reset 'health-action .*tcp:1'
is "$(events_of reset | jq -r 'select(.event == "health-action") | .action' | head -n 1)" reset 'so does the event'
# Where the monitor is silent too the guest is not to blame.
kill -STOP "$pid"
ok 'a hypervisor that stands still is not reset' wait_for 60 told reset 'nothing is done'
ok 'it is unresponsive' wait_for 30 says unresponsive conditions reset
kill -CONT "$pid"
ok 'and back' wait_for 60 not says unresponsive conditions reset
ok 'stop' drover stop reset

# Restart: a new process, although restart = no.
drover start again >/dev/null
pid=$(vm_pid again)
anew() { [ "$(vm again .state)" = running ] && [ "$(vm_pid again)" != "$pid" ]; }
ok 'with health_action = restart it runs anew' wait_for 90 anew
is "$(vm again .last_cause)" unhealthy 'the cause is unhealthy'
like "$(events_of again | jq -r 'select(.event == "ended") | .reason' | head -n 1)" \
	'^unhealthy: tcp:1: ' 'its sentence names the check'
ok 'it counts as a restart' [ "$(vm again .restarts)" -ge 1 ]
ok 'stop' drover stop again
is "$(vm again .last_cause)" requested 'which a person has requested'

# The watchdog.
drover start dog >/dev/null
await 60 console_has dog NANO-READY
type_in dog w
ok 'a watchdog that expires ends the run' vm_wait dog failed
is "$(vm dog .last_cause)" watchdog 'with the cause watchdog'
drover start wakes >/dev/null
await 60 console_has wakes NANO-READY
pid=$(vm_pid wakes)
type_in wakes w
ok 'or resets the guest' wait_for 60 told wakes 'guest-reset .*by the watchdog'
is "$(vm wakes .state),$(vm_pid wakes)" "running,$pid" 'which runs on'
back() { [ "$(drover log wakes | grep -c NANO-READY)" = 2 ]; }
ok 'boots' wait_for 60 back
type_in wakes q
ok 'and may end in its own way' vm_wait wakes stopped
is "$(vm wakes .last_cause)" guest-shutdown 'for which the watchdog is not blamed'

# The guest agent.
drover start asked >/dev/null
ok 'an agent that answers is health' wait_for 60 event_is_there asked ready
ok 'stop' drover stop asked
is "$(events_of asked | jq -r 'select(.event == "stop-step") | .step' | paste -sd' ')" agent \
	'the agent shuts the guest down'
drover start deaf >/dev/null
ok 'one that is silent is not' wait_for 60 says unhealthy conditions deaf
ok 'stop' drover stop deaf
is "$(events_of deaf | jq -r 'select(.event == "stop-step") | .step' | paste -sd' ')" \
	'agent power-button' 'the power button follows'
drover start obeys >/dev/null
ok 'stop' drover stop obeys
is "$(events_of obeys | jq -r 'select(.event == "stop-step") | .step' | paste -sd' ')" \
	'agent power-button' 'as it does when the agent refuses'
ok 'its words are in the story' told obeys 'guest agent failed: not today'

ok 'SIGTERM with on_exit = keep' stop_droverd
start_droverd
drover stop sign >/dev/null
ok 'the end' stop_droverd
audit_clean 'after it all'
done_testing

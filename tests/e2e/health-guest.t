#!/usr/bin/env bash
# Health checks of a Linux guest over its own network: ssh, tcp, http and a sign on the console;
# what the guest does to itself is seen, and mended.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[vm web]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
health = ssh
	tcp:22
	console:GUEST-READY [0-9]
health_interval = 500ms
health_timeout = 5s
health_retries = 2
health_start_period = 10m
END
start_origin
baseline
start_droverd

condition_is() { [ "$(vm "$1" '.conditions | join(" ")')" = "$2" ]; }
event_is_there() { events_of "$1" "${3:-0}" | grep -q "\"event\":\"$2\""; }
check() { vm web ".health.checks[] | select(.check == \"$1\") | .ok"; }

ok 'the guest gets ready' wait_for "$patience" event_is_there web ready
is "$(check ssh) $(check tcp:22) $(check 'console:GUEST-READY [0-9]')" 'true true true' 'by all its checks'
is "$(vm web .health.state)" healthy 'and is healthy'
ok 'ready is true: it answers ssh' guest web true

# A further check, of a server that is not there yet.
sed -i 's#^\ttcp:22$#\thttp://:8080/well#; s/^health_start_period.*/health_start_period = 0/' "$W/drover.ini"
pid=$(vm_pid web) seq=$(last_seq)
ok 'another check for a machine that runs' drover reload
is "$(vm_pid web)" "$pid" 'in the same process'
ok 'its server is not there: unhealthy' wait_for "$patience" says unhealthy vm web '.conditions[]'
guest web 'mkdir -p /run/www && echo yes >/run/www/well && busybox httpd -p 8080 -h /run/www' ||
	fail 'a web server in the guest'
ok 'with it the machine is healthy' wait_for "$patience" condition_is web ''
seq=$(last_seq)
guest web 'rm /run/www/well'
ok 'a page that is missing is seen' wait_for "$patience" event_is_there web unhealthy "$seq"
like "$(drover why web)" 'http://:8080/well: the answer is HTTP status 404' 'and told'

# The guest's ssh server dies; health_action = restart helps.
guest web 'echo yes >/run/www/well'
ok 'healthy again' wait_for "$patience" condition_is web ''
sed -i 's#^\thttp://.*#\ttcp:22#; /^health_interval/i health_action = restart' "$W/drover.ini"
ok 'reload' drover reload
ok 'healthy' wait_for "$patience" condition_is web ''
seq=$(last_seq)
guest web 'killall dropbear' >/dev/null 2>&1
ok 'a guest without its server is restarted' wait_for "$patience" runs_anew web "$pid"
is "$(events_of web "$seq" | jq -r 'select(.event == "ended") | .cause')" unhealthy 'with the cause unhealthy'
sed -i 's/^health_start_period.*/health_start_period = 10m/' "$W/drover.ini"
drover reload >/dev/null
ok 'then it is ready again' wait_for "$patience" event_is_there web ready "$seq"
ok 'and answers' ssh_wait web
ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

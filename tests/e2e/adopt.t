#!/usr/bin/env bash
# The daemon goes and the machines stay: kill -9 and adoption with the same processes, SIGTERM with
# on_exit = keep, deaths and guests' ends that nobody watched, on_exit = stop.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
kernel=$(nano) disk=$(nano_disk)
machines() {
	config <<END
on_exit = ${1:-keep}
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[template nano]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
network = taps
[vm one]
template = nano
[vm held]
template = nano
[vm dies]
template = nano
[vm leaves]
template = nano
[vm bare]
template = nano
jail = no
[vm linux]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
END
}
machines
start_origin
baseline
start_droverd
all=(one held dies leaves bare linux)
for m in "${all[@]}"; do ok "$m runs" vm_wait "$m" running; done
for m in one held dies leaves bare; do wait_for 60 console_has $m NANO-READY; done
ok 'linux answers ssh' ssh_wait linux
drover pause held >/dev/null
drover stop bare >/dev/null
drover start bare >/dev/null
address=$(vm linux .address)
boot_id=$(guest linux cat /proc/sys/kernel/random/boot_id)

pids() { api GET /vms | jq -c '[.[] | {(.name): .pid}] | add'; }
helpers() { pgrep -f 'dnsmasq|docker-registry serve' | sort | paste -sd' '; }
before=$(pids) services=$(helpers)
# A second daemon over the same folders must keep its hands off.
timeout 20 droverd -c "$W/drover.ini" >"$W/second.log" 2>&1
is $? 1 'a second daemon refuses to run'
like "$(<"$W/second.log")" "(pid $DROVERD|another|already)" 'and says that one runs already'
is "$(pids)" "$before" 'which harms nobody'

ok 'kill -9 of droverd' stop_droverd KILL
for m in "${all[@]}"; do
	ok "$m lives on without it" alive "$(jq -r ".\"$m\"" <<<"$before")"
done
start_droverd
is "$(pids)" "$before" 'the next one has all of them, with the same pids'
is "$(helpers)" "$services" 'and their dnsmasqs and the registry'
is "$(vm one .state),$(vm held .state),$(vm linux .state)" running,paused,running 'in their states'
is "$(guest linux cat /proc/sys/kernel/random/boot_id)" "$boot_id" 'the guest did not notice'
ok 'what was paused can be resumed' drover resume held
ok 'its monitor answers' drover qmp one '{"execute":"query-status"}'
ok 'console output is there' console_has one NANO-READY
# Not q, r or c: those are orders to this guest.
echoed() { { printf hello; sleep 0.5; } | socat -t 0.5 - "UNIX-CONNECT:$(vm one .console)" | grep -q hello; }
ok 'and goes on' wait_for 60 echoed

# What happens while nobody watches.
ok 'kill -9 of droverd again' stop_droverd KILL
kill -9 "$(jq -r .dies <<<"$before")"
kill -9 "$(jq -r .bare <<<"$before")"
await 30 dead "$(jq -r .dies <<<"$before")"
start_droverd
ok 'a machine that was killed meanwhile is failed' vm_wait dies failed
is "$(vm dies .last_cause)" hypervisor-crash 'the cause is known'
like "$(drover why dies)" '(SIGKILL|signal 9)' 'and the signal, which the jail kept'
ok 'without a jail the end is known' vm_wait bare failed
is "$(vm one .pid)" "$(jq -r .one <<<"$before")" 'the others are as they were'

# SIGTERM with on_exit = keep.
drover stop leaves >/dev/null
ok 'SIGTERM' stop_droverd
ok 'the machines stay' alive "$(jq -r .one <<<"$before")"
ok 'the guest still answers' guest_at "$address" true
start_droverd
is "$(vm_pid one),$(vm_pid linux)" "$(jq -r '"\(.one),\(.linux)"' <<<"$before")" 'and are adopted'
ok 'what was stopped stays stopped' vm_is leaves stopped
ok 'ssh still works' ssh_wait linux
is "$(guest linux cat /proc/sys/kernel/random/boot_id)" "$boot_id" 'to the same boot'

# Somebody cleans up in run_dir: the monitor is out of reach for good, the process is not.
drover start leaves >/dev/null
pid=$(vm_pid leaves)
ok 'kill -9 of droverd once more' stop_droverd KILL
rm -rf /run/drover/vm/leaves
start_droverd
ok 'a machine without its sockets is unresponsive' wait_for "$patience" \
	says 'unresponsive' vm leaves '.conditions[]'
is "$(vm leaves .state),$(vm leaves .pid)" "unknown,$pid" 'its state unknown, its process known'
ok 'it can be stopped' drover stop leaves
ok 'and is' dead "$pid"
ok 'and said to be' vm_is leaves stopped

# on_exit = stop takes effect by a reload, and ends all of it.
machines stop
ok 'reload' drover reload
ok 'SIGTERM with on_exit = stop' stop_droverd
ok 'takes the machines along' dead "$(jq -r .linux <<<"$before")"
audit_clean 'after on_exit = stop'

# Who ran when the daemon stopped them for its own end runs again with the next one; who was
# stopped by a person does not.
start_droverd
ok 'wanted machines start again' vm_wait one running
ok 'the one that a person stopped does not' vm_is leaves stopped
ok 'the end' stop_droverd
audit_clean 'at the end'
done_testing

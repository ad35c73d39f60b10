#!/usr/bin/env bash
# A machine on cloud-hypervisor, over the command line: the same life as on QEMU. On the fake one,
# whose answers are the real one's (cloud-hypervisor-api.t), and on the real one where
# DROVER_CLOUD_HYPERVISOR names it.
. "$(dirname "$0")/lib.sh"
real=${DROVER_CLOUD_HYPERVISOR-}
world
nano >/dev/null
kernel=$B/e2e/nano64.elf disk=$(nano_disk)
fake=$B/fakes/fake-ch

# The guest's words: of the nano guest on the real program, of the fake's own else.
life() { # life NAME READY OFF
	local m=$1 ready=$2 pid socket
	ok "$m: it starts" drover start "$m"
	ok "$m: it runs" vm_is "$m" running
	pid=$(vm_pid "$m")
	ok "$m: its guest speaks on the console" wait_for 60 console_has "$m" "$ready"
	is "$(drover list -o json | jq -r ".[] | select(.name == \"$m\") | .hypervisor")" \
		cloud-hypervisor "$m: the list says what runs it"
	like "$(vm "$m" '.nics[0].tap')" '^tap' "$m: it has a TAP"
	ok "$m: whose carrier is up" wait_for 30 grep -q 1 \
		"/sys/class/net/$(vm "$m" '.nics[0].tap')/carrier"
	ok "$m: pause" drover pause "$m"
	is "$(drover ch "$m" GET /vm.info | jq -r .state)" Paused "$m: it is paused"
	ok "$m: resume" drover resume "$m"
	is "$(drover ch "$m" GET /vm.info | jq -r .state)" Running "$m: it runs again"
	socket=$(vm "$m" .console)
	echoed() { { printf 'hello\n'; sleep 0.5; } | socat -t 0.5 - "UNIX-CONNECT:$socket" | grep -q hello; }
	ok "$m: what is written to the console is echoed" wait_for 60 echoed
	is "$(vm_pid "$m")" "$pid" "$m: in the same process"
	ok "$m: restart" drover restart "$m"
	ok "$m: another process" runs_anew "$m" "$pid"
	ok "$m: whose guest comes up" wait_for 60 console_has "$m" "$ready"
	ok "$m: stop" drover stop "$m"
	is "$(vm "$m" .last_cause)" requested "$m: because it was asked to"
	ok "$m: kill" eval "drover start $m && drover kill $m"
	is "$(vm "$m" '.state + " " + .last_cause')" 'stopped requested' "$m: is stopped on request"
}

config <<END
[network taps]
cidr = 172.16.0.0/16
[template ch]
hypervisor = cloud-hypervisor
binary = $fake
kernel = $kernel
memory = 64M
stop_timeout = 3
autostart = no
[vm one]
template = ch
rootfs = $disk
network = taps
END
baseline
start_droverd
life one FAKE-READY
ok 'droverd leaves' stop_droverd
audit_clean 'after all'
done_testing

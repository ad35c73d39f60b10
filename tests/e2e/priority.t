#!/usr/bin/env bash
# droverd's loop is scheduled before what it supervises, and nothing that it starts inherits that.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
rootfs = $disk
memory = 16M
accel = tcg
[vm jailed]
template = nano
network = taps
[vm bare]
template = nano
jail = no
END
nice_of() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f17; } # nice_of PID[/task/TID]
# The nice values of all of droverd's threads but the loop's, each once.
others() {
	local t
	for t in "/proc/$DROVERD/task"/*; do
		[ "${t##*/}" = "$DROVERD" ] || nice_of "${t#/proc/}"
	done | sort -u | tr '\n' ' '
}
each_is() { # each_is NICE: of what droverd has started
	local m=jailed pid
	is "$(others)" "$1 " "the threads of the pool have nice $1"
	for m in jailed bare; do
		is "$(nice_of "$(vm_pid $m)")" "$1" "the hypervisor of $m has nice $1"
	done
	pid=$(awk '/^PPid/ { print $2 }' "/proc/$(vm_pid jailed)/status")
	is "$(nice_of "$pid")" "$1" "its jail has nice $1"
	pid=$(pgrep -f "dnsmasq.*$(vm jailed '.nics[0].tap')" | head -n 1)
	is "$(nice_of "$pid")" "$1" "its dnsmasq has nice $1"
}

baseline
start_droverd
for m in jailed bare; do ok "$m runs" vm_wait $m running; done
if grep -q 'have no priority' <(droverd_log); then
	is "$(nice_of "$DROVERD")" 0 'droverd may not have priority, says so, and has nice 0'
else
	is "$(nice_of "$DROVERD")" -10 'the loop has nice -10'
fi
each_is 0
for m in jailed bare; do drover kill $m >/dev/null; done
ok 'droverd ends' stop_droverd

# Who has put it behind others has a reason.
renice -n 5 $$ >/dev/null
start_droverd
for m in jailed bare; do drover start --wait $m >/dev/null; done
for m in jailed bare; do ok "$m runs" vm_wait $m running; done
is "$(nice_of "$DROVERD")" 5 'a droverd that was started with nice 5 keeps it'
each_is 5
for m in jailed bare; do drover kill $m >/dev/null; done
ok 'droverd ends' stop_droverd
audit_clean 'after that'
done_testing

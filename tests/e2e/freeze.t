#!/usr/bin/env bash
# Disks of a running guest: its agent freezes the filesystems, and thaws them whatever happens in
# between. On the fake QEMU, whose agent tells on the console what it was asked for.
. "$(dirname "$0")/lib.sh"
world_for droverd drover faults/droverd fakes/fake-qemu
kernel=$(nano) disk=$(nano_disk)
mkdir -p "$W/bin"
ln -s "$B/faults/droverd" "$W/bin/faulty"
export DROVER_LIBEXEC=$B
config <<END
[template fake]
kernel = $kernel
binary = $B/fakes/fake-qemu
rootfs = $disk
memory = 16M
accel = tcg
jail = no
agent = yes
autostart = no
stop_timeout = 0
[vm web]
template = fake
[vm refuses]
template = fake
qemu_args = -fake
	"error guest-fsfreeze-freeze filesystem /data is busy"
[vm silent]
template = fake
qemu_args = -fake
	"ignore guest-ping"
END
baseline
start_droverd
told() { [ "$(drover log "$1" | grep -o 'FAKE-[FT][A-Z]*' | tr '\n' ' ')" = "$2" ]; }
consistency() { drover snapshot show "$1" "$2" -o json | jq -r .consistency; }
left() { find "$W/state/vm" -name '*.tmp' | grep .; }

ok 'a machine with an agent' drover start web
ok 'its disks' drover snapshot create web d --disks
is "$(consistency web d)" frozen 'were frozen, says the manifest'
ok 'the guest was asked to freeze and to thaw' wait_for "$patience" told web 'FAKE-FROZEN FAKE-THAWED '
is "$(vm web .state)" running 'and runs'
ok 'its memory needs no such thing' drover pause web
ok 'nor does one that stands still' drover snapshot create web still --disks
is "$(consistency web still)" crash 'which nobody could freeze'
ok 'nobody was asked' told web 'FAKE-FROZEN FAKE-THAWED '
ok 'kill' drover kill web

ok 'one that cannot freeze' drover start refuses
like "$(drover snapshot create refuses d --disks 2>&1)" 'filesystem /data is busy' 'says why'
ok 'what may be frozen is thawed' wait_for "$patience" told refuses 'FAKE-THAWED '
is "$(vm refuses .state)" running 'the guest runs on'
is "$(drover snapshot list refuses -o json)" '[]' 'there is no snapshot'
ok 'kill' drover kill refuses

ok 'one whose agent is silent' drover start silent
like "$(drover snapshot create silent d --disks 2>&1)" 'because its agent does not answer' 'is refused'
ok 'but for --crash-consistent' drover snapshot create silent d --disks --crash-consistent
is "$(consistency silent d)" crash 'which the manifest says'
ok 'kill' drover kill silent
ok 'droverd leaves' stop_droverd

# A daemon that fails, or is killed, while they are frozen.
faulty() { # faulty FAULT
	starts=$((starts + 1))
	DROVER_FAULT=$1 "$W/bin/faulty" -c "$W/drover.ini" >"$W/droverd-$starts.log" 2>&1 </dev/null &
	DROVERD=$!
	wait_for "$patience" api_is_up
}
rm -rf "$W/state/log/web"
faulty snapshot/disks=ENOSPC
ok 'it starts' drover start web
like "$(drover snapshot create web e --disks 2>&1)" injected 'a copy that fails'
ok 'leaves nothing frozen' wait_for "$patience" told web 'FAKE-FROZEN FAKE-THAWED '
is "$(vm web .state)" running 'and the guest running'
ok 'kill' drover kill web
ok 'droverd leaves' stop_droverd
rm -rf "$W/state/log/web"
faulty snapshot/disks=kill
ok 'it starts' drover start web
pid=$(vm_pid web)
drover snapshot create web e --disks >/dev/null 2>&1
ok 'droverd is killed while they are frozen' wait_for "$patience" dead "$DROVERD"
start_droverd
ok 'the next one thaws them' wait_for "$patience" console_has web FAKE-THAWED
ok 'the guest goes on' vm_wait web running
is "$(vm_pid web)" "$pid" 'in its process'
on_record() { [ "$(jq -c '[.frozen, .hold]' "$W/state/vm/web/state.json")" = '[false,false]' ]; }
ok 'that is on record' wait_for "$patience" on_record
ok 'nothing unfinished lies about' wait_for "$patience" not left
ok 'kill' drover kill web
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

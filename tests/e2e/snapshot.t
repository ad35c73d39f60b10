#!/usr/bin/env bash
# Snapshots on real QEMU: memory, disk and configuration come back together; what does not match is
# refused before anything is touched; a failed or killed one leaves the machine running and nothing
# behind.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
write_config() { # write_config EXTRA
	config <<END
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
stop_timeout = 2
[vm web]
template = nano
rootfs = $disk
network = taps
$1
[vm diskless]
template = nano
autostart = no
END
}
write_config ''
baseline
start_droverd

# The guest counts in its memory; its disk is written to from here, where it does not look.
count() { # count VM NUMBER
	printf n | timeout 20 socat - "UNIX-CONNECT:/run/drover/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
mark() { printf '%s' "$1" | dd of="$W/state/vm/web/disk.raw" bs=1 seek=3000000 conv=notrunc status=none; }
marked() { [ "$(dd if="$W/state/vm/web/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ]; }
left() { find "$W/state/vm/web" \( -name '*.tmp' -o -name '*.restore' -o -name '*.before' \) | grep .; }
story_of() { events_of web "$1" | jq -r .event; }

ok 'the guest is up' wait_for "$patience" console_has web NANO-READY
ok 'and counts' count web 0001
mark one
pid=$(vm_pid web)
ok 'a snapshot' drover snapshot create web first --description 'before the flood'
ok 'the machine runs on' vm_is web running
is "$(vm_pid web)" "$pid" 'with the same process'
ok 'and nothing unfinished lies about' not left
is "$(drover snapshot list web -o json | jq -c '[.[] | [.name, .kind, .consistency, .description]]')" \
	'[["first","full","memory","before the flood"]]' 'it is listed'
like "$(drover snapshot list web)" 'first .*full' 'for people too'
is "$(drover snapshot show web first -o json | jq -c '[.vm, .config.memory, [.files[].name], (.hypervisor_version | test("^QEMU [0-9]"))]')" \
	'["web","16M",["disk0","memory"],true]' 'and its manifest tells what it holds'
ok 'the guest counts on' count web 0002
ok 'and on' count web 0003
mark two
ok 'one of the same name is refused' says 'there is a snapshot .first. already' drover snapshot create web first

# Back.
seq=$(last_seq)
ok 'the snapshot is restored' drover snapshot restore web first
ok 'it runs, as another process' runs_anew web "$pid"
ok 'its disk is that of then' marked one
ok 'the guest counts on from where it was then' count web 0002
ok 'it did not boot' not grep -q NANO-READY "$W/state/log/web/2.log"
ok 'nothing is left of it' wait_for "$patience" not left
like "$(story_of "$seq" | tr '\n' ' ')" 'restore-begun .*ended .*restored' 'the events tell it'
is "$(events_of web "$seq" | jq -r 'select(.event == "ended") | .cause')" requested 'the old run was ended on request'
like "$(drover why web)" 'becomes what it was in snapshot' 'why tells it'
ok 'restored once more' drover snapshot restore web first
ok 'it counts from there again' count web 0002

ok 'stopped' drover stop web
ok 'a stopped machine becomes what it was, too' drover snapshot restore web first
ok 'and runs' vm_is web running
stop_all() { drover kill web; }
ok 'a snapshot is deleted' drover snapshot delete web first
is "$(drover snapshot list web -o json)" '[]' 'and gone'
drover snapshot delete web first 2>/dev/null
is $? 3 'there is none any more'
ok 'killed' drover kill web
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

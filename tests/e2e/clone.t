#!/usr/bin/env bash
# Copies of a machine: disks of their own with an identity of their own, a section below state_dir
# that lives as long as they do; what cannot be copied is refused, and a copy that fails leaves
# nothing.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
disk=$W/disk.raw
mkdir -p "$W/tree/etc/ssh" "$W/tree/root"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$W/tree/etc/passwd"
old_id=0123456789abcdef0123456789abcdef
echo $old_id >"$W/tree/etc/machine-id"
echo old >"$W/tree/etc/ssh/ssh_host_ed25519_key"
mke2fs -q -t ext4 -d "$W/tree" "$disk" 4M >&2
write_config() { # write_config EXTRA
	config <<END
[network taps]
cidr = 172.16.0.0/16
[vm web]
kernel = $kernel
rootfs = $disk
network = taps
memory = 16M
accel = tcg
stop_timeout = 2
hostname = shop
cmdline = console=ttyS0 vm={{name}}
volume = data size=1M
$1
END
}
write_config ''
baseline
start_droverd

count() { # count VM NUMBER
	printf N | timeout 20 socat - "UNIX-CONNECT:/run/drover/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
put() { printf '%s' "$2" | dd of="$W/state/vm/$1" bs=1 seek=700000 conv=notrunc status=none; }
has() { [ "$(dd if="$W/state/vm/$1" bs=1 skip=700000 count=3 status=none)" = "$2" ]; }
inside() { debugfs -R "cat $2" "$(disk_of "$1")" 2>/dev/null; }
left() { find "$W/state/vm" -name '*.tmp' | grep . || find "$W/state/vm" "$W/state/conf.d" -name '*two*' 2>/dev/null | grep .; }
field() { vm "$1" ".$2"; }
refused() { # refused DESCRIPTION REGEX ARGUMENT...
	like "$(drover clone "${@:3}" 2>&1)" "$2" "$1"
}

ok 'the machine runs' vm_wait web running
refused 'one that runs is not copied' 'vm web: only a stopped machine can be copied, and it is running' web one
ok 'but of its snapshot there can be one' drover snapshot create web first
ok 'stop' drover stop web
put web/volume-data.raw new

ok 'a copy' drover clone web one
is "$(field one state)" stopped 'it is there, and stopped'
like "$(drover list)" 'one +stopped' 'list has it'
ok 'its volume is a copy' has one/volume-data.raw new
like "$(cat "$W/state/conf.d/vm-one.ini")" '\[vm one\]' 'its section is written'
ok 'without what was the name of the other' not grep -q hostname "$W/state/conf.d/vm-one.ini"
ok 'another copy, of the snapshot' drover clone web two --from first
like "$(drover clone web one 2>&1)" "there is a machine 'one' already" 'a name is given once'
like "$(drover clone web 'a/b' 2>&1)" 'a/b' 'and has to be one'
like "$(drover clone web three --from none 2>&1)" "there is no snapshot 'none'" 'no such snapshot'

ok 'one starts' drover start one
ok 'two starts' drover start two
ok 'one is up' wait_for "$patience" console_has one NANO-READY
ok 'two is up' wait_for "$patience" console_has two NANO-READY
like "$(tr '\0' ' ' <"/proc/$(vm_pid one)/cmdline")" ' vm=one( |$)' 'one: {{name}} is its name'
like "$(tr '\0' ' ' <"/proc/$(vm_pid two)/cmdline")" ' vm=two( |$)' 'two: {{name}} is its name'
ok 'one counts' count one 0001
ok 'on its own' count one 0002
ok 'two counts' count two 0001
ok 'their addresses differ' [ -n "$(field one address)" -a "$(field one address)" != "$(field two address)" ]
ok 'their MACs differ' [ -n "$(field one mac)" -a "$(field one mac)" != "$(field two mac)" ]
ok 'stop' drover stop one
ok 'stop' drover stop two
for vm in one two; do
	is "$(inside $vm /etc/hostname)" $vm "$vm is called so"
	like "$(inside $vm /etc/machine-id)" '^[0-9a-f]{32}$' "$vm has a machine-id"
	ok "$vm: of its own" [ "$(inside $vm /etc/machine-id)" != $old_id ]
	like "$(inside $vm /etc/ssh/ssh_host_ed25519_key)" 'BEGIN OPENSSH PRIVATE KEY' "$vm has a host key"
	like "$(inside $vm /etc/ssh/ssh_host_ed25519_key.pub)" '^ssh-ed25519 ' "$vm: and its public half"
done
ok 'the machine-ids differ' [ "$(inside one /etc/machine-id)" != "$(inside two /etc/machine-id)" ]
ok 'the host keys differ' [ "$(inside one /etc/ssh/ssh_host_ed25519_key.pub)" != "$(inside two /etc/ssh/ssh_host_ed25519_key.pub)" ]
is "$(inside web /etc/machine-id)" $old_id 'the first one keeps its own'
debugfs -R "dump /etc/machine-id $W/id" "$W/state/vm/one/disk.raw" 2>/dev/null
e2fsck -fn "$W/state/vm/one/disk.raw" >"$W/fsck" 2>&1
is $? 0 'the filesystem is whole'

# They are of the configuration: a reload and the next daemon know them.
ok 'reload' drover reload
is "$(drover plan -o json | jq '.actions | length')" 0 'nothing is left to be done'
ok 'droverd leaves' stop_droverd
start_droverd
is "$(field one state)" stopped 'the next daemon has it, and leaves it stopped'
ok 'it starts' drover start one
is "$(inside one /etc/hostname)" one 'from its own disk'
ok 'stop' drover stop one
ok 'a copy of a copy' drover clone one four
like "$(drover rm one 2>&1)" 'rm one --disks' 'rm keeps the disks'
ok 'rm --disks' drover rm one --disks
ok 'takes its section, too' [ ! -e "$W/state/conf.d/vm-one.ini" ]
ok 'its files' [ ! -e "$W/state/vm/one" ]
ok 'and itself' not drover show one
ok 'reload' drover reload
ok 'it stays away' not drover show one
ok 'the others are there' drover show four
ok 'rm' drover rm four --disks
ok 'rm' drover rm two --disks

# A configuration that changed meanwhile is not applied by the way.
write_config '[network more]
cidr = 172.17.0.0/16'
refused 'not with changes that wait for a reload' 'the configuration has changed since it was applied' web two
ok 'nothing is left of it' wait_for "$patience" not left
ok 'there is no such machine' not drover show two
ok 'reload' drover reload
ok 'then it is made' drover clone web two
ok 'rm' drover rm two --disks
write_config "volume = $disk"
ok 'reload' drover reload
refused 'two cannot write to one file' 'two machines cannot both write to its volume' web two
write_config 'ephemeral = yes'
ok 'reload' drover reload
ok 'start' drover start web
ok 'stop' drover stop web
refused 'one that has no disk now' 'it has no disk between its runs' web two
ok 'from its snapshot it can' drover clone web two --from first
ok 'rm' drover rm two --disks
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

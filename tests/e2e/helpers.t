#!/usr/bin/env bash
# What works for a machine beside its hypervisor: swtpm and virtiofsd are started before it, found
# again by the next daemon, and gone with the run; one that dies leaves the machine degraded. And
# the other devices that only a real QEMU can say yes to.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
mkdir "$W/shared"
config <<END
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
stop_timeout = 0
[vm tpm]
template = nano
tpm = yes
[vm fs]
template = nano
share = data $W/shared
[vm reads]
template = nano
share = data $W/shared ro
[vm moves]
template = nano
vhost = yes
[vm screen]
template = nano
display = vnc
[vm wide]
template = nano
memory = 64M
memory_max = 256M
memory_shared = yes
vcpus = 2
vcpus_max = 4
cores = 2
balloon = yes
hotplug_slots = 2
[vm poor]
template = nano
binary = $W/poor
tpm = yes
[vm huge]
template = nano
hugepages = yes
[vm vsock]
template = nano
vsock = auto
END
baseline
start_droverd

# The pid of a helper, as the ledger has it.
helper() { drover events -o json | jq -r "select(.kind == \"helper\" and .name == \"$1\" and .event == \"started\") | .pid" | tail -n 1; }
degraded() { [ "$(vm "$1" '.conditions | index("degraded") != null')" = true ]; }

# TPM.
ok 'a machine with a TPM' drover start tpm
ok 'its guest comes up' wait_for "$patience" console_has tpm NANO-READY
swtpm=$(helper swtpm-tpm)
ok 'swtpm runs' contains "/proc/$swtpm/cmdline" swtpm
ok 'what QEMU can do was asked and kept' contains "$W/state/qemu-probe.json" '"tpm-crb"'
is "$(drover qmp tpm '{"execute":"query-tpm"}' | jq -r '.return[0].model')" tpm-crb \
	'and is the TPM of the machine'
ok 'nothing is wrong' not degraded tpm
pid=$(vm_pid tpm)
ok 'droverd is killed' stop_droverd KILL
start_droverd
ok 'the machine is found again' vm_wait tpm running
is "$(vm_pid tpm) $(helper swtpm-tpm)" "$pid $swtpm" 'with its swtpm'
ok 'which runs' alive "$swtpm"
ok 'stop' drover stop tpm
ok 'swtpm has gone with it' wait_for "$patience" dead "$swtpm"
ok 'its state is kept' test -d "$W/state/vm/tpm/tpm"
ok 'start again' drover start tpm
swtpm=$(helper swtpm-tpm)
kill -9 "$swtpm"
ok 'a dead swtpm makes it degraded' wait_for "$patience" degraded tpm
like "$(vm tpm .degraded)" 'swtpm-tpm was killed by SIGKILL' 'which says why'
like "$(drover why tpm)" 'swtpm-tpm was killed' 'and so does its story'
ok 'it runs on' vm_is tpm running
# While nobody looks.
ok 'restart' drover restart tpm
ok 'nothing is wrong any more' not degraded tpm
swtpm=$(helper swtpm-tpm)
ok 'droverd is killed' stop_droverd KILL
kill -9 "$swtpm"
start_droverd
ok 'a swtpm that died meanwhile makes it degraded, too' wait_for "$patience" degraded tpm
ok 'stop' drover stop tpm

# Shared folders.
ok 'a machine with a shared folder' drover start fs
daemon=$(helper virtiofsd-fs/data)
ok 'virtiofsd runs' contains "/proc/$daemon/cmdline" virtiofsd
ok 'stop' drover stop fs
ok 'virtiofsd has gone with it' wait_for "$patience" dead "$daemon"
is "$(drover events -o json | jq -c 'select(.name == "virtiofsd-fs/data") | .event' | sort -u)" \
	'"started"' 'which is no death to tell of'

# One that can only be read, whatever virtiofsd does.
ok 'a machine with a folder to read' drover start reads
daemon=$(helper virtiofsd-reads/data)
ok 'virtiofsd runs' wait_for "$patience" contains "/proc/$daemon/cmdline" virtiofsd
for p in $daemon $(pgrep -P "$daemon"); do
	like "$(awk '$4 ~ /shared$/ || $5 ~ /shared$/ { print $6 }' "/proc/$p/mountinfo" | sort -u)" '^ro(,[a-z]+)*$' \
		"the folder is mounted read-only for process $p"
done
ok 'for it alone' touch "$W/shared/here"
ok 'stop' drover stop reads
ok 'virtiofsd has gone with it' wait_for "$patience" dead "$daemon"
ok 'nothing stays mounted' not contains /proc/self/mountinfo "$W/shared"
rm "$W/shared/here"

# Packets by the kernel, where it can.
if [ -w /dev/vhost-net ]; then
	ok 'vhost = yes' drover start moves
	ok 'stop' drover stop moves
else
	like "$(drover start moves 2>&1)" 'vhost = yes: /dev/vhost-net: .*modprobe vhost_net' \
		'vhost = yes without /dev/vhost-net says what is missing'
fi

# The screen.
ok 'a machine with a screen' drover start screen
is "$(head -c 3 < <(timeout 20 socat -u "UNIX-CONNECT:$(vm screen .vnc)" - 2>/dev/null))" RFB \
	'a VNC server greets at its socket'

# Processors, memory, slots.
ok 'a machine that can grow' drover start wide
is "$(drover qmp wide '{"execute":"query-hotpluggable-cpus"}' | jq '.return | length')" 4 'by CPUs'
is "$(drover qmp wide '{"execute":"query-memory-size-summary"}' | jq '.return["base-memory"]')" \
	67108864 'by memory'
is "$(drover qmp wide '{"execute":"query-memdev"}' | jq -c '.return[] | [.id, .share]')" \
	'["pc.ram",true]' 'which is shared'
is "$(drover qmp wide '{"execute":"query-pci"}' | jq -c '[.return[].devices[].qdev_id | select(startswith("hp"))] | sort')" \
	'["hp0","hp1"]' 'and by devices'
like "$(drover qmp wide '{"execute":"query-balloon"}')" 67108864 'a balloon'

# A QEMU that was built without something says so before anything is started.
cat >"$W/poor" <<'END'
#!/bin/sh
case "$*" in *-qmp*) qemu-system-x86_64 "$@" | sed 's/"tpm-crb"/"tpm-none"/' ;; *) exec qemu-system-x86_64 "$@" ;; esac
END
chmod +x "$W/poor"
like "$(drover start poor 2>&1)" 'vm poor: probe: tpm: QEMU [0-9.]+ was built without tpm-crb' \
	'a QEMU without TPMs is told before the start'

# What this host does not have.
if [ "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)" = 0 ]; then
	like "$(drover start huge 2>&1)" 'vm huge: .*[Cc]annot allocate memory' \
		'without huge pages the start fails and says so'
else
	ok 'huge pages' drover start huge
fi
if [ -e /dev/vhost-vsock ]; then
	ok 'vsock' drover start vsock
	like "$(vm vsock .vsock_cid)" '^[0-9]+$' 'has a CID'
else
	like "$(drover start vsock 2>&1)" 'vm vsock: helpers: vsock: /dev/vhost-vsock: .*modprobe vhost_vsock' \
		'without vhost-vsock the start fails and says so'
fi
for m in tpm fs screen wide huge vsock; do drover stop $m >/dev/null 2>&1; done
ok 'stop droverd' stop_droverd
audit_clean 'helpers'
done_testing

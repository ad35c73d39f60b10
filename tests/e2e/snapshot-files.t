#!/usr/bin/env bash
# Everything that is a machine's state belongs to its snapshot: the volumes, raw and qcow2, what the
# firmware keeps and what the TPM keeps. A machine whose run or disks are not those of its
# configuration is refused.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
truncate -s 1M "$W/foreign.raw"
write_config() { # write_config VOLUMES
	config <<-END
	[template nano]
	kernel = $kernel
	memory = 16M
	accel = tcg
	stop_timeout = 0
	autostart = no
	[vm wide]
	template = nano
	rootfs = $disk
	$1
	[vm volumes]
	template = nano
	volume = data size=1M
	[vm firm]
	memory = 64M
	accel = tcg
	stop_timeout = 0
	autostart = no
	firmware = uefi
	tpm = yes
	volume = data size=1M
	[vm foreign]
	template = nano
	volume = $W/foreign.raw
	[vm reader]
	template = nano
	volume = $W/foreign.raw ro
	[vm grown]
	template = nano
	memory = 64M
	memory_max = 256M
	hotplug_slots = 1
	END
}
both='volume = data size=1M
	log size=2M format=qcow2'
write_config "$both"
baseline
start_droverd
count() { # count VM NUMBER
	printf N | timeout 20 socat -u - "UNIX-CONNECT:/run/drover/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "NANO-COUNT $2"
}
dir=$W/state/vm/wide
# Into all three disks, where the guest does not look. Only while nobody has them open.
mark() {
	printf '%s' "$1" | dd of="$dir/disk.raw" bs=1 seek=3000000 conv=notrunc status=none
	printf '%s' "$1" | dd of="$dir/volume-data.raw" bs=1 seek=500000 conv=notrunc status=none
	qemu-io -f qcow2 -c "write -P $2 1M 64k" "$dir/volume-log.qcow2" >/dev/null
}
marked() {
	[ "$(dd if="$dir/disk.raw" bs=1 skip=3000000 count=3 status=none)" = "$1" ] &&
		[ "$(dd if="$dir/volume-data.raw" bs=1 skip=500000 count=3 status=none)" = "$1" ] &&
		qemu-io -f qcow2 -c "read -P $2 1M 64k" "$dir/volume-log.qcow2" >"$W/read" &&
		not grep -qi 'verification failed' "$W/read" &&
		qemu-img check -q "$dir/volume-log.qcow2"
}
left() { find "$W/state/vm" \( -name '*.tmp' -o -name '*.restore' -o -name '*.before' \) | grep .; }
files() { drover snapshot show "$1" "$2" -o json | jq -c '[.files[].name] | sort'; }

# Memory and all three disks.
ok 'a machine with volumes starts' drover start wide
ok 'and is killed' drover kill wide
mark one 1
ok 'it starts' drover start wide
ok 'its guest is up' wait_for "$patience" console_has wide NANO-READY
ok 'and counts' count wide 0001
ok 'a snapshot' drover snapshot create wide first
is "$(files wide first)" '["disk0","memory","volume-data","volume-log"]' 'it holds all of its disks'
ok 'killed' drover kill wide
mark two 2
ok 'restored' drover snapshot restore wide first
ok 'it counts from where it was' count wide 0002
ok 'killed' drover kill wide
ok 'all its disks are those of then' marked one 1
ok 'nothing unfinished lies about' wait_for "$patience" not left

# Suspended, its disks stay where they are, and nobody must write to them.
ok 'it starts' drover start wide
ok 'it is suspended' drover suspend wide
is "$(jq -c '[.files[].name] | sort' "$dir/suspend/manifest.json")" '[null,null,null,"memory"]' \
	'its disks are on record'
ok 'and goes on' drover resume wide
ok 'once more' drover suspend wide
cp -a "$dir/volume-log.qcow2" "$W/log"
qemu-io -f qcow2 -c 'write -P 9 1M 64k' "$dir/volume-log.qcow2" >/dev/null
like "$(drover resume wide 2>&1)" "volume-log.qcow2. was changed since" \
	'a volume that was written to meanwhile is seen'
cp -a "$W/log" "$dir/volume-log.qcow2"
ok 'put back, it goes on' drover resume wide
ok 'killed' drover kill wide

# Disks alone.
ok 'the disks of a stopped machine' drover snapshot create wide off
mark six 6
ok 'are restored' drover snapshot restore wide off
ok 'all of them' marked one 1
ok 'volumes alone are disks, too' eval 'drover start volumes && drover kill volumes'
ok 'of which there is a snapshot' drover snapshot create volumes off
is "$(files volumes off)" '["volume-data"]' 'it holds the volume'

# Another set of disks is refused.
write_config 'volume = data size=1M'
ok 'a volume goes from the configuration' drover reload
like "$(drover snapshot restore wide first 2>&1)" "volume was '.*' then and is 'data size=1M' now" \
	'the memory does not match'
like "$(drover snapshot restore wide off 2>&1)" "volume-log.qcow2. is no disk of the machine any more" \
	'nor do the disks'
write_config "$both"
ok 'back again' drover reload
mv "$dir/snapshots/off/manifest.json" "$W/manifest"
jq 'del(.files[] | select(.disk == "volume-data"))' "$W/manifest" >"$dir/snapshots/off/manifest.json"
like "$(drover snapshot restore wide off 2>&1)" "it has no copy of .*volume-data.raw" 'nor one volume less'
jq '(.files[] | select(.disk == "volume-data") | .path) = "/etc/passwd"' "$W/manifest" \
	>"$dir/snapshots/off/manifest.json"
like "$(drover snapshot restore wide off 2>&1)" "/etc/passwd. is no disk of the machine" \
	'nothing is put where no disk of the machine is'
mv "$W/manifest" "$dir/snapshots/off/manifest.json"
ok "somebody's own file runs" drover start foreign
like "$(drover snapshot create foreign s 2>&1)" "volume '.*foreign.raw' is not the machine's own" \
	'and no snapshot can put it back'
ok 'suspended, it only has to stay as it is' drover suspend foreign
ok 'then the machine goes on' drover resume foreign
ok 'suspended again' drover suspend foreign
printf x >>"$W/foreign.raw"
like "$(drover resume foreign 2>&1)" "foreign.raw' has 1048577 bytes" 'a change of it is seen'
truncate -s 1M "$W/foreign.raw"
ok 'another boot is possible' drover start --discard foreign
ok 'killed' drover kill foreign
ok 'one that only reads it' drover start reader
ok 'has its snapshot' drover snapshot create reader s
ok 'killed' drover kill reader

# Firmware and TPM.
firm=$W/state/vm/firm
ok 'a machine with firmware and TPM' drover start firm
ok 'runs' vm_is firm running
ok 'its TPM has state' wait_for "$patience" test -s "$firm/tpm/tpm2-00.permall"
ok 'killed' drover kill firm
ok 'the files of one that is stopped' drover snapshot create firm off
is "$(files firm off)" '["tpm","vars.fd","volume-data"]' 'what they keep is among them'
cp "$firm/vars.fd" "$W/vars" && cp "$firm/tpm/tpm2-00.permall" "$W/permall"
printf X | dd of="$firm/vars.fd" bs=1 seek=2000 conv=notrunc status=none
printf X | dd of="$firm/tpm/tpm2-00.permall" bs=1 seek=2000 conv=notrunc status=none
ok 'restored' drover snapshot restore firm off
ok "the firmware's variables are as they were" cmp "$firm/vars.fd" "$W/vars"
ok "and so is the TPM's state" cmp "$firm/tpm/tpm2-00.permall" "$W/permall"
ok 'it starts' drover start firm
ok 'and has a snapshot with its memory' drover snapshot create firm first
is "$(files firm first)" '["memory","tpm","vars.fd","volume-data"]' 'with all of it'
pid=$(vm_pid firm)
ok 'which is restored' drover snapshot restore firm first
ok 'it runs, as another process' runs_anew firm "$pid"
ok 'it is suspended' drover suspend firm
ok 'and goes on' drover resume firm
ok 'killed' drover kill firm
ok 'nothing unfinished lies about' wait_for "$patience" not left

# A run that was changed.
ok 'a machine that can grow' drover start grown
ok 'grows, only in memory' drover resize grown --memory 192M
like "$(drover snapshot create grown s 2>&1)" 'it was resized in this run' 'no snapshot of that'
like "$(drover suspend grown 2>&1)" 'it was resized in this run' 'nor a suspend'
ok 'killed' drover kill grown
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

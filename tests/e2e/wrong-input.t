#!/usr/bin/env bash
# What is wrong with a file, a body or a manifest is told in a sentence that names it, before anything
# is begun.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano) disk=$(nano_disk)
mkfifo "$W/fifo"
mkdir "$W/dir"
truncate -s 1M "$W/extra"
config <<END
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
restart = no
autostart = no
stop_timeout = 2
[vm web]
template = nano
rootfs = $disk
[vm grow]
template = nano
machine = pc
memory_max = 512M
[vm volume]
template = nano
volume = $W/fifo ro
[vm folder]
template = nano
volume = $W/dir ro
[vm cdrom]
template = nano
cdrom = $W/fifo
[vm firmware]
template = nano
firmware = $W/fifo
[vm share]
template = nano
share = t $W/extra
END
baseline
start_droverd

# Files that are none
for m in volume cdrom firmware; do
	like "$(drover start $m 2>&1)" "^drover: vm $m: .*'$W/fifo' is neither a file nor a block device$" \
		"$m: a FIFO is refused, not waited for"
done
like "$(drover start folder 2>&1)" "'$W/dir' is neither a file nor a block device" 'a folder is no volume'
like "$(drover start share 2>&1)" "^drover: vm share: .*'$W/extra': Not a directory$" 'a file is no share'

# Bodies
ok 'two run' drover start web grow
refused() { # refused PATH BODY REGEX DESCRIPTION
	like "$(api POST "$1" -d "$2" | jq -r .error.message)" "$3" "$4"
}
refused /vms/grow/disks "{\"path\":\"$W/extra\",\"readonly\":\"yes\"}" '"readonly" is neither true nor false' \
	'what was not understood is not taken for a writable disk'
refused /vms/grow/disks "{\"path\":\"$W/extra\",\"format\":5}" '"format" is not a string' 'nor for a raw one'
refused /vms/grow/disks "{\"path\":\"$W/extra\",\"id\":[]}" '"id" is not a string' 'an id is a string'
refused /vms/grow/disks "{\"path\":\"$W/extra\",\"serial\":{}}" '"serial" is not a string' 'a serial number, too'
refused /vms/grow/disks "{\"path\":\"$W/extra\",\"serial\":\"123456789012345678901\"}" \
	'a serial number has 1 to 20 bytes' 'of which the guest sees 20 bytes'
is "$(vm grow '.added | length')" 0 'nothing was added'
refused '/vms/grow/resize?wait=60' "{\"memory\":$((1 << 40))}" \
	'1048576 MiB of memory are more than memory_max, which is 512 MiB' 'memory has a bound'
refused /vms/grow/resize '{"vcpus":2,"cores":1}' 'unknown member .cores.' 'a member that is none'

# Manifests
ok 'a snapshot' drover snapshot create web one
snap=$W/state/vm/web/snapshots/one
cp -a "$snap/manifest.json" "$W/manifest"
manifest() { # manifest FILTER REGEX DESCRIPTION
	jq "$1" "$W/manifest" >"$snap/manifest.json"
	like "$(drover snapshot restore web one 2>&1)" "$2" "$3"
}
manifest '.kind = "fool"' 'manifest.json is not the manifest of a snapshot that this drover knows' 'a kind that is none'
manifest '.files += [{"size":1}]' "snapshot 'one' does not match: a file of its manifest has no name" \
	'a file without a name'
manifest '(.files[] | select(.name == "memory")).name = "../one/memory"' \
	"does not match: '\.\./one/memory' is no name of a file in it" 'a file of another folder'
ok 'the machine runs' vm_is web running
cp -a "$snap" "$snap-2"
echo '{"version":1' >"$snap-2/manifest.json"
rm -f "$snap/manifest.json"
list=$(drover snapshot list web)
like "$list" "one +- +broken +- +open '$snap/manifest.json': No such file" 'a snapshot without a manifest is listed as broken'
like "$list" "one-2 +- +broken +- +'$snap-2/manifest.json': not JSON" 'and so is one with half of it'
is "$(drover snapshot list web -o json | jq -c '[.[] | [.name, (.broken != null)]] | sort')" \
	'[["one",true],["one-2",true]]' 'in JSON, too'
like "$(drover snapshot restore web one-2 2>&1)" 'not JSON' 'it cannot be restored'
ok 'but deleted' drover snapshot delete web one-2
is "$(drover snapshot list web -o json | jq -c '[.[].name]')" '["one"]' 'then it is gone'
cp -a "$W/manifest" "$snap/manifest.json"
ok 'as it was, it is restored' drover snapshot restore web one

ok 'killed' drover kill web grow
stop_droverd
rm -rf "$W/fifo" "$W/dir" "$W/extra"
audit_clean 'the end'
done_testing

#!/usr/bin/env bash
# A machine whose disk is an overlay goes to another droverd: with what that lies above where both see
# it; whole where it is copied, there and back, and what fails on the way leaves the overlay as it was.
. "$(dirname "$0")/migrate-lib.sh"
command -v qemu-img >/dev/null || skip_all 'there is no qemu-img (Debian package qemu-utils)'
world
disk_prefix=file: disk_suffix=$'\nclone = overlay' # also where blocks can be shared
start_two
mine=$W/state/vm/m theirs=$W/b/vm/m
files() { find "$1" -maxdepth 1 \( -name 'disk*' -o -name 'base*' \) -printf '%f ' | tr ' ' '\n' | sed 's/^base-.*/base/' | sort | xargs; }
layers() { vm m '.disk_layers | [.format, .backing // "-"] | join(" ")'; }
copy() { migrate m --copy-disks "$@"; }


ok 'it runs here' vm_wait m running
is "$(files "$mine")" 'base disk.qcow2' 'from an overlay'
built=$(find "$W/state/oci/built" -type f)
sum=$(sha256sum <"$built")
ok 'it counts' count m 0001
ok 'it migrates, with the disk that both see' migrate m
ok 'it runs there' at_b vm_is m running
ok 'where it goes on' at_b count m 0002
is "$(at_b layers)" "$(layers)" 'from the same disk, above the same'
like "$(tr '\0' '\n' <"/proc/$(at_b vm_pid m)/cmdline")" "driver=file,node-name=disk0-base-file,read-only=on,filename=$mine/base-" \
	'which its hypervisor is told'
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock
ok 'it counts here' count m 0003
ok 'there it is removed' at_b drover rm m --disks
is "$(files "$mine")" 'base disk.qcow2' 'which leaves the disk'

ok 'its disk is copied' copy
ok 'it runs there' at_b vm_is m running
ok 'where it goes on' at_b count m 0004
is "$(files "$theirs")" disk.raw 'from a whole disk'
is "$(at_b layers)" 'raw -' 'as show tells'
ok 'with the same in it' qemu-img compare -U -q -f qcow2 -F raw "$mine/disk.qcow2" "$theirs/disk.raw"
is "$(files "$mine")" 'base disk.qcow2' 'here lies what was'
at_b touch_memory m
ok 'back, slowly' at_b drover migrate m --to unix:/run/drover/api.sock --copy-disks --max-bandwidth 64K --no-wait
ok 'the disk is being copied' wait_for "$patience" at_b step_is m disks
ok 'cancel' at_b drover cancel m
ok 'it stays there' at_b vm_wait m running
ok 'which is settled' wait_for "$patience" at_b runs_settled
ok 'here, too' wait_for "$patience" no_migrations
is "$(files "$mine")" 'base disk.qcow2' 'here lies the overlay, as it did'
is "$(vm m .disk)" "$mine/disk.qcow2" 'which is its disk'
ok 'it comes back' at_b drover migrate m --to unix:/run/drover/api.sock --copy-disks
ok 'and runs' count m 0005
is "$(files "$mine")" disk.raw 'from a whole disk now, and the overlay is gone'
is "$(sha256sum <"$built")" "$sum" 'what it lay above was never written'
ok 'there it is removed' at_b drover rm m --disks
ok 'here it goes' drover stop m
stop_two
done_testing

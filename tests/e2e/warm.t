#!/usr/bin/env bash
# Warm templates with a real Linux guest: a machine boots once and is frozen, others begin with its
# memory and are themselves all the same.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
write_config() { # write_config EXTRA
	config <<END
on_exit = stop
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
private = $W/key
[vm base]
warm = yes
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[0]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 128M
network = taps
ssh_key = test
agent = yes
health = console:^GUEST-READY
health = agent
cmdline = console=ttyS0 panic=-1 quiet mitigations=off ${2-}
autostart = no
stop_timeout = 5
[vm one]
from = base
autostart = no
[vm two]
from = base
autostart = no
ephemeral = yes
${1-}
END
}
write_config ''
start_origin
baseline
start_droverd

image() { vm base .warm.image; }
began_warm() { [ "$(vm "$1" '.warm.reason')" = null ] && drover why "$1" | grep -q 'begins with the memory'; }
ok 'a machine is started, and its template with it' drover start one
ok 'the template is frozen' vm_is base stopped
like "$(drover why base)" 'frozen: machines begin with its memory' 'why tells it'
ok 'one began warm' began_warm one
ok 'another one' drover start two
ok 'began warm too' began_warm two
ok 'one answers ssh' ssh_wait one
ok 'two answers ssh' ssh_wait two
for vm in one two; do
	is "$(guest $vm hostname)" $vm "$vm is called so"
	is "$(guest $vm cat /sys/class/net/eth0/address)" "$(vm $vm .mac)" "$vm: its MAC is its own"
	like "$(guest $vm ip -4 -o addr show dev eth0)" "$(vm $vm .address)/30" "$vm: its address is its own"
done
ok 'the machine-ids differ' [ "$(guest one cat /etc/machine-id)" != "$(guest two cat /etc/machine-id)" ]
like "$(guest one cat /etc/machine-id)" '^[0-9a-f]{32}$' 'it is one'
host_key() { ssh-keyscan -T 20 -t ed25519 "$(vm "$1" .address)" 2>/dev/null | cut -d' ' -f3; }
ok 'one has a host key' [ -n "$(host_key one)" ]
ok 'and another one than two' [ "$(host_key one)" != "$(host_key two)" ]
ok 'the clock is right' [ $(($(guest one date +%s) - $(date +%s))) -gt -5 ]
# The memory of both is the template's: mapped for each alone, most of it shared, none of it written back.
ram() { awk -v path="$1" -v key="$3:" '$6 == path { here = 1; next } /^[0-9a-f]+-[0-9a-f]+ / { here = 0 }
	here && $1 == key { sum += $2 } END { print sum + 0 }' "/proc/$2/smaps"; }
pid=$(vm_pid two) file=$(image)/ram
like "$(grep -F "$file" "/proc/$pid/maps" | head -n 1)" ' rw-p ' 'the memory is mapped copy-on-write'
clean=$(ram "$file" "$pid" Shared_Clean) dirty=$(ram "$file" "$pid" Private_Dirty)
diag "of two: $clean KiB shared, $dirty KiB its own"
ok 'and shared with the other' [ "$clean" -gt 0 ]
ok 'more of it than is its own' [ "$clean" -gt "$dirty" ]
sum=$(sha256sum <"$file")
guest one 'echo mine >/root/mark; head -c 8000000 /dev/zero | tr "\0" x >/run/fill; sync'
ok 'what one writes' guest one test -s /run/fill
ok 'two does not see' not guest two test -e /root/mark
is "$(sha256sum <"$file")" "$sum" 'and the file does not have'
is "$(vm base '.warm.machines | sort | join(" ")')" 'one two' 'show tells who begins with it'
is "$(vm base .warm.good)" true 'and that it is good'
ok 'its operations are over' [ "$(vm one .operation)" = null ]

# A stop and a start: what has its own disk boots, what is made anew is warm again.
key=$(host_key two) id=$(guest two cat /etc/machine-id)
ok 'stop' drover stop one
ok 'stop' drover stop two
ok 'start of the ephemeral one' drover start two
ok 'is warm again' began_warm two
ok 'it answers' ssh_wait two
is "$(guest two cat /etc/machine-id)" "$id" 'with the machine-id that it had'
ok 'start of the other' drover start one
ok 'it answers' ssh_wait one
like "$(guest one cat /root/mark)" mine 'from its own disk'
is "$(guest one hostname)" one 'as itself'
like "$(guest one cat /etc/machine-id)" '^[0-9a-f]{32}$' 'with its machine-id'
is "$(vm one '.conditions | map(select(. == "cold-start")) | length')" 0 'which is no fault'
ok 'stop' drover stop one

# Copies: made now, started whenever.
ok 'a copy of the template' drover clone base three
is "$(vm three .state)" stopped 'it is there, and stopped'
is "$(vm three .warm.image)" "$(image)" 'with the image that it begins with'
like "$(drover clone three four 2>&1)" 'it has not been started since it was made' 'nothing of its own can be copied'
ok 'it starts' drover start three
ok 'with the memory' began_warm three
ok 'it answers' ssh_wait three
is "$(guest three hostname)" three 'as itself'
ok 'with a host key of its own' [ "$(host_key three)" != "$key" ]
ok 'another copy' drover clone base five

# A copy of a snapshot goes on from its memory, too.
guest three 'echo kept >/run/in-memory; echo kept >/root/on-disk; sync'
ok 'a snapshot with memory' drover snapshot create three now
ok 'a copy of it' drover clone three six --from now
like "$(vm six .warm.image)" '/six/begin$' 'it has the memory'
ok 'it starts' drover start six
ok 'with it' began_warm six
ok 'it answers' ssh_wait six
is "$(guest six cat /run/in-memory /root/on-disk | xargs)" 'kept kept' 'memory and disk are there'
is "$(guest six hostname)" six 'as itself'
is "$(guest six cat /sys/class/net/eth0/address)" "$(vm six .mac)" 'with its MAC'
ok 'with a host key of its own' [ "$(host_key six)" != "$(host_key three)" ]
ok 'what it began with is gone' wait_for "$patience" [ ! -e "$W/state/vm/six/begin" ]
ok 'kill' drover kill six
ok 'rm' drover rm six --disks

# Changed, it is made anew when somebody needs it; the old one goes with its last user.
old=$(image)
ok 'stop' drover stop two
write_config '' 'changed=1'
ok 'reload' drover reload
is "$(vm base .warm.good)" false 'after a change it is not good any more'
like "$(vm base .warm.reason)" 'cmdline has changed' 'and why'
ok 'a start' drover start two
ok 'has made a new one' [ "$(vm base .warm.good)" = true -a "$(image)" != "$old" ]
ok 'with which it began' began_warm two
ok 'the old one is there for the copy' [ -s "$old/ram" ]
ok 'which begins with it' drover start five
ok 'warm' began_warm five
ok 'then it goes' wait_for "$patience" [ ! -e "$old" ]
ok 'the machine with its memory runs on' ssh_wait five

# What cannot be is a boot, and says so.
write_config "$(printf '[vm odd]\nfrom = base\nmemory = 160M\nautostart = no')" 'changed=1'
ok 'reload' drover reload
ok 'a machine that is not like it starts' drover start odd
like "$(vm odd '.conditions | join(" ")')" cold-start 'by a boot'
like "$(vm odd .warm.reason)" 'memory was .128M. then and is .160M. now' 'and says why'
ok 'kill' drover kill odd

# A state that QEMU does not load.
ok 'stop' drover stop two
bad=$(image)
python3 - "$bad" <<'END'
import json, os, sys
path = sys.argv[1] + "/memory"
size = os.path.getsize(path) // 2
os.truncate(path, size)
manifest = sys.argv[1] + "/manifest.json"
j = json.load(open(manifest))
for f in j["files"]:
	if f["name"] == "memory":
		f["mtime_ns"] = os.stat(path).st_mtime_ns
		f["sha256"] = None
		f["size"] = size
json.dump(j, open(manifest, "w"))
END
ok 'start' drover start two
like "$(vm two '.conditions | join(" ")')" cold-start 'a memory that cannot be loaded is a boot'
ok 'and it is not begun with again' [ ! -e "$bad" ]

# Gone with its configuration.
for vm in two three five; do drover kill $vm >/dev/null; done
for vm in three five; do ok "rm $vm" drover rm $vm --disks; done
config <<END
on_exit = stop
[network taps]
cidr = 172.16.0.0/16
END
ok 'reload' drover reload
for vm in base one two odd; do drover rm $vm --disks >/dev/null; done
ok 'without a template there is no image' wait_for "$patience" [ ! -e "$W/state/warm/base" ]
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

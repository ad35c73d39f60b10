#!/usr/bin/env bash
# The host against what should be there: what somebody took away is put back, what is ours and no
# one's is removed, `drover doctor` tells both and --fix mends, and what is not ours is left alone.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
machines() { # machines MIN-AGE
	config <<END
on_exit = stop
reconcile_interval = 1s
reconcile_min_age = $1
[network taps]
cidr = 172.16.0.0/16
[template nano]
kernel = $kernel
memory = 16M
accel = tcg
network = taps
[vm one]
template = nano
[vm two]
template = nano
[vm off]
template = nano
autostart = no
END
}
machines 1h
# What is not ours and looks like it, or stands beside it.
ip tuntap add tapforeign mode tap
ip tuntap add tap0123456789ab mode tap
ip link set tapforeign alias 'somebody:vm/one'
nft add table inet other
nft add chain inet other c '{ type filter hook forward priority 0; }'
nft add rule inet other c accept
mkdir -p /run/drover/vm
sleep 10000 &
foreign=$!
baseline
start_droverd

for m in one two; do
	ok "$m runs" vm_wait $m running
	await 60 console_has $m NANO-READY
done
pids=$(vm_pid one),$(vm_pid two)
tap=$(vm one '.nics[0].tap') tap2=$(vm two '.nics[0].tap')
address=$(ip -o -4 address show dev "$tap" | awk '{ print $4 }')
others() { nft -n list table inet other; ip -d link show tapforeign; ip -d link show tap0123456789ab; }
foreign_before=$(others)

doctor() { drover doctor -o json; }
differences() { doctor | jq -c '[.differences[] | [.kind, .name]]'; }
is_well() { [ "$(differences)" = '[]' ]; }
repaired() { # repaired SINCE WHAT
	drover events -o json --since "$1" | jq -c "select(.event == \"repaired\" and .what == \"$2\")" | grep .
}
has_address() { ip -o -4 address show dev "$tap" | grep -q " $address "; }
table() { nft -n list table inet drover; }

ok 'nothing differs' wait_for 30 is_well
ok 'doctor' drover doctor
like "$(drover doctor)" 'as it should be' 'says so to people'
is "$(doctor | jq -r '.checks[] | select(.check == "tun") | .ok')" true 'and tells of its checks'

# What running machines need.
seq=$(last_seq)
ip address del "$address" dev "$tap"
ok 'a deleted address is put back' wait_for 60 has_address
ok 'and told of' wait_for 30 repaired "$seq" link
seq=$(last_seq)
ip link set "$tap" down
ok 'a link that is down is set up again' wait_for 60 eval 'ip link show dev "$tap" up | grep -q .'
ok 'with its address' wait_for 60 has_address

table >"$W/table"
seq=$(last_seq)
nft delete table inet drover
ok 'a deleted table is made again' wait_for 60 eval 'table | cmp - "$W/table"'
ok 'and told of' wait_for 30 repaired "$seq" nft-table
nft flush table inet drover
ok 'a flushed one too' wait_for 60 eval 'table | cmp - "$W/table"'
read -r chain handle < <(nft -a list table inet drover |
	awk '/^\tchain/ { c = $2 } / # handle / && !/{/ && c { print c, $NF; exit }')
like "$chain $handle" '^[a-z_]+ [0-9]+$' 'there is a rule to be changed'
nft delete rule inet drover "$chain" handle "$handle" || fail "a rule is deleted"
ok 'so is a deleted rule' wait_for 60 eval 'table | cmp - "$W/table"'
nft add rule inet drover "$chain" drop || fail 'a rule is added'
ok 'and a rule that was added goes' wait_for 60 eval 'table | cmp - "$W/table"'

echo 0 >/proc/sys/net/ipv4/ip_forward
ok 'forwarding is turned on again' wait_for 60 grep -q 1 /proc/sys/net/ipv4/ip_forward

dnsmasq=$(pgrep -f "dnsmasq.*$tap")
kill -9 "$dnsmasq"
new_dnsmasq() { p=$(pgrep -f "dnsmasq.*$tap") && [ "$p" != "$dnsmasq" ]; }
ok 'a killed dnsmasq is started again' wait_for 60 new_dnsmasq
ok 'the machine is not degraded for long' wait_for 60 eval '[ "$(vm one ".conditions | length")" = 0 ]'
is "$(vm_pid one),$(vm_pid two)" "$pids" 'all that in the same processes'
is "$(others)" "$foreign_before" 'and what is not ours is as it was'
ok 'nothing differs' wait_for 30 is_well

# A TAP that is deleted under a hypervisor.
index=$(cat "/sys/class/net/$tap2/ifindex") seq=$(last_seq)
other_tap() { [ "$(cat "/sys/class/net/$tap2/ifindex")" != "$index" ]; }
ip link del "$tap2"
ok 'a deleted TAP is made again' wait_for 60 other_tap
ok 'and told of' wait_for 30 repaired "$seq" tap-lost
ok 'nothing differs' wait_for 30 is_well
is "$(vm two '.conditions | length')" 0 'the machine is as it was'
is "$(vm_pid one),$(vm_pid two)" "$pids" 'in the same process'

# One that cannot be given back: the hypervisor's end is a queue of the link, wherever that is.
unshare --net sleep 10000 &
away=$!
moved() { ip link set "$tap2" netns "$away"; }
await 30 eval '[ "$(readlink "/proc/$away/ns/net")" != "$(readlink /proc/self/ns/net)" ]'
ok 'a TAP is moved away' moved
ok 'a TAP that cannot be put back is a lost network' wait_for 60 eval '[ "$(vm two ".conditions[]")" = network-lost ]'
drover doctor >"$W/doctor"
is $? 1 'doctor: exit status 1'
like "$(cat "$W/doctor")" "tap-lost +$tap2 +vm/two" 'it names the TAP and the machine'
like "$(cat "$W/doctor")" 'moved or renamed' 'why'
like "$(cat "$W/doctor")" 'drover restart two' 'and what helps'
like "$(drover why two)" "$tap2 was deleted" 'the story has it'
ok 'which does' drover restart two
is "$(vm two '.conditions | length')" 0 'the condition is gone'
kill "$away"
ok 'the TAP is there' test -e "/sys/class/net/$tap2"
ok 'nothing differs' wait_for 30 is_well
pids=$(vm_pid one),$(vm_pid two)

# Ours, and no one's: a TAP with our alias, a folder, a process with our marker, objects that the
# ledger has of a machine that does not run.
alias=$(cat "/sys/class/net/$tap/ifalias")
ip tuntap add tapstray mode tap
ip link set tapstray alias "${alias%one}off"
mkdir /run/drover/vm/off && touch /run/drover/vm/off/mon.sock
DROVER_OWNER=/run/drover:vm/off:dnsmasq-tapstray sleep 10000 &
stray=$!
DROVER_OWNER=/run/other:vm/off:dnsmasq-tapstray sleep 10000 &
elsewhere=$!
all='[["folder","/run/drover/vm/off"],["stray","'$stray'"],["tap","tapstray"]]'
found() { [ "$(differences | jq -c sort)" = "$all" ]; }
ok 'doctor finds all three' wait_for 30 found
is "$(doctor | jq -r '.differences[] | select(.kind == "tap") | [.owner, .action, .mended] | map(tostring) | join(" ")')" \
	'vm/off would be deleted false' 'it tells what would be done'
sleep 3
ok 'what is younger than reconcile_min_age stays' found
ok 'a machine that runs keeps what it has' eval '[ "$(vm_pid one),$(vm_pid two)" = "$pids" ]'
ok '--fix removes it at once' drover doctor --fix
is "$(drover doctor --fix -o json | jq -c '.differences')" '[]' 'then there is nothing left'
ok 'the TAP is gone' not test -e /sys/class/net/tapstray
ok 'the folder' not test -e /run/drover/vm/off
ok 'and the process' dead "$stray"
ok 'the one of another droverd lives' alive "$elsewhere"
kill "$elsewhere"

machines 1s
ok 'reload' drover reload
ip tuntap add tapstray mode tap
ip link set tapstray alias "${alias%one}off"
mkdir /run/drover/vm/off
DROVER_OWNER=/run/drover:vm/off:hypervisor setsid sleep 10000 &
stray=$!
ok 'what is old enough goes by itself: the TAP' wait_for 60 not test -e /sys/class/net/tapstray
ok 'the folder' wait_for 60 not test -e /run/drover/vm/off
ok 'the process' wait_for 60 dead "$stray"
is "$(vm_pid one),$(vm_pid two)" "$pids" 'the machines run on'
is "$(others)" "$foreign_before" 'and what is not ours is as it was'
ok 'also the process' alive "$foreign"
ok 'a machine whose leftovers were removed starts' drover start off
ok 'and stops' drover stop off

# All while droverd is away.
stop_droverd KILL
ip address del "$address" dev "$tap"
nft delete table inet drover
dnsmasq=$(pgrep -f "dnsmasq.*$tap")
kill -9 "$dnsmasq"
ip tuntap add tapstray mode tap
ip link set tapstray alias "${alias%one}off"
start_droverd
ok 'what was taken away while droverd was away is put back: the address' wait_for 60 has_address
ok 'the table' wait_for 60 eval 'table | grep -q "$tap"'
ok 'dnsmasq' wait_for 60 new_dnsmasq
ok 'and the stray goes' wait_for 60 not test -e /sys/class/net/tapstray
ok 'nothing differs' wait_for 60 is_well
is "$(vm_pid one),$(vm_pid two)" "$pids" 'the machines run on'

ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

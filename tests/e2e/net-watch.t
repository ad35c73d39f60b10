#!/usr/bin/env bash
# What others do to the links and addresses of networks with a bridge: put back at once where it is
# ours, told where it is not. The reconciler's own passes are an hour apart here.
. "$(dirname "$0")/lib.sh"
world
ip link add phys0 type veth peer name cable && ip link set cable up
ip link set phys0 up && ip link set phys0 down
ip link add vmbr7 type bridge && ip link set vmbr7 up
ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up
config <<END
on_exit = stop
reconcile_interval = 1h
[network floor]
kind = bridge
cidr = 10.83.0.0/24
port = phys0
[network office]
kind = bridge
bridge = vmbr7
[vm one]
kernel = $(nano)
memory = 16M
network = floor
network = office
END
start_droverd
ok 'a machine' vm_wait one running
bridge=$(drover net show floor -o json | jq -r .bridge)
tap() { vm one ".nics[$1].tap"; }
on() { [ "$(basename "$(readlink "/sys/class/net/$1/master")")" = "$2" ]; }
up() { ip -o link show up dev "$1" | grep .; }
first=$(tap 0) second=$(tap 1)
ok 'its first nic is on the bridge' on "$first" "$bridge"
ip link set phys0 nomaster
ok 'a port that is taken away comes back' wait_for 60 on phys0 "$bridge"
ip link set "$first" nomaster
ok 'a TAP, too' wait_for 60 on "$first" "$bridge"
ip link set "$first" down
ok 'one that is taken down is up' wait_for 60 up "$first"
ip link set "$bridge" down
ok 'so is the bridge' wait_for 60 up "$bridge"
ip addr flush dev "$bridge"
addressed() { ip -o -4 addr show dev "$bridge" | grep -q 10.83.0.1/24; }
ok 'and has its address' wait_for 60 addressed
ip link del "$bridge"
ok 'a bridge that is deleted is made again' wait_for 60 on "$first" "$bridge"
ok 'with its port' wait_for 60 on phys0 "$bridge"
ip link del vmbr7
ip link add vmbr7 type bridge && ip link set vmbr7 up
ok 'the bridge of the host, made anew by its owner' wait_for 60 on "$second" vmbr7
quiet() { drover net check; }
ok 'all is well' wait_for 60 quiet

seq=$(last_seq)
event() { drover events -o json --since "$seq" | jq -r "select(.event == \"$1\") | .name + \" \" + (.by // \"\")" | grep -E "$2"; }
ip addr add 10.83.0.129/25 dev lan0
ok 'a subnet that another takes, too, is told' wait_for 60 event conflict '^floor .*lan0'
ok 'and found by the check' says 'network floor: its cidr is in use by another on this host, too: .*lan0' drover net check
ok 'what there is stays' vm_is one running
pid=$(vm_pid one)
stop_droverd KILL
start_droverd
ok 'the next daemon leaves it, too' wait_for 60 says 'in use by another' drover net check
is "$(vm_pid one) $(drover net show floor -o json | jq -r .state)" "$pid up" 'and takes it up'
seq=$(last_seq)
ip addr add 10.83.0.130/25 dev lan1
ok 'another one' wait_for 60 event conflict '^floor '
ip addr flush dev lan1 && ip -4 addr flush dev lan0
ok 'and when it is gone' wait_for 60 event conflict-gone '^floor'
ok 'all is well again' wait_for 60 quiet
ok 'droverd leaves' stop_droverd
is "$(ip -o link show master vmbr7)$(ip -o link show up dev phys0)" '' 'the host has its links'
ip link del vmbr7
ip link del lan0
ip link del phys0
is "$(ip -o link | grep -vc ': lo:')$(nft list ruleset)" 0 'and nothing else is there'
done_testing

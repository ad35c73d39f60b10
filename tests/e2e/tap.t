#!/usr/bin/env bash
# A TAP that is deleted under a running QEMU comes back on the descriptor that QEMU holds: a Linux
# guest goes on with its network, in the same process, whether a droverd watched or not.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
config <<END
on_exit = stop
reconcile_interval = 1h
[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000
[network taps]
cidr = 172.16.0.0/16
[network more]
cidr = 172.20.0.0/16
[key test]
file = $W/key.pub
[vm web]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
	more
ssh_key = test
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
END
start_origin
baseline
start_droverd

ok 'the guest answers' ssh_wait web
pid=$(vm_pid web)
tap=$(vm web '.nics[0].tap') tap2=$(vm web '.nics[1].tap')
boot=$(guest web cat /proc/sys/kernel/random/boot_id)
address=$(vm web '.nics[0].addresses[0]') address=${address%%/*}
look() { # what a TAP of ours is like, but for its number and counters
	ip -d -o link show dev "$1" | sed 's/^[0-9]*: //'
	ip -o -4 address show dev "$1" | awk '{ print $4 }'
	cat "/sys/class/net/$1/ifalias" "/sys/class/net/$1/tun_flags" "/sys/class/net/$1/owner"
	cat "/proc/sys/net/ipv4/conf/$1/rp_filter"
}
looks() { [ "$(look "$1" 2>&1)" = "$(cat "$W/$1")" ]; }
look "$tap" >"$W/$tap" && look "$tap2" >"$W/$tap2" || fail 'the TAPs are there'
repaired() { # repaired SINCE TAP
	events_of web "$1" | jq -c "select(.event == \"repaired\" and .object == \"$2\")" | grep .
}
dnsmasq_of() { pgrep -f "dnsmasq.*$1"; }
new_dnsmasq() { p=$(dnsmasq_of "$1") && [ "$p" != "$2" ]; }
lease() { # a lease anew, by broadcast: dnsmasq hears the new TAP
	guest_at "$address" 'busybox udhcpc -i eth0 -n -q -t 5 -T 3 -s /bin/true 2>&1' | grep "$address"
}
to_guest() { # 3 MB, which it counts
	head -c 3000000 /dev/zero | timeout 60 ssh -i "$W/key" -o BatchMode=yes -o LogLevel=ERROR \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "root@$address" wc -c
}
same_run() { is "$(vm_pid web) $(guest web cat /proc/sys/kernel/random/boot_id)" "$pid $boot" "$1"; }
ok 'a lease is to be had' wait_for 60 lease

seq=$(last_seq) dnsmasq=$(dnsmasq_of "$tap")
ip link del "$tap"
ok 'a deleted TAP is there again as it was' wait_for 60 looks "$tap"
ok 'and told of' wait_for 60 repaired "$seq" "$tap"
ok 'the guest answers' ssh_wait web
same_run 'the same guest in the same process'
ok 'with the dnsmasq of the new TAP' wait_for 60 new_dnsmasq "$tap" "$dnsmasq"
ok 'which gives leases' wait_for 60 lease
is "$(vm web '.conditions | length')" 0 'no condition is left'
is "$(guest web 'head -c 3000000 /dev/zero' | wc -c)" 3000000 'much passes from the guest'
is "$(to_guest)" 3000000 'and to it'
like "$(drover doctor)" 'as it should be' 'nothing differs'
like "$(drover why web)" "$tap" 'the story tells it'

# Both at once: each finds its own.
seq=$(last_seq)
ip link del "$tap2"
ip link del "$tap"
ok 'two at once' wait_for 60 eval 'looks "$tap" && looks "$tap2"'
ok 'the guest answers at the first' ssh_wait web
neighbour() { # the guest's MAC, seen through the second TAP
	guest_at "$address2" true
	ip neigh show dev "$tap2" | grep -i "lladdr $(vm web '.nics[1].mac')"
}
address2=$(vm web '.nics[1].addresses[0]') address2=${address2%%/*}
ok 'and at the second, which is no other' wait_for 60 neighbour

# By a daemon that adopted it, and while there was none.
stop_droverd KILL
start_droverd
ok 'adopted' vm_wait web running
ip link del "$tap"
ok 'a daemon that adopted it does the same' wait_for 60 looks "$tap"
ok 'the guest answers' ssh_wait web
stop_droverd KILL
ip link del "$tap"
start_droverd
ok 'and so it does for one that vanished meanwhile' wait_for 60 looks "$tap"
ok 'the guest answers' ssh_wait web
ok 'and gets its lease' wait_for 60 lease
same_run 'all that in the same guest'
is "$(vm web '.conditions | length')" 0 'no condition is left'

ok 'SIGTERM' stop_droverd
audit_clean 'after it all'
done_testing

#!/usr/bin/env bash
# A Linux guest goes to a droverd in another network namespace while somebody in a third one is logged
# in and pings it: as in a routed network, the way to it changes when it is there. The session lives
# on, few pings are lost, and it is the same boot with the same memory and disk.
. "$(dirname "$0")/migrate-lib.sh"
need_guest
command -v ping >/dev/null || skip_all 'there is no ping (Debian package iputils-ping)'
world
ssh_key
taps='[network taps]
cidr = 172.16.0.0/16
nat = no'
keys="[key test]
file = $W/key.pub
private = $W/key"
boot=$top/build/guest/kernel-${KERNELS[0]}/boot
config "$W/a.ini" <<END
$taps
$keys
[vm web]
kernel = $boot/vmlinux
initrd = $boot/initrd
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
accel = tcg
network = taps
ssh_key = test
stop_timeout = 5
cmdline = console=ttyS0 root=/dev/vda rw panic=-1 quiet mitigations=off
END
mkdir -p "$W/b"
config_b "$taps
$keys"
start_origin

# The client's namespace; its address 10.9.9.9 is reached from both sides.
namespace
unshare --net sleep infinity &
CLIENT=$!
client_is_there() { [ "$(readlink /proc/$CLIENT/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
wait_for "$patience" client_is_there
at_client() { nsenter -t $CLIENT --net "$@"; }
ip link add client type veth peer name to-a netns $CLIENT
in_b ip link add client type veth peer name to-b netns $CLIENT
ip addr add 10.9.1.1/24 dev client && ip link set client up
in_b ip addr add 10.9.2.1/24 dev client && in_b ip link set client up
at_client ip link set lo up
at_client ip addr add 10.9.9.9/32 dev lo
at_client ip addr add 10.9.1.2/24 dev to-a && at_client ip link set to-a up
at_client ip addr add 10.9.2.2/24 dev to-b && at_client ip link set to-b up
ip route add 10.9.9.9 via 10.9.1.2
in_b ip route add 10.9.9.9 via 10.9.2.2
at_client sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.to-a.rp_filter=0 net.ipv4.conf.to-b.rp_filter=0
way() { at_client ip route replace 172.16.0.0/16 via "10.9.$1.1" src 10.9.9.9; }
way 1
at_client_guest() {
	at_client timeout 30 ssh -n -i "$W/key" -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no \
		-o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 -o IdentitiesOnly=yes "root@$address" "$@"
}
baseline
ok 'the other droverd' start_b || bail "$(tail -n 3 "$W/droverd-b.log")"
start_droverd "$W/a.ini"
ok 'it answers ssh' ssh_wait web
address=$(vm web .address)
address=${address%%/*}
ok 'from the third namespace, too' wait_for "$patience" at_client_guest true || bail 'no way'
boot_id=$(at_client_guest cat /proc/sys/kernel/random/boot_id)
at_client_guest 'head -c 20000000 /dev/urandom >/root/before; md5sum </root/before >/root/sum; sync'

nsenter -t $CLIENT --net ssh -n -i "$W/key" -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no \
	-o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes "root@$address" \
	'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done' >"$W/session" 2>"$W/session.err" &
session=$!
nsenter -t $CLIENT --net ping -i 0.1 "$address" >"$W/ping" 2>&1 &
pinger=$!
ticks_over() { [ "$(tail -n 1 "$W/session")" -gt "$1" ]; }
ok 'a session that says something' wait_for "$patience" ticks_over 10

there_runs() { at_b vm_is web running; }
api POST /vms/web/migrate -d "{\"to\":\"unix:$there/api.sock\"}" >"$W/output"
ok 'it has arrived' wait_for "$patience" there_runs
way 2
before=$(tail -n 1 "$W/session")
ok 'here it is stopped' vm_wait web stopped
is "$(vm web .last_cause)" migrated 'because it has migrated'
ok 'the session goes on' wait_for "$patience" ticks_over $((before + 20))
ok 'it is the same' alive $session
is "$(tail -n +1 "$W/session" | awk '$1 != NR { print; exit }')" '' 'not a word of it was lost'
is "$(at_client_guest cat /proc/sys/kernel/random/boot_id)" "$boot_id" 'it is the same boot'
ok 'its disk is as it was' at_client_guest 'md5sum </root/before | cmp - /root/sum'
ok 'and it can write' at_client_guest 'echo after >/root/after && sync'
kill -INT $pinger
ok 'the pings have ended' wait_for "$patience" dead $pinger
read -r sent got < <(sed -nE 's/^([0-9]+) packets transmitted, ([0-9]+) received.*/\1 \2/p' "$W/ping")
diag "pings: $sent sent, $got answered, $((sent - got)) lost, one every 100 ms"
# A slow machine makes it longer, not endless.
ok 'few pings were lost' [ $((sent - got)) -lt 150 ]
ok 'most were answered' [ "$got" -gt 10 ]
kill $session 2>/dev/null
wait $session 2>/dev/null

ok 'there it is stopped' at_b drover stop web
ok 'it is removed there' at_b drover rm web --disks
stop_origin
kill $CLIENT
wait $CLIENT 2>/dev/null
ok 'the other droverd leaves' stop_b
ok 'droverd leaves' stop_droverd
is "$(in_b nft list ruleset)" '' 'no rule is left there'
done_testing

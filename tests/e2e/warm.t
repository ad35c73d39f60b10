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
diag "$(drover why two)"
diag "$(drover show two -o json | jq -c .warm)"
ok 'droverd leaves' stop_droverd
audit_clean 'the end'
done_testing

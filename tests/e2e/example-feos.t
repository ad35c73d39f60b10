#!/usr/bin/env bash
# The network of etc/examples/feos.ini, with a namespace at the end of its machine's TAP in place of a
# guest that boots a UKI: it gets its address, its prefix and its registry as the example says.
. "$(dirname "$0")/lib.sh"
. "$here/net-lib.sh"
world
# Of the example only the machine and the address of ghcr.io are others.
sed -e "s|^upstream = https://ghcr.io$|upstream = http://$ORIGIN_HOST\nhosts = ghcr.io|" \
	-e "s|^firmware = uefi$|binary = $B/fakes/fake-qemu|" -e "s|^kernel = .*|kernel = $(nano)|" \
	-e 's|^memory = 2G$|memory = 16M\naccel = tcg|' "$top/etc/examples/feos.ini" >"$W/feos.ini"
ok 'the example is nearly the example' test "$(diff "$top/etc/examples/feos.ini" "$W/feos.ini" | grep -c '^<')" = 4
ok 'the example itself is right' drover check "$top/etc/examples/feos.ini"
config <<END
on_exit = stop
include = $W/feos.ini
END
ip netns add first && ip netns del first # what ip makes for the first time is not looked at
mkdir "$W/origin"
baseline
start_origin "$W/origin"
# As ghcr.io has it.
head -c 10000 /dev/urandom >"$W/blob"
digest=sha256:$(sha256sum "$W/blob" | cut -d' ' -f1)
upload=$(curl -si -X POST "http://$ORIGIN_HOST/v2/feos/thing/blobs/uploads/" | sed -n 's/^[Ll]ocation: \(.*\)\r$/\1/p')
ok 'something to pull' curl -sSf -X PUT --data-binary "@$W/blob" -H 'Content-Type: application/octet-stream' "$upload&digest=$digest"
start_droverd
drover start feos >"$W/output" 2>&1
await 60 vm_is feos running
ip netns add feos
in_guest feos sysctl -qw net.ipv6.conf.default.accept_dad=0
ok 'a guest is on the network, by IPv4 too' net_guest feos
is "$(in_guest feos timeout 30 "$here/solicit.py" eth0)" 'from fe80::1
flags MO
lifetime 1800
prefix fd00:fe05:1::/64 L valid 3600 preferred 2400
dns fd00:fe05:1::1
search feos.test' 'it is told to ask for its address, and to make none up'
cat >"$W/dhclient" <<END
#!/bin/sh
[ -z "\$new_ip6_address" ] || echo "address \$new_ip6_address \$new_renew \$new_rebind" >>"$W/said"
[ -z "\$new_ip6_prefix" ] || echo "prefix \$new_ip6_prefix" >>"$W/said"
[ -z "\$new_dhcp6_name_servers" ] || echo "nameserver \$new_dhcp6_name_servers" >>"$W/said"
[ -z "\$new_ip6_address" ] || ip -6 addr replace "\$new_ip6_address/128" dev "\$interface"
END
chmod +x "$W/dhclient"
: >"$W/leases"
in_guest feos timeout 60 dhclient -6 -1 -N -P -D LL -lf "$W/leases" -pf "$W/pid" -sf "$W/dhclient" eth0 \
	>"$W/dhclient.out" 2>&1
ok 'its address comes by DHCPv6' contains "$W/said" '^address fd00:fe05:1::1[0-9a-f]{3} 1200 1920$'
prefix=$(sed -n 's/^prefix //p' "$W/said")
like "$prefix" '^fd00:fe05:1[0-9a-f]*:[0-9a-f:]+/64$' 'so does its prefix'
led() { ip -6 route show "$prefix" | grep -q 'via fe80::.* dev vm-br0'; }
ok 'which the host leads to it' wait_for 30 led
ok 'both are listed' says "^feos +$prefix +[0-9a-f:]+ +feos " drover net leases feos
dns=$(sed -n 's/^nameserver \([^ ]*\).*/\1/p' "$W/said" | head -n 1)
is "$dns" fd00:fe05:1::1 'and so is who knows names'
mirror=$(in_guest feos dig -6 +short +time=5 "@$dns" ghcr.io A)
like "$mirror" '^192\.168\.117\.[0-9]+$' 'who redirects ghcr.io to a mirror nearby'
pull() {
	in_guest feos curl -sSf --max-time 20 --resolve "ghcr.io:80:$mirror" -o "$W/pulled" \
		"http://ghcr.io/v2/feos/thing/blobs/$digest" && cmp "$W/pulled" "$W/blob"
}
ok 'that has what ghcr.io has' wait_for 60 pull
kill -9 "$(cat "$W/pid")"
net_unwire feos
ok 'droverd leaves, and its machine' stop_droverd
stop_origin
audit_clean 'all'
done_testing

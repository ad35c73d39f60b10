#!/usr/bin/env bash
# IPv6 on networks with a bridge: what router advertisements say, addresses by DHCPv6 that are kept for
# each machine whatever it calls itself, addresses that machines make up, names, the world, and what is
# killed comes back. The clients are the kernel, dhclient and dig in namespaces on the bridge, under the
# MAC addresses of machines.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
# The world: knows the way to what is routed, and nothing of what is behind the host's address.
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 2001:db8:f::1/64 dev out0 nodad && ip link set out0 up
ip -n world addr add 2001:db8:f::2/64 dev in0 nodad && ip -n world link set in0 up
ip -n world link set lo up
ip -n world route add 2001:db8:2::/64 via 2001:db8:f::1
# Its router tells the host its way.
ip netns exec world dnsmasq -C /dev/null -k -p 0 --pid-file= -i in0 --bind-dynamic --leasefile-ro \
	--enable-ra --ra-param=in0,10,1800 --dhcp-range=2001:db8:f::,static,off-link,64 >"$W/world.log" 2>&1 &
uplink() { ip -6 route show default | grep -q 'dev out0.*proto ra'; }
networks() { # networks [LINE OF lab...]
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	bridge = lab0
	domain = lab.test
	mtu = 1400
	cidr6 = 2001:db8:1::/64
	range6 = 2001:db8:1::1000-2001:db8:1::1fff
	ra_interval = 20s
	ra_lifetime = 1m
	lifetime6 = 10m
	refresh6 = 20m
	search = one.test
	  two.test
	$(printf '%s\n' "$@")
	[network made]
	kind = routed
	cidr = 10.78.0.0/24
	bridge = made0
	cidr6 = 2001:db8:2::/64
	open = ping
	[network quiet]
	kind = isolated
	cidr = 10.79.0.0/24
	bridge = quiet0
	cidr6 = 2001:db8:3::/64
	ra_other = yes
	[template nano]
	kernel = $kernel
	memory = 16M
	accel = tcg
	[vm one]
	template = nano
	network = lab address6=2001:db8:1::9
	[vm two]
	template = nano
	network = lab
	[vm three]
	template = nano
	network = made
	END
}
# A machine's MAC address is behind its own port and does not move by itself.
place() { bridge fdb replace "$(vm "$2" .mac)" dev "v$1" master static sticky; }
# client NAME BRIDGE [MACHINE]: a host on the bridge, as the machine.
client() {
	ip netns add "$1"
	ip link add "v$1" type veth peer name eth0 netns "$1"
	[ -z "${3-}" ] || ip -n "$1" link set eth0 address "$(vm "$3" .mac)"
	ip netns exec "$1" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 \
		net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.router_solicitation_interval=1
	ip link set "v$1" master "$2" up
	[ -z "${3-}" ] || place "$1" "$3"
	ip -n "$1" link set lo up
	ip -n "$1" link set eth0 up
}
in_() { ip netns exec "$@"; } # in_ NAME COMMAND...
ra() { in_ "$1" timeout 30 "$here/solicit.py" eth0; }
# lease6 NAME [DUID-TYPE]: an address by DHCPv6, with a DUID of its own each time.
lease6() {
	rm -f "$W/$1.leases" "$W/$1.env"
	in_ "$1" timeout 60 dhclient -6 -1 -N -D "${2-LL}" -lf "$W/$1.leases" -pf "$W/$1.pid" \
		-sf "$W/dhclient" -cf "$W/dhclient.conf" eth0
}
unlease6() { kill "$(cat "$W/$1.pid")" && wait_for 10 dead "$(cat "$W/$1.pid")"; }
echo 'also request dhcp6.domain-search, dhcp6.name-servers, dhcp6.info-refresh-time;' >"$W/dhclient.conf"
cat >"$W/dhclient" <<END
#!/bin/sh
env | grep ^new_ >"$W/\$(ip netns identify \$\$).env"
case \$reason in
BOUND6 | RENEW6 | REBIND6) ip -6 addr replace "\$new_ip6_address/128" dev "\$interface" ;;
esac
END
chmod +x "$W/dhclient"
networks
await 60 uplink
baseline
start_droverd
for m in one two three; do await 60 console_has $m NANO-READY; done
is "$(vm one '.nics[0].addresses[1]')" 2001:db8:1::9 'an address as chosen'
two=$(vm two '.nics[0].addresses[1]')
like "$two" '^2001:db8:1::1[0-9a-f]{3}$' 'one of the range for another'
is "$(vm three '.nics[0].addresses | length')" 1 'none where machines make up theirs'
client one lab0 one
client two lab0 two
client three made0 three
client four quiet0

is "$(ra one)" "from fe80::1
flags MO
lifetime 60
prefix 2001:db8:1::/64 L valid 600 preferred 600
mtu 1400
search one.test two.test
dns 2001:db8:1::1" 'what routers say where addresses are given'
is "$(ra three | grep -E 'flags|prefix|dns|lifetime')" "flags -
lifetime 1800
prefix 2001:db8:2::/64 LA valid 3600 preferred 3600
dns 2001:db8:2::1" 'where machines make them up'
is "$(ra four | grep -E 'flags|prefix|lifetime')" "flags O
lifetime 0
prefix 2001:db8:3::/64 LA valid 3600 preferred 3600" 'and where there is no way out'

# ---- given addresses ----
ok 'an address by DHCPv6' lease6 one
ok 'is the one that is kept for it' contains "$W/one.env" '^new_ip6_address=2001:db8:1::9$'
ok 'with DNS' contains "$W/one.env" '^new_dhcp6_name_servers=2001:db8:1::1$'
ok 'with domains to search' contains "$W/one.env" '^new_dhcp6_domain_search=one.test. two.test.'
ok 'for as long as said' contains "$W/one.env" '^new_max_life=600$'
ok 'and when to ask again' contains "$W/one.env" '^new_dhcp6_info_refresh_time=1200$'
ok 'another for the other' lease6 two
ok 'as said' contains "$W/two.env" "^new_ip6_address=$two\$"
lease() { drover events -o json | jq "select(.event == \"lease\" and .vm == \"$1\" and .address == \"$2\")" | grep .; }
ok 'leases are events' wait_for 30 lease one 2001:db8:1::9
ok 'and listed' says "^lab +$two +$(vm two .mac) +two +20" drover net leases lab
ok 'none made up beside it' not says 'scope global.*(mngtmpaddr|dynamic)' in_ one ip -6 addr show dev eth0
ok 'nobody else gets one' not in_ four timeout 5 dhclient -6 -1 -N -lf "$W/four.leases" -pf "$W/four.pid" -sf /bin/true eth0

# ---- names, and the world ----
ask() { in_ "$1" dig -6 +short +time=5 "@$2" "${@:3}"; }
is "$(ask two 2001:db8:1::1 one.lab.test AAAA)" 2001:db8:1::9 'a name is found'
is "$(ask two 2001:db8:1::1 -x 2001:db8:1::9)" one.lab.test. 'reverse too'
ping6() { in_ "$1" ping -6 -c 1 -W 5 "$2"; }
ok 'the world is reached' ping6 one 2001:db8:f::2
ok 'under the address of the host: it knows no other' not ip netns exec world ping -6 -c 1 -W 1 2001:db8:1::9
ok 'an address made up' wait_for 30 says 2001:db8:2: in_ three ip -6 addr show dev eth0 scope global
made=$(in_ three ip -6 -o addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
ok 'reaches it under its own' ping6 three 2001:db8:f::2
ok 'which is reached from there' ping6 world "$made"
ok 'the host answers where it is said' ping6 three 2001:db8:2::1
ok 'and else not' not in_ one ping -6 -c 1 -W 1 2001:db8:1::1
ok 'another network is not reached' not in_ three ping -6 -c 1 -W 1 2001:db8:1::9
is "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" 1 'the host forwards'
ok 'and still takes its own way from its router' uplink
is "$(cat /proc/sys/net/ipv6/conf/out0/accept_ra)" 2 'which has to be said'

# ---- a machine that calls itself otherwise; what is taken away ----
unlease6 one
drover restart one >"$W/output" 2>&1
await 60 vm_is one running
place one one
ok 'started anew it gets its address under another DUID' lease6 one LLT
ok 'the same' contains "$W/one.env" '^new_ip6_address=2001:db8:1::9$'
dnsmasq() { pgrep -f -- '--interface=lab0'; }
old=$(dnsmasq)
kill -9 "$old"
back() { now=$(dnsmasq) && [ "$now" != "$1" ]; }
ok 'a dnsmasq that is killed is back' wait_for 30 back "$old"
ok 'with its leases' says "^lab +2001:db8:1::9 " drover net leases lab
unlease6 two
ok 'and gives the same' lease6 two
ok 'address' contains "$W/two.env" "^new_ip6_address=$two\$"
old=$(dnsmasq)
ip addr del 2001:db8:1::1/64 dev lab0
mended() { ip addr show dev lab0 | grep -q 2001:db8:1::1/64; }
ok 'an address that is taken away is back' wait_for 60 mended
# One that has seen its link without the address advertises no more.
ok 'and another dnsmasq, which advertises it' wait_for 60 back "$old"

# ---- a droverd later ----
old=$(dnsmasq)
stop_droverd KILL
ok 'without droverd the world is there' wait_for 60 ping6 one 2001:db8:f::2
start_droverd
is "$(dnsmasq)" "$old" 'the next one takes all of it up'
is "$(vm two '.nics[0].addresses[1]')" "$two" 'with its addresses'
ok 'and leases' wait_for 30 says "^lab +2001:db8:1::9 +[0-9a-f:]+ +one" drover net leases lab
networks 'dns6 = 2001:db8:f::53'
ok 'a change' drover reload
changed() { ra one | grep -q 'dns 2001:db8:f::53'; }
ok 'is advertised, under running machines' wait_for 30 changed
unlease6 one && unlease6 two
for n in one two three four; do ip netns del $n; done
ok 'droverd leaves, and its machines' stop_droverd
is "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" 0 'forwarding is as it was'
is "$(cat /proc/sys/net/ipv6/conf/out0/accept_ra)" 1 'and what is taken from routers'
audit_clean 'all'
done_testing

#!/usr/bin/env bash
# Prefixes delegated by DHCPv6: kea and radvd in dnsmasq's place, a route and an element of the firewall
# for each prefix while it is leased, and all of it there again after whatever is killed or taken away.
# The guests are namespaces at the ends of machines' TAPs, their client is dhclient, and behind each is
# another namespace that has an address of the delegated prefix.
. "$(dirname "$0")/lib.sh"
. "$here/net-lib.sh"
world
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 2001:db8:f::1/64 dev out0 nodad && ip link set out0 up
ip -n world addr add 2001:db8:f::2/64 dev in0 nodad && ip -n world link set in0 up
ip -n world link set lo up
ip -n world route add 2001:db8:100::/56 via 2001:db8:f::1
networks() { # networks [LINE OF lab...]
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	bridge = lab0
	domain = lab.test
	cidr6 = 2001:db8:1::/64
	range6 = 2001:db8:1::1000-2001:db8:1::1fff
	delegate = 2001:db8:100::/56
	ra_interval = 10s
	lifetime6 = 20s
	preferred6 = 15s
	renew6 = 3s
	rebind6 = 10s
	refresh6 = 20m
	$(printf '%s\n' "$@")
	[network plain]
	kind = routed
	cidr = 10.78.0.0/24
	bridge = plain0
	cidr6 = 2001:db8:2::/64
	dhcp6 = yes
	$(fake_template)
	[vm one]
	template = fake
	network = lab address6=2001:db8:1::9
	[vm two]
	template = fake
	network = lab
	[vm three]
	template = fake
	network = plain
	END
}
# host NAME: the guest of the machine, a router for the namespace behind it.
host() {
	ip netns add "$1"
	in_guest "$1" sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1 \
		net.ipv6.conf.default.accept_ra=2 net.ipv6.conf.default.accept_dad=0
	net_wire "$1" || fail "no wire to $1"
	ip netns add "lan-$1"
	ip -n "$1" link add lan0 type veth peer name eth0 netns "lan-$1"
	in_guest "lan-$1" sysctl -qw net.ipv6.conf.eth0.accept_dad=0
	ip -n "$1" link set lan0 up
	ip -n "lan-$1" link set eth0 up
	ip -n "lan-$1" link set lo up
}
cat >"$W/dhclient" <<END
#!/bin/sh
name=\$(ip netns identify \$\$)
echo "\$reason \$new_ip6_address \$new_ip6_prefix \$new_preferred_life \$new_max_life" >>"$W/\$name.said"
env | grep ^new_ >>"$W/\$name.env"
case \$reason in
BOUND6 | RENEW6 | REBIND6)
	[ -z "\$new_ip6_address" ] || ip -6 addr replace "\$new_ip6_address/128" dev "\$interface"
	# Whoever reads it meanwhile sees one or the other.
	[ -z "\$new_ip6_prefix" ] || { echo "\$new_ip6_prefix" >"$W/\$name.new" && mv "$W/\$name.new" "$W/\$name.prefix"; }
	;;
esac
END
chmod +x "$W/dhclient"
echo 'also request dhcp6.domain-search, dhcp6.name-servers, dhcp6.info-refresh-time;' >"$W/dhclient.conf"
# ask NAME [DUID-TYPE]: an address and a prefix, with a DUID of its own each time.
ask() {
	rm -f "$W/$1".{leases,env,said,prefix}
	: >"$W/$1.leases"
	in_guest "$1" timeout 60 dhclient -6 -1 -N -P -D "${2-LL}" -lf "$W/$1.leases" -pf "$W/$1.pid" \
		-sf "$W/dhclient" -cf "$W/dhclient.conf" eth0 >"$W/$1.out" 2>&1 && [ -s "$W/$1.prefix" ]
}
hang_up() { kill -9 "$(cat "$W/$1.pid")" && wait_for 10 dead "$(cat "$W/$1.pid")"; }
give_back() {
	in_guest "$1" timeout 60 dhclient -6 -r -N -P -lf "$W/$1.leases" -pf "$W/$1.pid" \
		-sf "$W/dhclient" -cf "$W/dhclient.conf" eth0 >>"$W/$1.out" 2>&1
}
# settle NAME: what it does with its prefix.
settle() {
	local net
	net=$(sed 's/::.*//' "$W/$1.prefix")
	ip -n "$1" addr replace "$net::1/64" dev lan0
	ip -n "lan-$1" addr replace "$net::2/64" dev eth0
	ip -n "lan-$1" route replace default via "$net::1"
}
behind() { sed 's/::.*/::2/' "$W/$1.prefix"; }
ping6() { in_guest "$1" ping -6 -c 1 -W 2 "$2"; }
route() { ip -6 route show "$1" proto 154; }
routed() { route "$1" | grep -q .; }
lease() { drover events -o json | jq "select(.event == \"lease\" and .vm == \"$1\" and .address == \"$2\" and .action == \"$3\")" | grep .; }
kea() { pgrep -f '/kea-dhcp6 -c .*/net/lab/'; }
radvd() { pgrep -o -f '/radvd .*/net/lab/'; }
networks
baseline
start_droverd
for m in one two three; do await 60 vm_is $m running; done
host one
host two

# ---- what is said ----
is "$(in_guest one timeout 30 "$here/solicit.py" eth0 | grep -v '^lifetime')" "from fe80::1
flags MO
prefix 2001:db8:1::/64 L valid 20 preferred 15
dns 2001:db8:1::1
search lab.test" 'what radvd says'
ok 'its way out is by the router' wait_for 30 says 'default via fe80::1 dev eth0 proto ra' ip -n one -6 route
ok 'an address and a prefix' ask one
ok 'the address is the one that was chosen' contains "$W/one.said" '^BOUND6 2001:db8:1::9  15 20'
one=$(cat "$W/one.prefix")
like "$one" '^2001:db8:100:[0-9a-f:]+/64$' 'the prefix is one of the pool'
ok 'T1' contains "$W/one.env" '^new_renew=3$'
ok 'T2' contains "$W/one.env" '^new_rebind=10$'
ok 'DNS' contains "$W/one.env" '^new_dhcp6_name_servers=2001:db8:1::1$'
ok 'domains to search' contains "$W/one.env" '^new_dhcp6_domain_search=lab.test.$'
ok 'when to ask again' contains "$W/one.env" '^new_dhcp6_info_refresh_time=1200$'
ok 'another prefix for another machine' ask two
two=$(cat "$W/two.prefix")
ok 'not the same' [ "$one" != "$two" ]
ok 'the address is an event' wait_for 30 lease one 2001:db8:1::9 new
ok 'so is the prefix' wait_for 30 lease one "$one" new
ok 'and they are listed' says "^lab +$one +$(vm one .mac) +one " drover net leases lab
ok 'its address is in the list of machines' says '^one +running +10\.77\.0\.[0-9]+,2001:db8:1::9 ' drover list

# ---- where they lead ----
ok 'a route leads there' wait_for 30 routed "$one"
like "$(route "$one")" "via fe80::[0-9a-f:]+ dev lab0" 'by the link-local address of who asked'
settle one
settle two
ok 'the world reaches what is behind' ping6 world "$(behind one)"
ok 'which reaches the world' ping6 lan-one 2001:db8:f::2
in_guest world timeout 60 socat -u TCP6-LISTEN:7777,reuseaddr SYSTEM:"echo \$SOCAT_PEERADDR >'$W/peer'" &
listener=$!
heard() { [ -s "$W/peer" ]; }
connects() { heard || in_guest lan-one socat -u /dev/null "TCP6:[2001:db8:f::2]:7777,connect-timeout=2"; }
await 30 connects
ok 'by a connection' wait_for 30 heard
full() { python3 -c 'import ipaddress, sys; print(ipaddress.ip_address(sys.argv[1].strip("[]")))' "$1"; }
is "$(full "$(cat "$W/peer")")" "$(full "$(behind one)")" 'under its own address, though the rest of the network is behind NAT'
wait $listener
ok 'the two reach one another' ping6 lan-two "$(behind one)"
ip -n two addr add "$(behind one)/128" dev lo
ok 'a prefix is its machine'\''s alone' not in_guest two ping -6 -c 1 -W 1 -I "$(behind one)" 2001:db8:f::2
ip -n two addr del "$(behind one)/128" dev lo
local_one=$(in_guest one ip -6 -o addr show dev eth0 scope link | awk '{ sub("/.*", "", $4); print $4 }')
ip -n two addr add "$local_one/64" dev eth0 nodad
ok 'and so is its link-local address' not in_guest two ping -6 -c 1 -W 1 -I "$local_one" fe80::1%eth0
ip -n two addr del "$local_one/64" dev eth0
ok 'which is still where it was' ping6 world "$(behind one)"
ok 'it is renewed' wait_for 60 contains "$W/one.said" '^RENEW6 .*2001:db8:100:'

# ---- dnsmasq beside them ----
host three
three=$(vm three '.nics[0].addresses[1]')
: >"$W/three.leases"
in_guest three timeout 60 dhclient -6 -1 -N -D LL -lf "$W/three.leases" -pf "$W/three.pid" -sf "$W/dhclient" eth0 >"$W/three.out" 2>&1
ok 'a machine of another network is served by dnsmasq' contains "$W/three.said" "^BOUND6 $three "
hang_up three

# ---- what is killed, and taken away ----
back() { now=$($1) && [ "$now" != "$2" ]; }
old=$(kea)
kill -9 "$old"
ok 'a kea that is killed is back' wait_for 30 back kea "$old"
ok 'with its leases' says "^lab +$one " drover net leases lab
old=$(radvd)
kill -9 "$old"
ok 'a radvd, too' wait_for 30 back radvd "$old"
renewed() { : >"$W/one.said" && wait_for 30 contains "$W/one.said" '^RENEW6 .*2001:db8:100:'; }
ok 'what is leased is renewed' renewed
ip -6 route del "$one" dev lab0
ok 'a route that is taken away is back' wait_for 60 routed "$one"
ip link del lab0
ok 'so it is with its bridge' wait_for 60 routed "$one"
there() { ping6 world "$(behind one)"; }
ok 'and leads there' wait_for 60 there
ok 'where it is renewed' renewed

# ---- a droverd later ----
old="$(kea) $(radvd)"
stop_droverd KILL
ok 'without droverd what is behind is reached' ping6 world "$(behind one)"
ok 'one gives its own back meanwhile' give_back two
start_droverd
for m in one two three; do await 60 vm_is $m running; done
ok 'the next droverd takes its route away' wait_for 60 not routed "$two"
is "$(kea) $(radvd)" "$old" 'and the servers up'
ok 'the other has its own' ping6 world "$(behind one)"
ok 'asked for again' ask two
is "$(cat "$W/two.prefix")" "$two" 'the prefix is the same'
ok 'and led to' wait_for 30 routed "$two"
ok 'one that is given back' give_back two
ok 'is not led to any more' wait_for 30 not routed "$two"
ok 'which is an event' wait_for 30 lease two "$two" gone
hang_up one
ok 'nor is one whose time is over' wait_for 60 not routed "$one"
ok 'an event, too' wait_for 30 lease one "$one" gone
ok 'now nobody is there' not ping6 world "$(behind one)"
ok 'under another DUID' ask one LLT
drover restart one >"$W/output" 2>&1
await 60 vm_is one running
net_unwire lan-one
net_unwire one
host one
ok 'a machine that begins anew and calls itself otherwise' ask one LL
is "$(cat "$W/one.prefix")" "$one" 'has the same prefix'
networks 'dns6 = 2001:db8:f::53'
ok 'a change' drover reload
told() { in_guest one timeout 30 "$here/solicit.py" eth0 | grep -q 'dns 2001:db8:f::53'; }
ok 'is advertised' wait_for 30 told
ok 'and told' wait_for 30 contains "$W/one.env" '^new_dhcp6_name_servers=2001:db8:f::53$'
hang_up one
for n in one two three lan-one lan-two lan-three; do net_unwire $n; done
ok 'droverd leaves, and its machines' stop_droverd
is "$(ip -6 route show proto 154)" '' 'no route stays'
audit_clean 'all'
done_testing

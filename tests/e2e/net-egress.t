#!/usr/bin/env bash
# egress: what machines may reach is a list of addresses and names; of a name what the host answers them
# is open, from then on, and stays so through droverds that come and go; changed while they run.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
for n in 2 3 4; do ip -n world addr add 203.0.113.$n/24 dev in0; done
ip -n world link set in0 up && ip -n world link set lo up
sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null
mkdir -p "$W/www" && echo 'from the world' >"$W/www/index.html"
for port in 80 8000; do
	ip netns exec world busybox httpd -f -p $port -h "$W/www" &
done
ip netns exec world dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= \
	--address=/web.test/203.0.113.2 --address=/other.test/203.0.113.3 2>"$W/world-dns.log" &
networks() { # networks LINE OF lab...
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	dns = 203.0.113.2
	$(printf '%s\n' "$@")
	[network free]
	kind = nat
	cidr = 10.78.0.0/24
	$(fake_template)
	[vm a]
	template = fake
	network = lab
	forward = 8080:80
	[vm b]
	template = fake
	network = lab
	[vm c]
	template = fake
	network = free
	END
}
networks 'egress = 203.0.113.4' '	web.test:80'
baseline
start_droverd
for m in a b c; do
	vm_wait $m running
	ok "$m has an address" net_guest $m
done
tables() { nft list tables | grep -c 'inet drover_'; }
get() { in_guest "$1" curl -sm "${3:-10}" "http://$2/"; }
open() { says 'from the world' get "$@"; }
ask() { in_guest "$1" dig +short +tries=1 +time=5 @10.77.0.1 "$2"; }
mkdir "$W/a" && echo 'this is a' >"$W/a/index.html"
in_guest a busybox httpd -f -p 80 -h "$W/a" &

is "$(tables)" 1 'a list has a table'
ok 'an address of the list is reached' open a 203.0.113.4
ok 'at every port' open a 203.0.113.4:8000
ok 'by every protocol' reaches a 203.0.113.4
ok 'none that is not' not open a 203.0.113.2
is "$(in_guest a curl -sm 30 -w '%{exitcode}' http://203.0.113.3/)" 7 'which it is told, not left to wait for'
ok 'nor by another protocol' not reaches a 203.0.113.3
is "$(ask a web.test)" 203.0.113.2 'the host answers for a name'
ok 'then it is open' open a 203.0.113.2
ok 'for all machines of the network' open b 203.0.113.2
ok 'at no other port' not open a 203.0.113.2:8000
is "$(ask a www.web.test)" 203.0.113.2 'what is below it is meant, too'
is "$(ask a other.test)" 203.0.113.3 'other names are answered'
ok 'and are not open' not open a 203.0.113.3
ok 'another network has no list' open c 203.0.113.3
ok 'machines reach one another' reaches b "$(guest_ip a)"
is "$(get world 203.0.113.1:8080)" 'this is a' 'and answer who may reach them'

# ---- droverds that come and go ----
ok 'droverd is killed' stop_droverd KILL
ok 'what was open is' open a 203.0.113.2
ok 'and what was not is not' not open a 203.0.113.3
start_droverd
ok 'the next one leaves it so' drover net check
ok 'without asking anew' open a 203.0.113.2
is "$(tables)" 1 'with one table'
nft delete table inet "$(nft list tables | awk '/inet drover_/ { print $3 }')"
restored() { [ "$(tables)" = 1 ] && not open a 203.0.113.3; }
ok 'a table that is deleted comes back' wait_for 30 restored
ok 'with what is in it' open a 203.0.113.4
ask a web.test >/dev/null
ok 'a name is asked for again' open a 203.0.113.2
nft flush ruleset
ok 'after a flush of everything, too' wait_for 30 restored

# ---- changes ----
networks 'egress = 203.0.113.3:80'
ok 'another list' drover reload
ok 'is open' wait_for 30 open a 203.0.113.3
ok 'and what was is not' not open a 203.0.113.4
networks
ok 'no list' drover reload
ok 'then everything is' wait_for 30 open a 203.0.113.4:8000
is "$(tables)" 0 'without a table'
networks 'egress = 203.0.113.4'
ok 'and a list again' drover reload
ok 'closes it' wait_for 30 not open a 203.0.113.3
ok 'droverd leaves' stop_droverd
for ns in a b c; do net_unwire $ns; done
audit_clean 'all'

# ---- wrong lists ----
wrong() { # wrong REGEX KIND LINES...
	config "$W/wrong.ini" <<-END
	[network lab]
	kind = $2
	cidr = 10.77.0.0/24
	$(printf '%s\n' "${@:3}")
	END
	ok "check: $1" says "wrong.ini:[0-9]+: .*$1" droverd -n -c "$W/wrong.ini"
}
wrong "'a;b' is not HOST, HOST:PORT" nat 'egress = a;b'
wrong "'192.0.2.1/33' is not HOST" nat 'egress = 192.0.2.1/33'
wrong "'web.test' is a name, and with dns = none" nat 'egress = web.test' 'dns = none'
wrong 'kind = p2p has no use for it' p2p 'egress = 192.0.2.1'
wrong 'kind = isolated has no use for it' isolated 'egress = 192.0.2.1'

# ---- the link of the default route ----
ok 'check: a port without a route' droverd -n -c "$W/drover.ini"
ip route add default via 203.0.113.2 dev out0
wrong "out0 carries the host's default route, and as a port it loses its addresses; uplink = yes" bridge 'port = out0'
says_nothing() { [ -z "$(droverd -n -c "$W/wrong.ini" 2>&1 | grep 'default route')" ]; }
sed -i '/^port/a uplink = yes' "$W/wrong.ini"
ok 'which says that it is meant' says_nothing
sed -i '/^uplink/d' "$W/wrong.ini" && ip route del default
ok 'without a default route there is nothing to say' says_nothing
done_testing

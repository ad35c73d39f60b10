#!/usr/bin/env bash
# What guests cannot do behind droverd's rules: send what is not theirs, reach machines and networks that
# they shall not; and what they can: forwarded ports, the world. Guests are namespaces (net-lib.sh).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
# The world: a host that knows nothing of the machines' addresses.
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world link set in0 up && ip -n world link set lo up
mkdir -p "$W/www" && echo 'from the world' >"$W/www/index.html"
ip netns exec world busybox httpd -f -v -p 80 -h "$W/www" >"$W/www.log" 2>&1 &
# Tables of others, with a rule of each sort.
nft -f - <<'RULES' || bail 'the rules of others cannot be made'
table inet others {
	set some {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.7 }
	}
	chain forward {
		type filter hook forward priority 5; policy accept;
		ip saddr @some counter drop
	}
	chain input {
		type filter hook input priority 5; policy accept;
		tcp dport 9999 drop
	}
}
table ip nat {
	chain POSTROUTING {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 192.0.2.0/24 masquerade
	}
}
table bridge others {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ether type 0x88cc drop
	}
}
RULES
others() { nft -a list ruleset | awk '/^table /{ ours = / drover / } !ours'; }
others >"$W/others"
[ "$(wc -l <"$W/others")" -gt 20 ] || bail 'the rules of others are not there'
config <<END
on_exit = stop
reconcile_interval = 1h
[network lab]
kind = nat
cidr = 10.77.0.0/24
[network apart]
kind = nat
cidr = 10.79.0.0/24
peers = no
[network quiet]
kind = isolated
cidr = 10.78.0.0/28
[network open]
kind = routed
cidr = 10.80.0.0/24
[network taps]
cidr = 172.16.0.0/16
[network alone]
cidr = 172.24.0.0/16
peers = no
[network more]
cidr = 172.20.0.0/16
$(fake_template)
[vm a]
template = fake
network = lab address=10.77.0.9
forward = 8080:80
	udp/5353:53
[vm b]
template = fake
network = lab
[vm c]
template = fake
network = apart
[vm d]
template = fake
network = apart
[vm q]
template = fake
network = quiet
[vm r]
template = fake
network = open
[vm s]
template = fake
network = taps
[vm t]
template = fake
network = taps
[vm u]
template = fake
network = more
[vm v]
template = fake
network = alone
[vm w]
template = fake
network = alone
END
baseline
start_droverd
for m in a b c d q r s t u v w; do
	vm_wait $m running
	ok "$m has an address by DHCP" net_guest $m
done
ip_of() { vm "$1" '.nics[0].addresses[0]' | sed 's:/.*::'; }
for m in a b c d q r s t u v w; do is "$(guest_ip $m)" "$(ip_of $m)" "$m's is the one that droverd says"; done
web() { # web NAME: a server in that guest, which tells its name
	mkdir -p "$W/$1" && echo "this is $1" >"$W/$1/index.html"
	in_guest "$1" busybox httpd -f -p 80 -h "$W/$1" >/dev/null 2>&1 &
}
for m in a d r t u; do web $m; done
get() { in_guest "$1" curl -sm "${3:-10}" "http://$2/"; }

# ---- frames ----
b=$(guest_ip b)
"$here/frames" a b 10.77.0.1 10.77.0.200 >"$W/frames" 2>&1
is "$(grep ^passes "$W/frames" | xargs)" 'passes honest passes arp-request passes arp-probe passes honest-still' \
	'of a guest only what is its own gets through'
is "$(grep -c ^stops "$W/frames")" 17 'and everything else was sent' || diag "$(cat "$W/frames")"
ok 'the host takes no false neighbour either' not says '10.77.0.200' ip neigh

# ---- who reaches whom ----
# unreached WHAT FROM TO...: at once, since each try takes its time to fail.
unreached() {
	local to pids=()
	for to in "${@:3}"; do
		reaches "$2" "$(guest_ip "$to")" >/dev/null 2>&1 &
		pids+=($!)
	done
	for to in "${@:3}"; do
		ok "$1: $to from $2" not wait "${pids[0]}"
		pids=("${pids[@]:1}")
	done
}
# The host between them, too: by a route, and by a false neighbour.
in_guest c ip route add "$(guest_ip d)" via 10.79.0.1
ok 'machines of a network reach one another' reaches b 10.77.0.9
ok 'p2p machines of a network, too' reaches s "$(guest_ip t)"
unreached 'with peers = no they do not' c d
unreached 'nor p2p machines' v w
unreached 'no other network' b c q r t
unreached 'no other network' q a c r t
unreached 'no other network' s a b c r u v
in_guest q ip route add default via 10.78.0.1 2>/dev/null
ok 'an isolated one has no way out' not reaches q 203.0.113.2
ok 'of the host they reach nothing' not in_guest b curl -sm 1 http://10.77.0.1:9998/
busybox httpd -f -p 9998 -h "$W/www" &
HTTPD=$!
await 10 curl -sm 1 http://127.0.0.1:9998/
ok 'not what listens there' not in_guest b curl -sm 1 http://10.77.0.1:9998/
ok 'nor at another address of its' not in_guest b curl -sm 1 http://203.0.113.1:9998/
kill $HTTPD

# A p2p machine with a false address: counted where it would come out.
ip netns exec world nft -f - <<-'RULES'
table ip seen {
	counter false { }
	counter true { }
	chain input {
		type filter hook input priority 0; policy accept;
		ip saddr 192.0.2.55 counter name false
		ip saddr 203.0.113.1 icmp type echo-request counter name true
	}
}
RULES
seen() { ip netns exec world nft -j list counter ip seen "$1" | jq '.nftables[] | .counter // empty | .packets'; }
in_guest s ip addr add 192.0.2.55/32 dev lo
in_guest s ping -c 1 -W 1 -I 192.0.2.55 203.0.113.2 >/dev/null 2>&1
ok 'with its own address it gets out' reaches s 203.0.113.2
is "$(seen true) $(seen false)" '1 0' 'and with a false one it does not'

# ---- the world ----
for m in b c s; do is "$(get $m 203.0.113.2)" 'from the world' "$m reaches the world"; done
is "$(grep -c '203\.0\.113\.1]:.*response:200' "$W/www.log")" 3 'under the address of the host'
ip -n world route add default via 203.0.113.1
is "$(get r 203.0.113.2)" 'from the world' 'a routed one does under its own'
ok 'which the world sees' grep -q "$(guest_ip r)]:.*response:200" "$W/www.log"
ok 'and is reached from there' says 'this is r' get world "$(guest_ip r)"
ok 'one behind NAT is not' not get world 10.77.0.9 1
unreached 'nor an isolated one' world q

# ---- ports ----
is "$(get world 203.0.113.1:8080)" 'this is a' 'a port of the host is the machine, from the world'
is "$(curl -sm 5 http://203.0.113.1:8080/)" 'this is a' 'from the host itself'
is "$(curl -sm 5 http://10.77.0.1:8080/)" 'this is a' 'by each of its addresses'
is "$(get b 10.77.0.1:8080)" 'this is a' 'from a machine of the same network'
# All of this holds where bridged packets go through the host's rules, too, as they do where the kernel
# has br_netfilter. But then one that is forwarded to where it came from is lost in the bridge.
bridged=$(sysctl -n net.bridge.bridge-nf-call-iptables 2>/dev/null)
[ -z "$bridged" ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0
is "$(get a 203.0.113.1:8080)" 'this is a' 'from itself'
[ -z "$bridged" ] || sysctl -qw net.bridge.bridge-nf-call-iptables="$bridged"
is "$(get c 203.0.113.1:8080)" 'this is a' 'from another network'
in_guest a socat -u UDP-RECV:53 "OPEN:$W/udp,creat,append" &
udp_came() { echo by udp | in_guest world socat -u - UDP-SENDTO:203.0.113.1:5353 && grep -q 'by udp' "$W/udp"; }
ok 'not from an isolated one, by its own gateway' not get q 10.78.0.1:8080 1
ok 'a UDP port too' wait_for 20 udp_came
ok 'no other port is' not get world 203.0.113.1:8081 1

# ---- others' tables ----
is "$(others)" "$(cat "$W/others")" "with all that others' tables are byte for byte as they were"
ok 'droverd leaves' stop_droverd
is "$(others)" "$(cat "$W/others")" 'and after it'
for ns in a b c d q r s t u v w; do net_unwire $ns; done
audit_clean 'all'
done_testing

#!/usr/bin/env bash
# A network with a bridge and NAT, with real guests: addresses by DHCP that are kept for each, names
# forward and reverse, the world behind the host's address and not the other way round, ports that are
# forwarded; its bridge and dnsmasq come back, through droverds that come and go.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
# The world: a host that knows nothing of the machines' addresses.
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world link set in0 up && ip -n world link set lo up
mkdir "$W/www" && echo 'from the world' >"$W/www/index.html"
ip netns exec world busybox httpd -f -v -p 80 -h "$W/www" >"$W/www.log" 2>&1 &
networks() { # networks DOMAIN [LINE OF lab...]
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[registry cache]
	upstream = http://$ORIGIN_HOST
	listen = 127.0.0.1:5000
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	domain = $1
	mtu = 1400
	$(printf '%s\n' "${@:2}")
	[network quiet]
	kind = isolated
	cidr = 10.78.0.0/28
	[key test]
	file = $W/key.pub
	[template linux]
	kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
	rootfs = $ORIGIN_HOST/test/guest-image:1
	memory = 128M
	ssh_key = test
	cmdline = console=ttyS0 panic=-1 quiet mitigations=off
	[vm one]
	template = linux
	network = lab address=10.77.0.9 mac=52:54:00:00:00:09
	forward = 8080:80
	[vm two]
	template = linux
	network = lab
	[vm still]
	template = linux
	network = quiet
	END
}
socat -u TCP-LISTEN:22,fork,reuseaddr OPEN:/dev/null &
start_origin
networks lab.test
baseline
start_droverd
for m in one two still; do ok "$m answers ssh by its address" ssh_wait $m; done
bridge=$(ip -o link show type bridge | awk -F': ' '{ print $2 }' | while read -r b; do
	ip -o -4 addr show dev "$b" | grep -q 10.77.0.1/24 && echo "$b"; done)
like "$bridge" '^dbr[0-9a-f]{12}$' 'the network has a bridge of its own'
is "$(vm one .address) $(vm one .mac)" '10.77.0.9 52:54:00:00:00:09' 'address and MAC as chosen'
two=$(vm two .address)
like "$two" '^10\.77\.0\.' 'an address of the range is kept for the other'
is "$(cat "/sys/class/net/$bridge/mtu" "/sys/class/net/$(vm two '.nics[0].tap')/mtu" | xargs)" '1400 1400' 'the mtu is set'
lease() { drover events -o json | jq "select(.event == \"lease\" and .vm == \"$1\" and .address == \"$2\")" | grep .; }
ok 'leases are events' wait_for 30 lease one 10.77.0.9
ok 'of each' wait_for 30 lease two "$two"

ok 'all of it is listed' says "^lab +nat +up +10.77.0.0/24 +$bridge +2 +2$" drover net list
ok 'and shown' says '^one +nic0 +10.77.0.9 +52:54:00:00:00:09 +tap[0-9a-f]+ +yes$' drover net show lab
ok 'with leases' says "^lab +$two +[0-9a-f:]+ +two +20" drover net leases lab
is "$(drover net leases -o json | jq -r '.[] | .network' | sort | uniq -c | xargs)" '2 lab 1 quiet' 'of all'
ok 'which are well' drover net check
ok 'no such network' says 'there is no network' not drover net show nothing

name() { guest "$1" busybox nslookup "$2" 10.77.0.1; }
ok 'a name is found' says "Address.*10.77.0.9" name two one.lab.test
ok 'reverse too' says 'name = one.lab.test' name two 10.77.0.9
ok 'without the domain' says "Address.*$two" name one two.lab.test
# Debian's static busybox dies in its wget.
fetch='(echo GET / HTTP/1.0; echo; sleep 1) | busybox nc -w 5 203.0.113.2 80'
fetch() { guest "$1" "$fetch"; }
ok 'the world is reached' says 'from the world' fetch two
ok 'under the address of the host' grep -q '203\.0\.113\.1]:.*response:200' "$W/www.log" ||
	diag "$(cat "$W/www.log")"
ok 'no network without a way out does' not says "from the world" fetch still
ok 'nor another network' not guest still "busybox ping -c 1 -W 2 10.77.0.9"
ok 'nor from there' not guest two "busybox ping -c 1 -W 2 $(vm still .address)"
ok 'machines reach one another' guest two "busybox ping -c 1 -W 5 10.77.0.9"
host() { guest two "busybox nc -w 3 10.77.0.1 22 </dev/null"; }
ok 'of the host they reach nothing' not host
guest one 'mkdir -p /tmp/w; echo one >/tmp/w/index.html; busybox httpd -p 80 -h /tmp/w'
ip netns exec world ip route add 10.77.0.0/24 via 203.0.113.1
ok 'a port of the host is the machine' says '^one$' ip netns exec world curl -sm 10 http://203.0.113.1:8080/
ok 'the world reaches no more than that' not ip netns exec world curl -sm 2 http://10.77.0.9/

# A guest that is not what it was made to be.
ok 'with a false address nothing gets through' not guest two \
	"busybox ip addr add 10.77.0.77/24 dev eth0; busybox ping -I 10.77.0.77 -c 1 -W 2 10.77.0.9"

# ---- what is taken away comes back ----
dnsmasq() { pgrep -f -- "--interface=$bridge"; }
old=$(dnsmasq)
kill -9 "$old"
back() { now=$(dnsmasq) && [ "$now" != "$1" ]; }
ok 'a dnsmasq that is killed is back' wait_for 30 back "$old"
ok 'and knows the names' wait_for 30 says 'Address.*10.77.0.9' name two one.lab.test
seq=$(last_seq)
ip link del "$bridge"
ok 'which the check says' says "bridge $bridge was deleted|^The networks are" drover net check
repaired() { drover events -o json --since "$seq" | jq 'select(.event == "repaired")' | grep .; }
ok 'a bridge that is deleted comes back' wait_for 60 guest two true
ok 'both are ports of it again' guest two "busybox ping -c 1 -W 5 10.77.0.9"
ok 'and the world' wait_for 30 says 'from the world' fetch two

# ---- a droverd later ----
pid=$(vm_pid two) old=$(dnsmasq)
stop_droverd KILL
ok 'without droverd guests go on' says 'from the world' guest_at "$two" \
	"$fetch"
start_droverd
is "$(vm_pid two) $(dnsmasq)" "$pid $old" 'the next one takes all of it up'
ok 'and the names are there' says 'Address.*10.77.0.9' name two one.lab.test
networks other.test 'open = tcp/22'
ok 'a change' drover reload
ok 'another domain, under running machines' wait_for 30 says 'Address.*10.77.0.9' name two one.other.test
is "$(vm_pid two)" "$pid" 'which run on'
ok 'a port of the host is opened' wait_for 30 host
ok 'droverd leaves, and its machines' stop_droverd
audit_clean 'all'
done_testing

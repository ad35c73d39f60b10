#!/usr/bin/env bash
# Networks of kind user: no link, no rule and no program of the host is made for them. A guest has its
# address from QEMU itself, reaches the world as droverd's user does, and is reached by ports of the
# host that are forwarded. The same with a droverd that is an ordinary user.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world link set in0 up && ip -n world link set lo up
mkdir "$W/www" && echo 'from the world' >"$W/www/index.html"
ip netns exec world busybox httpd -f -v -p 80 -h "$W/www" >"$W/www.log" 2>&1 &
kernel=$(nano)
machines() { # machines [LINE OF [network alone]...]
	config <<-END
	$leave
	[registry cache]
	upstream = http://$ORIGIN_HOST
	listen = 127.0.0.1:5000
	[network alone]
	kind = user
	domain = lab.test
	$(printf '%s\n' "$@")
	[network closed]
	kind = user
	cidr = 10.99.0.0/28
	nat = no
	domain = lab.test
	[key test]
	file = $W/key.pub
	private = $W/key
	[vm web]
	kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
	rootfs = $ORIGIN_HOST/test/guest-image:1
	memory = 128M
	ssh_key = test
	cmdline = console=ttyS0 panic=-1 quiet mitigations=off
	network = alone
	network = closed address=10.99.0.7 mac=52:54:00:00:00:99
	hotplug_slots = 2
	forward = 2222:22
	forward = 8080:80
	forward = udp/5353:53
	health = tcp:22
	[vm second]
	kernel = $kernel
	memory = 16M
	network = alone
	END
}
leave='on_exit = stop'
start_origin
machines
ip -o link | cut -d: -f2 >"$W/links"
baseline
start_droverd
ok 'a machine' vm_wait web running
ok 'another, with the same address of its own' vm_wait second running
is "$(vm web .address) $(vm second .address) $(vm web '.nics[1].addresses[0]')" \
	'10.0.2.15 10.0.2.15 10.99.0.7' 'they are known'
is "$(vm web '.ssh | "\(.address) \(.port)"')" '127.0.0.1 2222' 'ssh goes by the port of the host'
in_guest() { timeout 30 drover ssh web -- "$@"; }
ok 'drover ssh does, too' wait_for "$patience" in_guest true
address() { in_guest "ip -4 -o addr show dev $1"; }
ok 'the guest has its address' says '10\.0\.2\.15/24' address eth0
ok 'and that of its second nic' wait_for 60 says '10\.99\.0\.7/28' address eth1
ok 'the domain is told' in_guest 'grep -q "search lab.test" /run/resolv.conf'
is "$(ip -o link | cut -d: -f2 | diff "$W/links" - && echo same)" same 'no link was made'
ok 'no rule' not grep -q . <(nft list ruleset)
ok 'and no dnsmasq' not pgrep -x dnsmasq
fetch() { in_guest '(echo GET / HTTP/1.0; echo; sleep 1) | busybox nc -w 5 203.0.113.2 80'; }
ok 'the world is reached' wait_for 30 says 'from the world' fetch
ok 'as the host reaches it' grep -q '203\.0\.113\.1]:.*response:200' "$W/www.log" || diag "$(cat "$W/www.log")"
closed() { in_guest 'busybox ip route add 203.0.113.2 via 10.99.0.1; (echo GET / HTTP/1.0; echo; sleep 1) |
	busybox nc -w 5 203.0.113.2 80'; }
ok 'but not through one without nat' not says 'from the world' closed
in_guest 'busybox ip route del 203.0.113.2; mkdir -p /tmp/w; echo web >/tmp/w/index.html
	busybox httpd -p 80 -h /tmp/w' >/dev/null
ok 'a port of the host is the machine' says '^web$' ip netns exec world curl -sm 10 http://203.0.113.1:8080/
ready() { [ "$(vm web '.conditions | index("not-ready")')" = null ]; }
ok 'the check of its health goes by the forwarded port' wait_for 60 ready

ok 'all of it is listed' says '^alone +user +up +- +- +2 +0$' drover net list
ok 'and well' drover net check
ok 'a nic is added' drover nic add web --network closed
ok 'the guest has it' wait_for 60 in_guest 'ls -d /sys/class/net/eth2'
ok 'and goes' drover nic remove web nic2
pid=$(vm_pid web)
stop_droverd KILL
start_droverd
is "$(vm_pid web) $(vm web .address)" "$pid 10.0.2.15" 'the next daemon takes it up'
differences() { api GET /doctor | jq '.differences | length'; }
is "$(differences)" 0 'and misses nothing'
ok 'it goes on' in_guest true
ok 'stop' drover stop web
socat TCP-LISTEN:8080,fork,reuseaddr /dev/null &
taken=$!
listens() { ss -Hltn 'sport = :8080' | grep .; }
await 30 listens
like "$(drover start web 2>&1)" 'alone: forward: tcp port 8080 of the host is taken by another program' \
	'a port that is taken is said before anything is started'
kill $taken && wait $taken
ok 'droverd leaves' stop_droverd
audit_clean 'all'

# ---- an ordinary user ----
leave=''
chmod 711 "$W" && chmod 755 "$W/state"
me() { exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --no-new-privs "$@"; }
mkdir /run/user-drover "$W/user-state" && chown 65534:65534 /run/user-drover "$W/user-state"
sed -e 's,^run_dir = .*,run_dir = /run/user-drover,' -e "s,^state_dir = .*,state_dir = $W/user-state," \
	-e 's,^private = .*,,' "$W/drover.ini" >"$W/user.ini"
export DROVER_SOCKET=/run/user-drover/api.sock
me "$(command -v droverd)" -c "$W/user.ini" >"$W/droverd-user.log" 2>&1 </dev/null &
DROVERD=$!
ok 'a droverd without any privilege' wait_for "$patience" api_is_up
ok 'its machine runs' vm_wait second running
ok 'and a Linux one' vm_wait web running
ok 'which answers' wait_for "$patience" ssh -n -i "$W/key" -p 2222 -o BatchMode=yes -o LogLevel=ERROR \
	-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=2 root@127.0.0.1 true
is "$(stat -c %u "/proc/$(vm_pid web)")" 65534 'by a hypervisor of that user'
ok 'it stops' drover stop web second
ok 'and droverd' stop_droverd
done_testing

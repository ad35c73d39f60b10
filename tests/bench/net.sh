# shellcheck shell=bash
# Sourced by run.
#
# Networks: one of kind p2p until its dnsmasq answers, the last of many machines on one bridge beside the
# first ones, and what the rules against false frames cost a frame.
net=$B/bench/net

progress "a p2p network until there is an offer, $rounds rounds"
{
	fake_machines 1 'autostart = no'
	printf '[network taps]\ncidr = 172.16.0.0/16\n[vm net]\ntemplate = bench\nnetwork = taps\n'
	# Keeps what all share.
	printf '[vm other]\ntemplate = bench\nnetwork = taps\nautostart = yes\n'
} | config
fresh_daemon
vm_wait other running
for _ in $(seq "$rounds"); do
	start f0001 | sample net-p2p.floor
	"$net" offer "$DROVER_SOCKET" net | sample net-p2p.drover
	stop f0001 >/dev/null
	stop net >/dev/null
done
kill_all
stop_droverd || bail 'droverd does not end'

progress "the last of 500 machines on one bridge, $rounds rounds"
on_bridge() { # on_bridge COUNT: the last one is not started
	fake_machines "$1" 'network = lab'
	printf 'autostart = no\n[network lab]\nkind = nat\ncidr = 10.0.0.0/16\n'
}
# A second droverd, in a namespace of its own, has but two: both are asked in turn.
few=/run/few/api.sock
mkdir "$W/few"
{
	printf '[drover]\nrun_dir = /run/few\nstate_dir = %s\n' "$W/few"
	on_bridge 2
} >"$W/few.ini"
ip netns add few && ip -n few link set lo up
ip netns exec few droverd -c "$W/few.ini" >"$W/few.log" 2>&1 </dev/null &
FEW=$!
on_bridge 500 | config
fresh_daemon
all_but_one() { [ "$(api GET /vms | jq '[.[] | select(.state == "running")] | length')" = 499 ]; }
wait_for "$patience" all_but_one || bail 'the machines do not start'
wait_for "$patience" test -S $few || bail 'the second droverd does not start'
sleep 2
for _ in $(seq "$rounds"); do
	clock call $few POST '/vms/f0002/start?wait=60' | sample net-500.floor
	start f0500 | sample net-500.drover
	clock call $few POST '/vms/f0002/stop?wait=60' >/dev/null
	stop f0500 >/dev/null
done
# The rules as they are for 499 machines, for what follows.
nft list table bridge drover >"$W/bridge.nft"
clock call $few POST '/vms/f0001/kill?wait=60' >/dev/null
kill "$FEW" && wait "$FEW"
ip netns del few
kill_all
stop_droverd || bail 'droverd does not end'

progress "frames through the rules, $rounds rounds"
ip link add bench0 type bridge && ip link set bench0 up
for t in bencha benchb; do
	ip tuntap add $t mode tap vnet_hdr && sysctl -qw net.ipv6.conf.$t.disable_ipv6=1
	ip link set $t master bench0 up
done
ip -o link show type bridge >/dev/null
bridge fdb add 52:00:00:00:00:bb dev benchb master static
blast() { "$net" blast bencha benchb 100000 52:00:00:00:00:0a 10.0.0.10 | sample "net-frames.$1"; }
rules() {
	nft -f "$W/bridge.nft" &&
		nft "add element bridge drover guest_taps { bencha }
			add element bridge drover macs { bencha . 52:00:00:00:00:0a }
			add element bridge drover guests { bencha . 52:00:00:00:00:0a . 10.0.0.10 }
			add element bridge drover guest_taps { streama, streamb }
			add element bridge drover macs { streama . 52:00:00:00:01:0a, streamb . 52:00:00:00:01:0b }
			add element bridge drover guests { streama . 52:00:00:00:01:0a . 10.1.0.10,
				streamb . 52:00:00:00:01:0b . 10.1.0.11 }" ||
		bail 'the rules cannot be loaded'
}
for n in a b; do
	ip netns add stream$n
	ip link add stream$n type veth peer name eth0 netns stream$n
	ip link set stream$n master bench0 up
	ip -n stream$n link set eth0 address 52:00:00:00:01:0$n up
	ip -n stream$n addr add 10.1.0.$((16#$n))/24 dev eth0
done
wait_for 30 ip netns exec streama ping -c 1 -W 1 10.1.0.11 || bail 'the bridge does not forward'
stream() { "$net" stream streama streamb 10.1.0.11 500 | sample "net-stream.$1"; }
for _ in $(seq "$rounds"); do
	blast floor
	stream floor
	rules
	blast drover
	stream drover
	nft delete table bridge drover
done
for n in a b; do ip link del stream$n && ip netns del stream$n; done
ip link del bencha && ip link del benchb && ip link del bench0

row net-p2p ms above 10 "$rounds" 'p2p network: start -> offer (floor: start)'
row net-500 ms times 2 "$rounds" 'start of the 500th on a bridge (floor: the 2nd)'
row net-stream ms times 1.05 "$rounds" '500 MB by TCP through 500 machines'"'"' rules (CPU)'
row net-frames ns none 0 "$rounds" 'a frame of 1400 bytes through them (CPU)'

#!/usr/bin/env bash
# Machines that share a link of the host (kind = macvtap): a real guest is in the network behind the
# link, has its address from there, and is not reached from the host.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
ip netns add lan
ip link add lan0 type veth peer name far0 netns lan
ip link set lan0 up && ip link set lan0 down # the first time is another
ip addr add 10.91.0.2/24 dev lan0
ip -n lan addr add 10.91.0.1/24 dev far0 && ip -n lan link set far0 up && ip -n lan link set lo up
nano >/dev/null
kernel=$B/e2e/nano64.elf
machines() { # machines MODE
	config <<-END
	on_exit = stop
	reconcile_interval = 1h
	[registry cache]
	upstream = http://$ORIGIN_HOST
	listen = 127.0.0.1:5000
	[network lan]
	kind = macvtap
	port = lan0
	mode = $1
	mtu = 1400
	[key test]
	file = $W/key.pub
	[vm web]
	kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
	rootfs = $ORIGIN_HOST/test/guest-image:1
	memory = 128M
	ssh_key = test
	cmdline = console=ttyS0 panic=-1 quiet mitigations=off
	network = lan
	[vm third]
	hypervisor = cloud-hypervisor
	binary = $B/fakes/fake-ch
	kernel = $kernel
	memory = 16M
	network = lan
	autostart = no
	[vm second]
	kernel = $(nano)
	memory = 16M
	network = lan
	END
}
start_origin
machines bridge
baseline
start_droverd
failed_for() { [[ $(vm web .error) == *$1* ]]; }
ok 'a port that is down is said' wait_for 60 failed_for 'lan: port lan0 is down'
ok 'and found by the check' says 'network lan: port lan0 is down' drover net check
ip link set lan0 up
ok 'the network is well when it is up' drover net check
ip netns exec lan dnsmasq -k -p 0 -i far0 --bind-interfaces --dhcp-range=10.91.0.50,10.91.0.60 -l "$W/leases" \
	--dhcp-authoritative --no-ping --pid-file= >"$W/lan-dnsmasq.log" 2>&1 &
server=$!
ok 'a machine starts' drover start web
ok 'another' drover start second
tap=$(vm web '.nics[0].tap') mac=$(vm web '.nics[0].mac') pid=$(vm_pid web)
like "$(ip -d -o link show "$tap")" "@lan0.* mtu 1400 .*$mac .*macvtap mode bridge" 'its link shares that of the host'
leased() { address=$(awk -v m="$mac" '$2 == m { print $3 }' "$W/leases") && [ -n "$address" ]; }
ok 'it has an address from the network there' wait_for "$patience" leased
from_lan() {
	ip netns exec lan ssh -n -i "$W/key" -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no \
		-o UserKnownHostsFile=/dev/null -o ConnectTimeout=2 "root@$address" "$@"
}
ok 'and is reached from there' wait_for "$patience" from_lan true
like "$(from_lan ip -o link show eth0)" 'mtu 1400' 'it was told the size of packets'
ok 'the host keeps its address there' ip netns exec lan ping -c 1 -W 5 10.91.0.2
ok 'and does not reach the machine' not ping -c 1 -W 2 "$address"
ok 'the graph has it' says 'what is behind the port, but not the host' drover net graph
is "$(drover net show lan -o json | jq -r '.state + " " + .ports[0] + " " + (.nics[] | select(.vm == "web") | .tap)')" "up lan0 $tap" 'it is shown'
nft list ruleset | grep . && fail 'there is no rule for it'

ok 'on cloud-hypervisor' drover start third
device=/dev/tap$(cat "/sys/class/net/$(vm third '.nics[0].tap')/ifindex")
held() { readlink "/proc/$(vm_pid third)"/fd/* | grep -E "^($device|.*\.device \(deleted\))$"; }
ok 'it has the descriptor from its boot on' held
is "$(drover ch third GET /vm.info | jq -r '.config.net[0].mac')" "$(vm third '.nics[0].mac')" 'and the MAC'
ok 'it stops' drover stop third

stop_droverd KILL
start_droverd
is "$(vm_pid web) $(vm web '.nics[0].tap')" "$pid $tap" 'the next daemon takes it up'
differences() { api POST /doctor | jq -r '.differences[] | .difference'; }
is "$(differences)" '' 'and misses nothing'
ok 'it is in the network still' from_lan true
ip link set "$tap" down
up() { ip -o link show up dev "$tap" | grep .; }
ok 'a link that is taken down is up' wait_for 60 up
ok 'and goes on' wait_for 60 from_lan true

ip link del "$tap"
lost() { [ "$(vm web '.conditions | index("network-lost")')" != null ]; }
ok 'one that is deleted is told' wait_for 60 lost
like "$(drover why web)" "$tap was deleted: .*only a restart gives it another" 'and what helps'
ok 'by the check, too' says 'network lan: the link of nic0 of vm web was deleted' drover net check
ok 'the restart' drover restart web
ok 'which does' wait_for "$patience" from_lan true
ok 'and nothing is lost' not lost
ok 'all is well' drover net check

machines private
drover reload >/dev/null
private() { ip -d -o link show "$tap" | grep 'macvtap mode private'; }
ok 'another mode is another link' wait_for "$patience" private
ok 'which works' wait_for "$patience" from_lan true
ok 'droverd leaves' stop_droverd
kill $server && wait $server
ip link set lan0 down
audit_clean 'all'
done_testing

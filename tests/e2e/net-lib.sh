# shellcheck shell=bash
# Guests that are network namespaces: hypervisors are fakes, and a namespace stands at the end of each
# TAP (tests/e2e/netguest), so that real clients and any frames can be sent as a guest sends them.
#
#   fake_template                # the lines of a [template fake] for config
#   net_guest NAME [NIC]         # namespace NAME is the guest of machine NAME, by DHCP
#   in_guest NAME COMMAND...

fake_template() {
	cat <<-END
	[template fake]
	binary = $B/fakes/fake-qemu
	kernel = $(nano)
	memory = 16M
	accel = tcg
	stop_timeout = 5
	END
}

in_guest() { ip netns exec "$1" "${@:2}"; }

# net_wire NAME [NIC]: the namespace with eth0 up, without an address.
net_wire() {
	local nic=${2:-0} tap mac pid
	ip netns add "$1" 2>/dev/null
	ip -n "$1" link set lo up
	tap=$(vm "$1" ".nics[$nic].tap") mac=$(vm "$1" ".nics[$nic].mac") pid=$(vm_pid "$1")
	: >"$W/wire-$1"
	in_guest "$1" "$here/netguest" "$pid" "$tap" "$mac" >"$W/wire-$1" 2>&1 </dev/null &
	wait_for 30 grep -q ready "$W/wire-$1"
}

net_guest() { net_wire "$@" && net_dhcp "$1"; }

# What a guest makes of a lease, by busybox' client.
net_dhcp() {
	cat >"$W/udhcpc" <<'SCRIPT'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via "${router%% *}"
SCRIPT
	chmod +x "$W/udhcpc"
	in_guest "$1" busybox udhcpc -i eth0 -n -q -t 20 -T 1 -s "$W/udhcpc" >"$W/dhcp-$1" 2>&1
}

guest_ip() { in_guest "$1" ip -o -4 addr show dev eth0 | awk '{ sub("/.*", "", $4); print $4; exit }'; }
reaches() { in_guest "$1" ping -c 1 -W 1 "$2"; }

# net_unwire NAME: the namespace and all that runs in it are gone.
net_unwire() {
	local pid
	for pid in $(ip netns pids "$1"); do kill -9 "$pid" 2>/dev/null; done
	await 10 no_pids "$1"
	ip netns del "$1"
}
no_pids() { [ -z "$(ip netns pids "$1")" ]; }

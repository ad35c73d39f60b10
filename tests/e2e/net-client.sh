# shellcheck shell=bash
# Clients of a network with a bridge that are no machines: network namespaces with a port of the bridge
# each. DHCP serves machines only, so a client takes the MAC of one that has no driver for its nic.

# client NAME BRIDGE MAC: has an address, the way out and the DNS by DHCP alone.
client() {
	ip netns add "$1"
	ip link add "$1" type veth peer name eth0 netns "$1"
	ip -n "$1" link set lo up
	ip link set "$1" up
	ip -n "$1" link set eth0 up
	client_join "$@"
}

# client_join NAME BRIDGE MAC: on another bridge, as another machine.
client_join() {
	ip link set "$1" master "$2"
	ip -n "$1" link set eth0 address "$3"
	# A machine's MAC address is behind its own port and does not move by itself.
	bridge fdb replace "$3" dev "$1" master static sticky
	client_ask "$1"
}

# client_ask NAME: asks for all of it (again); what it was told of the DNS is in $W/NAME.resolv.
client_ask() {
	cat >"$W/udhcpc" <<-'END'
	#!/bin/sh
	case $1 in bound | renew) ;; *) exit 0 ;; esac
	ip address replace "$ip/$mask" dev "$interface"
	[ -z "$router" ] || ip route replace default via "$router"
	: >"$RESOLV.new"
	[ -z "$domain" ] || echo "search $domain" >>"$RESOLV.new"
	for server in $dns; do echo "nameserver $server" >>"$RESOLV.new"; done
	mv "$RESOLV.new" "$RESOLV"
	END
	chmod 755 "$W/udhcpc"
	RESOLV=$W/$1.resolv ip netns exec "$1" busybox udhcpc -i eth0 -f -q -n -t 10 -T 1 -S \
		-s "$W/udhcpc" >"$W/$1.udhcpc" 2>&1
}

# in_client NAME COMMAND...: with the DNS that it was told of.
in_client() {
	# shellcheck disable=SC2016
	ip netns exec "$1" unshare -m sh -c \
		'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$W/$1.resolv" "${@:2}"
}

# asks CLIENT NAME [TYPE]: the answers alone, sorted, on one line.
asks() { in_client "$1" dig +short +time=3 +tries=2 "$2" "${3:-A}" | sort | xargs; }
asks_back() { in_client "$1" dig +short +time=3 +tries=2 -x "$2" | sort | xargs; }

bridge_of() { api GET "/networks/$1" | jq -r .bridge; }
network_is() { [ "$(api GET "/networks/$1" | jq -r .state)" = "$2" ]; }

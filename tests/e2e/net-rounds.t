#!/usr/bin/env bash
# 200 networks of all kinds, each with a machine, made and removed in 20 rounds, some by a killed droverd:
# after each round the host is as it was.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
ip link add port0 type veth peer name wire0
ip link add port1 type veth peer name wire1
for p in port0 port1; do ip link set $p up && ip link set $p down; done
template=$(fake_template)
kinds=(nat isolated routed bridge p2p nat bridge p2p routed nat)
networks() {
	local i kind
	for i in "${!kinds[@]}"; do
		kind=${kinds[$i]}
		printf '[network n%d]\nkind = %s\ncidr = 10.%d.0.0/24\n' "$i" "$kind" "$((100 + i))"
		case $i in
		3) printf 'port = port0\nbridge = shared0\n' ;;
		5) printf 'egress = 192.0.2.1\n\tdeb.debian.org:443\nopen = udp/53\n\tping\n' ;;
		6) printf 'port = port1\nmtu = 1400\n' ;;
		7) printf 'peers = no\nrate = 10M\n' ;;
		8) printf 'peers = no\nrate = 10M/1G\n' ;;
		esac
		printf '[vm m%d]\ntemplate = fake\nnetwork = n%d\n' "$i" "$i"
		[ "$kind" = p2p ] || [ "$kind" = isolated ] || printf 'forward = %d:80\n' "$((8000 + i))"
	done
	# One that cannot be made.
	printf '[network n10]\nkind = bridge\ncidr = 10.110.0.0/24\nport = nothing0\n'
}
write() { # write [NETWORKS]
	config <<-END
	on_exit = keep
	reconcile_interval = 1h
	$template
	[vm stays]
	template = fake
	${1-}
	END
}
in_state() { [ "$(api GET /vms | jq --arg s "$1" '[.[] | select(.state == $s)] | length')" = "$2" ]; }
state_of_host() { # what a network changes of it, but for addresses that are none of ours
	ip -o link show | awk -F': ' '{ sub("@.*", "", $2); print $2 }' | sort
	ip -o -4 addr show | awk '{ print $2, $4 }'
	nft list tables
	cat /proc/sys/net/ipv4/ip_forward
	pgrep -c dnsmasq
	find /run/drover/ledger /run/drover/net -type f 2>/dev/null | xargs -r ls -1
	bridge link show
}
write
baseline
start_droverd
vm_wait stays running
state_of_host >"$W/before"
as_before() { state_of_host >"$W/after" && cmp -s "$W/before" "$W/after"; }
all=$(networks)
bad=0
for round in $(seq 20); do
	write "$all"
	drover reload >/dev/null || bad=1
	wait_for "$patience" in_state running 11 || { fail "round $round: machines run"; break; }
	[ $((round % 5)) != 0 ] || {
		stop_droverd KILL
		[ "$round" != 10 ] || write
		start_droverd
	}
	write
	drover reload >/dev/null || bad=1
	wait_for "$patience" as_before || { fail "round $round: as before" "$(diff "$W/before" "$W/after")"; break; }
done
is "$round $bad" '20 0' '200 networks and machines came and went'
errors() { grep -hE 'error|cannot' "$W"/droverd-*.log | grep -v 'network n10: port nothing0: No such device'; }
ok 'without a word of an error' not errors
ok 'the machine without a network is as it was' vm_is stays running
ok 'droverd leaves' stop_droverd
start_droverd
ok 'and comes back' vm_wait stays running
ok 'the last machine stops' drover stop stays
ok 'and leaves' stop_droverd
audit_clean 'all'
done_testing

#!/usr/bin/env bash
# Names on a network, asked for by clients that know nothing but what DHCP told them: machines, records
# of both families, the world by upstreams of IPv4 and IPv6, the log of queries, and no DNS at all.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-client.sh"
world
# The world: answers to every name, in both families, also to those that are ours.
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip -6 addr add fd99::1/64 dev out0 nodad && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world -6 addr add fd99::2/64 dev in0 nodad
ip -n world link set in0 up && ip -n world link set lo up
ip netns exec world dnsmasq -C /dev/null -k --pid-file= --no-resolv --no-hosts --interface=in0 \
	--bind-dynamic --address=/#/198.51.100.9 --address=/#/2001:db8::9 --log-queries \
	--ptr-record=77.0.77.10.in-addr.arpa,stranger.example --log-facility="$W/world.log" &
kernel=$(nano)
networks() { # networks [LINE OF lab...]
	config <<-END
	on_exit = stop
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	domain = lab.test
	$(printf '%s\n' "$@")
	[network six]
	kind = nat
	cidr = 10.78.0.0/24
	dns = fd99::2
	[network quiet]
	kind = isolated
	cidr = 10.79.0.0/24
	record = Records.Example = 10.79.0.1
	[network mute]
	kind = nat
	cidr = 10.80.0.0/24
	dns = none
	[template small]
	kernel = $kernel
	memory = 16M
	[vm one]
	template = small
	network = lab address=10.77.0.9
	[vm two]
	template = small
	network = lab
	[vm six]
	template = small
	network = six
	[vm quiet]
	template = small
	network = quiet
	[vm mute]
	template = small
	network = mute
	END
}
records='record = nas.example = 10.77.0.200
	nas.example=fd00::200
	printer = 10.77.0.201
	real.example=10.77.0.202
	deep.lab.test=10.77.0.203'
networks 'dns = 203.0.113.2' "$records"
baseline
start_droverd
for m in one two six quiet mute; do await "$patience" vm_is $m running; done
ok 'a client has an address by DHCP' client c1 "$(bridge_of lab)" "$(vm one .mac)"
is "$(xargs <"$W/c1.resolv")" 'search lab.test nameserver 10.77.0.1' 'and is told who answers it'
is "$(asks c1 one.lab.test) $(asks c1 two.lab.test)" "10.77.0.9 $(vm two .address)" 'machines have names'
ok 'in the domain' says '^10.77.0.9 ' in_client c1 getent hosts one
is "$(asks_back c1 10.77.0.9)" one.lab.test. 'and reverse'
is "$(asks c1 one.lab.test AAAA)" '' 'of which nobody else is asked in the other family'
is "$(asks c1 nas.example) $(asks c1 nas.example AAAA)" '10.77.0.200 fd00::200' 'records, of both families'
is "$(asks_back c1 10.77.0.200) $(asks_back c1 fd00::200)" 'nas.example. nas.example.' 'and reverse'
is "$(asks c1 printer) $(asks c1 deep.lab.test)" '10.77.0.201 10.77.0.203' 'of one label, and in the domain'
is "$(asks c1 real.example) $(asks c1 real.example AAAA)" '10.77.0.202 ' \
	'a name of the world that is ours is ours in both families'
is "$(asks c1 www.real.example)" 198.51.100.9 'and below it the world'
is "$(asks c1 other.example) $(asks c1 other.example AAAA)" '198.51.100.9 2001:db8::9' 'the rest is the world'
is "$(asks_back c1 10.77.0.77)" '' 'addresses of the network are not asked there'
not_asked() { ! grep -E 'query\[[A-Z]+\] (one|two|printer|nas\.example|real\.example|[^ ]*lab\.test)' "$W/world.log"; }
ok 'nor is any name of ours' not_asked
ok 'a client of another network' client c2 "$(bridge_of six)" "$(vm six .mac)"
is "$(asks c2 other.example)" 198.51.100.9 'has the world by an upstream of IPv6'
ok 'one without a way out' client c3 "$(bridge_of quiet)" "$(vm quiet .mac)"
is "$(asks c3 records.example) $(asks c3 other.example)" '10.79.0.1 ' 'has records, and no world'
ok 'one without DNS' client c4 "$(bridge_of mute)" "$(vm mute .mac)"
is "$(cat "$W/c4.resolv")" '' 'is told of none'
ok 'nor is one there' says 'no servers|timed out|refused' in_client c4 dig +time=1 +tries=1 @10.80.0.1 one

# ---- a change, while all run ----
log=$W/state/log/network-lab.log
ok 'queries are not logged' not contains "$log" 'query'
networks 'dns = 203.0.113.2' 'record = nas.example = 10.77.0.210' 'dns_log = yes'
ok 'the records are changed, and the log turned on' drover reload
told() { [ "$(asks c1 "$1")" = "$2" ]; }
ok 'the new one is known' wait_for 30 told nas.example 10.77.0.210
ok 'another is gone' wait_for 30 told real.example 198.51.100.9
ok 'queries are logged' wait_for 30 contains "$log" 'query\[A\] real.example from 10.77.0.9'
ok 'and what was answered' wait_for 30 contains "$log" 'real.example is 198.51.100.9'
stop_droverd KILL
is "$(asks c1 nas.example)" 10.77.0.210 'without droverd names are served'
start_droverd
is "$(asks c1 nas.example)" 10.77.0.210 'and with the next one'
for c in c1 c2 c3 c4; do ip netns del $c; done
ok 'droverd leaves, and its machines' stop_droverd
audit_clean 'names'
done_testing

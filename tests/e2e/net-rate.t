#!/usr/bin/env bash
# rate: what a nic sends and receives is no faster than it was said, put back when somebody takes it
# away, and gone with the nic. A slow host is slower still, so that only "too fast" is a failure.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net-lib.sh"
world
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world link set in0 up && ip -n world link set lo up
mkdir -p "$W/www/cgi-bin" && head -c 1000000 /dev/zero >"$W/www/file"
ip netns exec world busybox httpd -f -p 80 -h "$W/www" &
ip netns exec world socat TCP-LISTEN:81,fork,reuseaddr SYSTEM:'wc -c' &
config <<END
on_exit = stop
reconcile_interval = 1s
[network lab]
kind = nat
cidr = 10.77.0.0/24
rate = 8M/4M
[network taps]
cidr = 172.16.0.0/16
rate = 8M
$(fake_template)
[vm a]
template = fake
network = lab
[vm b]
template = fake
network = lab rate=0/16M
[vm c]
template = fake
network = taps
END
baseline
start_droverd
for m in a b c; do
	vm_wait $m running
	ok "$m has an address" net_guest $m
done
now() { date +%s%N; }
# at_least MS COMMAND...: it takes no less.
at_least() {
	local before
	before=$(now)
	"${@:2}" || return 1
	[ $((($(now) - before) / 1000000)) -ge "$1" ] || {
		echo "it took $((($(now) - before) / 1000000)) ms"
		return 1
	}
}
receives() { [ "$(in_guest "$1" curl -s http://203.0.113.2/file | wc -c)" = 1000000 ]; }
sends() { [ "$(head -c 1000000 /dev/zero | in_guest "$1" socat -t 60 - TCP:203.0.113.2:81)" = 1000000 ]; }
tap() { vm "$1" '.nics[0].tap'; }
bucket() { tc qdisc show dev "$1" root | grep -oE 'tbf .*rate [0-9]+[KM]?bit' | awk '{ print $NF }'; }
ifb() { echo "ifb$(tap "$1" | cut -c 4-)"; }

# 8 Mbit are a second at 8M, but for what the bucket holds and TCP has on its way.
ok 'what a machine sends takes its time' at_least 850 sends a
ok 'what it receives, too' at_least 1800 receives a
ok 'a nic of its own rate' at_least 400 receives b
is "$(bucket "$(tap b)")" 16Mbit 'has that one'
ok 'and one way only' not ip link show dev "$(ifb b)"
ok 'on p2p' at_least 850 sends c
ok 'both ways' at_least 850 receives c

tc qdisc del dev "$(tap a)" root
limited() { [ "$(bucket "$(tap a)") $(bucket "$(ifb a)")" = '4Mbit 8Mbit' ]; }
ok 'what is taken away comes back' wait_for 30 limited
ip link del "$(ifb a)"
ok 'both ways' wait_for 30 limited
ok 'and is as slow as before' at_least 850 sends a
ok 'droverd is killed' stop_droverd KILL
start_droverd
ok 'the next one takes it up' limited
ifb=$(ifb a)
ok 'a machine is stopped' drover stop a
ok 'its ifb is gone' wait_for 30 not ip link show dev "$ifb"
ok 'droverd leaves' stop_droverd
for ns in a b c; do net_unwire $ns; done
is "$(ip -o link show type ifb | grep -v 'ifb[0-9]:' | wc -l)" 0 'no ifb is left'
audit_clean 'all'
config "$W/wrong.ini" <<END
[network lab]
kind = nat
cidr = 10.77.0.0/24
rate = fast
END
ok 'check' says "wrong.ini:[0-9]+: .*'fast' is not a rate" droverd -n -c "$W/wrong.ini"
done_testing

#!/usr/bin/env bash
# The leak audit itself: one leak of each kind is planted and must be seen, as that kind and no
# other; and nothing planted must mean nothing seen, however often it looks.
. "$(dirname "$0")/lib.sh"
world_for

# A process to look at the descriptors of: it opens and closes what it is told to.
mkfifo "$W/orders"
bash -c 'while read -r order; do eval "$order"; echo done >"$0/answer"; done <"$0/orders"' "$W" &
patient=$!
exec 8>"$W/orders"
mkfifo "$W/answer"
tell() {
	echo "$1" >&8
	read -r _ <"$W/answer"
}

audit_skip='\.skipped$'
take() { audit_take "$1" --fds patient=$patient; }
take "$W/baseline"
again() { take "$W/now" && "$here/audit" diff "$W/baseline" "$W/now"; }

ok 'nothing changed, nothing seen' again

# planted KIND DESCRIPTION PLANT REMOVE: the leak is seen as KIND alone, unless WITH names others
# that it brings with it; it is gone when removed.
planted() {
	local kind=$1 what=$2 seen kinds
	eval "$3"
	seen=$(again)
	kinds=$(cut -d' ' -f2 <<<"$seen" | sort -u | paste -sd' ')
	is "$kinds" "$(tr ' ' '\n' <<<"$kind ${WITH-}" | grep . | sort -u | paste -sd' ')" "$kind: $what" ||
		diag "$seen"
	eval "$4"
	wait_for 10 again || fail "$kind: $what: removed" "$(again)"
}

planted process 'a process that was left' 'sleep 1000 & p=$!' 'kill $p; wait $p 2>/dev/null'
planted process 'an orphan in another network namespace' \
	'unshare -n sleep 1000 & p=$!; wait_for 5 contains /proc/$p/cmdline ^sleep' \
	'kill $p; wait $p 2>/dev/null'
WITH=sysctl planted link 'a TAP' 'ip tuntap add dev tapleak mode tap' 'ip link delete tapleak'
WITH=route planted address 'an address' 'ip address add 192.0.2.1/32 dev lo' \
	'ip address delete 192.0.2.1/32 dev lo'
planted route 'a route' 'ip route add 198.51.100.0/24 dev lo' 'ip route delete 198.51.100.0/24'
planted rule 'a routing rule' 'ip rule add from 192.0.2.7 table main' \
	'ip rule delete from 192.0.2.7 table main'
planted nft 'a table with a rule' \
	'nft "table inet leak { chain c { type filter hook input priority 0; accept; }; }"' \
	'nft delete table inet leak'
nft 'table inet kept { set s { type ipv4_addr; }; }'
take "$W/baseline"
planted nft 'an element of a set' 'nft add element inet kept s "{ 192.0.2.1 }"' \
	'nft delete element inet kept s "{ 192.0.2.1 }"'
planted sysctl 'ip_forward left on' 'echo 1 >/proc/sys/net/ipv4/ip_forward' \
	'echo 0 >/proc/sys/net/ipv4/ip_forward'
planted sysctl 'rp_filter of all' 'v=$(cat /proc/sys/net/ipv4/conf/all/rp_filter);
	echo $((1 - v)) >/proc/sys/net/ipv4/conf/all/rp_filter' \
	'echo $v >/proc/sys/net/ipv4/conf/all/rp_filter'
mkdir "$W/mnt"
planted mount 'a mount' 'mount -t tmpfs leak "$W/mnt"' 'umount "$W/mnt"'
if mkdir /sys/fs/cgroup/probe 2>/dev/null && rmdir /sys/fs/cgroup/probe; then
	planted cgroup 'a cgroup' 'mkdir /sys/fs/cgroup/leak' 'rmdir /sys/fs/cgroup/leak'
fi
planted file 'a file below /run' 'touch /run/leak' 'rm /run/leak'
planted file 'a file below /dev/shm' 'touch /dev/shm/leak' 'rm /dev/shm/leak'
planted file 'a temporary file' 'touch "$TMPDIR/leak"' 'rm "$TMPDIR/leak"'
planted file 'a folder below state_dir' 'mkdir -p "$W/state/vm/x"' 'rm -r "$W/state/vm"'
planted file 'a mode that changed' 'chmod 700 "$W/state"' 'chmod 755 "$W/state"'
chmod 755 "$W/state"
touch "$W/state/a.skipped"
ok 'what is to be skipped is skipped' again
WITH='file process' planted socket 'a Unix socket that listens' \
	'perl -MIO::Socket::UNIX -e "\$s = IO::Socket::UNIX->new(Local => \"/run/leak\", Listen => 1);
		print \"up\n\"; close(STDOUT); sleep(1000)" >"$W/up" & p=$!
		wait_for 10 contains "$W/up" up' 'kill $p; wait $p 2>/dev/null; rm /run/leak'
WITH=process planted socket 'a TCP port' \
	'perl -MIO::Socket::INET -e "\$s = IO::Socket::INET->new(LocalAddr => \"127.0.0.1:4711\",
		Listen => 1); print \"up\n\"; close(STDOUT); sleep(1000)" >"$W/up2" & p=$!
		wait_for 10 contains "$W/up2" up' 'kill $p; wait $p 2>/dev/null'
planted fd 'an open file' 'tell "exec 5</dev/zero"' 'tell "exec 5<&-"'
planted fd 'one more of what was open already' 'tell "exec 5<&0"' 'tell "exec 5<&-"'
tell 'exec 5</dev/zero'
take "$W/baseline"
planted fd 'one that was closed' 'tell "exec 5<&-"' 'tell "exec 5</dev/zero"'
sleep 1000 &
p=$!
take "$W/baseline"
planted process 'one that went away' 'kill $p; wait $p 2>/dev/null' 'take "$W/baseline"'
ok 'and nothing is seen at the end' again
done_testing

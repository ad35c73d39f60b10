#!/usr/bin/env bash
# The machines of etc/examples/kernel-testing.ini, with images that contrib/guest has built, from a
# registry that plays ghcr.io: first with it, then with nothing but what the cache has kept.
. "$(dirname "$0")/lib.sh"
need_guest
world

# Of the example only the address of ghcr.io is another one.
sed "s|^upstream = https://ghcr.io$|upstream = http://$ORIGIN_HOST\nhosts = ghcr.io|" \
	"$top/etc/examples/kernel-testing.ini" >"$W/kernel-testing.ini"
ok 'the example names ghcr.io once' test "$(diff "$top/etc/examples/kernel-testing.ini" "$W/kernel-testing.ini" | grep -c '^<')" = 1
config <<END
on_exit = stop
include = $W/kernel-testing.ini
END
mkdir "$W/origin"
baseline
declare -A tag=([ubuntu-6.5]=${KERNELS[0]} [ubuntu-6.8]=${KERNELS[1]})
start_origin "$W/origin"
for name in "${!tag[@]}"; do
	for i in "kernel-${tag[$name]} kernel" 'image image'; do
		"$top/contrib/guest/push-image" "$top/build/guest/oci/${i% *}" \
			"http://$ORIGIN_HOST/org/ubuntu-${i#* }:${name#ubuntu-}-x86_64" >"$W/push.log" 2>&1 ||
			bail "push: $(<"$W/push.log")"
	done
done

answers() { [ "$(timeout 60 drover ssh "$1" -- uname -r </dev/null 2>"$W/ssh.err")" = "${RELEASE[${tag[$1]}]}" ]; }
machines() { # machines WHEN
	local name
	for name in ubuntu-6.5 ubuntu-6.8; do
		ok "$1: $name answers ssh, and runs its kernel" wait_for "$patience" answers "$name"
	done
}
start_droverd
machines online
is "$(drover registry list -o json | jq -r '.[] | "\(.name) \(.state) \(.mode)"')" 'ghcr up proxy' \
	'online: by way of the cache'
ok 'online: SIGTERM' stop_droverd
stop_origin

rm -r "$W/state/oci"
start_droverd
machines offline
is "$(drover registry list -o json | jq -r '.[] | "\(.name) \(.state) \(.mode)"')" 'ghcr up offline' \
	'offline: the cache serves what it has'
ok 'offline: SIGTERM' stop_droverd
audit_clean 'at the end'
done_testing

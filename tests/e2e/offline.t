#!/usr/bin/env bash
# Starting with the world gone: with the local store warm and both registries gone; and with the
# store deleted and the cache restarted while its upstream is gone.
. "$(dirname "$0")/lib.sh"
need_guest
world
ssh_key
write() { # write REGISTRY-SECTION
	config <<END
on_exit = stop
$1
[network taps]
cidr = 172.16.0.0/16
[key test]
file = $W/key.pub
[vm guest]
kernel = $ORIGIN_HOST/test/guest-kernel:${KERNELS[1]}
rootfs = $ORIGIN_HOST/test/guest-image:1
memory = 192M
network = taps
ssh_key = test
disk = run
cmdline = console=ttyS0 panic=-1 quiet mitigations=off
END
}
cache="[registry cache]
upstream = http://$ORIGIN_HOST
listen = 127.0.0.1:5000"
baseline
start_origin
write "$cache"
start_droverd
ok 'online: the guest answers ssh' ssh_wait guest
is "$(api GET /registries | jq -r '.[0] | "\(.name) \(.state)"')" 'cache up' 'online: the cache runs'
ok 'online: SIGTERM' stop_droverd
stop_origin

# The store knows the images: nobody needs to be asked.
write ''
start_droverd
ok 'both registries gone: the guest answers ssh' ssh_wait guest
is "$(pgrep docker-registr)" '' 'both registries gone: they are'
ok 'both registries gone: SIGTERM' stop_droverd

# Only the cache has them.
rm -rf "$W/state/oci"
write "$cache"
start_droverd
ok 'upstream gone and store deleted: the guest answers ssh' ssh_wait guest
like "$(api GET /registries | jq -r '.[0].mode')" '^offline$' \
	'upstream gone: the cache says that it serves what it has'
ok 'upstream gone: SIGTERM' stop_droverd
audit_clean 'after all three'

# And what it does not have it cannot give.
start_droverd
ok 'upstream gone: the daemon is up' vm_wait guest running
drover pull "$ORIGIN_HOST/test/no-such:1" >"$W/out" 2>&1
is $? 3 'upstream gone: what is not in the cache is not found'
like "$(<"$W/out")" 'no-such' 'and the message says what'
ok 'SIGTERM' stop_droverd
audit_clean 'at the end'
done_testing

#!/usr/bin/env bash
# The verbs of drover for images, by way of droverd: pull and inspect of an image in files, moved
# tags, what is damaged, what nobody needs.
. "$(dirname "$0")/image-lib.sh"
world
mkdir -p "$W/tree/sbin" "$W/more/etc"
head -c 300000 /dev/urandom >"$W/tree/sbin/init"
echo x >"$W/more/etc/x"
for t in tree more; do tar -C "$W/$t" --owner=0 --group=0 -cf "$W/$t.tar" .; done
make_layout "$W/layout" "$W/tree.tar"
"$B/fakes/bad-registry" "$W/bad.log" 5600 >"$W/bad.out" &
await "$patience" test -s "$W/bad.out"
config <<END
on_exit = stop
END
start_droverd
drover pull 127.0.0.1:5600/basic:latest >"$W/out" 2>&1
is $? 1 'a registry that wants credentials gives nothing without'
printf '{"auths":{"127.0.0.1:5600":{"auth":"dXNlcjpzZWNyZXQ="}}}' >"$W/auth.json"
config <<END
on_exit = stop
image_auth = $W/auth.json
image_memory = 512M
image_time = 10m
END
ok 'the configuration names them' drover reload
ok 'then it does' drover pull 127.0.0.1:5600/basic:latest
ok 'it is removed' drover image rm 127.0.0.1:5600/basic:latest

drover pull "oci:$W/layout" >"$W/out" 2>&1
is $? 0 'an image in files is pulled'
is "$(drover image list -o json | jq -r '.[].reference')" "oci:$W/layout" 'and listed'
drover image inspect "oci:$W/layout" >"$W/out" 2>&1
is $? 0 'it is looked at'
like "$(<"$W/out")" 'layout +rootfs' 'and known'
is "$(drover image inspect "oci:$W/layout" -o json | jq -r '"\(.layout) \(.layers | length)"')" 'rootfs 1' \
	'also for programs'
drover image inspect "oci:$W/none" >"$W/out" 2>&1
is $? 3 'one that is not there is not found'
is "$(drover image outdated -o json | jq -c .moved)" 0 'no tag has moved'
make_layout "$W/layout" "$W/tree.tar" "$W/more.tar"
like "$(drover image outdated)" "oci:$W/layout +sha256:[0-9a-f]{12} +sha256:" 'one that has is listed'
like "$(drover image prune)" ' freed$' 'what nobody needs is removed'
drover image verify >"$W/out" 2>&1
is $? 0 'all is as it should be'
blob=$(find "$W/state/oci/blobs" -size +100k)
printf x | dd of="$blob" bs=1 seek=1000 conv=notrunc status=none
drover image verify >"$W/out" 2>&1
is $? 1 'what is damaged is told of by the exit status'
like "$(<"$W/out")" "^sha256:${blob##*/} .*; removed" 'and by name'
ok 'and removed' test ! -e "$blob"
is "$(drover doctor -o json | jq -r '.checks[] | select(.check == "landlock") | .level')" info \
	'doctor tells of Landlock'
ok 'SIGTERM' stop_droverd
done_testing

#!/usr/bin/env bash
# The relay between a pull-through cache and its upstream: each blob is fetched once, by the cache
# alone, whoever asks how often; and it outlives what may happen to it and to droverd.
. "$(dirname "$0")/image-lib.sh"
world_for droverd drover drover-image

# layer NAME BYTES
layer() {
	mkdir -p "$W/$1/var"
	head -c "$2" /dev/urandom >"$W/$1/var/$1"
	tar -C "$W/$1" --owner=0 --group=0 -cf "$W/$1.tar" .
}
baseline
registry origin 5001
for i in 1 2 3 4 5 6; do
	layer "small$i" 3000
	layer "big$i" $((i == 1 ? 40000000 : 2000000))
	make_layout "$W/layout$i" "$W/small$i.tar" "$W/big$i.tar"
	push "$W/layout$i" http://127.0.0.1:5001/org/vm:$i
done
"$B/fakes/bad-registry" "$W/bad.log" 5003 >"$W/bad.out" &
bad=$!
await "$patience" contains "$W/bad.out" ready
bad_layer=$(cut -d' ' -f2 "$W/bad.out")

write() { # write [LINE]: of the cache
	config <<-END
	on_exit = ${on_exit:-stop}
	[registry cache]
	upstream = http://127.0.0.1:5001
	listen = 127.0.0.1:5000
	${1-}
	[registry bad]
	upstream = http://127.0.0.1:5003/
	listen = 127.0.0.1:5002
	END
}
# state NAME: "up proxy"
state() { api GET /registries | jq -r ".[] | select(.name == \"$1\") | \"\(.state) \(.mode)\""; }
is_up() { [ "$(state cache) $(state bad)" = 'up proxy up proxy' ]; }
relay() { pgrep -f "drover-image relay .*--upstream http://127.0.0.1:$1"; }
cache() { pgrep -f 'docker-registry serve /run/drover/registry/cache'; }
port() { sed -n 's|.*remoteurl:.*127.0.0.1:\([0-9]*\)".*|\1|p' /run/drover/registry/cache.yml; }
relay_is_new() { local p; p=$(relay "${2-5001}") && [ "$p" != "$1" ]; }

# blobs_of N: a line "1 DIGEST" for each blob of the image, as fetched() says it of the origin.
blobs_of() {
	local dir=$W/layout$1 m
	m=$(jq -r '.manifests[0].digest' "$dir/index.json")
	jq -r '.config.digest, .layers[].digest' "$dir/blobs/sha256/${m#sha256:}" | sed 's/^/1 /' |
		sort -k 2
}
once() { # once N DESCRIPTION: and nobody but the cache asked
	is "$(fetched)" "$(blobs_of "$1")" "$2"
	is "$(grep 'GET /v2/org/vm/blobs/' "$W/origin.log" | grep -vc '"Go-http-client/')" 0 \
		'by the cache alone'
	: >"$W/origin.log"
}
# pull N STORE: straight from the cache
pull() {
	"$image" pull --store "$W/$2" --ref "ghcr.io/org/vm:$1" \
		--mirror ghcr.io=http://127.0.0.1:5000 >"$W/$2.out" 2>&1
}

on_exit=keep
write
start_droverd
ok 'the caches are up' wait_for "$patience" is_up
ok 'with a relay for each' relay '500[13]'
is "$(ss -Hltn "sport = :$(port)" | awk '{ print $4 }')" "127.0.0.1:$(port)" \
	'which listens on the loopback only'
: >"$W/origin.log"

# Many at once.
pids=()
for i in 1 2 3; do
	pull 1 "store$i" &
	pids+=($!)
done
drover pull 127.0.0.1:5001/org/vm:1 >"$W/out" 2>&1
rc=$?
for pid in "${pids[@]}"; do wait "$pid" || rc=1; done
is $rc 0 'four pulls of one image at once, into four stores'
for blob in $(blobs_of 1 | cut -d' ' -f2); do
	ok "blob ${blob:0:19} is what it should be" stored "$W/store1" "$blob"
done
once 1 'the origin was asked once for each blob'
is "$(find "$W/state/registry" -name '.relay*' | wc -l)" 0 'no spool file is seen'

# The relay dies, and comes back at its port.
pid=$(relay 5001) at=$(port)
kill -9 "$pid"
ok 'a pull while the relay is dead waits for the next one' pull 2 store1
ok 'it is another process' relay_is_new "$pid"
is "$(port)" "$at" 'at the same port'
once 2 'each blob was fetched once'

# droverd dies; the next one knows all.
processes="$(relay 5001) $(relay 5003) $(cache)"
stop_droverd KILL
start_droverd
ok 'adopted: the caches are up' wait_for "$patience" is_up
is "$(relay 5001) $(relay 5003) $(cache)" "$processes" 'adopted: relays and cache run on'
ok 'adopted: a pull' pull 3 store1
once 3 'adopted: each blob was fetched once'

# An adopted relay dies: droverd has no socket of it, but the port.
pid=$(relay 5001) registry=$(cache)
kill -9 "$pid"
ok 'an adopted relay is started again' wait_for "$patience" relay_is_new "$pid"
ok 'a pull' pull 4 store1
is "$(port) $(cache)" "$at $registry" 'at its port, for the same cache'
once 4 'each blob was fetched once'

# It dies while there is no droverd, and its port is taken.
stop_droverd KILL
kill -9 "$(relay 5001)"
await "$patience" not relay 5001
registry squatter "$at"
start_droverd
ok 'port lost: the caches come up' wait_for "$patience" is_up
ok 'port lost: the relay has another one' test "$(port)" != "$at"
ok 'port lost: and the cache knows it' test "$(cache)" != "$registry"
ok 'a pull' pull 5 store1
once 5 'each blob was fetched once'
unregistry squatter

# An upstream that wants tokens, and one that redirects to another host.
# Both have the same layer, and a relay keeps it for a while for whoever else asks.
for name in token redirect; do
	pid=$(relay 5003)
	kill -9 "$pid"
	wait_for "$patience" relay_is_new "$pid" 5003 || bail 'the relay did not come back'
	wait_for "$patience" is_up || bail 'the caches are not up'
	: >"$W/bad.log"
	ok "$name: a pull" "$image" pull --store "$W/$name" --ref "ghcr.io/$name:latest" \
		--mirror ghcr.io=http://127.0.0.1:5002
	ok "$name: the layer is what it should be" stored "$W/$name" "$bad_layer"
	is "$(grep -c "^5003 GET /v2/$name/blobs/$bad_layer .*auth=Bearer opensesame$" "$W/bad.log")" 1 \
		"$name: it was asked for once, with the token"
done
is "$(grep "GET /v2/good/blobs/$bad_layer" "$W/bad.log" | cut -d' ' -f1,2,4-)" \
	'5004 GET range= auth=' 'redirect: the other host was asked once, and not shown the token'
is "$(grep -rlE 'opensesame' "$W/state/log" | wc -l)" 0 'no token is in a log'

# Without a proxy section there is no relay.
write 'offline = yes'
kill -HUP "$DROVERD"
await "$patience" says 'up offline' state cache
is "$(state cache)" 'up offline' 'offline: the cache is up'
ok 'offline: without a relay' not relay 5001
ok 'offline: the other cache has its own' relay 5003
ok 'offline: what was cached is there' pull 1 store9
write
kill -HUP "$DROVERD"
ok 'online again' wait_for "$patience" is_up
ok 'with its relay' relay 5001
ok 'a pull' pull 6 store1
once 6 'each blob was fetched once'

on_exit=stop
write
kill -HUP "$DROVERD"
await "$patience" is_up
ok 'SIGTERM' stop_droverd
kill $bad
wait $bad 2>/dev/null
unregistry origin
audit_clean 'at the end'
done_testing

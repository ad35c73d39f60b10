#!/usr/bin/env bash
# What a pull-through cache keeps: size and age, against docker-registry's own expiry.
. "$(dirname "$0")/image-lib.sh"
world
command -v docker-registry >/dev/null || skip_all 'docker-registry is not installed'

for i in a b c; do
	mkdir -p "$W/$i/data"
	head -c 2M /dev/urandom >"$W/$i/data/$i"
	tar -C "$W/$i" --owner=0 --group=0 -cf "$W/$i.tar" .
	make_layout "$W/layout-$i" "$W/$i.tar"
	declare "layer_$i=$(jq -r '.layers[0].digest' "$W/layout-$i/blobs/sha256/$(jq -r '.manifests[0].digest' \
		"$W/layout-$i/index.json" | cut -d: -f2)" | cut -d: -f2)"
done
baseline
registry origin 5001
for i in a b c; do push "$W/layout-$i" http://127.0.0.1:5001/org/$i:1; done
storage=$W/state/registry/cache
write() {
	config <<-END
	on_exit = stop
	$*
	END
}
cache() { # cache [LINE...]
	local IFS=$'\n'
	write "[registry cache]
upstream = http://127.0.0.1:5001
listen = 127.0.0.1:5000
$*"
}
cached() { [ -s "$storage/docker/registry/v2/blobs/sha256/${1:0:2}/$1/data" ]; }
fetch() { # fetch NAME: as a guest would
	rm -rf "$W/store"
	run pull --store "$W/store" --ref "127.0.0.1:5001/org/$1:1" --mirror 127.0.0.1:5001=http://127.0.0.1:5000 --tries 1
}
all_cached() { local i; for i; do i=layer_$i; cached "${!i}" || return 1; done; }
up() { [ "$(drover registry list -o json | jq -r '.[0].state')" = up ]; }
age() { # age NAME DAYS: when its layer was used
	local i=layer_$1
	touch -a -m -d "$2 days ago" "$storage/docker/registry/v2/blobs/sha256/${!i:0:2}/${!i}/data"
}

cache
start_droverd
await "$patience" up
for i in a b c; do fetch $i; is "$rc" 0 "$i comes through the cache"; done
ok 'which has them then' wait_for "$patience" all_cached a b c
# How much it spares the upstream. An image has a configuration and a layer.
count() { # count KEY...: of what it was asked for
	drover registry list -o json | jq -r ".[0].blobs | [$(printf '.%s,' "$@" | sed 's/,$//')] | @csv"
}
ok 'three pulls: all was fetched' wait_for "$patience" says '6,6,6,0' count asked served fetched hit_rate
bytes=$(count served_bytes)
is "$(count fetched_bytes)" "$bytes" 'to the byte'
ok 'and that is more than the layers have' test "$bytes" -gt 6000000
for i in a b; do fetch $i; done
ok 'two more, from what it has' wait_for "$patience" says '10,10,6,0.4' count asked served fetched hit_rate
is "$(count 'byte_hit_rate * 100 | round')" 40 'of the bytes, too'
like "$(drover registry list)" 'HITS.*cache +up +proxy .* 40% of 10' 'as a person sees it'
since=$(count since)
stop_droverd
start_droverd
await "$patience" up
is "$(count asked served fetched since)" "10,10,6,$since" 'a restart of droverd, and of the cache, forgets nothing'
fetch c
ok 'and it counts on' wait_for "$patience" says '12,12,6,0.5' count asked served fetched hit_rate

age a 20
age b 10
age c 5

# Size.
cache 'budget = 5M'
ok 'a budget' drover reload
pruned() { grep -q '"kind":"registry","name":"cache","event":"pruned"' "$W/state/events.jsonl"; }
ok 'the cache is pruned' wait_for "$patience" pruned
ok 'and comes back' wait_for "$patience" up
ok 'without what was used longest ago' not all_cached a
ok 'and with the rest' all_cached b c
is "$(grep -rl "${layer_a}" "$storage/docker/registry/v2/repositories" | wc -l)" 0 'no link to it is left'
like "$(drover registry list)" 'SIZE.*cache +up +proxy +4' 'its size is shown'
fetch a
is "$rc" 0 'what was removed comes again, as a guest asks for it'
ok 'and is kept again' wait_for "$patience" all_cached a

# Age.
: >"$W/state/events.jsonl"
cache 'age = 7d'
ok 'an age' drover reload
ok 'the cache is pruned once more' wait_for "$patience" pruned
ok 'and up' wait_for "$patience" up
ok 'without what is older' not all_cached b
ok 'and with what is not' all_cached a c

# Fetched before anybody asks.
mkdir -p "$W/d/data" && head -c 2M /dev/urandom >"$W/d/data/d"
tar -C "$W/d" --owner=0 --group=0 -cf "$W/d.tar" .
make_layout "$W/layout-d" "$W/d.tar"
layer_d=$(basename "$(find "$W/layout-d/blobs" -size +1000k)")
push "$W/layout-d" http://127.0.0.1:5001/org/d:1
: >"$W/state/events.jsonl"
cache 'prefetch = 127.0.0.1:5001/org/none:1' 'prefetch = 127.0.0.1:5001/org/d:1'
ok 'a list of images' drover reload
ok 'one comes into the cache by itself' wait_for "$patience" all_cached d
ok 'which is an event' wait_for "$patience" grep -q '"event":"prefetched","image":"127.0.0.1:5001/org/d:1"' \
	"$W/state/events.jsonl"
ok 'as is that there is no such image' grep -q '"event":"prefetch-failed","image":"127.0.0.1:5001/org/none:1"' \
	"$W/state/events.jsonl"
is "$(find "$storage/prefetch" -type f)" '' 'nothing else is left of them'

# docker-registry's own expiry: it keeps a list of what to remove on the seventh day.
expiry=$storage/scheduler-state.json
fetch b
ok 'what was too old comes again as well' wait_for "$patience" all_cached b
ok 'it writes down when to remove what it has' wait_for "$patience" test -s "$expiry"
write ''
ok 'the cache is stopped' drover reload
cache_gone() { ! pgrep -f "serve $W/run/registry/cache" >/dev/null; }
await "$patience" cache_gone
old() { sed -i -E 's/"20[0-9]{2}-([^"]*)"/"2020-\1"/g' "$1"; }
cp -a "$storage" "$W/copy"
old "$W/copy/scheduler-state.json"
cat >"$W/copy.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $W/copy}, delete: {enabled: true}}
http: {addr: "127.0.0.1:5003"}
proxy: {remoteurl: "http://127.0.0.1:5001"}
END
docker-registry serve "$W/copy.yml" >"$W/copy.log" 2>&1 </dev/null &
copy=$!
removed() { ! [ -e "$W/copy/docker/registry/v2/blobs/sha256/${layer_b:0:2}/$layer_b/data" ]; }
ok 'where it may, it removes what is due, at once' wait_for "$patience" removed
kill $copy && wait $copy 2>/dev/null
ok 'its list knows the layer' grep -q "$layer_b" "$expiry"
old "$expiry"
cache
ok 'the same list under droverd' drover reload
await "$patience" up
for i in a b c; do
	fetch $i
	is "$rc" 0 "$i is served"
done
ok 'nothing is removed' all_cached a b c
unregistry origin
for i in a b c; do
	fetch $i
	is "$rc" 0 "$i: also with the upstream gone"
done
ok 'SIGTERM' stop_droverd
audit_clean 'at the end'
done_testing

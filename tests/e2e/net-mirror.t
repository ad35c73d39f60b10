#!/usr/bin/env bash
# Registry mirrors for guests: several registries redirected at once, each to an address of its own on
# the bridge, on port 443 with a certificate of drover's CA, or plain. The clients know what DHCP told
# them and nothing else.
. "$(dirname "$0")/image-lib.sh"
. "$(dirname "$0")/net-client.sh"
world
# The world: has other addresses for the registries, at which nobody is.
ip netns add world
ip link add out0 type veth peer name in0 netns world
ip addr add 203.0.113.1/24 dev out0 && ip link set out0 up
ip -n world addr add 203.0.113.2/24 dev in0 && ip -n world link set in0 up && ip -n world link set lo up
ip netns exec world dnsmasq -C /dev/null -k --pid-file= --no-resolv --no-hosts --interface=in0 \
	--bind-dynamic --address=/#/198.51.100.9 --address=/#/2001:db8::9 &
kernel=$(nano)
for r in ghcr hub quay; do
	mkdir -p "$W/tree-$r/etc" && echo "$r" >"$W/tree-$r/etc/from"
	tar -C "$W/tree-$r" --owner=0 --group=0 -cf "$W/$r.tar" .
	make_layout "$W/layout-$r" "$W/$r.tar"
done
baseline
origins() {
	registry ghcr_origin 5001
	registry hub_origin 5003
	registry quay_origin 5005
}
origins
push "$W/layout-ghcr" http://127.0.0.1:5001/org/vm:1
push "$W/layout-hub" http://127.0.0.1:5003/library/vm:1
push "$W/layout-quay" http://127.0.0.1:5005/org/vm:1
networks() { # networks [LINE OF lab...]
	config <<-END
	on_exit = ${on_exit:-stop}
	reconcile_interval = 1h
	[registry ghcr]
	upstream = http://127.0.0.1:5001
	hosts = ghcr.io
	listen = 127.0.0.1:5000
	[registry hub]
	upstream = http://127.0.0.1:5003
	hosts = ${hub:-docker.io}
	listen = 127.0.0.1:5002
	[registry quay]
	upstream = http://127.0.0.1:5005
	hosts = quay.io
	listen = 127.0.0.1:5004
	[network lab]
	kind = nat
	cidr = 10.77.0.0/24
	dns = 203.0.113.2
	$(printf '%s\n' "$@")
	[network other]
	kind = isolated
	cidr = 10.78.0.0/28
	mirror = ghcr http port=8080
	[template small]
	kernel = $kernel
	memory = 16M
	[vm one]
	template = small
	network = lab
	forward = 443:443
	[vm two]
	template = small
	network = other
	END
}
three='mirror = ghcr
	hub address=10.77.0.5
	quay http'
networks "$three"
start_droverd
for m in one two; do await "$patience" vm_is $m running; done
ok 'a client has an address by DHCP' client c1 "$(bridge_of lab)" "$(vm one .mac)"
address() { api GET /networks/lab | jq -r ".mirrors[] | select(.registry == \"$1\") | .address"; }
is "$(address ghcr) $(address hub) $(address quay)" '10.77.0.254 10.77.0.5 10.77.0.253' \
	'each has an address: the one chosen, or the last free ones'
is "$(asks c1 ghcr.io) $(asks c1 docker.io) $(asks c1 quay.io)" '10.77.0.254 10.77.0.5 10.77.0.253' \
	'and the names lead there'
is "$(asks c1 registry-1.docker.io) $(asks c1 index.docker.io)" '10.77.0.5 10.77.0.5' "as all of Docker Hub's do"
is "$(asks c1 ghcr.io AAAA)$(asks c1 docker.io AAAA)" '' 'in no other family'
is "$(asks c1 hub.docker.io) $(asks c1 pkg.ghcr.io)" '198.51.100.9 198.51.100.9' 'their other names do not'

# ---- the certificates ----
ok 'the CA is given out by plain HTTP' in_client c1 curl -sfm 10 -o "$W/ca.pem" http://ghcr.io/drover-ca.pem
ok 'which is what drover says it is' cmp "$W/ca.pem" "$W/state/ca/ca.pem"
ok 'drover ca show' says 'BEGIN CERTIFICATE' drover ca show
drover ca show >"$W/shown.pem"
ok 'has it, too' cmp "$W/ca.pem" "$W/shown.pem"
is "$(drover ca show -o json | jq -r .fingerprint)" \
	"$(openssl x509 -in "$W/ca.pem" -noout -fingerprint -sha256 | cut -d= -f2)" 'with its fingerprint'
is "$(stat -c %a "$W/state/ca/ca.key" /run/drover/net/lab/ghcr.pem | xargs)" '600 600' 'keys are nobody else'\''s'
get() { in_client c1 curl -sSm 10 --cacert "$W/ca.pem" "$@"; }
index() { get -o /dev/null -w '%{http_code} %{ssl_verify_result}' "https://$1/v2/$2/manifests/1" \
	-H 'Accept: application/vnd.oci.image.manifest.v1+json'; }
both() { [ "$(index ghcr.io org/vm) $(index registry-1.docker.io library/vm)" = '200 0 200 0' ]; }
ok 'two at once on 443, each with its certificate' wait_for "$patience" both
ok 'which is of no other name' says 'subject name|SSL' not get https://pkg.ghcr.io/v2/ \
	--resolve pkg.ghcr.io:443:10.77.0.254
is "$(index ghcr.io library/vm | cut -c1-3) $(index docker.io org/vm | cut -c1-3)" '404 404' 'the right images are behind each'
ok 'a plain one' wait_for "$patience" in_client c1 curl -sfm 10 http://quay.io/v2/org/vm/manifests/1 \
	-H 'Accept: application/vnd.oci.image.manifest.v1+json'
pull() { # pull IMAGE DIR
	rm -rf "$W/$2"
	in_client c1 env SSL_CERT_FILE="$W/ca.pem" HOME="$W/home" skopeo --insecure-policy copy \
		"docker://$1" "dir:$W/$2"
}
ok 'skopeo pulls through one' pull ghcr.io/org/vm:1 pulled-ghcr
ok 'and another' pull docker.io/library/vm:1 pulled-hub
from() { for f in "$W/$1"/*; do tar -xzOf "$f" ./etc/from 2>/dev/null; done; }
is "$(from pulled-ghcr) $(from pulled-hub)" 'ghcr hub' 'each from its own'
like "$(get -si 'https://ghcr.io/v2/org/vm/tags/list?n=0' | tr -d '\r' | grep -ci '^http.* 200\|^http.* 4')" 1 'lists are answered'
ok 'nothing is put there' says 405 get -o /dev/null -w '%{http_code}' -X POST https://ghcr.io/v2/org/vm/blobs/uploads/

# ---- nothing else is there ----
socat -u TCP-LISTEN:2222,fork,reuseaddr OPEN:/dev/null &
listener=$!
reaches() { ip netns exec "$1" socat -u OPEN:/dev/null "TCP:$2,connect-timeout=2"; }
ok 'a mirror is reached' reaches c1 10.77.0.254:443
for there in 10.77.0.254:2222 10.77.0.1:2222 10.77.0.1:443 10.77.0.1:80 10.77.0.253:443 10.77.0.254:5000; do
	ok "$there is not" not reaches c1 $there
done
ok 'a client of another network' client c2 "$(bridge_of other)" "$(vm two .mac)"
ok 'has its own mirror' wait_for "$patience" in_client c2 curl -sfm 10 -o /dev/null http://ghcr.io:8080/v2/
ok 'and not that of the first' not reaches c2 10.77.0.254:443

# ---- what is taken away comes back ----
haproxy() { pgrep -f "haproxy -db -f /run/drover/net/$1/mirrors.cfg"; }
old=$(haproxy lab) && kill -9 "$old"
is_new() { local p; p=$(haproxy lab) && [ "$p" != "$1" ]; }
ok 'a haproxy that is killed is back' wait_for "$patience" is_new "$old"
ok 'and serves' wait_for "$patience" both
ip addr del 10.77.0.254/32 dev "$(bridge_of lab)"
ok 'an address that is gone is told of' says 'address 10.77.0.254 of its mirror ghcr is missing|^The networks are' drover net check
ok 'and is back' wait_for "$patience" both

# ---- a droverd later ----
old=$(haproxy lab)
stop_droverd KILL
ok 'without droverd mirrors serve' both
for r in ghcr_origin hub_origin quay_origin; do unregistry $r; done
start_droverd
is "$(haproxy lab)" "$old" 'the next one takes it up'
ok 'and it serves, with the world away' both
networks 'mirror = hub address=10.77.0.6'
ok 'a change, under machines that run' drover reload
told() { [ "$(asks c1 "$1")" = "$2" ]; }
ok 'the rest is the world again' wait_for "$patience" told ghcr.io 198.51.100.9
moved() { [ "$(asks c1 docker.io) $(index docker.io library/vm)" = '10.77.0.6 200 0' ]; }
ok 'one has moved' wait_for "$patience" moved
addresses() { ip -o -4 addr show dev "$(bridge_of lab)" | awk '{ print $4 }' | sort | xargs; }
is "$(addresses)" '10.77.0.1/24 10.77.0.6/32' 'no other address is left'
ok 'nor is it open' not reaches c1 10.77.0.254:443
hub=images.example
networks 'mirror = hub address=10.77.0.6'
ok 'its registry has another host' drover reload
led() { [ "$(asks c1 docker.io) $(asks c1 images.example) $(index images.example library/vm)" = '198.51.100.9 10.77.0.6 200 0' ]; }
ok 'whose name leads there now, with a certificate for it' wait_for "$patience" led
hub=''
stop_droverd KILL
networks
start_droverd
gone() { ! haproxy lab >/dev/null && [ "$(addresses)" = 10.77.0.1/24 ]; }
ok 'what a droverd is not told of any more goes' wait_for "$patience" gone

# ---- a start without the world, and with somebody in the way ----
ok 'droverd leaves, and its machines' stop_droverd
kill $listener
socat -u TCP-LISTEN:443,fork,reuseaddr OPEN:/dev/null &
holder=$!
networks "$three"
start_droverd
problem() { api GET /networks/lab | jq -r .problem; }
ok 'a port that is taken is told of' wait_for "$patience" says 'mirror: 10.77.0.254:443 is taken by another program' problem
kill $holder
ok 'and the network comes when it is free' wait_for "$patience" network_is lab up
ok 'its machine, too' drover start one
ok 'the client again' client_join c1 "$(bridge_of lab)" "$(vm one .mac)"
ok 'has the mirrors, of the same CA' wait_for "$patience" both
ok 'and an image, with the world away' pull ghcr.io/org/vm:1 pulled-again
for c in c1 c2; do ip netns del $c; done
ok 'droverd leaves' stop_droverd
is "$(find "$W/state" /run/drover -name '*.key' -o -name '*.pem' | sort | xargs)" \
	"$W/state/ca/ca.key $W/state/ca/ca.pem" 'no key is left but that of the CA'
audit_clean 'mirrors'
done_testing

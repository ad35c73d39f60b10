# shellcheck shell=bash
# For the tests of drover-image by itself: registries on the loopback, images made of tar files.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
image=$B/drover-image

# run ARGUMENT...: drover-image; its output in $W/out, its exit status in $rc, what an error in the
# last line says in $message and $code.
run() {
	rc=0
	timeout 300 "$image" "$@" >"$W/out" 2>"$W/errout" || rc=$?
	message=$(field message) code=$(field code)
}

field() { tail -n 1 "$W/out" | jq -r ".$1 // empty" 2>/dev/null; } # of the last line of output
events() { jq -r "select(.event == \"$1\") | .event" "$W/out" | wc -l; }
stored() { # stored STORE DIGEST: as it should be
	[ "$(sha256sum <"$1/blobs/sha256/${2#sha256:}")" = "${2#sha256:}  -" ]
}
empty_tmp() { [ -z "$(ls -A "$1/tmp")" ]; }

# registry NAME PORT [PROXY]: serves $W/NAME; PROXY is a line of its configuration.
registry() {
	cat >"$W/$1.yml" <<-END
	version: 0.1
	storage: {filesystem: {rootdirectory: $W/$1}}
	log: {level: error}
	http: {addr: "127.0.0.1:$2"}
	${3-}
	END
	docker-registry serve "$W/$1.yml" >>"$W/$1.log" 2>&1 </dev/null &
	declare -g "pid_$1=$!"
	wait_for "$patience" curl -sf "http://127.0.0.1:$2/v2/" || bail "registry $1: $(<"$W/$1.log")"
}

unregistry() { # unregistry NAME
	local pid=pid_$1
	kill "${!pid}" && wait "${!pid}" 2>/dev/null
	true
}

# make_layout DIR TAR...: an OCI layout of an image for linux/amd64 (or ARCH), one layer a tar.
make_layout() {
	local dir=$1 layers='' ids='' t
	shift
	mkdir -p "$dir/blobs/sha256"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
	for t; do
		ids+=${ids:+,}\"sha256:$(sha256sum <"$t" | cut -d' ' -f1)\"
		gzip -1 -n <"$t" >"$dir/new"
		layers+=${layers:+,}$(layout_put "$dir" application/vnd.oci.image.layer.v1.tar+gzip)
	done
	printf '{"os":"linux","architecture":"%s","rootfs":{"type":"layers","diff_ids":[%s]}}' \
		"${ARCH:-amd64}" "$ids" >"$dir/new"
	t=$(layout_put "$dir" application/vnd.oci.image.config.v1+json)
	printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}' \
		application/vnd.oci.image.manifest.v1+json "$t" "$layers" >"$dir/new"
	t=$(layout_put "$dir" application/vnd.oci.image.manifest.v1+json)
	printf '{"schemaVersion":2,"manifests":[%s,"platform":{"os":"linux","architecture":"%s"}}]}' \
		"${t%\}}" "${ARCH:-amd64}" >"$dir/index.json"
}

# layout_put DIR MEDIATYPE: moves DIR/new among the blobs, prints its descriptor.
layout_put() {
	local digest
	digest=$(sha256sum <"$1/new" | cut -d' ' -f1)
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$digest" \
		"$(stat -c %s "$1/new")"
	mv "$1/new" "$1/blobs/sha256/$digest"
}

push() { "$top/contrib/guest/push-image" "$@" >"$W/push.log" 2>&1 || bail "push: $(<"$W/push.log")"; }

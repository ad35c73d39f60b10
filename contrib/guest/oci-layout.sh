# shellcheck shell=bash
# Writes an OCI image layout (image-spec, image-layout.md) with tar, gzip or zstd, sha256sum and
# printf. Sourced by build-guest. Every byte depends on the input alone: names sorted, times zero,
# owners numeric.

tar_flags=(--format=posix --pax-option='delete=atime,delete=ctime,delete=mtime'
	--sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner)

# layer_tar DIR TAR: packs what is in DIR, as root's.
layer_tar() {
	tar "${tar_flags[@]}" -C "$1" -cf "$2" .
}

sha256() {
	sha256sum "$1" | cut -d' ' -f1
}

# layout_start DIR
layout_start() {
	mkdir -p "$1/blobs/sha256"
	printf '{"imageLayoutVersion":"1.0.0"}\n' >"$1/oci-layout"
}

# layout_add DIR FILE MEDIATYPE [EXTRA]: moves FILE among the blobs and prints its descriptor, with
# the members EXTRA (text that starts with a comma) at its end.
layout_add() {
	local digest size
	digest=$(sha256 "$2")
	size=$(stat -c %s "$2")
	mv "$2" "$1/blobs/sha256/$digest"
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s%s}' "$3" "$digest" "$size" "${4-}"
}

# layout_manifest DIR ARCHITECTURE VERSION COMPRESSION TAR...: adds an image made of these layers,
# first one lowest, and prints the manifest's descriptor. The TARs are used up.
layout_manifest() {
	local dir=$1 arch=$2 version=$3 compression=$4 tmp=$1/tmp
	local tar descriptor layers='' diffs='' history='' media config
	shift 4
	media=application/vnd.oci.image.layer.v1.tar+$compression
	for tar; do
		diffs+="${diffs:+,}\"sha256:$(sha256 "$tar")\""
		history+="${history:+,}{\"created\":\"1970-01-01T00:00:00Z\"}"
		case $compression in
		gzip) gzip -n -3 <"$tar" >"$tmp" ;;
		zstd) zstd -q -3 <"$tar" >"$tmp" ;;
		esac
		rm "$tar"
		descriptor=$(layout_add "$dir" "$tmp" "$media")
		layers+="${layers:+,}$descriptor"
	done
	printf '{"created":"1970-01-01T00:00:00Z","architecture":"%s","os":"linux",%s,%s,%s}' "$arch" \
		'"config":{"Cmd":["/sbin/init"]}' "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diffs]}" \
		"\"history\":[$history]" >"$tmp"
	config=$(layout_add "$dir" "$tmp" application/vnd.oci.image.config.v1+json)
	printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s],"annotations":{%s}}' \
		application/vnd.oci.image.manifest.v1+json "$config" "$layers" \
		"\"org.opencontainers.image.version\":\"$version\"" >"$tmp"
	layout_add "$dir" "$tmp" application/vnd.oci.image.manifest.v1+json \
		",\"platform\":{\"architecture\":\"$arch\",\"os\":\"linux\"}"
}

# layout_finish DIR TAG MANIFEST...: writes the image index of these descriptors, and index.json
# which names it TAG.
layout_finish() {
	local dir=$1 tag=$2 manifests index
	shift 2
	manifests=$(IFS=,; printf '%s' "$*")
	printf '{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' \
		application/vnd.oci.image.index.v1+json "$manifests" >"$dir/tmp"
	index=$(layout_add "$dir" "$dir/tmp" application/vnd.oci.image.index.v1+json \
		",\"annotations\":{\"org.opencontainers.image.ref.name\":\"$tag\"}")
	printf '{"schemaVersion":2,"manifests":[%s]}\n' "$index" >"$dir/index.json"
}

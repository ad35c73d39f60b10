#!/usr/bin/env bash
# fake-ch answers as cloud-hypervisor does: with each status, each body and each event that were
# recorded from the real program (tests/ch-record, tests/data/cloud-hypervisor). The same is asked of
# the real one that DROVER_CLOUD_HYPERVISOR names.
. "$(dirname "$0")/lib.sh"
world_for fakes/fake-ch
export DROVER_PATIENCE=$patience
"$here/nano/build" "$W/nano.elf" || bail 'no nano guest'

# compare check|check-real BINARY FILE WHAT
compare() {
	local line what=$4
	"$top/tests/ch-record" "$1" "$3" "$2" "$W/nano64.elf" >"$W/compared" 2>"$W/compared.err" || :
	while read -r line; do
		case $line in
		'ok '*) pass "$what: ${line#ok * - }" ;;
		'not ok '*) fail "$what: ${line#not ok * - }" "$(grep -A 12 -F -- "$line" "$W/compared")" ;;
		esac
	done <"$W/compared"
	like "$(tail -n 1 "$W/compared")" '^1\.\.[0-9]{2}$' "$what: all scenarios were played" ||
		diag "$(cat "$W/compared.err")"
}

recordings=("$top"/tests/data/cloud-hypervisor/v*.json)
for file in "${recordings[@]}"; do
	compare check "$B/fakes/fake-ch" "$file" "fake $(basename "$file" .json)"
done

real=${DROVER_CLOUD_HYPERVISOR-}
if [ -z "$real" ]; then
	skip 'the real cloud-hypervisor' 'DROVER_CLOUD_HYPERVISOR names none'
elif ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	skip 'the real cloud-hypervisor' '/dev/kvm does not open'
else
	version=$("$real" --version | awk 'NR == 1 { print $2 }')
	file=
	for f in "${recordings[@]}"; do
		[ "$(jq -r .version "$f")" = "$version" ] && file=$f
	done
	if [ -n "$file" ]; then
		compare check-real "$real" "$file" "real $version"
	else
		skip 'the real cloud-hypervisor' "there is no recording of $version"
	fi
fi
done_testing

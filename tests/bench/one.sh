# shellcheck shell=bash
# Sourced by run.
#
# A few machines on real QEMU: memory, the start, stop and kill of one, many starts at once.

# Memory first, each time of a fresh daemon. What it needs once for all machines, the first pays.
progress 'memory'
for n in 0 1 20; do
	machines $n | config
	start_droverd
	for i in $(seq $n); do vm_wait "$(printf 'm%02d' "$i")" paused; done
	sleep 1
	pss >"$W/memory-$n"
	anonymous >"$W/anonymous-$n"
	for i in $(seq $n); do drover kill "$(printf 'm%02d' "$i")" >/dev/null; done
	stop_droverd || bail 'droverd does not end'
	rm -rf "$W/state" && mkdir "$W/state"
done
awk '{ printf "%.3f\n", $1 / 1024 }' "$W/memory-0" >"$W/memory-0.drover"
for kind in memory anonymous; do
	paste "$W/$kind-1" "$W/$kind-20" | awk '{ printf "%.3f\n", ($2 - $1) / 19 }' >"$W/$kind-each.drover"
done

{
	machines $many 'autostart = no'
	cat <<-END
	[network taps]
	cidr = 172.16.0.0/16
	[vm everything]
	template = bench
	network = taps
	jail = yes
	END
} | config
start_droverd
progress "starting each of $many machines once, to have its disk and its command line"
group start $many >/dev/null
for i in $(seq $many); do
	m=$(printf 'm%02d' "$i")
	cp "/proc/$(vm_pid "$m")/cmdline" "$W/$m.cmd"
done
group stop $many >/dev/null
start everything >/dev/null
cp "/proc/$(vm_pid everything)/cmdline" "$W/everything.cmd"
stop everything >/dev/null

peer_rows=''
# shellcheck source=tests/bench/libvirt.sh
. "$top/tests/bench/libvirt.sh"

progress "start, stop and kill of one machine, $rounds rounds"
for _ in $(seq "$rounds"); do
	start m01 | sample start.drover
	stop m01 | sample stop.drover
	"$floor" start "$W/m01.cmd" >"$W/one" || bail 'floor'
	cut -d' ' -f1 "$W/one" | sample start.floor
	cut -d' ' -f2 "$W/one" | sample stop.floor
	start everything | sample everything.drover
	stop everything >/dev/null
	"$floor" start "$W/everything.cmd" | cut -d' ' -f1 | sample everything.floor
	start m01 >/dev/null
	clock kill "$DROVER_SOCKET" m01 "$(vm_pid m01)" hypervisor-crash | sample kill.drover
	"$floor" kill "$W/m01.cmd" | sample kill.floor
	wait_for 10 not vm_is m01 running
	peer_round
done

for n in 20 $many; do
	progress "$n starts at once, $rounds rounds"
	for _ in $(seq "$rounds"); do
		group start $n | sample "start-$n.drover"
		group stop $n >/dev/null
		# shellcheck disable=SC2046
		"$floor" start $(seq -f "$W/m%02.0f.cmd" $n) | cut -d' ' -f1 | sample "start-$n.floor"
		peer_group $n
	done
done
stop_droverd || bail 'droverd does not end'
peer_end

row start ms above 5 "$rounds" 'start request -> QMP ready (no network, no jail)'
row everything ms none 0 "$rounds" 'the same with TAP, dnsmasq, firewall and jail'
row stop ms above 2 "$rounds" 'stop request -> reaped'
row kill ms above 2 "$rounds" 'kill -9 of QEMU -> event; floor: -> its pidfd'
row start-20 ms times 1.15 "$rounds" '20 starts at once'
row start-50 ms times 1.15 "$rounds" '50 starts at once'
row memory-0 MB most 12 1 'memory of droverd (PSS) without machines'
row memory-each KB most 40 1 'more for each machine (20 against 1)'
row anonymous-each KB most 40 1 'the same without what it shares with QEMU'

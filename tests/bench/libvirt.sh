# shellcheck shell=bash
# The peer of the benchmarks: the same machines under libvirt, in the same namespaces. Sourced by
# run; without virsh and libvirtd its functions do nothing.

virsh_() { virsh -q -c qemu:///system "$@"; }

peer_domain() { # peer_domain NAME: the machine m01 as libvirt would have it
	cp "$disk" "$W/peer-$1.raw"
	cat >"$W/peer-$1.xml" <<-END
	<domain type='qemu'>
	  <name>$1</name>
	  <memory unit='MiB'>16</memory>
	  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>$kernel</kernel></os>
	  <features><acpi/></features>
	  <devices>
	    <emulator>$(command -v qemu-system-x86_64)</emulator>
	    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
	      <source file='$W/peer-$1.raw'/><target dev='vda' bus='virtio'/></disk>
	    <serial type='pty'/>
	    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
	    <memballoon model='none'/>
	  </devices>
	</domain>
	END
	virsh_ define "$W/peer-$1.xml"
}

# Starts libvirtd in this world, with its folders in memory, and defines the machines.
peer_begin() {
	[ "${PEER-}" != no ] && command -v virsh >/dev/null && command -v libvirtd >/dev/null || return 1
	local dir
	for dir in /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt; do
		mkdir -p "$dir" && mount -t tmpfs tmpfs "$dir" || return 1
	done
	# Debian's libvirt looks this user up even when it is told to use another one.
	if ! id libvirt-qemu >/dev/null 2>&1; then
		cp /etc/passwd /etc/group "$W"
		echo 'libvirt-qemu:x:64055:64055::/nonexistent:/bin/false' >>"$W/passwd"
		echo 'libvirt-qemu:x:64055:' >>"$W/group"
		echo 'kvm:x:64056:' >>"$W/group"
		mount --bind "$W/passwd" /etc/passwd && mount --bind "$W/group" /etc/group
	fi
	printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\n'\
		'cgroup_controllers = []\n' \
		>/etc/libvirt/qemu.conf
	virtlogd >"$W/virtlogd.log" 2>&1 &
	libvirtd >"$W/libvirtd.log" 2>&1 &
	LIBVIRTD=$!
	wait_for 30 virsh_ list || { diag "no libvirt: $(tail -n 3 "$W/libvirtd.log")"; return 1; }
	sleep 1
	awk '/^Pss:/ { printf "%.3f\n", $2 / 1024 }' "/proc/$LIBVIRTD/smaps_rollup" >"$W/memory-0.peer"
	local i
	for i in $(seq "$many"); do peer_domain "p$i" >/dev/null || return 1; done
	coproc VIRSH { exec virsh -q -c qemu:///system 2>&1; }
	# The coprocess's own descriptors are closed in the parts of a pipeline.
	exec {to_virsh}>&"${VIRSH[1]}" {from_virsh}<&"${VIRSH[0]}"
}

# told TEXT...: gives each line to the one virsh that stays connected, and prints how many
# milliseconds it took until it had done them all. No start of a program is in it.
told() {
	local begin=$EPOCHREALTIME line end
	printf '%s\n' "$@" 'echo all-done' >&"$to_virsh"
	while read -r line <&"$from_virsh"; do
		case $line in
		*all-done) break ;;
		*error*) bail "virsh: $line" ;;
		esac
	done
	end=$EPOCHREALTIME
	echo $(((${end/./} - ${begin/./}))) | awk '{ printf "%.3f\n", $1 / 1000 }'
}

peer_round() {
	[ -n "$peer_rows" ] || return 0
	told 'start --paused p1' | sample start.peer
	told 'destroy p1' | sample stop.peer
}

# One connection does one thing at a time: as many are used as there are machines.
peer_group() { # peer_group N
	[ -n "$peer_rows" ] || return 0
	local i pids=()
	# shellcheck disable=SC2016
	clock exec bash -c 'for i in $(seq "$0"); do
		virsh -q -c qemu:///system start --paused "p$i" & done; wait' "$1" | sample "start-$1.peer"
	for i in $(seq "$1"); do
		virsh_ destroy "p$i" &
		pids+=($!)
	done
	wait "${pids[@]}"
}

peer_end() {
	[ -z "$peer_rows" ] || kill "$LIBVIRTD" "$VIRSH_PID"
}

if peer_begin; then
	peer_rows=yes
	progress 'libvirt takes part'
fi

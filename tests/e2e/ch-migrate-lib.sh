# shellcheck shell=bash
# migrate-lib.sh with a cloud-hypervisor: the fake one, which speaks the real one's migration protocol
# and whose guest holds a lock while it runs. $W/witness.both is there when two have run at once.
nano >/dev/null
kernel64=$B/e2e/nano64.elf
mkdir -p "$W/bin"
ln -sf "$B/fakes/fake-ch" "$W/bin/ch"

# fake DIRECTIVE...: of those that are started from now on.
fake() { printf '%s\n' "witness $W/witness" "$@" >"$W/bin/ch.script"; }
fake

machine() { # machine [LINE...]: [vm m]
	cat <<-END
	[network taps]
	cidr = 172.16.0.0/16
	[vm m]
	hypervisor = cloud-hypervisor
	binary = $W/bin/ch
	kernel = $kernel64
	rootfs = $disk
	memory = 64M
	network = taps
	stop_timeout = 1
	END
	printf '%s\n' "$@"
}
write_a() { machine "$@" | config "$W/a.ini"; }

hypervisors() { pgrep -c -f "^$W/bin/ch " || true; }
both_ran() { [ -e "$W/witness.both" ]; }
frozen() { [ "$(cut -d' ' -f3 "/proc/$1/stat")" = T ]; }

# count VM NUMBER: the guest counts in its memory.
count() {
	wait_for "$patience" vm_is "$1" running || return 1
	printf c | timeout 20 socat - "UNIX-CONNECT:${RUN:-/run/drover}/vm/$1/console.sock" >/dev/null
	wait_for "$patience" console_has "$1" "COUNTER $((10#$2))\\b"
}
touch_memory() { :; }

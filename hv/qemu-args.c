/* hv/qemu-args.c - the command line of QEMU for a machine. Pure, but for the TSC's frequency. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "hv/qemu.h"

/* Numbers of the descriptors in QEMU: the monitor's, the console's, then the agent's and the TAPs'. */
#define FD_MONITOR 3
#define FD_SERIAL  4
#define FD_FIRST   5

#define SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

struct builder {
	const struct hv_spec *spec;
	struct hv_command *cmd;
	bool microvm; /* devices are virtio-mmio, not PCI */
	int next_fd;
};

/* QEMU splits option values at commas; a doubled one stands for itself. Appends to b. */
static void add_value(struct buf *b, const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
		buf_add(b, *p == ',' ? ",," : p, *p == ',' ? 2 : 1);
}

static void add2(struct builder *b, const char *option, const char *value)
{
	strv_add(&b->cmd->argv, option);
	strv_add(&b->cmd->argv, value);
}

/* An option whose value was put together in v, which is emptied. */
static void add_buf(struct builder *b, const char *option, struct buf *v)
{
	add2(b, option, buf_str(v));
	if (v->bad)
		b->cmd->argv.bad = true;
	buf_finish(v);
}

/* Returns the descriptor's number in QEMU, -1 when there is no room. */
static int pass_fd(struct builder *b, int fd)
{
	if (b->cmd->nfds >= HV_FDS_MAX)
		return -1;
	b->cmd->fds[b->cmd->nfds++] = (struct child_fd){ fd, b->next_fd };
	return b->next_fd++;
}

/* "virtio-blk" becomes the device of this machine's bus. */
static void add_device(struct buf *v, const struct builder *b, const char *virtio)
{
	buf_printf(v, "%s-%s", virtio, b->microvm ? "device" : "pci");
}

static void add_name(struct builder *b)
{
	struct buf v = { 0 };

	buf_adds(&v, "guest=");
	add_value(&v, b->spec->name);
	buf_adds(&v, ",process=drover-");
	add_value(&v, b->spec->name);
	buf_adds(&v, ",debug-threads=on");
	add_buf(b, "-name", &v);
	if (b->spec->uuid != NULL)
		add2(b, "-uuid", b->spec->uuid);
}

static void add_machine(struct builder *b, bool use_kvm)
{
	const struct hv_spec *s = b->spec;
	struct strv *argv = &b->cmd->argv;
	struct buf v = { 0 };

	add_value(&v, s->machine != NULL ? s->machine : "q35");
	/* Without ACPI a microvm needs a kernel that takes its devices from the command line. */
	if (b->microvm)
		buf_adds(&v, ",acpi=on");
	buf_adds(&v, ",dump-guest-core=off");
	add_buf(b, "-machine", &v);
	add2(b, "-accel", use_kvm ? "kvm" : "tcg");
	add2(b, "-cpu", s->cpu != NULL ? s->cpu : use_kvm ? "host" : "max");
	strv_add(argv, "-smp");
	strv_addf(argv, "cpus=%u", s->vcpus > 0 ? s->vcpus : 1);
	strv_add(argv, "-m");
	strv_addf(argv, "size=%lluM", (unsigned long long)s->memory_mib);
	add2(b, "-rtc", "base=utc");
	if (s->reboot_is_exit)
		add2(b, "-action", "reboot=shutdown");
	if (s->watchdog != NULL) {
		strv_add(argv, "-action");
		strv_addf(argv, "watchdog=%s",
			s->watchdog_action != NULL ? s->watchdog_action : "reset");
	}
	if (s->panic_device && !b->microvm) {
		strv_add(argv, "-action");
		strv_addf(argv, "panic=%s", s->panic_is_pause ? "pause" : "none");
	}
	if (s->start_paused || s->restore_dir != NULL)
		strv_add(argv, "-S");
	if (s->restore_dir != NULL)
		add2(b, "-incoming", "defer");
}

static void add_kernel(struct builder *b, bool use_kvm)
{
	const struct hv_spec *s = b->spec;
	const char *cmdline = s->cmdline != NULL ? s->cmdline : "";

	if (s->kernel == NULL)
		return;
	/* These three are taken whole: nothing is split at commas. */
	add2(b, "-kernel", s->kernel);
	if (s->initrd != NULL)
		add2(b, "-initrd", s->initrd);
	/*
	 * A microvm has no timer against which Linux could calibrate the TSC, and under TCG nothing
	 * tells it the frequency, which is the host's: it would hang.
	 */
	strv_add(&b->cmd->argv, "-append");
	if (b->microvm && !use_kvm && s->tsc_khz > 0 && strstr(cmdline, "tsc_early_khz=") == NULL)
		strv_addf(&b->cmd->argv, "%s%stsc_early_khz=%u", cmdline,
			*cmdline != '\0' ? " " : "", s->tsc_khz);
	else
		strv_add(&b->cmd->argv, cmdline);
}

/* Both sockets listen already. QEMU waits for the console's client, so that no byte is lost. */
static void add_sockets(struct builder *b)
{
	struct strv *argv = &b->cmd->argv;

	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=mon0,fd=%d,server=on,wait=off", FD_MONITOR);
	add2(b, "-mon", "chardev=mon0,mode=control");
	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=serial0,fd=%d,server=on,wait=on", FD_SERIAL);
	add2(b, "-serial", "chardev:serial0");
}

static void add_rng(struct builder *b)
{
	struct buf v = { 0 };

	add2(b, "-object", "rng-builtin,id=rng0-source");
	add_device(&v, b, "virtio-rng");
	buf_adds(&v, ",id=rng0,rng=rng0-source");
	add_buf(b, "-device", &v);
}

/* The socket listens already; the guest's end need not be open for it. */
static int add_agent(struct builder *b, int agent_fd, struct err *err)
{
	int fd = pass_fd(b, agent_fd);
	struct buf v = { 0 };

	if (fd < 0)
		return err_set(err, -E2BIG, "no descriptor is left for the guest agent");
	strv_add(&b->cmd->argv, "-chardev");
	strv_addf(&b->cmd->argv, "socket,id=agent0,fd=%d,server=on,wait=off", fd);
	add_device(&v, b, "virtio-serial");
	buf_adds(&v, ",id=agent0-bus");
	add_buf(b, "-device", &v);
	/* The name by which the agent finds its port (QEMU, qga/main.c). */
	add2(b, "-device",
		"virtserialport,bus=agent0-bus.0,chardev=agent0,id=agent0-port,"
		"name=org.qemu.guest_agent.0");
	return 0;
}

static int add_watchdog(struct builder *b, struct err *err)
{
	const char *device = b->spec->watchdog;
	struct buf v = { 0 };

	if (device == NULL)
		return 0;
	if (b->microvm)
		return err_set(err, -ENOTSUP,
			"a microvm has no bus for the watchdog %s: use machine = q35 or pc",
			quote(device));
	add_value(&v, device);
	buf_adds(&v, ",id=watchdog0");
	add_buf(b, "-device", &v);
	return 0;
}

/* Nodes diskN-file and diskN, device diskN. */
static void add_disk(struct builder *b, const struct hv_disk *d, size_t i)
{
	const char *ro = d->readonly ? ",read-only=on" : ",discard=unmap";
	struct buf v = { 0 };

	buf_printf(&v, "driver=%s,node-name=disk%zu-file,locking=on%s,filename=",
		str_starts(d->path, "/dev/") ? "host_device" : "file", i, ro);
	add_value(&v, d->path);
	add_buf(b, "-blockdev", &v);

	buf_printf(&v, "driver=%s,node-name=disk%zu%s,file=disk%zu-file",
		d->format == HV_DISK_QCOW2 ? "qcow2" : "raw", i, ro, i);
	add_buf(b, "-blockdev", &v);

	add_device(&v, b, "virtio-blk");
	buf_printf(&v, ",id=disk%zu,drive=disk%zu", i, i);
	if (d->serial != NULL) {
		buf_adds(&v, ",serial=");
		add_value(&v, d->serial);
	}
	add_buf(b, "-device", &v);
}

static int add_nic(struct builder *b, const struct hv_nic *n, struct err *err)
{
	struct buf v = { 0 };
	int fd;

	if (n->tap_fd < 0)
		return 0;
	fd = pass_fd(b, n->tap_fd);
	if (fd < 0)
		return err_set(err, -E2BIG, "more than %d nics", HV_FDS_MAX - 2);
	buf_adds(&v, "tap,id=");
	add_value(&v, n->id);
	buf_printf(&v, "-tap,fd=%d%s", fd, n->vhost ? ",vhost=on" : "");
	add_buf(b, "-netdev", &v);

	add_device(&v, b, "virtio-net");
	buf_adds(&v, ",id=");
	add_value(&v, n->id);
	buf_adds(&v, ",netdev=");
	add_value(&v, n->id);
	buf_adds(&v, "-tap");
	if (n->mac != NULL) {
		buf_adds(&v, ",mac=");
		add_value(&v, n->mac);
	}
	/* Direct kernel boot needs no network boot ROM, whose loading takes time. */
	if (!b->microvm && b->spec->kernel != NULL)
		buf_adds(&v, ",romfile=");
	add_buf(b, "-device", &v);
	return 0;
}

int qemu_arguments(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
	bool use_kvm, struct hv_command *out, struct err *err)
{
	struct hv_command cmd = { 0 };
	struct builder b = { .spec = spec,
		.cmd = &cmd,
		.microvm = str_eq(spec->machine, "microvm"),
		.next_fd = FD_FIRST };
	int r = 0;

	cmd.fds[cmd.nfds++] = (struct child_fd){ monitor_fd, FD_MONITOR };
	cmd.fds[cmd.nfds++] = (struct child_fd){ serial_fd, FD_SERIAL };
	strv_add(&cmd.argv, spec->binary);
	add_name(&b);
	strv_add(&cmd.argv, "-no-user-config");
	strv_add(&cmd.argv, "-nodefaults");
	add2(&b, "-display", "none");
	if (spec->sandbox)
		add2(&b, "-sandbox", SANDBOX);
	add_machine(&b, use_kvm);
	add_kernel(&b, use_kvm);
	add_sockets(&b);
	add_rng(&b);
	if (spec->agent)
		r = add_agent(&b, agent_fd, err);
	if (r == 0)
		r = add_watchdog(&b, err);
	if (r == 0 && spec->panic_device && !b.microvm)
		add2(&b, "-device", "pvpanic,id=panic0");
	for (size_t i = 0; i < spec->ndisks && r == 0; i++)
		add_disk(&b, &spec->disks[i], i);
	for (size_t i = 0; i < spec->nnics && r == 0; i++)
		r = add_nic(&b, &spec->nics[i], err);
	for (size_t i = 0; spec->extra_args != NULL && spec->extra_args[i] != NULL; i++)
		strv_add(&cmd.argv, spec->extra_args[i]);
	if (r == 0 && cmd.argv.bad)
		r = err_nomem(err);
	if (r < 0) {
		hv_command_finish(&cmd);
		return r;
	}
	*out = cmd;
	return 0;
}

bool qemu_wants_tsc(const struct hv_spec *spec)
{
	return str_eq(spec->machine, "microvm") && spec->kernel != NULL && spec->tsc_khz == 0;
}

#if defined(__x86_64__)

/* The frequency from the processor (leaf 15h) or from the hypervisor under us (40000010h). */
static unsigned cpuid_khz(void)
{
	unsigned a, b, c, d, max = __get_cpuid_max(0, NULL);

	if (max >= 0x15) {
		__cpuid(0x15, a, b, c, d);
		if (a != 0 && b != 0 && c != 0)
			return (unsigned)((uint64_t)c * b / a / 1000);
	}
	__cpuid(1, a, b, c, d);
	if (c & (1u << 31)) {
		__cpuid(0x40000000, max, b, c, d);
		if (max >= 0x40000010) {
			__cpuid(0x40000010, a, b, c, d);
			return a;
		}
	}
	return 0;
}

static uint64_t raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

unsigned qemu_host_tsc_khz(void)
{
	static unsigned khz;
	uint64_t ns, tsc;

	if (khz == 0)
		khz = cpuid_khz();
	if (khz == 0) {
		/* Two milliseconds, once for the program, give it to about 0.01 per cent. */
		ns = raw_ns();
		tsc = __rdtsc();
		while (raw_ns() - ns < 2000000)
			;
		tsc = __rdtsc() - tsc;
		ns = raw_ns() - ns;
		khz = (unsigned)(tsc * 1000000 / ns);
	}
	return khz;
}

#else

unsigned qemu_host_tsc_khz(void)
{
	return 0;
}

#endif

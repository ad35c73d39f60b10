/* Machine, processors, memory and firmware on QEMU's command line: hv/qemu-args.h. */
#include <string.h>

#include "hv/qemu-args.h"

/*
 * The name that the board itself gives the guest's memory: a state that was saved with its own
 * memory is loaded by one with a backend, and the other way round.
 */
static const char *ram_id(const struct qemu_args *b)
{
	return b->microvm ? "microvm.ram" : b->virt ? "mach-virt.ram" : "pc.ram";
}

static bool has_backend(const struct hv_spec *s)
{
	return s->hugepages || s->memory_shared || s->memory_file != NULL;
}

static bool has_flash(const struct hv_spec *s)
{
	return s->firmware != NULL && s->firmware_vars != NULL;
}

static const char *format_of(const char *path)
{
	const char *dot = strrchr(path, '.');

	return str_eq(dot, ".qcow2") ? "qcow2" : "raw";
}

/* Nodes NAME-file and NAME. */
static void add_flash(struct qemu_args *b, const char *name, const char *path, bool readonly)
{
	const char *ro = readonly ? ",read-only=on" : "";
	struct buf v = { 0 };

	buf_printf(&v, "driver=file,node-name=%s-file%s,filename=", name, ro);
	args_value(&v, path);
	args_add_buf(b, "-blockdev", &v);
	buf_printf(&v, "driver=%s,node-name=%s%s,file=%s-file", format_of(path), name, ro, name);
	args_add_buf(b, "-blockdev", &v);
}

/* Code that is shared by all machines and variables of its own; or one file that is both. */
static void add_firmware(struct qemu_args *b)
{
	const struct hv_spec *s = b->spec;

	if (has_flash(s)) {
		add_flash(b, "firmware", s->firmware, true);
		add_flash(b, "vars", s->firmware_vars, false);
		/* The variables can be written in system management mode alone (edk2,
		 * OvmfPkg/README, "SMM support"; it does not work with S3). */
		if (s->secure_boot) {
			args_add(b, "-global", "driver=cfi.pflash01,property=secure,value=on");
			args_add(b, "-global", "ICH9-LPC.disable_s3=1");
		}
	} else if (s->firmware != NULL) {
		args_add(b, "-bios", s->firmware);
	}
}

static void add_machine(struct qemu_args *b, bool use_kvm)
{
	const struct hv_spec *s = b->spec;
	struct buf v = { 0 };

	args_value(&v, s->machine != NULL ? s->machine : "q35");
	/* Without ACPI a microvm needs a kernel that takes its devices from the command line. */
	if (b->microvm)
		buf_adds(&v, ",acpi=on");
	/* The oldest interrupt controller, which is virt's default, has eight processors at most. */
	if (b->virt)
		buf_adds(&v, ",gic-version=max");
	buf_adds(&v, ",dump-guest-core=off");
	if (s->secure_boot)
		buf_adds(&v, ",smm=on");
	if (has_backend(s))
		buf_printf(&v, ",memory-backend=%s", ram_id(b));
	if (has_flash(s))
		buf_adds(&v, ",pflash0=firmware,pflash1=vars");
	args_add_buf(b, "-machine", &v);
	args_add(b, "-accel", use_kvm ? "kvm" : "tcg");
	args_add(b, "-cpu", s->cpu != NULL ? s->cpu : use_kvm ? "host" : "max");
}

static void add_processors(struct qemu_args *b)
{
	const struct hv_spec *s = b->spec;
	unsigned n = s->vcpus > 0 ? s->vcpus : 1;
	struct buf v = { 0 };

	buf_printf(&v, "cpus=%u", n);
	if (s->vcpus_max > n)
		buf_printf(&v, ",maxcpus=%u", s->vcpus_max);
	if (s->sockets > 0)
		buf_printf(&v, ",sockets=%u", s->sockets);
	if (s->cores > 0)
		buf_printf(&v, ",cores=%u", s->cores);
	if (s->threads > 0)
		buf_printf(&v, ",threads=%u", s->threads);
	args_add_buf(b, "-smp", &v);
}

/* The property by which the backend keeps the board's name is libvirt's way, too (qemu_command.c). */
static void add_backend(struct qemu_args *b)
{
	const struct hv_spec *s = b->spec;
	bool file = s->memory_file != NULL;
	struct buf v = { 0 };

	buf_printf(&v,
		"memory-backend-%s,id=%s,x-use-canonical-path-for-ramblock-id=off,size=%lluM",
		file ? "file" : "memfd", ram_id(b), (unsigned long long)s->memory_mib);
	if (file) {
		buf_adds(&v, ",mem-path=");
		args_value(&v, s->memory_file);
	} else if (s->hugepages) {
		buf_adds(&v, ",hugetlb=on");
	}
	buf_printf(&v, ",share=%s",
		file ? (s->memory_private ? "off" : "on") : (s->memory_shared ? "on" : "off"));
	args_add_buf(b, "-object", &v);
}

/* How many times memory can be added. */
#define MEMORY_SLOTS 16

static void add_memory(struct qemu_args *b)
{
	const struct hv_spec *s = b->spec;
	struct buf v = { 0 };

	buf_printf(&v, "size=%lluM", (unsigned long long)s->memory_mib);
	if (s->memory_max_mib > s->memory_mib)
		buf_printf(&v, ",slots=%d,maxmem=%lluM", MEMORY_SLOTS,
			(unsigned long long)s->memory_max_mib);
	args_add_buf(b, "-m", &v);
	if (has_backend(s))
		add_backend(b);
}

/* What a guest's own doings do to it. */
static void add_actions(struct qemu_args *b)
{
	const struct hv_spec *s = b->spec;
	struct strv *argv = &b->cmd->argv;

	if (s->reboot_is_exit)
		args_add(b, "-action", "reboot=shutdown");
	if (s->watchdog != NULL) {
		strv_add(argv, "-action");
		strv_addf(argv, "watchdog=%s",
			s->watchdog_action != NULL ? s->watchdog_action : "reset");
	}
	if (s->panic_device && !b->microvm) {
		strv_add(argv, "-action");
		strv_addf(argv, "panic=%s", s->panic_is_pause ? "pause" : "none");
	}
	if (s->start_paused || s->restore_dir != NULL || s->incoming)
		strv_add(argv, "-S");
	if (s->restore_dir != NULL || s->incoming)
		args_add(b, "-incoming", "defer");
}

void args_board(struct qemu_args *b, bool use_kvm)
{
	add_machine(b, use_kvm);
	add_processors(b);
	add_memory(b);
	add_firmware(b);
	args_add(b, "-rtc", "base=utc");
	add_actions(b);
}

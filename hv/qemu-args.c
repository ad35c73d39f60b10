/* The command line of QEMU for a machine: hv/qemu-args.h. Pure. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-args.h"

/* Numbers of the descriptors in QEMU: the monitor's, the console's, then the agent's and the TAPs'. */
#define FD_MONITOR 3
#define FD_SERIAL  4
#define FD_FIRST   5

#define SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

void args_value(struct buf *v, const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
		buf_add(v, *p == ',' ? ",," : p, *p == ',' ? 2 : 1);
}

void args_add(struct qemu_args *b, const char *option, const char *value)
{
	strv_add(&b->cmd->argv, option);
	strv_add(&b->cmd->argv, value);
}

void args_add_buf(struct qemu_args *b, const char *option, struct buf *v)
{
	args_add(b, option, buf_str(v));
	if (v->bad)
		b->cmd->argv.bad = true;
	buf_finish(v);
}

int args_pass_fd(struct qemu_args *b, int fd)
{
	if (b->cmd->nfds >= HV_FDS_MAX)
		return -1;
	b->cmd->fds[b->cmd->nfds++] = (struct child_fd){ fd, b->next_fd };
	return b->next_fd++;
}

void args_device(struct buf *v, const struct qemu_args *b, const char *virtio)
{
	buf_printf(v, "%s-%s", virtio, b->microvm ? "device" : "pci");
}

static void add_name(struct qemu_args *b)
{
	struct buf v = { 0 };

	buf_adds(&v, "guest=");
	args_value(&v, b->spec->name);
	buf_adds(&v, ",process=drover-");
	args_value(&v, b->spec->name);
	buf_adds(&v, ",debug-threads=on");
	args_add_buf(b, "-name", &v);
	if (b->spec->uuid != NULL)
		args_add(b, "-uuid", b->spec->uuid);
}

static void add_kernel(struct qemu_args *b, bool use_kvm)
{
	const struct hv_spec *s = b->spec;
	const char *cmdline = s->cmdline != NULL ? s->cmdline : "";

	if (s->kernel == NULL)
		return;
	/* These three are taken whole: nothing is split at commas. */
	args_add(b, "-kernel", s->kernel);
	if (s->initrd != NULL)
		args_add(b, "-initrd", s->initrd);
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
static void add_sockets(struct qemu_args *b)
{
	struct strv *argv = &b->cmd->argv;

	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=mon0,fd=%d,server=on,wait=off", FD_MONITOR);
	args_add(b, "-mon", "chardev=mon0,mode=control");
	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=serial0,fd=%d,server=on,wait=on", FD_SERIAL);
	args_add(b, "-serial", "chardev:serial0");
}

static void add_rng(struct qemu_args *b)
{
	struct buf v = { 0 };

	args_add(b, "-object", "rng-builtin,id=rng0-source");
	args_device(&v, b, "virtio-rng");
	buf_adds(&v, ",id=rng0,rng=rng0-source");
	args_add_buf(b, "-device", &v);
}

/* The socket listens already; the guest's end need not be open for it. */
static int add_agent(struct qemu_args *b, int agent_fd, struct err *err)
{
	int fd = args_pass_fd(b, agent_fd);
	struct buf v = { 0 };

	if (fd < 0)
		return err_set(err, -E2BIG, "no descriptor is left for the guest agent");
	strv_add(&b->cmd->argv, "-chardev");
	strv_addf(&b->cmd->argv, "socket,id=agent0,fd=%d,server=on,wait=off", fd);
	args_device(&v, b, "virtio-serial");
	buf_adds(&v, ",id=agent0-bus");
	args_add_buf(b, "-device", &v);
	/* The name by which the agent finds its port (QEMU, qga/main.c). */
	args_add(b, "-device",
		"virtserialport,bus=agent0-bus.0,chardev=agent0,id=agent0-port,"
		"name=org.qemu.guest_agent.0");
	return 0;
}

static int add_watchdog(struct qemu_args *b, struct err *err)
{
	const char *device = b->spec->watchdog;
	struct buf v = { 0 };

	if (device == NULL)
		return 0;
	if (b->microvm)
		return err_set(err, -ENOTSUP,
			"a microvm has no bus for the watchdog %s: use machine = q35 or pc",
			quote(device));
	args_value(&v, device);
	buf_adds(&v, ",id=watchdog0");
	args_add_buf(b, "-device", &v);
	return 0;
}

static int add_nic(struct qemu_args *b, const struct hv_nic *n, struct err *err)
{
	struct buf v = { 0 };
	int fd;

	if (n->user != NULL) {
		args_user_net(b, n);
	} else {
		if (n->tap_fd < 0)
			return 0;
		fd = args_pass_fd(b, n->tap_fd);
		if (fd < 0)
			return err_set(err, -E2BIG, "more than %d nics", HV_FDS_MAX - 2);
		buf_adds(&v, "tap,id=");
		args_value(&v, n->id);
		buf_printf(&v, "-tap,fd=%d%s", fd, n->vhost ? ",vhost=on" : "");
		args_add_buf(b, "-netdev", &v);
	}

	args_device(&v, b, "virtio-net");
	buf_adds(&v, ",id=");
	args_value(&v, n->id);
	buf_adds(&v, ",netdev=");
	args_value(&v, n->id);
	buf_adds(&v, "-tap");
	if (n->mac != NULL) {
		buf_adds(&v, ",mac=");
		args_value(&v, n->mac);
	}
	if (n->mtu != 0)
		buf_printf(&v, ",host_mtu=%u", n->mtu);
	/* What does not boot from the network needs no ROM for that, whose loading takes time. */
	if (n->boot_index > 0)
		buf_printf(&v, ",bootindex=%u", n->boot_index);
	else if (!b->microvm)
		buf_adds(&v, ",romfile=");
	args_add_buf(b, "-device", &v);
	return 0;
}

int qemu_arguments(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
	bool use_kvm, struct hv_command *out, struct err *err)
{
	struct hv_command cmd = { 0 };
	struct qemu_args b = { .spec = spec,
		.cmd = &cmd,
		.microvm = str_eq(spec->machine, "microvm"),
		.virt = str_eq(spec->machine, "virt"),
		.next_fd = FD_FIRST };
	int r = 0;

	cmd.fds[cmd.nfds++] = (struct child_fd){ monitor_fd, FD_MONITOR };
	cmd.fds[cmd.nfds++] = (struct child_fd){ serial_fd, FD_SERIAL };
	strv_add(&cmd.argv, spec->binary);
	add_name(&b);
	strv_add(&cmd.argv, "-no-user-config");
	strv_add(&cmd.argv, "-nodefaults");
	args_display(&b);
	if (spec->sandbox)
		args_add(&b, "-sandbox", SANDBOX);
	args_board(&b, use_kvm);
	add_kernel(&b, use_kvm);
	add_sockets(&b);
	add_rng(&b);
	if (spec->agent)
		r = add_agent(&b, agent_fd, err);
	if (r == 0)
		r = add_watchdog(&b, err);
	if (r == 0 && spec->panic_device && !b.microvm)
		args_add(&b, "-device", b.virt ? "pvpanic-pci,id=panic0" : "pvpanic,id=panic0");
	if (r == 0)
		r = args_disks(&b, err);
	for (size_t i = 0; i < spec->nnics && r == 0; i++)
		r = add_nic(&b, &spec->nics[i], err);
	if (r == 0)
		r = args_devices(&b, err);
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

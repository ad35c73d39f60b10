/* Disks and what else is plugged into a machine, on QEMU's command line: hv/qemu-args.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-args.h"

static const char *no_bus(struct qemu_args *b)
{
	return b->microvm ? "a microvm has no bus for it: use machine = q35" : NULL;
}

/* ---- disks ---- */

/* Nodes ID-base-file and ID-base: said, and not taken from what the header says of it. */
static void add_backing(struct qemu_args *b, const struct hv_disk *d, const char *id)
{
	struct buf v = { 0 };

	buf_printf(&v, "driver=file,node-name=%s-base-file,read-only=on,filename=", id);
	args_value(&v, d->backing);
	args_add_buf(b, "-blockdev", &v);
	buf_printf(&v, "driver=raw,node-name=%s-base,read-only=on,file=%s-base-file", id, id);
	args_add_buf(b, "-blockdev", &v);
}

/* Nodes ID-file and ID. */
static void add_nodes(struct qemu_args *b, const struct hv_disk *d, const char *id)
{
	const char *ro = d->readonly || d->cdrom ? ",read-only=on" : ",discard=unmap";
	struct buf v = { 0 };

	buf_printf(&v, "driver=%s,node-name=%s-file,locking=on%s,filename=",
		str_starts(d->path, "/dev/") ? "host_device" : "file", id, ro);
	args_value(&v, d->path);
	args_add_buf(b, "-blockdev", &v);

	if (d->backing != NULL)
		add_backing(b, d, id);
	buf_printf(&v, "driver=%s,node-name=%s%s,file=%s-file",
		d->format == HV_DISK_QCOW2 ? "qcow2" : "raw", id, ro, id);
	if (d->backing != NULL)
		buf_printf(&v, ",backing=%s-base", id);
	args_add_buf(b, "-blockdev", &v);
}

/* On AHCI or IDE, which every firmware and installer knows; virt has only what is plugged in. */
static void add_cdrom(struct qemu_args *b, struct buf *v, const char *id)
{
	if (b->virt) {
		strv_add(&b->cmd->argv, "-device");
		strv_addf(&b->cmd->argv, "virtio-scsi-pci,id=%s-bus", id);
		buf_printf(v, "scsi-cd,bus=%s-bus.0,id=%s,drive=%s", id, id, id);
	} else {
		buf_printf(v, "ide-cd,id=%s,drive=%s", id, id);
	}
}

static int add_disk(struct qemu_args *b, const struct hv_disk *d, size_t i, struct err *err)
{
	struct buf v = { 0 };
	char place[32];
	const char *id = d->id;

	snprintf(place, sizeof(place), "disk%zu", i);
	if (id == NULL)
		id = place;
	if (d->cdrom && no_bus(b) != NULL)
		return err_set(err, -ENOTSUP, "cdrom: %s", no_bus(b));
	add_nodes(b, d, id);
	if (d->cdrom) {
		add_cdrom(b, &v, id);
	} else {
		args_device(&v, b, "virtio-blk");
		buf_printf(&v, ",id=%s,drive=%s", id, id);
	}
	if (d->serial != NULL) {
		buf_adds(&v, ",serial=");
		args_value(&v, d->serial);
	}
	if (d->boot_index > 0)
		buf_printf(&v, ",bootindex=%u", d->boot_index);
	args_add_buf(b, "-device", &v);
	return 0;
}

int args_disks(struct qemu_args *b, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < b->spec->ndisks && r == 0; i++)
		r = add_disk(b, &b->spec->disks[i], i, err);
	return r;
}

/* ---- the rest ---- */

/* Ports into which devices can be plugged while the guest runs: a root bus takes none. */
static int add_slots(struct qemu_args *b, struct err *err)
{
	if (b->spec->hotplug_slots == 0)
		return 0;
	if (b->microvm || str_eq(b->spec->machine, "pc"))
		return err_set(err, -ENOTSUP, "hotplug: %s has no PCI Express: use machine = q35",
			b->microvm ? "a microvm" : "machine = pc");
	for (unsigned i = 0; i < b->spec->hotplug_slots; i++) {
		strv_add(&b->cmd->argv, "-device");
		strv_addf(&b->cmd->argv, "pcie-root-port,id=hp%u,chassis=%u", i, i + 1);
	}
	return 0;
}

static int add_balloon(struct qemu_args *b, struct err *err)
{
	struct buf v = { 0 };

	if (!b->spec->balloon)
		return 0;
	args_device(&v, b, "virtio-balloon");
	/* A guest in need takes back what it gave away, rather than killing its processes. */
	buf_adds(&v, ",id=balloon0,deflate-on-oom=on");
	args_add_buf(b, "-device", &v);
	return 0;
}

static int add_vsock(struct qemu_args *b, struct err *err)
{
	struct buf v = { 0 };

	if (b->spec->vsock_cid == 0)
		return 0;
	args_device(&v, b, "vhost-vsock");
	buf_printf(&v, ",id=vsock0,guest-cid=%u", b->spec->vsock_cid);
	args_add_buf(b, "-device", &v);
	return 0;
}

static int add_tpm(struct qemu_args *b, struct err *err)
{
	struct buf v = { 0 };

	if (b->spec->tpm_socket == NULL)
		return 0;
	if (no_bus(b) != NULL)
		return err_set(err, -ENOTSUP, "tpm: %s", no_bus(b));
	buf_adds(&v, "socket,id=tpm0-socket,path=");
	args_value(&v, b->spec->tpm_socket);
	args_add_buf(b, "-chardev", &v);
	args_add(b, "-tpmdev", "emulator,id=tpm0-emulator,chardev=tpm0-socket");
	strv_add(&b->cmd->argv, "-device");
	strv_addf(&b->cmd->argv, "%s,id=tpm0,tpmdev=tpm0-emulator",
		b->virt ? "tpm-tis-device" : "tpm-crb");
	return 0;
}

static int add_shares(struct qemu_args *b, struct err *err)
{
	for (size_t i = 0; i < b->spec->nshares; i++) {
		const struct hv_share *s = &b->spec->shares[i];
		struct buf v = { 0 };

		if (!b->spec->memory_shared)
			return err_set(err, -EINVAL,
				"share %s: the guest's memory is not shared with virtiofsd",
				quote(s->tag));
		buf_printf(&v, "socket,id=share%zu-socket,path=", i);
		args_value(&v, s->socket);
		args_add_buf(b, "-chardev", &v);
		args_device(&v, b, "vhost-user-fs");
		buf_printf(&v, ",id=share%zu,chardev=share%zu-socket,tag=", i, i);
		args_value(&v, s->tag);
		args_add_buf(b, "-device", &v);
	}
	return 0;
}

/* A picture, and something to point and type with; pc and q35 have a keyboard of their own. */
static int add_screen(struct qemu_args *b, struct err *err)
{
	if (b->spec->vnc == NULL)
		return 0;
	if (no_bus(b) != NULL)
		return err_set(err, -ENOTSUP, "display: %s", no_bus(b));
	args_add(b, "-device", b->virt ? "virtio-gpu-pci,id=video0" : "VGA,id=video0");
	if (b->virt)
		args_add(b, "-device", "virtio-keyboard-pci,id=keyboard0");
	args_add(b, "-device", "virtio-tablet-pci,id=tablet0");
	return 0;
}

void args_display(struct qemu_args *b)
{
	struct buf v = { 0 };

	args_add(b, "-display", "none");
	if (b->spec->vnc == NULL)
		return;
	buf_adds(&v, "unix:");
	args_value(&v, b->spec->vnc);
	args_add_buf(b, "-vnc", &v);
}

int args_devices(struct qemu_args *b, struct err *err)
{
	static int (*const add[])(struct qemu_args * b, struct err * err) = { add_balloon,
		add_vsock, add_tpm, add_shares, add_screen, add_slots };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(add) && r == 0; i++)
		r = add[i](b, err);
	return r;
}

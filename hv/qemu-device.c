/* hv/qemu-device.c - disks and nics that come and go while QEMU runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-args.h"
#include "hv/qemu-row.h"

/*
 * Where a PCI device can come at run time: q35's and virt's own bus takes none, their root ports
 * take one each (QEMU, docs/pcie.txt, "Hot-plug"; hotplug_slots of the spec makes these). On pc it is the bus
 * that devices without a word come to.
 */
static const char *const ports[] = { "hp15", "hp14", "hp13", "hp12", "hp11", "hp10", "hp9", "hp8",
	"hp7", "hp6", "hp5", "hp4", "hp3", "hp2", "hp1", "hp0", NULL };
#define PORTS (ARRAY_LEN(ports) - 1)

/* A device that is already there keeps its id in QEMU; so do its nodes. */
struct names {
	char *file, *format, *netdev, *fd;
};

static void names_finish(struct names *n)
{
	free(n->file);
	free(n->format);
	free(n->netdev);
	free(n->fd);
}

static bool names_make(struct names *n, const char *id)
{
	n->file = str_printf("%s-file", id);
	n->format = strdup(id);
	n->netdev = str_printf("%s-tap", id);
	/* The passthrough keeps names with this beginning for us. */
	n->fd = str_printf("drover-%s", id);
	return n->file != NULL && n->format != NULL && n->netdev != NULL && n->fd != NULL;
}

void qemu_device_caps(struct qemu *q, const struct hv_spec *spec)
{
	bool microvm = str_eq(spec->machine, "microvm"), pc = str_eq(spec->machine, "pc");
	size_t n = MIN(spec->hotplug_slots, PORTS);

	q->buses = pc ? NULL : &ports[PORTS - n];
	for (enum hv_cap cap = HV_CAP_ADD_DISK; cap <= HV_CAP_ADD_NIC; cap++)
		q->hv.caps.why_not[cap] =
			microvm ? "a microvm has no bus that devices can be added to while it runs"
			: !pc && n == 0 ? "it has no slots for devices: hotplug_slots is 0"
					: NULL;
}

static void run(struct qemu_row *row, struct names *n, bool named, hv_done_fn *done, void *arg)
{
	struct err err;

	names_finish(n);
	if (row == NULL) {
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	if (!named)
		qemu_row_add(row, NULL, NULL);
	qemu_row_run(row);
}

void qemu_add_disk(struct hv *hv, const struct hv_disk *d, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_row *row = qemu_row_new(q, done, arg);
	struct names n = { 0 };
	bool named = names_make(&n, d->id);
	const char *driver = str_starts(d->path, "/dev/") ? "host_device" : "file";
	const char *discard = d->readonly ? "ignore" : "unmap";
	json_t *device;

	if (row == NULL || !named) {
		run(row, &n, named, done, arg);
		return;
	}
	qemu_row_add(row, "blockdev-add",
		json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "driver", driver, "node-name", n.file,
			"filename", d->path, "locking", "on", "read-only", d->readonly, "discard",
			discard));
	qemu_row_undo(row, "blockdev-del", json_pack("{s:s}", "node-name", n.file));
	qemu_row_add(row, "blockdev-add",
		json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver",
			d->format == HV_DISK_QCOW2 ? "qcow2" : "raw", "node-name", n.format, "file",
			n.file, "read-only", d->readonly, "discard", discard));
	qemu_row_undo(row, "blockdev-del", json_pack("{s:s}", "node-name", n.format));
	device = json_pack(
		"{s:s, s:s, s:s}", "driver", "virtio-blk-pci", "id", d->id, "drive", n.format);
	if (d->serial != NULL)
		json_object_set_new(device, "serial", json_string(d->serial));
	qemu_row_add(row, "device_add", device);
	if (q->buses != NULL)
		qemu_row_buses(row, q->buses);
	run(row, &n, named, done, arg);
}

void qemu_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_row *row = qemu_row_new(q, done, arg);
	struct names n = { 0 };
	bool named = names_make(&n, nic->id);
	json_t *device;

	if (row == NULL || !named) {
		run(row, &n, named, done, arg);
		return;
	}
	if (nic->user != NULL) {
		qemu_row_add(row, "netdev_add", qemu_user_netdev(nic->user, n.netdev));
	} else {
		qemu_row_add(row, "getfd", json_pack("{s:s}", "fdname", n.fd));
		qemu_row_fd(row, nic->tap_fd);
		/* netdev_add takes the name away, unless it fails. */
		qemu_row_undo(row, "closefd", json_pack("{s:s}", "fdname", n.fd));
		qemu_row_add(row, "netdev_add",
			json_pack("{s:s, s:s, s:s, s:b}", "type", "tap", "id", n.netdev, "fd", n.fd,
				"vhost", nic->vhost));
	}
	qemu_row_undo(row, "netdev_del", json_pack("{s:s}", "id", n.netdev));
	device = json_pack("{s:s, s:s, s:s, s:s}", "driver", "virtio-net-pci", "id", nic->id,
		"netdev", n.netdev, "romfile", "");
	if (nic->mac != NULL)
		json_object_set_new(device, "mac", json_string(nic->mac));
	if (nic->mtu != 0)
		json_object_set_new(device, "host_mtu", json_integer(nic->mtu));
	qemu_row_add(row, "device_add", device);
	if (q->buses != NULL)
		qemu_row_buses(row, q->buses);
	run(row, &n, named, done, arg);
}

void qemu_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_row *row = qemu_row_new(q, done, arg);
	struct names n = { 0 };
	bool named = names_make(&n, id);

	if (row == NULL || !named) {
		run(row, &n, named, done, arg);
		return;
	}
	qemu_row_add(row, "device_del", json_pack("{s:s}", "id", id));
	qemu_row_until_gone(row, id);
	/* What the device used goes only now: before, the guest could still write to it. */
	if (str_starts(id, "nic")) {
		qemu_row_add(row, "netdev_del", json_pack("{s:s}", "id", n.netdev));
	} else {
		qemu_row_add(row, "blockdev-del", json_pack("{s:s}", "node-name", n.format));
		qemu_row_add(row, "blockdev-del", json_pack("{s:s}", "node-name", n.file));
	}
	run(row, &n, named, done, arg);
}

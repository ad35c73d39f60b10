/* Disks, boot order and what else a machine has, for its hypervisor: supervisor/machine-steps.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "oci/overlay.h"
#include "supervisor/machine-steps.h"

#define DEV_VHOST_NET "/dev/vhost-net"

/* The key's words. */
enum {
	VHOST_AUTO,
	VHOST_YES,
	VHOST_NO
};

/* The first disk, the volumes, the CD-ROM. */
static int set_disks(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err)
{
	size_t n = 0;
	int r = machine_volumes(m, hold->volumes, &hold->nvolumes, err);

	if (r < 0)
		return err_wrap(err, "volume");
	if (m->disk_path != NULL) {
		enum hv_disk_format format = machine_disk_format(m);

		/* One that runs has it open, whatever has become of its name. */
		if (format == HV_DISK_QCOW2 && m->left.pid == 0)
			r = overlay_base(m->disk_path, &hold->base, err);
		if (r < 0)
			return err_wrap(err, "disk");
		hold->disks[n++] = (struct hv_disk){
			.path = m->disk_path, .format = format, .backing = hold->base
		};
	}
	for (size_t i = 0; i < hold->nvolumes; i++) {
		const struct volume *v = &hold->volumes[i];

		hold->disks[n++] = (struct hv_disk){ .path = v->path,
			.format = v->format,
			.readonly = v->readonly,
			.serial = v->serial[0] != '\0' ? v->serial : NULL };
	}
	if (m->run_cfg->cdrom != NULL)
		hold->disks[n++] = (struct hv_disk){
			.id = "cdrom0", .path = m->run_cfg->cdrom, .readonly = true, .cdrom = true
		};
	spec->disks = hold->disks;
	spec->ndisks = n;
	return 0;
}

static struct boot_order order_of(const struct machine *m, const struct hv_spec *spec)
{
	struct boot_order o = { .n = 0 };

	if (m->run_cfg->boot != NULL && boot_order_parse(&o, m->run_cfg->boot, NULL) == 0)
		return o;
	if (m->kernel_path != NULL)
		return o;
	if (spec->ndisks > 0) {
		o.v[o.n++] = BOOT_DISK;
		o.v[o.n++] = BOOT_CDROM;
	} else {
		o.v[o.n++] = BOOT_NETWORK;
	}
	return o;
}

/* Firmware tries them one after the other; those without an index only where it likes to. */
static void set_boot_order(struct machine *m, const struct hv_spec *spec, struct spec_hold *hold)
{
	struct boot_order o = order_of(m, spec);
	unsigned index = 0;

	for (size_t i = 0; i < o.n; i++) {
		for (size_t k = 0; k < spec->ndisks && o.v[i] != BOOT_NETWORK; k++)
			if (hold->disks[k].cdrom == (o.v[i] == BOOT_CDROM))
				hold->disks[k].boot_index = ++index;
		for (size_t k = 0; k < spec->nnics && o.v[i] == BOOT_NETWORK; k++)
			hold->nics[k].boot_index = ++index;
	}
}

bool machine_vhost(const struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	char why[128];

	if (cfg->vhost == VHOST_NO || !str_eq(cfg->hypervisor, "qemu"))
		return false;
	if (cfg->vhost == VHOST_YES)
		return true;
	/* Without KVM each interrupt of its would go through QEMU all the same. */
	return access(DEV_VHOST_NET, R_OK | W_OK) == 0 && cfg->accel != HV_ACCEL_TCG &&
	       cfg->arch == ARCH_X86_64 &&
	       hv_kvm_usable("/dev/kvm", "/proc/cpuinfo", why, sizeof(why));
}

int machine_check_vhost(const struct machine *m, struct err *err)
{
	if (m->run_cfg->vhost != VHOST_YES || access(DEV_VHOST_NET, R_OK | W_OK) == 0)
		return 0;
	return err_set(err, -errno,
		"vhost = yes: " DEV_VHOST_NET
		": %s; `modprobe vhost_net` makes it, where the host's kernel has that module",
		strerror(errno));
}

int machine_spec_hardware(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	int r = set_disks(m, spec, hold, err);

	if (r < 0)
		return r;
	set_boot_order(m, spec, hold);
	spec->firmware = m->firmware_path;
	spec->firmware_vars = m->vars_path;
	spec->secure_boot = cfg->secure_boot;
	spec->vcpus_max = (unsigned)cfg->vcpus_max;
	spec->sockets = (unsigned)cfg->sockets;
	spec->cores = (unsigned)cfg->cores;
	spec->threads = (unsigned)cfg->threads;
	spec->memory_max_mib = cfg->memory_max >> 20;
	spec->hugepages = cfg->hugepages;
	spec->memory_shared = cfg->memory_shared || cfg->shares.n > 0;
	spec->hotplug_slots = (unsigned)cfg->hotplug_slots;
	spec->balloon = cfg->balloon;
	return machine_spec_helpers(m, spec, hold, err);
}

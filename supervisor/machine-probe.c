/* Whether the hypervisor's program can do what is asked of it: supervisor/machine-steps.h. */
#include <errno.h>
#include <stdlib.h>

#include "hv/qemu-probe.h"
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/machine-steps.h"

static bool wants_tpm(const struct vm_config *cfg)
{
	return cfg->tpm;
}

static bool wants_shares(const struct vm_config *cfg)
{
	return cfg->shares.n > 0;
}

static bool wants_vsock(const struct vm_config *cfg)
{
	return cfg->vsock != NULL && !str_eq(cfg->vsock, "none");
}

static bool wants_screen(const struct vm_config *cfg)
{
	return cfg->display == DISPLAY_VNC;
}

static bool wants_slots(const struct vm_config *cfg)
{
	return cfg->hotplug_slots > 0;
}

/* What is built into every QEMU is not asked for. */
static const struct {
	const char *key, *device, *on_virt;
	bool (*wanted)(const struct vm_config *cfg);
} devices[] = {
	{ "tpm", "tpm-crb", "tpm-tis-device", wants_tpm },
	{ "share", "vhost-user-fs-device", "vhost-user-fs-device", wants_shares },
	{ "vsock", "vhost-vsock-device", "vhost-vsock-device", wants_vsock },
	{ "display", "VGA", "virtio-gpu-pci", wants_screen },
	{ "hotplug_slots", "pcie-root-port", "pcie-root-port", wants_slots },
};

static bool needs_probe(const struct vm_config *cfg)
{
	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		if (devices[i].wanted(cfg))
			return true;
	return cfg->machine == BOARD_MICROVM || cfg->machine == BOARD_VIRT;
}

static int check(const struct machine *m, const struct qemu_probe *p, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	const char *board = machine_board_name(cfg);

	if (!qemu_probe_has(p, QEMU_MACHINES, board))
		return err_set(err, -ENOTSUP, "QEMU %s has no machine type %s",
			qemu_probe_version_text(p), board);
	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		const char *device = cfg->machine == BOARD_VIRT ? devices[i].on_virt
								: devices[i].device;

		if (devices[i].wanted(cfg) && !qemu_probe_has(p, QEMU_DEVICES, device))
			return err_set(err, -ENOTSUP, "%s: QEMU %s was built without %s",
				devices[i].key, qemu_probe_version_text(p), device);
	}
	return 0;
}

static void probed(void *arg, const struct qemu_probe *p, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;
	int r = 0;

	m->attaching = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	/* What cannot be asked may still run: its own words then say what it lacks. */
	if (p == NULL)
		log_msg(LOG_LVL_INFO, m->name, "%s (ignoring)", err->msg);
	else
		r = check(m, p, &mine);
	machine_start_next(m, r < 0 ? &mine : NULL);
}

void machine_step_probe(struct machine *m)
{
	struct qemu_prober *prober = m->d->prober;
	char *binary = NULL;
	struct err err;
	int r = 0;

	if (prober != NULL && needs_probe(m->run_cfg) && str_eq(m->run_cfg->hypervisor, "qemu"))
		r = machine_binary(m, &binary, &err);
	if (r == 0 && binary != NULL) {
		const struct qemu_probe *p = qemu_prober_known(prober, binary);

		if (p == NULL) {
			m->attaching = true;
			qemu_prober_ask(prober, binary, probed, m);
			free(binary);
			return;
		}
		r = check(m, p, &err);
	}
	free(binary);
	machine_start_next(m, r < 0 ? &err : NULL);
}

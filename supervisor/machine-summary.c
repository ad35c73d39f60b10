/* A machine as the API's list shows it: supervisor/machine.h, supervisor/routes.h. */
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/json-add.h"
#include "supervisor/health.h"
#include "supervisor/machine-shown.h"
#include "supervisor/machine-space.h"
#include "supervisor/network-values.h"
#include "supervisor/network.h"
#include "supervisor/network6.h"

bool machine_address(const struct machine *m, unsigned nic, char out[16])
{
	uint32_t address;

	if (nic >= m->nnics || !network_guest_address(&m->nics[nic], &address))
		return false;
	ip4_format(address, out);
	return true;
}

/* It was to begin with a warm template's memory, and has booted. */
static bool is_cold(const struct machine *m)
{
	return m->cfg != NULL && m->cfg->from != NULL && m->process && !m->warm_load &&
	       m->warm_note != NULL;
}

static bool is_degraded(const struct machine *m)
{
	if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
		return false;
	if (m->degraded != NULL)
		return true;
	for (unsigned i = 0; i < m->nnics; i++) {
		if (network_service_down(m->d, &m->nics[i]))
			return true;
	}
	return false;
}

/* Somebody deleted a TAP under the hypervisor, and it could not be attached to another one. */
static bool is_network_lost(const struct machine *m)
{
	for (unsigned i = 0; m->process && i < m->nnics; i++) {
		if (m->nics[i].lost)
			return true;
	}
	return false;
}

static void add_conditions(const struct machine *m, struct buf *b)
{
	const struct {
		bool holds;
		const char *name;
	} all[] = {
		{ m->process && m->hv != NULL && hv_unresponsive(m->hv), "unresponsive" },
		{ m->deferred != NULL, "restart-pending" },
		{ m->save_failed || m->sync_error < 0, "unsaved" },
		{ m->process && m->no_cgroup, "no-cgroup" },
		{ machine_space_full(m), "nospace" },
		{ machine_space_failed(m), "io-error" },
		{ is_network_lost(m), "network-lost" },
		{ machine_is_frozen(m), "frozen" },
		{ is_cold(m), "cold-start" },
		{ is_degraded(m), "degraded" },
		{ m->health != NULL && !health_ready(m->health), "not-ready" },
		{ m->health != NULL && health_state(m->health) == HEALTH_UNHEALTHY, "unhealthy" },
	};

	json_add_open(b, "conditions", '[');
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i].holds)
			json_add_str(b, NULL, all[i].name);
	}
	buf_add(b, "]", 1);
}

static void add_image(const struct machine *m, struct buf *b)
{
	const struct vm_config *cfg = machine_shown_config(m);
	const char *rootfs = cfg != NULL ? cfg->rootfs : machine_applied_key(m, "rootfs");
	const char *kernel = cfg != NULL ? cfg->kernel : machine_applied_key(m, "kernel");

	json_add_str(b, "image", rootfs != NULL && rootfs[0] != '\0' ? rootfs : kernel);
}

static void add_first_nic(const struct machine *m, struct buf *b)
{
	const struct vm_config *cfg = machine_shown_config(m);
	const struct nic *nic = m->nnics > 0 ? &m->nics[0] : NULL;
	struct nic_spec spec = { .network = "" };
	const char *network = NULL;
	char address[16], address6[IP6_TEXT];

	if (nic != NULL)
		network = nic->network;
	else if (cfg != NULL && cfg->networks.n > 0 &&
		 nic_spec_parse(cfg->networks.v[0], &spec, NULL) == 0)
		network = spec.network;

	json_add_str(b, "address", machine_address(m, 0, address) ? address : NULL);
	json_add_str(b, "address6",
		nic != NULL && network6_guest_address(nic, address6) ? address6 : NULL);
	json_add_str(b, "mac", nic != NULL && nic->mac[0] != '\0' ? nic->mac : NULL);
	json_add_str(b, "network", network);
}

static void add_operation(const struct machine *m, struct buf *b)
{
	json_t *j = m->op != NULL ? operation_json(m->op) : json_null();
	char *text = json_text(j);

	json_add_key(b, "operation");
	if (text != NULL)
		buf_adds(b, text);
	else
		b->bad = true;
	free(text);
	json_decref(j);
}

/* Without a tree: a list of 500 would spend most of its time on making and freeing it. */
void machine_add_summary(const struct machine *m, struct buf *b)
{
	const struct vm_config *cfg = machine_shown_config(m);
	const struct hv_process *p = m->process && m->hv != NULL ? hv_process(m->hv) : NULL;

	json_add_open(b, NULL, '{');
	json_add_str(b, "name", m->name);
	json_add_str(b, "state", machine_shown_state(m));
	add_conditions(m, b);
	json_add_str(b, "hypervisor",
		cfg != NULL ? cfg->hypervisor : machine_applied_key(m, "hypervisor"));
	if (p != NULL && p->pid > 0)
		json_add_int(b, "pid", p->pid);
	else
		json_add_str(b, "pid", NULL);
	add_first_nic(m, b);
	add_image(m, b);
	if (machine_is_up(m))
		json_add_int(b, "uptime_s", (int64_t)(clock_mono_ms() - m->up_mono_ms) / 1000);
	else
		json_add_str(b, "uptime_s", NULL);
	json_add_int(b, "restarts", m->restarts);
	json_add_str(b, "last_cause", cause_name(m->last_cause));
	add_operation(m, b);
	buf_add(b, "}", 1);
}

json_t *machine_summary(const struct machine *m)
{
	struct buf text = { 0 };
	json_t *j = NULL;

	machine_add_summary(m, &text);
	if (!text.bad && json_parse(text.data, text.len, &j, NULL) < 0)
		j = NULL;
	buf_finish(&text);
	return j;
}

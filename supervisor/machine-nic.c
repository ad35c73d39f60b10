/*
 * Nics that come to a running machine and go again: supervisor/machine.h.
 *
 * What is begun is in the state file first, as the nic's stage. A daemon that finds one half there
 * takes it away again, and one that the guest does not let go of stays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/alloc.h"
#include "supervisor/faults.h"
#include "supervisor/machine-steps.h"
#include "supervisor/network.h"
#include "supervisor/network-tap.h"
#include "supervisor/service.h"

/* One being added or removed; of the machine, m->nic_job. */
struct nic_job {
	unsigned i;
	bool host;      /* the network's part is under way: its callback comes whatever happens */
	bool adopting;  /* begun by an earlier daemon; nobody waits for it */
	bool removing;  /* as asked, and not because it could not be added */
	struct err err; /* why it could not be added */
};

static const char *nic_point(size_t i)
{
	static const char *const points[] = { "attach", "plug", "added", "unplug", "release",
		"removed" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table nic_faults = { "nic", nic_point,
	FAULT_BIT(0) | FAULT_BIT(1) | FAULT_BIT(3) };

static const char *const stages[] = { [NIC_CONFIGURED] = NULL,
	[NIC_ADDING] = "adding",
	[NIC_ADDED] = "added",
	[NIC_REMOVING] = "removing" };

const char *nic_stage_name(enum nic_stage s)
{
	return stages[s];
}

enum nic_stage nic_stage_from_name(const char *name)
{
	for (size_t s = 0; name != NULL && s < ARRAY_LEN(stages); s++)
		if (stages[s] != NULL && strcmp(stages[s], name) == 0)
			return (enum nic_stage)s;
	return NIC_CONFIGURED;
}

unsigned machine_added_nics(const struct machine *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->nnics; i++)
		n += m->nics[i].stage != NIC_CONFIGURED;
	return n;
}

bool machine_nic_holds(const struct machine *m)
{
	return m->nic_job != NULL && m->nic_job->host;
}

/* Its place is free again. */
static void forget(struct machine *m, unsigned i)
{
	struct nic *nic = &m->nics[i];

	network_close_tap(nic);
	network_tap_forget(nic);
	service_destroy(nic->dnsmasq);
	free(nic->network);
	*nic = (struct nic){ .tap_fd = -1 };
	while (m->nnics > 0 && m->nics[m->nnics - 1].network == NULL)
		m->nnics--;
}

void machine_forget_nics(struct machine *m)
{
	for (unsigned i = m->nnics; i-- > 0;)
		if (m->nics[i].stage != NIC_CONFIGURED)
			forget(m, i);
}

void machine_nic_lost(struct machine *m)
{
	free(m->nic_job);
	m->nic_job = NULL;
}

static int start_job(struct machine *m, unsigned i, bool removing, struct err *err)
{
	m->nic_job = calloc(1, sizeof(*m->nic_job));
	if (m->nic_job == NULL)
		return err_nomem(err);
	m->nic_job->i = i;
	m->nic_job->removing = removing;
	return 0;
}

static void adopt_next(struct machine *m);

/* The only exit. What the operation's verb was is in m->asked. */
static void job_done(struct machine *m, const struct err *err)
{
	struct nic_job *job = m->nic_job;
	bool adopting = job->adopting;
	struct err mine;

	if (err != NULL)
		mine = *err;
	m->nic_job = NULL;
	free(job);
	machine_save_soon(m);
	if (!adopting)
		machine_asked(m, err != NULL ? &mine : NULL);
	/* The run has ended meanwhile, and its end has waited for this. */
	if (m->state == MACHINE_STOPPING)
		machine_begin_teardown(m);
	else if (adopting)
		adopt_next(m);
}

/* ---- the host's side goes ---- */

static void released(void *arg)
{
	struct machine *m = arg;
	struct nic_job *job = m->nic_job;
	struct err err = job->err;
	char network[NAME_LEN_MAX + 1];

	job->host = false;
	m->attaching = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	snprintf(network, sizeof(network), "%s", m->nics[job->i].network);
	if (job->removing)
		machine_tell(m, "nic-removed", "nic%u, of %s", job->i, network);
	forget(m, job->i);
	machine_save_soon(m);
	machine_flush(m);
	fault_at("nic", "removed", NULL);
	job_done(m, err.code < 0 ? &err : NULL);
}

static void release(struct machine *m)
{
	struct nic *nic = &m->nics[m->nic_job->i];

	fault_at("nic", "release", NULL);
	network_close_tap(nic);
	network_tap_forget(nic);
	m->nic_job->host = m->attaching = true;
	objects_release_tap(m->d, m->owner, nic->tap, released, m);
}

/* ---- in ---- */

static void plugged(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct nic_job *job = m->nic_job;
	struct nic *nic = &m->nics[job->i];

	network_close_tap(nic);
	if (err != NULL) {
		job->err = *err;
		release(m);
		return;
	}
	nic->stage = NIC_ADDED;
	machine_tell(m, "nic-added", "nic%u, on %s", job->i, nic->network);
	machine_save_soon(m);
	machine_flush(m);
	fault_at("nic", "added", NULL);
	job_done(m, NULL);
}

static void attached(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct nic_job *job = m->nic_job;
	struct nic *nic = &m->nics[job->i];
	struct hv_user_net user = { .nforwards = 0 };
	char id[8];
	struct hv_nic hv_nic = { .id = id,
		.mac = nic->mac,
		.tap_fd = nic->tap_fd,
		.vhost = machine_vhost(m),
		.tap = nic->macvtap ? NULL : nic->tap,
		.mtu = network_mtu(m, nic) };
	struct err mine;

	job->host = false;
	m->attaching = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	if (err == NULL && (!m->process || m->hv == NULL || m->state == MACHINE_STOPPING)) {
		err_set(&mine, -ECANCELED, "the run has ended");
		err = &mine;
	} else if (err == NULL && fault_at("nic", "plug", &mine) < 0) {
		err = &mine;
	}
	if (err != NULL) {
		job->err = *err;
		release(m);
		return;
	}
	if (nic->user && network_user_spec(m, nic, &user, &mine) < 0) {
		job->err = mine;
		release(m);
		return;
	}
	if (nic->user)
		hv_nic.user = &user;
	snprintf(id, sizeof(id), "nic%u", job->i);
	hv_add_nic(m->hv, &hv_nic, plugged, m);
	free(user.forwards);
}

static bool mac_is_good(const char *mac)
{
	for (size_t i = 0; i < 17; i++) {
		bool colon = i % 3 == 2;

		if (colon ? mac[i] != ':' : strchr("0123456789abcdef", mac[i]) == NULL)
			return false;
		if (mac[i] == '\0')
			return false;
	}
	/* A group's address is nobody's. */
	return mac[17] == '\0' && strchr("02468ace", mac[1]) != NULL &&
	       strcmp(mac, "00:00:00:00:00:00") != 0;
}

/* Two of one MAC would be one guest to dnsmasq and to a bridge. */
static int check_mac(const struct machine *m, const char *mac, struct err *err)
{
	const struct machine *other;

	if (!mac_is_good(mac))
		return err_set(err, -EINVAL,
			"%s is no MAC of a nic: six pairs of lower-case hex digits with : between, the first even",
			quote(mac));
	list_for_each_entry (other, &m->d->machines, entry)
		for (unsigned i = 0; i < other->nnics; i++)
			if (strcmp(other->nics[i].mac, mac) == 0)
				return err_set(err, -EEXIST, "%s is the MAC of nic%u of vm %s", mac,
					i, other->name);
	return 0;
}

static int check_nic(const struct machine *m, const json_t *nic, struct err *err)
{
	const char *network = json_str(nic, "network"), *mac = json_str(nic, "mac"), *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)nic, key, value) {
		if (strcmp(key, "network") != 0 && strcmp(key, "mac") != 0)
			return err_set(err, -EINVAL, "a nic has no %s", quote(key));
		if (!json_is_string(value) && !json_is_null(value))
			return err_set(err, -EINVAL, "\"%s\" is not a string", key);
	}
	if (network == NULL)
		return err_set(err, -EINVAL, "a nic needs a \"network\"");
	if (config_network(drover_config(m->d), network) == NULL)
		return err_set(err, -EINVAL, "there is no network %s", quote(network));
	return mac != NULL ? check_mac(m, mac, err) : 0;
}

/* The lowest number that is free, or NICS_MAX. */
static unsigned choose_number(const struct machine *m)
{
	unsigned i = 0;

	while (i < m->nnics && m->nics[i].network != NULL)
		i++;
	return i;
}

static int describe(struct machine *m, unsigned i, const json_t *j, struct err *err)
{
	const char *run_id = drover_config(m->d)->drover->run_id, *mac = json_str(j, "mac");
	struct nic nic = {
		.network = strdup(json_str(j, "network")), .tap_fd = -1, .stage = NIC_ADDING
	};

	if (nic.network == NULL)
		return err_nomem(err);
	alloc_mac(run_id, m->name, i, nic.mac);
	alloc_tap_name(run_id, m->name, i, nic.tap);
	if (mac != NULL)
		snprintf(nic.mac, sizeof(nic.mac), "%s", mac);
	m->nics[i] = nic;
	m->nnics = MAX(m->nnics, i + 1);
	return 0;
}

/* With an operation it is busy anyway; this is what an earlier daemon had begun. */
static int not_twice(const struct machine *m, struct err *err)
{
	if (m->nic_job == NULL || m->op != NULL)
		return 0;
	return err_set(err, -EBUSY, "vm %s: nic%u is being taken away", m->name, m->nic_job->i);
}

int machine_add_nic(struct machine *m, const json_t *j, struct operation **op, struct err *err)
{
	unsigned i = choose_number(m);
	int r = check_nic(m, j, err);

	*op = NULL;
	if (r == 0 && i >= NICS_MAX)
		r = err_set(err, -ENOSPC, "it has %d nics already", NICS_MAX);
	if (r < 0)
		return err_wrap(err, "vm %s", m->name);
	r = not_twice(m, err);
	if (r == 0)
		r = machine_begin_asking(m, "add-nic", HV_CAP_ADD_NIC, op, err);
	if (r < 0)
		return r;
	r = start_job(m, i, false, err);
	if (r == 0)
		r = describe(m, i, j, err);
	if (r == 0)
		r = fault_at("nic", "attach", err);
	if (r < 0) {
		if (i < m->nnics && m->nics[i].stage == NIC_ADDING)
			forget(m, i);
		machine_nic_lost(m);
		err_wrap(err, "vm %s", m->name);
		machine_end_op(m, err);
		return r;
	}
	m->nic_job->host = m->attaching = true;
	/* Its first steps write down what it is to be. */
	network_attach(m, i, attached, m);
	return 0;
}

/* ---- out ---- */

static void unplugged(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct nic_job *job = m->nic_job;
	struct nic *nic = &m->nics[job->i];
	struct err mine;

	/* It is not there (any more). */
	if (err == NULL || err->code == -ENOENT) {
		release(m);
		return;
	}
	if (job->adopting) {
		log_msg(LOG_LVL_WARN, m->name, "nic%u stays: %s", job->i, err->msg);
		if (network_adopt_nic(m, nic, &mine) < 0)
			log_msg(LOG_LVL_ERROR, m->name, "%s (the reconciler tries it again)",
				mine.msg);
	}
	nic->stage = NIC_ADDED;
	job_done(m, err);
}

/* The number of one that was added; -1: there is no such. */
static int find(const struct machine *m, const char *id)
{
	char name[8];

	for (unsigned i = 0; i < m->nnics; i++) {
		snprintf(name, sizeof(name), "nic%u", i);
		if (m->nics[i].network != NULL && str_eq(name, id))
			return (int)i;
	}
	return -1;
}

int machine_remove_nic(struct machine *m, const char *id, struct operation **op, struct err *err)
{
	int i = find(m, id), r;

	*op = NULL;
	if (i < 0)
		return err_set(err, -ENOENT, "vm %s: it has no nic %s (`drover nic list %s`)",
			m->name, quote(id), m->name);
	if (m->nics[i].stage == NIC_CONFIGURED)
		return err_set(err, -EINVAL,
			"vm %s: %s is in its configuration; only a nic that was added can be removed while it runs",
			m->name, id);
	r = not_twice(m, err);
	if (r == 0)
		r = machine_begin_asking(m, "remove-nic", HV_CAP_ADD_NIC, op, err);
	if (r < 0)
		return r;
	r = start_job(m, (unsigned)i, true, err);
	if (r == 0)
		r = fault_at("nic", "unplug", err);
	if (r < 0) {
		machine_nic_lost(m);
		err_wrap(err, "vm %s", m->name);
		machine_end_op(m, err);
		return r;
	}
	m->nics[i].stage = NIC_REMOVING;
	machine_save_soon(m);
	machine_flush(m);
	operation_step(m->op, "waiting for the guest to let go of it");
	hv_remove_device(m->hv, id, unplugged, m);
	return 0;
}

/* ---- what was half done ---- */

static void adopt_next(struct machine *m)
{
	struct err err;
	char id[8];

	if (m->hv == NULL || !m->process || m->nic_job != NULL)
		return;
	for (unsigned i = 0; i < m->nnics; i++) {
		if (m->nics[i].stage != NIC_ADDING && m->nics[i].stage != NIC_REMOVING)
			continue;
		if (start_job(m, i, true, &err) < 0) {
			log_msg(LOG_LVL_ERROR, m->name, "nic%u: %s (ignoring)", i, err.msg);
			return;
		}
		m->nic_job->adopting = true;
		snprintf(id, sizeof(id), "nic%u", i);
		hv_remove_device(m->hv, id, unplugged, m);
		return;
	}
}

void machine_nics_adopt(struct machine *m)
{
	adopt_next(m);
}

/* Whether a machine can migrate, and what the target is told of it: supervisor/migrate.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "netcfg/alloc.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"
#include "supervisor/migrate.h"
#include "supervisor/migrate-disks.h"
#include "supervisor/network-values.h"
#include "supervisor/snapshot.h"

/* ---- at the source ---- */

/* copies: what lies in its folder is copied. */
static int check_volumes(const struct machine *m, bool copies, struct err *err)
{
	for (size_t i = 0; i < m->run_cfg->volumes.n; i++) {
		struct volume v;
		bool own, fixed;

		if (volume_parse(&v, m->run_cfg->volumes.v[i], err) < 0)
			return err->code;
		own = v.name != NULL;
		fixed = v.readonly;
		volume_finish(&v);
		if (own && !copies)
			return err_set(err, -ENOTSUP,
				"vm %s: its volume %s lies in its folder here, which the other host "
				"does not share (--copy-disks copies it)",
				m->name, quote(m->run_cfg->volumes.v[i]));
		if (own && fixed)
			return err_set(err, -ENOTSUP,
				"vm %s: its volume %s is read only, and cannot be copied while it runs",
				m->name, quote(m->run_cfg->volumes.v[i]));
	}
	return 0;
}

static int check_config(const struct machine *m, bool copies, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;

	if (cfg->shares.n > 0)
		return err_set(err, -ENOTSUP, "vm %s: it shares folders of this host", m->name);
	if (cfg->tpm)
		return err_set(
			err, -ENOTSUP, "vm %s: its TPM keeps its secrets on this host", m->name);
	if (cfg->ephemeral)
		return err_set(err, -ENOTSUP,
			"vm %s: it is ephemeral: its disks would be thrown away here", m->name);
	if (cfg->warm || cfg->from != NULL)
		return err_set(err, -ENOTSUP, "vm %s: the memory that %s is a file of this host",
			m->name, cfg->warm ? "others begin with" : "it began with");
	if (m->suspended || m->restore != NULL)
		return machine_wrong_state(m, "migrate", err);
	return check_volumes(m, copies, err);
}

int migrate_check_source(const struct machine *m, bool copies, struct err *err)
{
	if (m->op != NULL)
		return machine_busy(m, err);
	if ((m->out != NULL && !m->out->kept) || m->in != NULL)
		return err_set(
			err, -EBUSY, "vm %s: its last migration is not settled yet", m->name);
	if (m->job != NULL)
		return err_set(
			err, -EBUSY, "vm %s: its last operation is coming to its end", m->name);
	if (m->cfg == NULL || m->run_cfg == NULL || m->state != MACHINE_RUNNING)
		return machine_wrong_state(m, "migrate", err);
	if (hv_can(m->hv, HV_CAP_MIGRATE, err) < 0 ||
		(copies && hv_can(m->hv, HV_CAP_COPY_DISKS, err) < 0))
		return err_wrap(err, "vm %s", m->name);
	return job_check_run(m, err) < 0 ? err->code : check_config(m, copies, err);
}

static bool names_others(const struct config_key *key)
{
	return strcmp(key->name, "after") == 0;
}

void migrate_section(const struct vm_config *cfg, const char *name, struct buf *out)
{
	config_print_section(&cfg->s, name, names_others, out);
}

static bool mac_is_set(const struct machine *m, unsigned i)
{
	struct nic_spec spec;

	return i < m->run_cfg->networks.n &&
	       nic_spec_parse(m->run_cfg->networks.v[i], &spec, NULL) == 0 && spec.mac[0] != '\0';
}

static json_t *networks(const struct machine *m)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < m->nnics; i++) {
		const struct nic *nic = &m->nics[i];
		json_t *j = json_object();
		char net[19], address[16];

		ip4_prefix_format(nic->net, net);
		ip4_format(nic->address, address);
		json_put_str(j, "network", nic->network);
		json_put_str(j, "mac", nic->mac);
		json_put_bool(j, "mac_is_set", mac_is_set(m, i));
		json_put_str(j, "subnet", nic->net.len != 0 ? net : NULL);
		json_put_str(j, "address", nic->address != 0 ? address : NULL);
		json_array_append_new(array, j);
	}
	return array;
}

static void add_disk(json_t *array, const char *id, const char *path, enum hv_disk_format format)
{
	json_t *j = json_object();

	json_put_str(j, "id", id);
	json_put_str(j, "path", path);
	json_put_str(j, "format_here", disk_format_name(format));
	json_array_append_new(array, j);
}

static int disks(const struct machine *m, bool copies, json_t *array, struct err *err)
{
	struct volume all[VOLUMES_MAX];
	unsigned place = 0;
	size_t n = 0;
	int r = machine_volumes(m, all, &n, err);

	if (m->disk_path != NULL && copies && r == 0)
		migrate_add_copy(array, place, NULL, machine_disk_format(m), m->disk_path);
	else if (m->disk_path != NULL)
		add_disk(array, "disk0", m->disk_path, machine_disk_format(m));
	place += m->disk_path != NULL;
	for (size_t i = 0; i < n && r == 0; i++, place++) {
		char id[16];

		snprintf(id, sizeof(id), "volume%zu", i);
		if (all[i].name == NULL)
			add_disk(array, id, all[i].path, all[i].format);
		else
			migrate_add_copy(array, place, all[i].name, all[i].format, all[i].path);
	}
	while (n > 0)
		volume_finish(&all[--n]);
	return r;
}

json_t *migrate_prepare_json(const struct machine *m, const char *via, bool copies, struct err *err)
{
	json_t *j = json_object(), *array = json_array();
	struct buf section = { 0 };
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	migrate_section(m->run_cfg, m->name, &section);
	json_put_str(j, "name", m->name);
	json_put_str(j, "from", host[0] != '\0' ? host : "another host");
	json_put_str(j, "section", buf_str(&section));
	json_put_str(j, "via", via);
	json_put_str(j, "program", hv_caps(m->hv)->program);
	json_put_str(j, "accel", hv_accel_text(m->hv));
	json_put_str(j, "cpu", m->run_cfg->cpu);
	json_put_str(j, "host_cpu", snapshot_host_cpu());
	json_object_set_new(j, "networks", networks(m));
	json_put_bool(j, "copy_disks", copies);
	if (disks(m, copies, array, err) < 0 || (section.bad && err_nomem(err) < 0)) {
		json_decref(j);
		json_decref(array);
		j = NULL;
	} else {
		json_object_set_new(j, "disks", array);
	}
	buf_finish(&section);
	return j;
}

/* ---- at the target ---- */

/* The section of that machine, and nothing behind it. */
static int check_section(const char *name, const char *section, struct err *err)
{
	char *head = str_printf("[vm %s]\n", name);
	bool good;

	if (head == NULL)
		return err_nomem(err);
	good = str_starts(section, head) && strstr(section, "\n[") == NULL;
	free(head);
	return good ? 0 : err_set(err, -EINVAL, "section: expected one [vm %s]", name);
}

static int check_network(
	struct drover *d, const char *vm, unsigned i, const json_t *j, struct err *err)
{
	const char *name, *mac;
	char ours[18];

	if (json_need_str(j, "network", &name, err) < 0 || json_need_str(j, "mac", &mac, err) < 0)
		return err->code;
	if (config_network(drover_config(d), name) == NULL)
		return err_set(err, -EINVAL, "there is no [network %s] here", name);
	/* One that its section sets is the same here; migrate_check_program() sees to that. */
	if (json_flag(j, "mac_is_set", false))
		return 0;
	alloc_mac(drover_config(d)->drover->run_id, vm, i, ours);
	if (strcmp(mac, ours) != 0)
		return err_set(err, -EINVAL,
			"its MAC would be %s here and not %s: run_id must be the same on both hosts",
			ours, quote(mac));
	return 0;
}

static int check_disk(const json_t *j, struct err *err)
{
	const char *path;

	if (json_flag(j, "copy", false))
		return migrate_check_copy(j, err);
	return json_need_str(j, "path", &path, err);
}

static int check_parts(struct drover *d, const char *name, const json_t *body, struct err *err)
{
	const json_t *nets = json_arr(body, "networks"), *all = json_arr(body, "disks"), *j;
	size_t i;

	if (json_array_size(nets) > NICS_MAX)
		return err_set(err, -EINVAL, "networks: more than %d", NICS_MAX);
	json_array_foreach (nets, i, j) {
		if (check_network(d, name, (unsigned)i, j, err) < 0)
			return err_wrap(err, "vm %s", name);
	}
	json_array_foreach (all, i, j) {
		if (check_disk(j, err) < 0)
			return err_wrap(err, "vm %s", name);
	}
	return 0;
}

int migrate_check_body(struct drover *d, const json_t *body, struct err *err)
{
	static const char *const keys[] = { "name", "from", "section", "program", "accel" };
	const char *value, *name, *via = json_str(body, "via");
	int r = 0;

	if (!json_is_object(body))
		return err_set(err, -EINVAL, "the body is no object with a machine");
	if (d->stopping)
		return err_set(err, -ECANCELED, "droverd is stopping");
	for (size_t i = 0; i < ARRAY_LEN(keys) && r == 0; i++)
		r = json_need_str(body, keys[i], &value, err);
	if (r < 0) {
		err->code = -EINVAL;
		return r;
	}
	name = json_str(body, "name");
	r = name_check(name, "vm", err);
	if (r == 0 && via != NULL)
		r = wire_check(via, err);
	if (r == 0)
		r = check_section(name, json_str(body, "section"), err);
	return r == 0 ? check_parts(d, name, body, err) : r;
}

int migrate_take_facts(struct machine *m, const json_t *body, struct err *err)
{
	const json_t *nets = json_arr(body, "networks"), *all = json_arr(body, "disks"), *j;
	size_t i;

	json_array_foreach (nets, i, j) {
		struct nic *nic = &m->nics[i];
		const char *net = json_str(j, "subnet"), *address = json_str(j, "address");

		free(nic->network);
		*nic = (struct nic){ .network = strdup(json_str(j, "network")), .tap_fd = -1 };
		m->nnics = MAX(m->nnics, (unsigned)i + 1);
		if (nic->network == NULL)
			return err_nomem(err);
		if (net != NULL && ip4_prefix_parse(net, false, &nic->net, err) < 0)
			return err_wrap(err, "subnet");
		if (address != NULL && !ip4_parse(address, &nic->address))
			return err_set(err, -EINVAL, "address: %s is none", quote(address));
	}
	json_array_foreach (all, i, j) {
		if (!str_eq(json_str(j, "id"), "disk0") || json_flag(j, "copy", false))
			continue;
		free(m->disk_path);
		m->disk_path = strdup(json_str(j, "path"));
		if (m->disk_path == NULL)
			return err_nomem(err);
	}
	m->disk_stale = false;
	return 0;
}

/* "QEMU 7.2.9": the board that a name like q35 stands for changes with the second number. */
static bool same_version(const char *a, const char *b)
{
	unsigned x[2], y[2];

	return sscanf(a, "%*[^0-9]%u.%u", &x[0], &x[1]) == 2 &&
	       sscanf(b, "%*[^0-9]%u.%u", &y[0], &y[1]) == 2 && x[0] == y[0] && x[1] == y[1];
}

/* What its guest goes on using. there: of the source; may be NULL. */
static int check_same(const struct nic *nic, const char *there, const char *here, struct err *err)
{
	if (there == NULL || strcmp(there, here) == 0)
		return 0;
	return err_set(err, -EINVAL,
		"its address is %s%s there, which is not free here or not of [network %s]",
		strchr(there, '/') != NULL ? "of " : "", there, nic->network);
}

/* The nics have their places here. */
static int check_nics(const struct machine *m, const json_t *facts, struct err *err)
{
	const json_t *nets = json_arr(facts, "networks"), *j;
	size_t i;

	json_array_foreach (nets, i, j) {
		const struct nic *nic = &m->nics[i];
		const char *mac = json_str(j, "mac");
		char net[19], address[16];

		if (i >= m->nnics)
			return err_set(err, -EINVAL, "it has more nics there");
		if (!str_eq(mac, nic->mac))
			return err_set(err, -EINVAL, "its MAC is %s there, and would be %s here",
				quote(mac), nic->mac);
		ip4_prefix_format(nic->net, net);
		ip4_format(nic->address, address);
		if (check_same(nic, json_str(j, "subnet"), net, err) < 0 ||
			check_same(nic, json_str(j, "address"), address, err) < 0)
			return err->code;
	}
	return 0;
}

int migrate_check_program(const struct machine *m, const json_t *facts, struct err *err)
{
	const char *program = json_str(facts, "program"), *accel = json_str(facts, "accel");
	const char *cpu = json_str(facts, "cpu"), *host = json_str(facts, "host_cpu");
	const char *ours = hv_accel_text(m->hv);
	bool kvm = str_starts(accel, "kvm");

	if (!same_version(program, hv_caps(m->hv)->program))
		return err_set(err, -EINVAL, "it runs in %s there, and here there is %s", program,
			hv_caps(m->hv)->program);
	if (kvm != str_starts(ours, "kvm"))
		return err_set(
			err, -EINVAL, "it runs with %s there, and would with %s here", accel, ours);
	if (kvm && (cpu == NULL || strcmp(cpu, "host") == 0) && !str_eq(host, snapshot_host_cpu()))
		return err_set(err, -EINVAL,
			"it has the processor of its host, %s, and this host has %s (a cpu model that "
			"both have can be set by cpu =)",
			quote(host != NULL ? host : "?"), quote(snapshot_host_cpu()));
	return check_nics(m, facts, err);
}

/* A machine as the API shows it: supervisor/machine.h, supervisor/routes.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/health.h"
#include "supervisor/machine-steps.h"
#include "supervisor/machine-shown.h"
#include "supervisor/migrate.h"
#include "supervisor/network6.h"
#include "supervisor/network.h"
#include "supervisor/network-seen.h"

#define WHY_LINES 20

/* What the present run was started from, else what the next one would be; NULL when removed. */
const struct vm_config *machine_shown_config(const struct machine *m)
{
	return m->run_cfg != NULL ? m->run_cfg : m->cfg;
}

static const struct config_key *find_key(const char *name)
{
	for (size_t i = 0; i < config_nkeys; i++) {
		if (config_keys[i].section == SECTION_VM && strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	}
	return NULL;
}

/* A removed machine is shown as it was when it last ran; what is missing there was the default. */
const char *machine_applied_key(const struct machine *m, const char *name)
{
	const struct config_key *key = find_key(name);
	const char *value = m->applied != NULL ? json_str(m->applied, name) : NULL;

	return value != NULL ? value : key != NULL ? key->def : NULL;
}

static void put_null(json_t *j, const char *key)
{
	json_object_set_new(j, key, json_null());
}

static void put_time(json_t *j, const char *key, uint64_t unix_ms)
{
	char text[32];

	format_time(text, unix_ms);
	json_put_str(j, key, unix_ms != 0 ? text : NULL);
}

/* A key of the configuration in the form that the file has; null when there is none. */
static void put_key(json_t *j, const struct machine *m, const char *name)
{
	const struct vm_config *cfg = machine_shown_config(m);
	const struct config_key *key = find_key(name);
	struct buf text = { 0 };

	if (cfg == NULL || key == NULL) {
		json_put_str(j, name, machine_applied_key(m, name));
		return;
	}
	config_value_text(&cfg->s, key, &text);
	json_put_str(j, name, text.len > 0 ? buf_str(&text) : NULL);
	buf_finish(&text);
}

const char *machine_shown_state(const struct machine *m)
{
	if (m->cfg == NULL && !machine_active(m))
		return "removed";
	return m->suspended && m->state == MACHINE_STOPPED ? "suspended"
							   : machine_state_name(m->state);
}

bool machine_is_up(const struct machine *m)
{
	return m->process && m->up_mono_ms != 0;
}

static json_t *nics_json(const struct machine *m)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < m->nnics; i++) {
		const struct nic *nic = &m->nics[i];
		json_t *j = json_object(), *addresses = json_array();
		char text[16], text6[IP6_TEXT];

		if (nic->network == NULL) {
			json_decref(j);
			json_decref(addresses);
			continue;
		}
		snprintf(text, sizeof(text), "nic%u", i);
		json_put_str(j, "name", text);
		json_put_str(j, "network", nic->network);
		json_put_str(j, "mac", nic->mac);
		json_put_str(j, "tap", nic->tap);
		if (machine_address(m, i, text))
			json_array_append_new(addresses, json_string(text));
		if (network_known_address6(nic, text6))
			json_array_append_new(addresses, json_string(text6));
		json_object_set_new(j, "addresses", addresses);
		json_put_bool(j, "added", nic->stage != NIC_CONFIGURED);
		json_array_append_new(array, j);
	}
	return array;
}

/* dir/name as a member; null when there is no such thing now. */
static void put_path(json_t *j, const char *key, bool there, const char *dir, const char *name)
{
	char *path = there ? path_join(dir, name) : NULL;

	json_put_str(j, key, path);
	free(path);
}

/* The private half of the first key that has one. */
static void put_identity(json_t *j, const struct machine *m, const struct vm_config *cfg)
{
	const struct config *c = cfg == m->run_cfg && m->run_box != NULL ? m->run_box->config
									 : drover_config(m->d);

	for (size_t i = 0; i < cfg->ssh_keys.n; i++) {
		const struct key_config *key = config_sshkey(c, cfg->ssh_keys.v[i]);
		char *made;

		if (key == NULL)
			continue;
		if (key->private_key != NULL) {
			json_put_str(j, "identity", key->private_key);
			return;
		}
		if (!key->generate)
			continue;
		made = str_printf("%s/keys/%s/id_ed25519", m->d->state_dir, key->s.name);
		json_put_str(j, "identity", made);
		free(made);
		return;
	}
}

static json_t *ssh_json(const struct machine *m)
{
	const struct vm_config *cfg = machine_shown_config(m);
	json_t *j = json_object();
	char address[16];
	unsigned port = 22;
	bool known = network_reach(m, &port, address);

	json_put_str(j, "user", cfg != NULL ? cfg->ssh_user : machine_applied_key(m, "ssh_user"));
	put_null(j, "identity");
	if (cfg != NULL)
		put_identity(j, m, cfg);
	json_put_str(j, "address", known ? address : NULL);
	json_put_int(j, "port", port);
	return j;
}

static json_t *capabilities(const struct machine *m)
{
	const struct hv_caps *caps = machine_is_up(m) && m->hv != NULL ? hv_caps(m->hv) : NULL;
	json_t *array = json_array();

	if (caps == NULL)
		return array;
	for (size_t i = 0; i < HV_NCAPS; i++)
		if (caps->why_not[i] == NULL)
			json_array_append_new(array, json_string(hv_cap_name((enum hv_cap)i)));
	return array;
}

/* What it cannot, and the reason. */
static json_t *cannot(const struct machine *m)
{
	const struct hv_caps *caps = machine_is_up(m) && m->hv != NULL ? hv_caps(m->hv) : NULL;
	json_t *j = json_object();

	for (size_t i = 0; caps != NULL && i < HV_NCAPS; i++)
		if (caps->why_not[i] != NULL)
			json_put_str(j, hv_cap_name((enum hv_cap)i), caps->why_not[i]);
	return j;
}

static bool has_qmp(const struct machine *m)
{
	return m->process && (m->hv == NULL || hv_can(m->hv, HV_CAP_PASSTHROUGH, NULL) == 0);
}

static bool wanted(const struct machine *m)
{
	if (m->want_known)
		return m->want_running;
	return m->cfg != NULL && m->cfg->autostart;
}

static void put_spec(json_t *j, const struct machine *m)
{
	const struct vm_config *cfg = machine_shown_config(m);

	if (machine_is_up(m) && m->hv != NULL)
		json_put_str(j, "accel", hv_accel_text(m->hv));
	else
		put_key(j, m, "accel");
	put_key(j, m, "machine");
	if (cfg != NULL) {
		bool up = machine_is_up(m) && m->run_memory != 0;

		json_put_int(j, "memory", (int64_t)(up ? m->run_memory : cfg->memory));
		json_put_int(j, "vcpus", up && m->run_vcpus != 0 ? m->run_vcpus : cfg->vcpus);
	} else {
		put_null(j, "memory");
		put_null(j, "vcpus");
	}
	put_key(j, m, "kernel");
	put_key(j, m, "rootfs");
	put_key(j, m, "restart");
}

/* What QEMU has not told is as it was at the start. */
static json_t *drives_json(const struct machine *m)
{
	const struct vm_config *cfg = machine_shown_config(m);
	json_t *drives, *drive;

	if (m->process && m->drives != NULL)
		return json_deep_copy(m->drives);
	drives = json_array();
	if (cfg == NULL || cfg->cdrom == NULL)
		return drives;
	drive = json_object();
	json_put_str(drive, "id", "cdrom0");
	json_put_bool(drive, "open", false);
	json_put_str(drive, "medium", cfg->cdrom);
	json_array_append_new(drives, drive);
	return drives;
}

static void put_core(json_t *j, const struct machine *m)
{
	char *path = machine_core_path(m);

	json_put_str(j, "core", path != NULL && access(path, F_OK) == 0 ? path : NULL);
	free(path);
}

json_t *machine_detail(const struct machine *m)
{
	json_t *j = machine_summary(m);
	char log[32];

	json_put_str(j, "wanted", wanted(m) ? "running" : "stopped");
	json_object_set_new(j, "nics", nics_json(m));
	put_spec(j, m);
	json_put_str(j, "disk", m->disk_path);
	json_object_set_new(j, "disk_layers", machine_layers_json(m));
	json_object_set_new(j, "added", m->added != NULL ? json_deep_copy(m->added) : json_array());
	json_object_set_new(j, "drives", drives_json(m));
	json_put_int(j, "boot", m->boot);
	json_put_int(j, "reboots", m->reboots);
	json_put_str(j, "error", m->error.code < 0 ? m->error.msg : NULL);
	json_object_set_new(j, "ssh", ssh_json(m));
	json_put_str(j, "degraded", m->process ? m->degraded : NULL);
	put_path(
		j, "vnc", m->process && m->run_cfg->display == DISPLAY_VNC, m->run_dir, "vnc.sock");
	if (m->process && m->vsock_cid != 0)
		json_put_int(j, "vsock_cid", m->vsock_cid);
	else
		put_null(j, "vsock_cid");
	put_path(j, "console", m->console != NULL, m->run_dir, "console.sock");
	put_path(j, "monitor", m->process, m->run_dir, has_qmp(m) ? "mon.sock" : "ch.sock");
	put_path(j, "qmp", has_qmp(m), m->run_dir, "qmp.sock");
	snprintf(log, sizeof(log), "%u.log", m->boot);
	put_core(j, m);
	put_path(j, "log", m->boot > 0, m->log_dir, log);
	if (m->guest_id >= 0)
		json_put_int(j, "guest_id", m->guest_id);
	else
		put_null(j, "guest_id");
	put_time(j, "started", machine_active(m) ? m->run_started_ms : 0);
	json_object_set_new(j, "migration", machine_migrate_json(m));
	json_put_str(j, "migrated_to", m->migrated_to);
	json_put_bool(j, "migrated_disks", m->migrated_to != NULL && m->migrated_disks);
	json_object_set_new(j, "capabilities", capabilities(m));
	json_object_set_new(j, "cannot", cannot(m));
	json_object_set_new(j, "warm", machine_warm_json(m));
	json_object_set_new(j, "health", m->health != NULL ? health_json(m->health) : json_null());
	return j;
}

static json_t *console_lines(const struct machine *m)
{
	struct strv tail = { 0 };
	json_t *array;

	if (m->console == NULL)
		return m->last_console != NULL ? json_incref(m->last_console) : json_array();
	array = json_array();
	console_tail(m->console, WHY_LINES, &tail);
	for (size_t i = 0; i < tail.n; i++)
		json_array_append_new(array, json_str_new(tail.v[i]));
	strv_finish(&tail);
	return array;
}

static void put_end(json_t *j, const struct machine *m)
{
	bool ended = m->run_ended_ms != 0;

	json_put_str(j, "cause", ended ? cause_name(m->last_cause) : NULL);
	json_put_str(j, "sentence",
		ended                 ? m->sentence
		: machine_active(m)   ? "this run has not ended"
		: m->error.code < 0   ? m->error.msg
		: m->sentence != NULL ? m->sentence
				      : "it has not run yet");
	put_time(j, "started", m->run_started_ms);
	put_time(j, "ended", m->run_ended_ms);
	json_put_str(j, "status",
		ended && m->exit_status.known ? child_status_text(&m->exit_status) : NULL);
}

json_t *machine_why(const struct machine *m)
{
	json_t *j = json_object();

	json_put_str(j, "name", m->name);
	json_put_str(j, "state", machine_shown_state(m));
	json_put_int(j, "boot", m->boot);
	put_end(j, m);
	json_object_set_new(j, "console", console_lines(m));
	json_object_set_new(j, "story", m->story != NULL ? json_incref(m->story) : json_array());
	return j;
}

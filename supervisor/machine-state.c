/* What a machine's state file says, and the publication of a change: supervisor/machine.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-space.h"
#include "supervisor/migrate.h"
#include "supervisor/network6.h"
#include "supervisor/pulse.h"
#include "supervisor/machine-steps.h"

#define STORY_MAX 200

static json_t *nics_json(const struct machine *m)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < m->nnics; i++) {
		const struct nic *nic = &m->nics[i];
		json_t *j = json_object();
		char net[19];

		json_array_append_new(array, j);
		if (nic->network == NULL)
			continue;
		json_put_str(j, "network", nic->network);
		json_put_str(j, "mac", nic->mac);
		json_put_str(j, "tap", nic->tap);
		json_put_int(j, "ifindex", nic->ifindex);
		json_put_str(j, "stage", nic_stage_name(nic->stage));
		if (nic->net.len != 0) {
			ip4_prefix_format(nic->net, net);
			json_put_str(j, "subnet", net);
		}
		if (nic->bridge[0] != '\0')
			json_put_str(j, "bridge", nic->bridge);
		if (nic->user)
			json_put_bool(j, "user", true);
		if (nic->macvtap)
			json_put_bool(j, "macvtap", true);
		if (nic->address != 0) {
			ip4_format(nic->address, net);
			json_put_str(j, "address", net);
		}
		network6_nic_save(nic, j);
	}
	return array;
}

static void put_process(const struct machine *m, json_t *j)
{
	const struct hv_process *p = m->process && m->hv != NULL ? hv_process(m->hv) : &m->left;

	if (p->pid == 0)
		return;
	json_put_int(j, "pid", p->pid);
	json_put_int(j, "starttime", (int64_t)p->starttime);
	json_put_int(j, "jail_pid", p->jail_pid);
	json_put_int(j, "jail_starttime", (int64_t)p->jail_starttime);
}

static void put_run(const struct machine *m, json_t *j)
{
	json_put_int(j, "boot", m->boot);
	json_put_int(j, "reboots", m->reboots);
	json_put_int(j, "run_started", (int64_t)m->run_started_ms);
	json_put_int(j, "run_ended", (int64_t)m->run_ended_ms);
	json_put_str(j, "last_cause", cause_name(m->last_cause));
	json_put_str(j, "sentence", m->sentence);
	json_put_bool(j, "ended", m->ended);
	json_put_int(j, "ended_seq", (int64_t)m->ended_seq);
	json_put_bool(j, "status_known", m->exit_status.known);
	json_put_bool(j, "signaled", m->exit_status.signaled);
	json_put_int(j, "status", m->exit_status.code);
	json_put_str(j, "error", m->error.code < 0 ? m->error.msg : NULL);
	json_put_int(j, "error_code", m->error.code);
	json_put_str(j, "hint", cause_name(m->hint));
	json_put_str(j, "hint_text", m->hint_text);
	json_put_bool(j, "panicked", m->panicked);
	if (m->story != NULL)
		json_object_set(j, "story", m->story);
	if (m->last_console != NULL)
		json_object_set(j, "console", m->last_console);
}

/* What a snapshot, a suspend or a restore has come to. */
static void put_saved(const struct machine *m, json_t *j)
{
	json_put_bool(j, "hold", m->hold);
	json_put_bool(j, "frozen", m->frozen);
	json_put_bool(j, "copying", m->copying);
	json_put_bool(j, "suspended", m->suspended);
	json_put_str(j, "restore", m->restore);
	json_put_bool(j, "restore_back", m->restore_back);
	json_put_bool(j, "restore_memory", m->restore_memory);
	json_put_bool(j, "restore_run", m->restore_run);
	json_put_str(j, "warm_image", m->warm_image);
	json_put_int(j, "warm_mtime", m->warm_mtime);
	json_put_bool(j, "warm_load", m->warm_load);
	json_put_str(j, "warm_note", m->warm_note);
}

json_t *machine_state_json(const struct machine *m)
{
	json_t *j = json_object();

	json_put_int(j, "version", 1);
	json_put_str(j, "name", m->name);
	json_put_str(j, "state", machine_state_name(m->state));
	if (m->want_known)
		json_put_str(j, "wanted", m->want_running ? "running" : "stopped");
	json_put_str(j, "boot_id", boot_id());
	put_process(m, j);
	put_run(m, j);
	json_put_int(j, "saves", (int64_t)m->saves);
	json_put_int(j, "restarts", m->restarts);
	json_put_int(j, "failures", m->failures);
	json_put_int(j, "guest_id", m->guest_id);
	json_put_int(j, "intent", m->intent);
	json_put_bool(j, "ready", m->ready);
	json_put_str(j, "unhealthy", m->unhealthy);
	json_put_str(j, "quit_by", m->quit_by);
	json_object_set_new(j, "nics", nics_json(m));
	json_put_str(j, "cgroup", m->cgroup);
	json_put_int(j, "vsock_cid", m->vsock_cid);
	json_put_int(j, "run_memory", (int64_t)m->run_memory);
	json_put_int(j, "run_vcpus", m->run_vcpus);
	if (m->added != NULL)
		json_object_set(j, "added", m->added);
	json_put_str(j, "kernel", m->kernel_path);
	json_put_str(j, "initrd", m->initrd_path);
	json_put_str(j, "rootfs", m->rootfs_path);
	json_put_str(j, "disk", m->disk_path);
	json_put_str(j, "kernel_ref", m->kernel_ref);
	json_put_str(j, "rootfs_ref", m->rootfs_ref);
	json_put_bool(j, "disk_stale", m->disk_stale);
	put_saved(m, j);
	if (m->applied != NULL)
		json_object_set(j, "applied", m->applied);
	if (m->deferred != NULL)
		json_object_set(j, "deferred", m->deferred);
	json_put_int(j, "retry_at", (int64_t)m->retry_at_ms);
	machine_migrate_save(m, j);
	machine_space_save(m, j);
	return j;
}

static void set_string(char **to, const json_t *j, const char *key)
{
	const char *s = json_str(j, key);

	free(*to);
	*to = s != NULL ? strdup(s) : NULL;
}

static void load_nics(struct machine *m, const json_t *j)
{
	const json_t *array = json_arr(j, "nics"), *e;
	size_t i;

	json_array_foreach (array, i, e) {
		struct nic *nic = &m->nics[i];
		const char *mac = json_str(e, "mac"), *tap = json_str(e, "tap");
		const char *net = json_str(e, "subnet");

		if (i >= NICS_MAX)
			break;
		nic->tap_fd = -1;
		/* A gap. */
		if (json_object_size(e) == 0)
			continue;
		if (mac == NULL || tap == NULL)
			break;
		set_string(&nic->network, e, "network");
		snprintf(nic->mac, sizeof(nic->mac), "%s", mac);
		snprintf(nic->tap, sizeof(nic->tap), "%s", tap);
		nic->stage = nic_stage_from_name(json_str(e, "stage"));
		nic->ifindex = (int)json_int(e, "ifindex", 0);
		if (net == NULL || ip4_prefix_parse(net, false, &nic->net, NULL) < 0)
			nic->net = (struct ip4_prefix){ 0 };
		snprintf(nic->bridge, sizeof(nic->bridge), "%s",
			json_str(e, "bridge") != NULL ? json_str(e, "bridge") : "");
		nic->user = json_flag(e, "user", false);
		nic->macvtap = json_flag(e, "macvtap", false);
		nic->address = 0;
		if (json_str(e, "address") != NULL)
			ip4_parse(json_str(e, "address"), &nic->address);
		network6_nic_load(nic, e);
		m->nnics = (unsigned)i + 1;
	}
}

static void load_run(struct machine *m, const json_t *j)
{
	const char *error = json_str(j, "error");

	m->boot = (unsigned)json_int(j, "boot", 0);
	m->reboots = (unsigned)json_int(j, "reboots", 0);
	m->run_started_ms = (uint64_t)json_int(j, "run_started", 0);
	m->run_ended_ms = (uint64_t)json_int(j, "run_ended", 0);
	m->last_cause = cause_from_name(json_str(j, "last_cause"));
	m->ended = json_flag(j, "ended", false);
	m->ended_seq = (uint64_t)json_int(j, "ended_seq", 0);
	m->exit_status.known = json_flag(j, "status_known", false);
	m->exit_status.signaled = json_flag(j, "signaled", false);
	m->exit_status.code = (int)json_int(j, "status", 0);
	if (error != NULL)
		err_set(&m->error, (int)json_int(j, "error_code", -EIO), "%s", error);
	set_string(&m->sentence, j, "sentence");
	m->hint = cause_from_name(json_str(j, "hint"));
	set_string(&m->hint_text, j, "hint_text");
	m->panicked = json_flag(j, "panicked", false);
	json_decref(m->story);
	m->story = json_incref(json_object_get(j, "story"));
	json_decref(m->last_console);
	m->last_console = json_incref(json_object_get(j, "console"));
}

static void load_saved(struct machine *m, const json_t *j)
{
	m->hold = json_flag(j, "hold", false);
	m->frozen = json_flag(j, "frozen", false);
	m->copying = json_flag(j, "copying", false);
	m->suspended = json_flag(j, "suspended", false);
	set_string(&m->restore, j, "restore");
	m->restore_back = json_flag(j, "restore_back", false);
	m->restore_memory = json_flag(j, "restore_memory", false);
	m->restore_run = json_flag(j, "restore_run", false);
	set_string(&m->warm_image, j, "warm_image");
	m->warm_mtime = json_int(j, "warm_mtime", 0);
	m->warm_load = json_flag(j, "warm_load", false);
	set_string(&m->warm_note, j, "warm_note");
}

static enum machine_state state_from_name(const char *name)
{
	for (int s = 0; name != NULL && s < MACHINE_STATES; s++) {
		if (strcmp(name, machine_state_name((enum machine_state)s)) == 0)
			return (enum machine_state)s;
	}
	return MACHINE_UNKNOWN;
}

int machine_load(struct machine *m, struct saved_process *out, struct err *err)
{
	const char *wanted, *boot;
	json_t *j = NULL;
	int r;

	r = machine_read_file(m, &j, err);
	if (r < 0)
		return err_wrap(err, "vm %s: state file", m->name);
	wanted = json_str(j, "wanted");
	m->want_known = wanted != NULL;
	m->want_running = wanted != NULL && strcmp(wanted, "running") == 0;
	load_run(m, j);
	load_nics(m, j);
	m->saves = (uint64_t)json_int(j, "saves", 0);
	m->restarts = (unsigned)json_int(j, "restarts", 0);
	m->failures = (unsigned)json_int(j, "failures", 0);
	m->guest_id = json_int(j, "guest_id", -1);
	m->intent = (enum intent)json_int(j, "intent", INTENT_NONE);
	m->ready = json_flag(j, "ready", false);
	set_string(&m->unhealthy, j, "unhealthy");
	set_string(&m->cgroup, j, "cgroup");
	m->vsock_cid = (uint32_t)json_int(j, "vsock_cid", 0);
	m->run_memory = (uint64_t)json_int(j, "run_memory", 0);
	m->run_vcpus = (unsigned)json_int(j, "run_vcpus", 0);
	json_decref(m->added);
	m->added = json_incref(json_object_get(j, "added"));
	set_string(&m->quit_by, j, "quit_by");
	set_string(&m->kernel_path, j, "kernel");
	set_string(&m->initrd_path, j, "initrd");
	set_string(&m->rootfs_path, j, "rootfs");
	set_string(&m->disk_path, j, "disk");
	machine_find_flattened(m);
	set_string(&m->kernel_ref, j, "kernel_ref");
	set_string(&m->rootfs_ref, j, "rootfs_ref");
	m->disk_stale = json_flag(j, "disk_stale", false);
	load_saved(m, j);
	json_decref(m->applied);
	m->applied = json_incref(json_object_get(j, "applied"));
	json_decref(m->deferred);
	m->deferred = json_incref(json_object_get(j, "deferred"));
	m->retry_at_ms = (uint64_t)json_int(j, "retry_at", 0);
	machine_space_load(m, j);
	machine_migrate_load(m, j);
	boot = json_str(j, "boot_id");
	*out = (struct saved_process){
		.process = {
			.pid = (pid_t)json_int(j, "pid", 0),
			.starttime = (uint64_t)json_int(j, "starttime", 0),
			.jail_pid = (pid_t)json_int(j, "jail_pid", 0),
			.jail_starttime = (uint64_t)json_int(j, "jail_starttime", 0),
		},
		.this_boot = boot != NULL && strcmp(boot, boot_id()) == 0,
		.state = state_from_name(json_str(j, "state")),
	};
	json_decref(j);
	machine_sweep(m);
	/* Until it is adopted, whoever saves it must not say that it is stopped. */
	m->state = out->state;
	if (out->this_boot)
		m->left = out->process;
	return 0;
}

void machine_tell(struct machine *m, const char *event, const char *fmt, ...)
{
	json_t *j = json_object();
	char text[1024], time[32];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (m->story == NULL)
		m->story = json_array();
	format_time(time, clock_unix_ms());
	json_put_str(j, "time", time);
	json_put_str(j, "event", event);
	json_put_str(j, "text", text);
	/* The beginning of a long story matters more than its middle: the last entry is replaced. */
	if (json_array_size(m->story) >= STORY_MAX)
		json_array_remove(m->story, STORY_MAX - 1);
	json_array_append_new(m->story, j);
}

/*
 * A daemon that adopts the machine asks the hypervisor whether the guest stands still (adopted() in
 * machine-adopt.c): whoever pauses or resumes it, or takes it up, does not wait for a file that says
 * the same.
 */
static bool is_known_anyway(enum machine_state from, enum machine_state to)
{
	return (from == MACHINE_RUNNING || from == MACHINE_PAUSED || from == MACHINE_UNKNOWN) &&
	       (to == MACHINE_RUNNING || to == MACHINE_PAUSED);
}

void machine_set_state(struct machine *m, enum machine_state s)
{
	enum machine_state from = m->state;
	json_t *more;

	m->state = s;
	if (is_known_anyway(from, s))
		machine_save_later(m);
	else
		machine_save_soon(m);
	if (s == from)
		return;
	machine_health_state(m, from);
	if (s == MACHINE_RUNNING)
		pulse_wake(m->d->pulse);
	more = json_object();
	json_put_str(more, "from", machine_state_name(from));
	json_put_str(more, "to", machine_state_name(s));
	if (m->by != NULL)
		json_put_str(more, "by", m->by);
	if (s == MACHINE_STOPPED || s == MACHINE_FAILED || s == MACHINE_BACKOFF) {
		json_put_str(more, "cause", cause_name(m->last_cause));
		json_put_str(more, "reason", m->sentence);
	}
	events_emit(m->d->events, "vm", m->name, "state", more);
	log_msg(LOG_LVL_INFO, m->name, "%s -> %s", machine_state_name(from), machine_state_name(s));
}

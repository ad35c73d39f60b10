/* The start of a machine, step by step: supervisor/machine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/machine-steps.h"
#include "supervisor/network-values.h"
#include "supervisor/network.h"
#include "supervisor/plan.h"
#include "supervisor/faults.h"

static void make_folders(struct machine *m);
static void attach_nics(struct machine *m);
static void await_others(struct machine *m);
static void take_slot(struct machine *m);

static const struct {
	const char *what; /* "vm NAME: WHAT: cause", and the operation's step */
	void (*fn)(struct machine *m);
} steps[] = {
	{ "folders", make_folders },
	{ "warm", machine_step_warm },
	{ "ssh-keys", machine_step_keys },
	{ "kernel", machine_step_kernel },
	{ "rootfs", machine_step_rootfs },
	{ "disk", machine_step_disk },
	{ "volumes", machine_step_volumes },
	{ "firmware", machine_step_firmware },
	{ "network", attach_nics },
	{ "cgroup", machine_step_cgroup },
	{ "order", await_others },
	{ "slot", take_slot },
	{ "probe", machine_step_probe },
	{ "helpers", machine_step_helpers },
};

/* What comes after the steps, for the tests that break it. */
static const char *const spawn_points[] = { "spec", "console", "spawn", "passthrough" };

static const char *start_point(size_t i)
{
	if (i < ARRAY_LEN(steps))
		return steps[i].what;
	return i < ARRAY_LEN(steps) + ARRAY_LEN(spawn_points) ? spawn_points[i - ARRAY_LEN(steps)]
							      : NULL;
}
const struct fault_table start_faults = { "start", start_point, FAULT_ALL };

static const char *run_point(size_t i)
{
	static const char *const points[] = { "spawned", "record", "up" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table run_faults = { "run", run_point, FAULT_BIT(1) | FAULT_BIT(2) };

static void start_failed(struct machine *m, const struct err *err)
{
	m->error = *err;
	machine_tell(m, "failed", "%s", err->msg);
	machine_event(m, EV_START_FAILED);
}

/* -EINPROGRESS: a test wants it to wait here until it is cancelled. */
static int start_fault(struct machine *m, const char *point, struct err *err)
{
	static struct list stalled = { &stalled, &stalled };

	if (fault_stalls("start", point)) {
		list_append(&stalled, &m->queue);
		return -EINPROGRESS;
	}
	return fault_at("start", point, err);
}

void machine_start_next(struct machine *m, const struct err *err)
{
	struct err mine;
	int r;

	if (m->cancelled) {
		err_set(&mine, -ECANCELED, "vm %s: the start was cancelled", m->name);
		start_failed(m, &mine);
		return;
	}
	if (err != NULL) {
		mine = *err;
		err_wrap(&mine, "vm %s: %s", m->name, steps[m->step - 1].what);
		start_failed(m, &mine);
		return;
	}
	if (m->step == ARRAY_LEN(steps)) {
		machine_event(m, m->receiving          ? EV_MIGRATE
				 : m->load_dir != NULL ? EV_LOAD
						       : EV_PREPARED);
		return;
	}
	operation_step(m->op, steps[m->step].what);
	r = start_fault(m, steps[m->step].what, &mine);
	m->step++;
	if (r == 0)
		steps[m->step - 1].fn(m);
	else if (r != -EINPROGRESS)
		machine_start_next(m, &mine);
}

/* ---- the beginning ---- */

int machine_set_nics(struct machine *m, struct err *err)
{
	const char *run_id = drover_config(m->d)->drover->run_id;

	machine_forget_nics(m);
	for (unsigned i = 0; i < m->cfg->networks.n; i++) {
		struct nic *nic = &m->nics[i];
		struct nic_spec spec;
		int r = nic_spec_parse(m->cfg->networks.v[i], &spec, err);

		if (r < 0)
			return r;
		/* A nic that stays on its network keeps its subnet, or its address. */
		if (i >= m->nnics || !str_eq(nic->network, spec.network)) {
			if (i < m->nnics)
				free(nic->network);
			*nic = (struct nic){ .network = strdup(spec.network) };
			m->nnics = MAX(m->nnics, i + 1);
			if (nic->network == NULL)
				return err_nomem(err);
		}
		if (spec.mac[0] != '\0')
			memcpy(nic->mac, spec.mac, sizeof(nic->mac));
		else
			alloc_mac(run_id, m->name, i, nic->mac);
		nic->fixed = spec.address;
		nic->fixed6 = spec.address6;
		nic->bare = spec.none;
		nic->seen = 0;
		nic->seen6 = (struct in6_addr){ 0 };
		nic->user = false;
		nic->bridge[0] = '\0'; /* it uses none before it is on one again */
		nic->macvtap = false;
		alloc_tap_name(run_id, m->name, i, nic->tap);
		nic->tap_fd = -1;
	}
	while (m->nnics > m->cfg->networks.n) {
		free(m->nics[--m->nnics].network);
		m->nics[m->nnics] = (struct nic){ .tap_fd = -1 };
	}
	return 0;
}

static void reset_run(struct machine *m)
{
	m->boot++;
	m->ended = false;
	m->ended_seq = 0;
	m->step = 0;
	m->cancelled = false;
	m->panicked = false;
	m->reboots = 0;
	m->hint = CAUSE_NONE;
	free(m->hint_text);
	m->hint_text = NULL;
	free(m->unhealthy);
	m->unhealthy = NULL;
	free(m->quit_by);
	m->quit_by = NULL;
	m->ready = false;
	m->error.code = 0;
	m->run_started_ms = clock_unix_ms();
	m->run_ended_ms = 0;
	m->up_mono_ms = 0;
	m->warm_load = m->warm_asked = m->warm_tried = false;
	m->exit_status = (struct child_status){ 0 };
	json_decref(m->last_console);
	m->last_console = NULL;
}

void machine_begin_prepare(struct machine *m)
{
	struct err err;

	reset_run(m);
	config_box_unref(m->run_box);
	m->run_box = config_box_ref(m->d->box);
	m->run_cfg = m->cfg;
	json_decref(m->applied);
	m->applied = plan_applied(&m->cfg->s);
	json_decref(m->deferred);
	m->deferred = NULL;
	m->intent = INTENT_NONE;
	machine_adopt_finished(m);
	if (m->story == NULL || json_array_size(m->story) == 0)
		machine_tell(m, "start", "started again");
	if (machine_set_nics(m, &err) < 0 || machine_find_memory(m, &err) < 0 ||
		machine_save(m, &err) < 0) {
		start_failed(m, &err);
		return;
	}
	machine_begin_steps(m);
}

/* Into the folder, for the one socket in it that the group may use. */
static void admit_group(const struct machine *m)
{
	if (m->d->group != (gid_t)-1 &&
		(chown(m->run_dir, (uid_t)-1, m->d->group) < 0 || chmod(m->run_dir, 0710) < 0))
		log_msg(LOG_LVL_WARN, m->name, "%s: %s (ignoring)", quote(m->run_dir),
			strerror(errno));
}

static void make_folders(struct machine *m)
{
	struct err err;
	int r = mkdir_p(m->dir, 0700, &err);

	if (r == 0)
		r = mkdir_p(m->log_dir, 0750, &err);
	if (r == 0)
		r = ledger_add(m->d->ledger, m->owner, OBJECT_DIR, m->run_dir, NULL, &err);
	if (r == 0)
		r = mkdir_p(m->run_dir, 0700, &err);
	if (r == 0)
		admit_group(m);
	machine_start_next(m, r < 0 ? &err : NULL);
}

/* ---- network ---- */

static void nic_attached(void *arg, const struct err *err)
{
	struct machine *m = arg;

	m->attaching = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	/* The nics before this one have their TAP open. */
	if (err == NULL && !m->cancelled)
		attach_nics(m);
	else
		machine_start_next(m, err);
}

static void attach_nics(struct machine *m)
{
	for (unsigned i = 0; i < m->nnics; i++) {
		if (m->nics[i].tap_fd < 0 && !m->nics[i].user) {
			m->attaching = true;
			network_attach(m, i, nic_attached, m);
			return;
		}
	}
	machine_start_next(m, NULL);
}

static void close_taps(struct machine *m)
{
	for (unsigned i = 0; i < m->nnics; i++) {
		if (m->nics[i].tap_fd >= 0)
			close(m->nics[i].tap_fd);
		m->nics[i].tap_fd = -1;
	}
}

/* ---- the order ---- */

static bool comes_up(const struct machine *other)
{
	return other->state == MACHINE_PREPARING || other->state == MACHINE_STARTING ||
	       (other->state == MACHINE_STOPPING && other->intent == INTENT_RESTART);
}

static void await_others(struct machine *m)
{
	struct strv names = { 0 };
	bool wait = false;

	if (config_vm_references(m->run_cfg, &names) < 0) {
		struct err err;

		err_nomem(&err);
		machine_start_next(m, &err);
		return;
	}
	for (size_t i = 0; i < names.n; i++) {
		struct machine *other = machine_find(m->d, names.v[i]);

		wait = wait || (other != NULL && comes_up(other));
	}
	strv_finish(&names);
	/* Order, not dependence: one that has failed or is not wanted holds nobody up. */
	if (wait)
		list_append(&m->d->after_queue, &m->queue);
	else
		machine_start_next(m, NULL);
}

void machine_wake_waiting(struct drover *d)
{
	struct list waiting;
	struct machine *m;

	list_init(&waiting);
	list_splice(&waiting, &d->after_queue);
	while ((m = list_first(&waiting, struct machine, queue)) != NULL) {
		list_remove(&m->queue);
		await_others(m);
	}
}

/* ---- how many start at once ---- */

static unsigned slots(struct drover *d)
{
	uint64_t max = drover_config(d)->drover->max_starts;
	long cpus = max == 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 0;

	return max != 0 ? (unsigned)max : (unsigned)MAX(cpus, 1);
}

static void take_slot(struct machine *m)
{
	struct drover *d = m->d;

	if (d->starting >= slots(d)) {
		list_append(&d->start_queue, &m->queue);
		return;
	}
	d->starting++;
	m->has_slot = true;
	machine_start_next(m, NULL);
}

void machine_fill_slots(struct drover *d)
{
	struct machine *next;

	while (d->starting < slots(d) &&
		(next = list_first(&d->start_queue, struct machine, queue)) != NULL) {
		list_remove(&next->queue);
		take_slot(next);
	}
}

void machine_leave_slot(struct machine *m)
{
	list_remove(&m->queue);
	if (!m->has_slot)
		return;
	m->has_slot = false;
	m->d->starting--;
	machine_fill_slots(m->d);
}

/* ---- the hypervisor ---- */

static void spawned(void *arg, const struct hv_process *p)
{
	struct machine *m = arg;

	fault_at("run", "spawned", NULL);
	m->process = true;
	m->warm_tried = m->warm_load;
	json_decref(m->drives);
	m->drives = NULL;
	close_taps(m);
	machine_cgroup_check(m);
	machine_tell(m, "spawned", "%s runs as process %d", m->run_cfg->hypervisor, (int)p->pid);
	machine_save_soon(m);
}

static void hv_up(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	close_taps(m);
	if (err == NULL && fault_at("run", "up", &mine) == 0) {
		machine_event(m, EV_UP);
		return;
	}
	/* A backend that failed has killed it; of an injected failure it knows nothing. */
	if (err == NULL)
		hv_kill(m->hv, SIGKILL);
	else
		mine = *err;
	if (m->cancelled) {
		err_set(&mine, -ECANCELED, "vm %s: the start was cancelled", m->name);
	} else {
		machine_cgroup_blame(m, &mine);
		err_wrap(&mine, "vm %s", m->name);
	}
	start_failed(m, &mine);
}

void machine_begin_spawn(struct machine *m)
{
	struct hv_callbacks cb = machine_hv_callbacks(m);
	struct spec_hold hold = { 0 };
	struct hv_spec spec;
	struct err err;
	int r;

	operation_step(m->op, "starting the hypervisor");
	r = start_fault(m, "spec", &err);
	if (r == 0)
		r = machine_spec(m, &spec, &hold, &err);
	if (r == 0)
		r = start_fault(m, "console", &err);
	if (r == 0)
		r = machine_console_open(m, &err);
	if (r == 0)
		r = start_fault(m, "spawn", &err);
	if (r == 0)
		r = hv_create(&m->hv, hv_find(m->run_cfg->hypervisor), m->d->loop, &cb, &err);
	/* One that cannot be frozen runs all the same. */
	if (r == 0 && m->run_cfg->warm && hv_can(m->hv, HV_CAP_MEMORY_CLONE, NULL) < 0)
		spec.memory_file = NULL;
	if (r == 0)
		r = start_fault(m, "passthrough", &err);
	if (r == 0)
		r = machine_passthrough_open(m, &err);
	if (r == 0) {
		hv_start(m->hv, &spec, spawned, hv_up, m);
	} else if (r != -EINPROGRESS) {
		err_wrap(&err, "vm %s", m->name);
		start_failed(m, &err);
	}
	spec_hold_finish(&hold);
}

/* ---- cancelling ---- */

void machine_cancel_start(struct machine *m)
{
	bool queued = !list_empty(&m->queue);

	machine_flush(m);
	m->cancelled = true;
	if (m->warm != NULL) {
		machine_warm_cancel(m);
	} else if (queued) {
		list_remove(&m->queue);
		deadline_cancel(&m->warm_timer);
		machine_start_next(m, NULL);
	} else if (m->hv != NULL) {
		hv_start_cancel(m->hv);
	} else if (m->image_busy) {
		machine_cancel_image(m);
	}
	/* Else the step under way ends by itself and machine_start_next() sees it. */
}

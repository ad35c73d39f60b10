/* Taking up what an earlier daemon has left: supervisor/machine.h. */
#include <errno.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-space.h"
#include "supervisor/machine-steps.h"
#include "supervisor/migrate.h"
#include "supervisor/network.h"
#include "supervisor/network-tap.h"
#include "supervisor/faults.h"

#define RETRY_MS 1000 /* until a process that could not be taken up is tried again */

/* What a machine that is no longer in the configuration is taken over with, to be stopped. */
static const struct vm_config removed_config = { .hypervisor = "qemu",
	.vcpus = 1,
	.jail = true,
	.stop_timeout = 30000,
	.start_timeout = 60000 };

static const char *adopt_point(size_t i)
{
	static const char *const points[] = { "take-up", "adopted", "network" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table adopt_faults = { "adopt", adopt_point, FAULT_ALL };

void machine_adopt_finished(struct machine *m)
{
	void (*done)(void *arg) = m->adopted;

	m->adopted = NULL;
	if (done == NULL)
		return;
	done(m->adopted_arg);
	machine_migrate_adopted(m);
}

/* The state in which a run without a process ends: the policy decides on from there, and the
 * adoption is finished when the machine has come to rest. */
static void run_is_over(struct machine *m, const char *how)
{
	machine_tell(m, "gone", "%s", how);
	m->left = (struct hv_process){ 0 };
	m->state = MACHINE_STOPPING;
	machine_begin_teardown(m);
}

/*
 * Its process may well be there: nothing is known of it, so nothing is done to it, least of all
 * another one started. The state stays unknown, and a stop waits until it can be taken up.
 */
static void take_up_later(struct machine *m, const struct err *err)
{
	log_msg(LOG_LVL_ERROR, m->name, "cannot be adopted: %s; trying again", err->msg);
	m->process = false;
	console_destroy(m->console);
	m->console = NULL;
	hv_destroy(m->hv, NULL, NULL);
	machine_forget_questions(m);
	m->hv = NULL;
	for (unsigned i = 0; i < m->nnics; i++)
		network_tap_forget(&m->nics[i]);
	deadline_set(&m->timer, RETRY_MS);
	machine_adopt_finished(m);
}

static void adopted(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	if (fault_at("adopt", "adopted", &mine) < 0)
		err = &mine;
	if (err != NULL && err->code != -ESRCH) {
		take_up_later(m, err);
		return;
	}
	m->left = (struct hv_process){ 0 };
	if (err != NULL) {
		m->process = false;
		log_msg(LOG_LVL_WARN, m->name, "%s", err->msg);
		run_is_over(m, err->msg);
		return;
	}
	machine_tell(m, "adopted", "process %d found again by a new daemon",
		(int)hv_process(m->hv)->pid);
	machine_cgroup_apply(m);
	m->up_mono_ms = clock_mono_ms() - (clock_unix_ms() - m->run_started_ms);
	events_emit(m->d->events, "vm", m->name, "adopted", NULL);
	network_adopt(m);
	machine_space_status(m);
	machine_helpers_adopt(m);
	machine_nics_adopt(m);
	switch (machine_is_migrating(m) ? HV_STATUS_INCOMING : hv_status(m->hv)) {
	case HV_STATUS_RUNNING:
		machine_event(m, EV_UP);
		break;
	case HV_STATUS_INCOMING:
		machine_event(m, EV_MIGRATE);
		break;
	case HV_STATUS_UNKNOWN:
		break; /* its monitor does not answer: unknown until it does */
	case HV_STATUS_PANICKED:
		machine_event(m, EV_UP);
		machine_panic_held(m);
		break;
	case HV_STATUS_BROKEN:
		machine_event(m, EV_UP);
		machine_broken(m);
		break;
	default:
		machine_event(m, EV_PAUSED);
		break;
	}
	if (m->panicked && !deadline_armed(&m->panic_timer))
		deadline_set(&m->panic_timer, MACHINE_PANIC_SILENCE_MS);
	/* It had not come to where its memory is given up: it is loaded once more. */
	if (m->intent == INTENT_NONE && (m->restore != NULL || m->suspended))
		m->intent = m->restore != NULL ? INTENT_RESTORE : INTENT_RESTART;
	/* Nobody waits for those copies any more. */
	if (m->copying) {
		m->copying = false;
		hv_job_cancel(m->hv);
	}
	if (m->intent == INTENT_NONE && machine_warm_foreign(m) && !m->hold &&
		hv_status(m->hv) == HV_STATUS_PAUSED)
		m->intent = INTENT_RESTART;
	/* A stop or a restart that was begun goes on. */
	if (m->intent != INTENT_NONE)
		machine_event(m, EV_STOP);
	else if (m->hold || m->frozen)
		machine_unhold(m);
	if (m->intent == INTENT_NONE && machine_warm_foreign(m))
		machine_warm_adopted(m);
	machine_adopt_finished(m);
}

/* What runs is what it was started with, whatever the configuration says today. */
static const struct hv_ops *started_with(const struct machine *m)
{
	const char *name = m->applied != NULL ? json_str(m->applied, "hypervisor") : NULL;
	const struct hv_ops *ops = name != NULL ? hv_find(name) : NULL;

	return ops != NULL ? ops : hv_find(m->run_cfg->hypervisor);
}

static int take_up(struct machine *m, struct err *err)
{
	struct hv_callbacks cb = machine_hv_callbacks(m);
	struct spec_hold hold = { 0 };
	struct hv_spec spec;
	struct err ignored;
	int r;

	config_box_unref(m->run_box);
	m->run_box = config_box_ref(m->d->box);
	m->run_cfg = m->cfg != NULL ? m->cfg : &removed_config;
	r = fault_at("adopt", "take-up", err);
	/* Somebody may have cleaned up below run_dir. */
	if (r == 0)
		r = mkdir_p(m->run_dir, 0700, err);
	if (r == 0)
		r = machine_spec(m, &spec, &hold, err);
	if (r == 0)
		r = machine_console_open(m, err);
	if (r == 0)
		r = hv_create(&m->hv, started_with(m), m->d->loop, &cb, err);
	/* The machine runs: better without its passthrough than not taken up. */
	if (r == 0 && machine_passthrough_open(m, &ignored) < 0)
		log_msg(LOG_LVL_WARN, m->name, "no passthrough: %s (ignoring)", ignored.msg);
	if (r == 0) {
		m->process = true;
		m->warm_tried = m->warm_load;
		console_note_gap(m->console);
		hv_adopt(m->hv, &spec, &m->left, &m->exit_status, adopted, m);
	}
	spec_hold_finish(&hold);
	return r;
}

void machine_take_up(struct machine *m)
{
	struct err err;

	if (take_up(m, &err) < 0)
		take_up_later(m, &err);
}

/* What is left of the wait; after a reboot of the host the plan starts it at once. */
static void resume_backoff(struct machine *m, bool this_boot)
{
	uint64_t now = clock_unix_ms();

	if (!this_boot) {
		m->state = MACHINE_STOPPED;
		return;
	}
	deadline_set(&m->timer, m->retry_at_ms > now ? m->retry_at_ms - now : 0);
}

void machine_adopt(
	struct machine *m, const struct saved_process *saved, void (*done)(void *arg), void *arg)
{
	bool had_run = saved->state != MACHINE_STOPPED && saved->state != MACHINE_FAILED &&
		       saved->state != MACHINE_BACKOFF;

	m->adopted = done;
	m->adopted_arg = arg;
	machine_migrate_restarted(m);
	if (!had_run && m->restore != NULL) {
		m->intent = INTENT_RESTORE;
		run_is_over(m, "droverd ended before the restore was done");
		return;
	}
	if (!had_run) {
		machine_forget_nics(m);
		m->state = saved->state;
		if (m->state == MACHINE_BACKOFF)
			resume_backoff(m, saved->this_boot);
		machine_adopt_finished(m);
		return;
	}
	m->state = MACHINE_UNKNOWN;
	if (!saved->this_boot) {
		m->exit_status = (struct child_status){ 0 };
		m->hint = CAUSE_HOST_SHUTDOWN;
		free(m->hint_text);
		m->hint_text = str_printf("the host was rebooted");
		m->error.code = 0;
		run_is_over(m, "the host was rebooted since");
		return;
	}
	if (saved->process.pid == 0) {
		/*
		 * It had not come to the spawn, or its end had been seen: only the rest is left. A
		 * start that was cut short is taken up again.
		 */
		if (saved->state != MACHINE_STOPPING) {
			err_set(&m->error, -EINTR,
				"vm %s: droverd ended while the machine was starting", m->name);
			m->intent = m->want_known && !m->want_running ? INTENT_STOP
								      : INTENT_RESTART;
		}
		run_is_over(m, "droverd ended before the hypervisor ran");
		return;
	}
	machine_take_up(m);
}

/* What is asked of one machine, and the door for all that happens: supervisor/machine.h. */
#include "supervisor/machine-steps.h"
#include "supervisor/machine-space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/dropin.h"
#include "supervisor/migrate.h"
#include "supervisor/network.h"
#include "supervisor/warm.h"

static const char *event_name(enum machine_event ev)
{
	static const char *const names[MACHINE_EVENTS] = {
		[EV_START] = "start",
		[EV_PREPARED] = "prepared",
		[EV_START_FAILED] = "start-failed",
		[EV_UP] = "up",
		[EV_PAUSED] = "paused",
		[EV_RESUMED] = "resumed",
		[EV_LOAD] = "load",
		[EV_SAVE] = "save",
		[EV_SAVED] = "saved",
		[EV_MIGRATE] = "migrate",
		[EV_STOP] = "stop",
		[EV_EXITED] = "exited",
		[EV_CLEAN] = "clean",
		[EV_REST] = "rest",
		[EV_WAIT] = "wait",
		[EV_GIVE_UP] = "give-up",
		[EV_AGAIN] = "again",
	};

	return names[ev];
}

static void handle(struct machine *m, enum machine_event ev)
{
	const struct transition *t = machine_transition(m->state, ev);

	if (!t->valid) {
		if (log_enabled(LOG_LVL_DEBUG))
			log_msg(LOG_LVL_DEBUG, m->name, "%s: ignoring %s",
				machine_state_name(m->state), event_name(ev));
		return;
	}
	machine_set_state(m, t->next);
	if (t->action != NULL)
		t->action(m);
}

/* An action may cause the next event: it waits until the present one is done with. */
void machine_event(struct machine *m, enum machine_event ev)
{
	if (m->npending == ARRAY_LEN(m->pending)) {
		log_msg(LOG_LVL_ERROR, m->name, "too many events at once: %s is lost",
			event_name(ev));
		return;
	}
	m->pending[m->npending++] = ev;
	if (m->handling)
		return;
	m->handling = true;
	while (m->npending > 0) {
		enum machine_event next = m->pending[0];

		memmove(m->pending, m->pending + 1, --m->npending * sizeof(m->pending[0]));
		handle(m, next);
	}
	m->handling = false;
}

bool machine_active(const struct machine *m)
{
	return m->state != MACHINE_STOPPED && m->state != MACHINE_FAILED &&
	       m->state != MACHINE_BACKOFF;
}

void machine_now_up(struct machine *m)
{
	enum hv_status status = hv_status(m->hv);

	m->up_mono_ms = clock_mono_ms();
	machine_tell(m, "up", "the monitor answers: %s, %s", hv_caps(m->hv)->program,
		hv_accel_text(m->hv));
	machine_save_soon(m);
	if (status == HV_STATUS_CREATED || status == HV_STATUS_PAUSED)
		machine_event(m, EV_PAUSED);
	/* Its first steps may have been its last: no event tells of that a second time. */
	else if (status == HV_STATUS_BROKEN)
		machine_broken(m);
	else if (status == HV_STATUS_PANICKED)
		machine_panic_held(m);
	machine_end_op(m, NULL);
	machine_leave_slot(m);
	machine_wake_waiting(m->d);
}

void machine_leave_rest(struct machine *m)
{
	deadline_cancel(&m->timer);
	m->failures = 0;
	machine_end_op(m, NULL);
}

void machine_timer(void *arg)
{
	struct machine *m = arg;
	struct err err;

	if (m->left.pid != 0) {
		machine_take_up(m);
	} else if (m->state == MACHINE_STOPPING) {
		machine_shutdown_next(m);
	} else if (m->state == MACHINE_BACKOFF) {
		m->restarts++;
		if (machine_start(m, "the restart policy", false, NULL, &err) < 0)
			log_msg(LOG_LVL_WARN, m->name, "not restarted: %s", err.msg);
	}
}

/* ---- operations ---- */

int machine_busy(const struct machine *m, struct err *err)
{
	return err_set(err, -EBUSY, "vm %s: busy with %s (for %s)", m->name, operation_verb(m->op),
		format_duration(operation_age_ms(m->op) / 1000));
}

int machine_wrong_state(const struct machine *m, const char *verb, struct err *err)
{
	return err_set(err, -EBADFD, "vm %s: cannot %s a machine that is %s", m->name, verb,
		m->cfg == NULL && !machine_active(m) ? "removed" : machine_state_name(m->state));
}

static void set_want(struct machine *m, bool running)
{
	m->want_known = true;
	m->want_running = running;
}

/* What is wanted and what is about to be done are on disk, at once, before it is done. */
static int save_intent(struct machine *m, enum intent intent, struct err *err)
{
	enum intent before = m->intent;
	int r;

	m->intent = intent;
	r = machine_save(m, err);
	if (r < 0)
		m->intent = before;
	return r;
}

/* It becomes a stop: what was cancelled is not begun again by a reload or the next daemon. */
static int cancel_op(void *arg, struct err *err)
{
	struct machine *m = arg;
	bool known = m->want_known, running = m->want_running;
	int r;

	if (m->op_ending)
		return err_set(
			err, -EBADFD, "vm %s: %s has just ended", m->name, operation_verb(m->op));
	if (m->op_cancelled)
		return 0;
	if (m->cfg != NULL)
		set_want(m, false);
	r = save_intent(m, INTENT_STOP, err);
	if (r < 0) {
		m->want_known = known;
		m->want_running = running;
		return r;
	}
	m->op_cancelled = true;
	machine_tell(m, "cancelled", "%s was cancelled", operation_verb(m->op));
	/* Of a restart that still stops it there is nothing more to be done. */
	if (m->state != MACHINE_STOPPING)
		machine_event(m, EV_STOP);
	return 0;
}

int machine_begin_op(struct machine *m, const char *verb, operation_cancel_fn *cancel,
	struct operation **op, struct err *err)
{
	m->op = operation_begin(m->d->ops, verb, m->name, cancel, m);
	if (m->op == NULL)
		return err_nomem(err);
	m->op_cancelled = false;
	if (op != NULL)
		*op = m->op;
	return 0;
}

static int begin_op(struct machine *m, const char *verb, bool can_cancel, struct operation **op,
	struct err *err)
{
	return machine_begin_op(m, verb, can_cancel ? cancel_op : NULL, op, err);
}

int machine_start(
	struct machine *m, const char *by, bool want, struct operation **op, struct err *err)
{
	int r;

	if (op != NULL)
		*op = NULL;
	if (m->cfg == NULL)
		return machine_wrong_state(m, "start", err);
	if (m->d->stopping)
		return err_set(err, -ECANCELED, "droverd is stopping");
	/* What is refused changes nothing: a stop that is under way stays wanted. */
	if (m->op != NULL)
		return machine_busy(m, err);
	if (machine_check_may_run(m, "start", err) < 0)
		return err->code;
	if (m->suspended && !machine_active(m) && machine_check_suspended(m, err) < 0)
		return err->code;
	if (want)
		set_want(m, true);
	/* A start that begins at once saves that as its first step. */
	if (want && machine_active(m)) {
		r = machine_save(m, err);
		if (r < 0)
			return r;
	}
	if (machine_active(m) && m->state != MACHINE_STOPPING)
		return 0;
	r = begin_op(m, "start", true, op, err);
	if (r < 0)
		return r;
	if (want)
		m->failures = 0;
	if (m->state == MACHINE_STOPPING) {
		/* Its run has ended and is being cleared away: it starts when that is done. */
		m->intent = INTENT_RESTART;
		return 0;
	}
	deadline_cancel(&m->timer);
	m->intent = INTENT_NONE;
	json_decref(m->story);
	m->story = NULL;
	machine_tell(m, "start", "started by %s", by);
	machine_event(m, EV_START);
	return 0;
}

/*
 * Whoever wants what is already being done waits for that: a stop for a stop or a kill, a kill for a
 * kill; and both for a stop whose machine has ended, which only has to be on disk yet.
 */
static bool joins_stop(const struct machine *m, enum intent how)
{
	bool kill, stop;

	if (m->op == NULL || m->removing)
		return false;
	kill = str_eq(operation_verb(m->op), "kill");
	stop = str_eq(operation_verb(m->op), "stop");
	return kill || (stop && (how == INTENT_STOP || m->op_ending));
}

int machine_stop(struct machine *m, enum intent how, const char *by, bool want,
	struct operation **op, struct err *err)
{
	bool at_rest = m->state == MACHINE_STOPPED && m->op == NULL;
	bool joins = joins_stop(m, how);
	/* A kill overrules everything, a stop whatever makes the machine run. */
	bool refused = m->op != NULL && !joins &&
		       (m->removing || (how != INTENT_KILL && (m->intent == INTENT_STOP ||
								      m->intent == INTENT_KILL)));
	bool nothing = at_rest || refused || joins;
	/* Its memory is on disk: were the guest let run again to shut down, that would be a lie. */
	bool put_down = m->suspended && m->intent == INTENT_SUSPEND;
	enum intent intent = put_down && how == INTENT_STOP ? INTENT_SUSPEND : how;
	enum intent before = m->intent;
	struct err overruled;
	int r = 0;

	if (op != NULL)
		*op = NULL;
	/* Until it is known whose it is, only its hypervisor's own death ends it. */
	if (machine_is_given(m) && m->process)
		return machine_check_may_run(m, how == INTENT_KILL ? "kill" : "stop", err);
	want = want && m->cfg != NULL;
	if (want)
		set_want(m, false);
	if (want || !nothing)
		r = save_intent(m, nothing ? before : intent, err);
	/* A full disk must not keep the machine running. It is written when there is room again; a
	 * daemon that came before that would have the machine run, which the condition tells. */
	if (r < 0) {
		log_error("%s (going on without it)", err->msg);
		m->intent = nothing ? before : intent;
	}
	if (joins && op != NULL)
		*op = m->op;
	if (at_rest || joins)
		return 0;
	if (refused)
		return machine_busy(m, err);
	if (m->op != NULL) {
		struct operation *old = m->op;

		err_set(&overruled, -ECANCELED, "vm %s: %s was overruled by %s", m->name,
			operation_verb(old), how == INTENT_KILL ? "kill" : "stop");
		/* One that has come to its end, and only waits for the disk, keeps it. */
		if (m->op_ending)
			overruled = m->op_error;
		if (put_down)
			overruled.code = 0;
		m->op = NULL;
		m->op_ending = false;
		operation_end(old, overruled.code < 0 ? &overruled : NULL);
		machine_job_overruled(m);
	}
	machine_migrate_overruled(m);
	r = begin_op(m, how == INTENT_KILL ? "kill" : "stop", false, op, err);
	if (r < 0) {
		m->intent = before;
		return r;
	}
	machine_tell(m, how == INTENT_KILL ? "kill" : "stop", "asked for by %s", by);
	machine_event(m, EV_STOP);
	return 0;
}

int machine_stop_within(struct machine *m, uint64_t guest_ms, const char *by, struct operation **op,
	struct err *err)
{
	const struct operation *before = m->op;
	int r = machine_stop(m, INTENT_STOP, by, true, op, err);

	if (r == 0 && m->op != NULL)
		machine_give_guest_time(m, guest_ms, m->op == before);
	return r;
}

int machine_restart(
	struct machine *m, enum intent how, const char *by, struct operation **op, struct err *err)
{
	enum intent before;
	int r;

	if (m->cfg == NULL)
		return machine_wrong_state(m, "restart", err);
	if (machine_check_settled(m, "restart", err) < 0)
		return err->code;
	if (!machine_active(m)) {
		if (how == INTENT_RECREATE && machine_forget_disk(m, err) < 0)
			return err->code;
		return machine_start(m, by, true, op, err);
	}
	if (m->op != NULL)
		return machine_busy(m, err);
	set_want(m, true);
	before = m->intent;
	r = save_intent(m, how, err);
	if (r == 0)
		r = begin_op(m, "restart", true, op, err);
	if (r < 0) {
		m->intent = before;
		return r;
	}
	machine_tell(m, "restart", "asked for by %s", by);
	machine_event(m, EV_STOP);
	return 0;
}

/*
 * Of what the hypervisor was asked for, for an operation of this verb. The state follows from the
 * hypervisor's own event, which came before this reply. A kill or stop may have overruled the
 * operation: then the present one is not ours to end.
 */
void machine_asked(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	if (m->op == NULL || !str_eq(operation_verb(m->op), m->asked))
		return;
	if (err != NULL) {
		mine = *err;
		err_wrap(&mine, "vm %s", m->name);
		err = &mine;
	}
	machine_end_op(m, err);
}

int machine_pause(struct machine *m, struct operation **op, struct err *err)
{
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (machine_check_settled(m, "pause", err) < 0)
		return err->code;
	if (m->state == MACHINE_PAUSED) {
		machine_space_hold(m, true);
		return 0;
	}
	if (m->state != MACHINE_RUNNING)
		return machine_wrong_state(m, "pause", err);
	r = begin_op(m, "pause", false, op, err);
	if (r == 0) {
		m->asked = "pause";
		machine_tell(m, "pause", "asked for by a person");
		hv_pause(m->hv, machine_asked, m);
	}
	return r;
}

int machine_resume(struct machine *m, struct operation **op, struct err *err)
{
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (machine_check_may_run(m, "resume", err) < 0)
		return err->code;
	if (m->state == MACHINE_RUNNING)
		return 0;
	if (m->suspended && !machine_active(m))
		return machine_start(m, "a person", true, op, err);
	if (m->state != MACHINE_PAUSED)
		return machine_wrong_state(m, "resume", err);
	r = begin_op(m, "resume", false, op, err);
	if (r == 0) {
		m->asked = "resume";
		machine_space_hold(m, false);
		machine_tell(m, "resume", "asked for by a person");
		hv_resume(m->hv, machine_asked, m);
	}
	return r;
}

/* Deletes a machine's files in the thread pool. */
struct removal {
	uv_work_t work;
	struct machine *m;
	char *dir, *log_dir;
	int result;
	struct err err;
};

static void remove_files(uv_work_t *work)
{
	struct removal *rm = container_of(work, struct removal, work);

	/* The thread that syncs the last state may just be giving it its second name. */
	for (int i = 0; i < 3; i++) {
		rm->result = remove_tree(rm->dir, &rm->err);
		if (rm->result != -ENOTEMPTY)
			break;
	}
	if (rm->result == 0 && rm->log_dir != NULL)
		rm->result = remove_tree(rm->log_dir, &rm->err);
}

static void files_removed(uv_work_t *work, int status)
{
	struct removal *rm = container_of(work, struct removal, work);
	struct machine *m = rm->m;
	struct operation *op = m->op;
	struct drover *d = m->d;

	m->op = NULL;
	m->removing = false;
	if (m->closing > 0) {
		machine_closed(m);
	} else if (rm->result < 0) {
		err_wrap(&rm->err, "vm %s", m->name);
		operation_end(op, &rm->err);
	} else {
		events_emit(m->d->events, "vm", m->name, "removed", NULL);
		free(m->disk_path);
		m->disk_path = NULL;
		m->suspended = false;
		free(m->warm_image);
		m->warm_image = NULL;
		free(m->migrated_to);
		m->migrated_to = NULL;
		/* One that is in the user's files stays, without its past. */
		if (m->cfg == NULL)
			machine_destroy(m);
		warm_sweep(d, false);
		operation_end(op, NULL);
	}
	free(rm->dir);
	free(rm->log_dir);
	free(rm);
}

int machine_rm(struct machine *m, bool disks, struct operation **op, struct err *err)
{
	struct removal *rm;
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->job != NULL)
		return err_set(err, -EBUSY, "vm %s: what is left of its last operation is removed",
			m->name);
	if (machine_active(m) || m->state == MACHINE_BACKOFF)
		return machine_wrong_state(m, "remove", err);
	if (m->in != NULL && (m->in->state == TARGET_RECEIVING || m->in->state == TARGET_ARRIVED))
		return err_set(
			err, -EBUSY, "vm %s: it is being received from %s", m->name, m->in->from);
	if (m->out != NULL)
		return err_set(err, -EBUSY, "vm %s: its migration to %s is not settled yet",
			m->name, m->out->url);
	if (m->migrated_to != NULL && m->migrated_disks && m->disk_path != NULL && !disks)
		return err_set(err, -EBUSY,
			"vm %s: its disk %s is still here, as it was when it migrated to %s; `drover rm "
			"%s --disks` deletes it",
			m->name, quote(m->disk_path), m->migrated_to, m->name);
	if (m->migrated_to != NULL && m->disk_path != NULL && !disks)
		return err_set(err, -EBUSY,
			"vm %s: its disk %s is in use at %s, where it has migrated to; `drover rm %s "
			"--disks` deletes it all the same",
			m->name, quote(m->disk_path), m->migrated_to, m->name);
	if (m->disk_path != NULL && !disks)
		return err_set(err, -EBUSY,
			"vm %s: it still has its disk %s; `drover rm %s --disks` deletes that too",
			m->name, quote(m->disk_path), m->name);
	if (!disks && machine_has_volumes(m))
		return err_set(err, -EBUSY,
			"vm %s: it still has volumes in %s; `drover rm %s --disks` deletes those too",
			m->name, quote(m->dir), m->name);
	rm = calloc(1, sizeof(*rm));
	if (rm == NULL)
		return err_nomem(err);
	rm->m = m;
	rm->dir = strdup(m->dir);
	rm->log_dir = strdup(m->log_dir);
	/* What is written later would be found in a folder that is gone. */
	machine_flush(m);
	r = rm->dir == NULL || rm->log_dir == NULL ? err_nomem(err)
						   : begin_op(m, "rm", false, op, err);
	/*
	 * Its section first: without it, what is left of the disks is never taken for a new machine.
	 * One that was not read, or not yet, would be at the next reload.
	 */
	if (r == 0 && (m->cfg == NULL || dropin_has(m->d->state_dir, m->cfg))) {
		r = dropin_remove(m->d->state_dir, m->name, err);
		if (r == 0) {
			m->cfg = NULL;
		} else {
			operation_end(m->op, err);
			m->op = NULL;
			*op = NULL;
		}
	}
	if (r == 0) {
		m->removing = true;
		r = uv_queue_work(m->d->loop, &rm->work, remove_files, files_removed);
		if (r == 0)
			return 0;
		m->removing = false;
		err_errno(err, r, "vm %s: rm", m->name);
		operation_end(m->op, err);
		m->op = NULL;
		*op = NULL;
	}
	free(rm->dir);
	free(rm->log_dir);
	free(rm);
	return r;
}

/* The target of a migration: supervisor/migrate.h, supervisor/handover.h. */
#include "supervisor/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/dropin.h"
#include "supervisor/faults.h"
#include "supervisor/network.h"
#include "supervisor/reload.h"

#define CONNECT_MS 20000            /* until the sender has connected */
#define SILENCE_MS (10 * 60 * 1000) /* of a sender whose guest is here */
#define RESUME_MS  200
#define AGAIN_MS   1000
#define QUIET_MS   5000               /* a source that is there asks more often than that */
#define FORGET_MS  (24 * 3600 * 1000) /* a guest that was dropped and that nobody asks about */

static const char *receive_point(size_t i)
{
	static const char *const points[] = { "receiving", "section", "bound", "disks", "waiting",
		"serving", "wanted", "connected", "loaded", "arrived", "committed", "taken",
		"running", "aborted", "dropped", "remove", "farewell" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table receive_faults = { "receive", receive_point, 0 };

static void emit(const struct migrate_in *in, const char *event, const char *reason)
{
	json_t *more = json_object();

	json_put_str(more, "from", in->from);
	if (reason != NULL)
		json_put_str(more, "reason", reason);
	events_emit(in->g.d->events, "vm", in->g.m->name, event, more);
}

static bool has_op(const struct migrate_in *in)
{
	const struct machine *m = in->g.m;

	return m->op != NULL && str_eq(operation_verb(m->op), "receive");
}

/* ---- the object ---- */

static void forget_request(struct migrate_in *in)
{
	if (in->rq != NULL)
		request_on_gone(in->rq, NULL, NULL);
	in->rq = NULL;
}

void migrate_in_free(struct migrate_in *in)
{
	if (in->g.m != NULL)
		in->g.m->in = NULL;
	/* Whoever still waits for an answer is told by the server that there is none. */
	if (in->rq != NULL) {
		struct request *rq = in->rq;
		struct err err;

		err_set(&err, -ECANCELED, "the migration was let go of");
		forget_request(in);
		reply_err(rq, &err, NULL, NULL);
	}
	free(in->from);
	free(in->want_via);
	free(in->via);
	free(in->section);
	json_decref(in->facts);
	in->from = in->want_via = in->via = in->section = NULL;
	in->facts = NULL;
	migrate_release(&in->g);
}

static void request_gone(void *arg)
{
	struct migrate_in *in = arg;

	in->rq = NULL;
	/* Nobody has the id that the answer would have told. */
	if (in->state == TARGET_RECEIVING && !in->told) {
		if (in->err.code == 0)
			err_set(&in->err, -ECANCELED, "%s waits no longer", in->from);
		migrate_in_event(in, TARGET_LOST);
	}
}

static void answer_later(struct migrate_in *in, struct request *rq)
{
	in->rq = rq;
	request_on_gone(rq, request_gone, in);
}

static void timer(void *arg)
{
	struct migrate_in *in = arg;

	if (in->g.unsaved && !in->g.saving)
		migrate_record(&in->g, NULL);
	if (in->g.unsaved && !in->g.free)
		return;
	if (in->state == TARGET_RECEIVING && in->told && in->g.wire != NULL && !in->loading) {
		err_set(&in->err, -ETIMEDOUT, "%s has not connected", in->from);
		/* It has sent nothing, so it will never wait for our word: nothing is to be kept. */
		in->told = false;
		migrate_in_event(in, TARGET_LOST);
	} else if (in->state == TARGET_ARRIVED) {
		err_set(&in->err, -ETIMEDOUT, "%s says nothing any more", in->from);
		migrate_in_event(in, TARGET_LOST);
	} else {
		migrate_in_drive(in);
	}
}

static void reply_prepare(struct migrate_in *in);
static void reply_answer(struct migrate_in *in);

static void saved(struct migrate *g)
{
	struct migrate_in *in = container_of(g, struct migrate_in, g);

	if (in->state == TARGET_NONE) {
		reply_answer(in);
		migrate_in_free(in);
		return;
	}
	/* The same record once more: that the id has gone out. */
	if (in->state == TARGET_RECEIVING && in->told) {
		reply_prepare(in);
		return;
	}
	fault_at("receive", handover_target_name(in->state), NULL);
	migrate_in_drive(in);
}

static struct migrate_in *create(struct machine *m, const char *from)
{
	struct migrate_in *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return NULL;
	in->from = strdup(from);
	if (in->from == NULL) {
		free(in);
		return NULL;
	}
	in->heard_mono_ms = clock_mono_ms();
	migrate_init(&in->g, m, timer, in);
	in->g.saved = saved;
	return in;
}

struct migrate_in *migrate_in_load(struct machine *m, const json_t *j)
{
	const char *from = json_str(j, "from"), *id = json_str(j, "id");
	struct migrate_in *in = from != NULL && id != NULL ? create(m, from) : NULL;

	if (in == NULL || !handover_target_from_name(json_str(j, "state"), &in->state)) {
		log_msg(LOG_LVL_ERROR, m->name, "the record of its migration cannot be read");
		if (in != NULL)
			migrate_in_free(in);
		return NULL;
	}
	snprintf(in->g.id, sizeof(in->g.id), "%s", id);
	in->told = json_flag(j, "told", true);
	in->ran = json_flag(j, "ran", false);
	in->copied = json_flag(j, "copied", false);
	in->came_back = json_flag(j, "came_back", false);
	in->since_ms = (uint64_t)json_int(j, "since", 0);
	return in;
}

/* ---- answers ---- */

/* Whether the disks that it had here before are back in their places. */
static bool is_settled(const struct migrate_in *in)
{
	return in->settled || !in->copied || !in->came_back;
}

/* Whether what the record asks for is still to be done. */
static bool is_busy(const struct migrate_in *in)
{
	const struct machine *m = in->g.m;

	if ((in->g.unsaved && !in->g.free) || in->ending)
		return true;
	if (in->state == TARGET_TAKEN)
		return !in->ran;
	/* Whether it is there is known when its process has been adopted. */
	if (in->state == TARGET_ARRIVED)
		return m->adopted != NULL;
	return in->state == TARGET_DROPPED &&
	       (machine_active(m) || m->left.pid != 0 || m->adopted != NULL || !is_settled(in));
}

static void reply(struct request *rq, const char *id, enum handover_answer answer)
{
	json_t *j = json_object();

	json_put_str(j, "id", id);
	json_put_str(j, "answer", handover_answer_name(answer));
	reply_json(rq, 200, j);
}

static void reply_answer(struct migrate_in *in)
{
	struct request *rq = in->rq;

	if (rq == NULL)
		return;
	forget_request(in);
	reply(rq, in->g.id, handover_target_answer(in->state, is_busy(in)));
}

static void reply_prepare(struct migrate_in *in)
{
	struct request *rq = in->rq;
	json_t *j = json_object();

	deadline_set(&in->g.timer, CONNECT_MS);
	json_put_str(j, "id", in->g.id);
	json_put_str(j, "via", in->via);
	if (in->disks.n > 0)
		json_put_str(j, "disks_id", in->disks.key);
	json_put_str(j, "state", handover_target_name(in->state));
	if (rq == NULL) {
		json_decref(j);
		return;
	}
	forget_request(in);
	reply_json(rq, 200, j);
}

static void remove_machine(struct migrate_in *in);

/* The source is lost: it will never bid farewell, nor ask. */
int migrate_in_resolve(struct migrate_in *in, bool keep_it, struct err *err)
{
	struct machine *m = in->g.m;
	bool ours = in->state == TARGET_TAKEN;

	if (is_busy(in) || (!ours && in->state != TARGET_DROPPED))
		return err_set(err, -EBUSY, "vm %s: its migration is under way", m->name);
	if (keep_it != ours)
		return err_set(err, -EBADFD, "vm %s: it is not in doubt: it %s", m->name,
			ours ? "was taken, and is here" : "was dropped, and is not here");
	if (clock_mono_ms() - in->heard_mono_ms < QUIET_MS)
		return err_set(err, -EBUSY, "vm %s: %s was heard of just now: this ends by itself",
			m->name, in->from);
	machine_tell(m, "migrate-resolve", "%s is lost, says a person", in->from);
	if (!ours && !in->came_back) {
		remove_machine(in);
		return 0;
	}
	migrate_in_event(in, ours ? TARGET_HEARD_FAREWELL : TARGET_HEARD_ABORT);
	return 0;
}

static struct migrate_in *find(struct drover *d, const char *id)
{
	struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if (m->in != NULL && m->in->state != TARGET_NONE && str_eq(m->in->g.id, id))
			return m->in;
	}
	return NULL;
}

void migrate_heard(
	struct drover *d, const char *id, enum handover_target_event ev, struct request *rq)
{
	struct migrate_in *in = find(d, id);
	enum handover_target before;

	if (in == NULL) {
		reply(rq, id, ANSWER_UNKNOWN);
		return;
	}
	in->heard_mono_ms = clock_mono_ms();
	if (ev == TARGET_HEARD_ABORT)
		fault_at("receive", "aborted", NULL);
	if (in->state == TARGET_ARRIVED)
		deadline_set(&in->g.timer, SILENCE_MS);
	/* What is about to be stopped here goes on better where it was. */
	if (is_busy(in) || (d->stopping && ev == TARGET_HEARD_COMMIT)) {
		reply(rq, id, ANSWER_NOT_YET);
		return;
	}
	before = in->state;
	/* The record goes with the machine: there is none of it without the other. */
	if (before == TARGET_DROPPED && ev == TARGET_HEARD_ABORT && !in->came_back) {
		remove_machine(in);
		reply(rq, id, ANSWER_NOT_YET);
		return;
	}
	if (before == TARGET_ARRIVED && ev == TARGET_HEARD_COMMIT)
		fault_at("receive", "committed", NULL);
	if (before == TARGET_TAKEN && ev == TARGET_HEARD_FAREWELL)
		fault_at("receive", "farewell", NULL);
	if (ev == TARGET_HEARD_ABORT && in->err.code == 0)
		err_set(&in->err, -ECANCELED, "%s keeps it", in->from);
	migrate_in_event(in, ev);
	if (in->state == before || in->rq != NULL)
		reply(rq, id, handover_target_answer(in->state, is_busy(in)));
	else
		answer_later(in, rq);
}

/* ---- it does not come ---- */

static void runs(struct migrate_in *in);

static void settled(struct migrate_in *in)
{
	in->writing = false;
	in->settled = true;
	if (in->state == TARGET_TAKEN)
		runs(in);
	else
		migrate_in_drive(in);
}

static void remove_machine(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	struct operation *op;
	struct err err;

	fault_at("receive", "remove", NULL);
	in->ending = true;
	deadline_set(&in->g.timer, AGAIN_MS);
	if (machine_rm(m, true, &op, &err) == 0)
		return;
	in->ending = false;
	log_msg(LOG_LVL_WARN, m->name, "not removed yet: %s", err.msg);
}

static void end_op(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	struct err err = in->err;

	if (err.code == 0)
		err_set(&err, -EIO, "it did not come");
	err_wrap(&err, "vm %s: receive", m->name);
	machine_end_op(m, &err);
}

/* Whoever asked for it is told why. */
static void refuse(struct migrate_in *in)
{
	struct request *rq = in->rq;
	struct err err = in->err;

	if (rq == NULL)
		return;
	forget_request(in);
	if (in->told) {
		reply(rq, in->g.id, handover_target_answer(in->state, is_busy(in)));
		return;
	}
	if (err.code == 0)
		err_set(&err, -EIO, "vm %s: it cannot be received", in->g.m->name);
	if (err.code == -ENOENT)
		err.code = -EINVAL;
	reply_err(rq, &err, in->g.m->name, NULL);
}

/* Those disks: to the pool, and on when it has done that. false: wait. */
static bool settle(struct migrate_in *in, bool made)
{
	if (in->settled || !in->copied || (!made && !in->came_back))
		return true;
	if (in->writing)
		return false;
	in->writing = true;
	if (migrate_keep_disks(in, made, settled) < 0) {
		in->writing = false;
		deadline_set(&in->g.timer, AGAIN_MS);
	}
	return false;
}

static void drop(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	uint64_t now = clock_unix_ms();

	/* One that has not been removed, for whatever reason, is tried again. */
	in->ending = in->ending && m->op != NULL;
	if (m->left.pid != 0 || m->tearing_down || in->ending || in->writing) {
		deadline_set(&in->g.timer, RESUME_MS);
		return;
	}
	if (machine_active(m)) {
		if (m->intent != INTENT_MIGRATE) {
			m->intent = INTENT_MIGRATE;
			machine_event(m, EV_STOP);
		}
		return;
	}
	m->receiving = false;
	if (!settle(in, false))
		return;
	refuse(in);
	if (has_op(in))
		end_op(in);
	/* It is told of when its operation has ended. */
	if (m->op != NULL) {
		deadline_set(&in->g.timer, RESUME_MS);
		return;
	}
	if (in->told && now < in->since_ms + FORGET_MS) {
		deadline_set(&in->g.timer, in->since_ms + FORGET_MS - now);
	} else if (in->came_back) {
		in->state = TARGET_NONE;
		migrate_record(&in->g, NULL);
	} else {
		remove_machine(in);
	}
}

/* ---- it comes ---- */

static void loaded(void *arg, const struct err *err)
{
	struct migrate_in *in = arg;

	in->loading = false;
	migrate_close_stream(&in->g);
	if (err != NULL && in->err.code == 0)
		in->err = *err;
	if (err == NULL)
		fault_at("receive", "loaded", NULL);
	migrate_in_event(in, err == NULL ? TARGET_GUEST_ARRIVED : TARGET_LOST);
}

static void connected(void *arg, int fd, const struct err *err)
{
	struct migrate_in *in = arg;
	struct hv_migration from = { .fd = fd };

	/* More may come to write the disks. */
	if (in->disks.n == 0)
		in->g.wire = NULL;
	deadline_cancel(&in->g.timer);
	fault_at("receive", "connected", NULL);
	in->g.fd = fd;
	in->loading = true;
	operation_step(in->g.m->op, "memory");
	hv_migrate_in(in->g.m->hv, &from, loaded, in);
}

static void disk_wanted(void *arg, int fd)
{
	struct migrate_in *in = arg;

	fault_at("receive", "wanted", NULL);
	migrate_disk_wanted(in, fd);
}

static void not_waiting(struct migrate_in *in, const struct err *err)
{
	in->err = *err;
	err_wrap(&in->err, "vm %s", in->g.m->name);
	migrate_in_event(in, TARGET_LOST);
}

static int listen_for(struct migrate_in *in, struct err *err)
{
	struct machine *m = in->g.m;
	char *path = NULL;
	int r = migrate_check_program(m, in->facts, err);

	if (r < 0)
		return r;
	if (in->want_via == NULL) {
		path = str_printf("unix:%s/migrate.sock", m->run_dir);
		if (path == NULL)
			return err_nomem(err);
	}
	r = wire_listen(&in->g.wire, m->d->loop, path != NULL ? path : in->want_via, in->g.id,
		&in->via, connected, in, err);
	free(path);
	if (r == 0 && in->disks.n > 0)
		wire_more(in->g.wire, in->disks.key, disk_wanted);
	return r;
}

static void wait_for_it(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	struct err err;

	if (listen_for(in, &err) < 0) {
		not_waiting(in, &err);
		return;
	}
	operation_step(m->op, "waiting");
	in->told = true;
	migrate_record(&in->g, NULL);
}

static void serving(void *arg, const struct err *err)
{
	struct migrate_in *in = arg;

	if (in->state != TARGET_RECEIVING)
		return;
	if (err != NULL) {
		not_waiting(in, err);
		return;
	}
	fault_at("receive", "serving", NULL);
	wait_for_it(in);
}

void machine_now_waiting(struct machine *m)
{
	struct migrate_in *in = m->in;
	struct err err;

	m->up_mono_ms = clock_mono_ms();
	machine_leave_slot(m);
	machine_wake_waiting(m->d);
	/* It was dropped while it started. */
	if (in == NULL || in->state != TARGET_RECEIVING) {
		machine_event(m, EV_STOP);
		return;
	}
	machine_tell(m, "up", "it waits for the guest: %s, %s", hv_caps(m->hv)->program,
		hv_accel_text(m->hv));
	fault_at("receive", "waiting", NULL);
	if (in->disks.n == 0)
		wait_for_it(in);
	else if (migrate_serve_disks(in, serving, &err) < 0)
		not_waiting(in, &err);
}

/* A person's cancel: like every end of it, until the commit. */
static int cancel(void *arg, struct err *err)
{
	struct machine *m = arg;
	struct migrate_in *in = m->in;

	if (in == NULL || (in->state != TARGET_RECEIVING && in->state != TARGET_ARRIVED))
		return err_set(err, -EBADFD, "vm %s: it is here already", m->name);
	err_set(&in->err, -ECANCELED, "it was cancelled");
	migrate_in_event(in, TARGET_LOST);
	return 0;
}

static void start(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	struct err err;
	int r = m->cfg == NULL
			? err_set(&err, -EINVAL, "vm %s: its section was not taken in", m->name)
		: m->op != NULL ? machine_busy(m, &err)
				: machine_begin_op(m, "receive", cancel, NULL, &err);

	if (r < 0) {
		in->err = err;
		migrate_in_event(in, TARGET_LOST);
		return;
	}
	m->receiving = true;
	m->want_known = m->want_running = true;
	m->failures = 0;
	json_decref(m->story);
	m->story = NULL;
	machine_tell(m, "receive", "from %s", in->from);
	emit(in, "receive-begun", NULL);
	machine_event(m, EV_START);
}

static void disks_made(struct migrate_in *in, const struct err *err)
{
	if (!migrate_came_back(&in->g))
		return;
	in->writing = false;
	if (in->state != TARGET_RECEIVING) {
		migrate_in_drive(in);
		return;
	}
	if (err != NULL) {
		not_waiting(in, err);
		return;
	}
	fault_at("receive", "disks", NULL);
	start(in);
}

static void make_disks(struct migrate_in *in)
{
	if (in->disks.n == 0 || in->g.m->cfg == NULL) {
		start(in);
		return;
	}
	in->writing = true;
	migrate_make_disks(in, disks_made);
}

/* What the pool writes; it may outlast the machine. */
struct section_job {
	struct migrate_in *in;
	const char *state_dir;
	char *name, *text;
};

static void section_job_free(struct section_job *j)
{
	free(j->name);
	free(j->text);
	free(j);
}

static int write_section(void *arg, struct err *err)
{
	const struct section_job *j = arg;

	return dropin_write(j->state_dir, j->name, j->text, err);
}

/* A section that is of no use must not be there at the next reload. */
static void unwrite_section(struct migrate_in *in)
{
	struct err err;

	if (dropin_remove(in->g.d->state_dir, in->g.m->name, &err) < 0)
		log_error("%s", err.msg);
}

static void section_written(void *arg, const struct err *err)
{
	struct section_job *j = arg;
	struct migrate_in *in = j->in;
	struct err mine;

	section_job_free(j);
	if (!migrate_came_back(&in->g))
		return;
	in->writing = false;
	if (in->state != TARGET_RECEIVING) {
		unwrite_section(in);
		migrate_in_drive(in);
		return;
	}
	fault_at("receive", "section", NULL);
	if (err == NULL && drover_take_vm(in->g.d, in->g.m->name, &mine) < 0)
		err = &mine;
	if (err != NULL) {
		in->err = *err;
		unwrite_section(in);
		migrate_in_event(in, TARGET_LOST);
		return;
	}
	fault_at("receive", "bound", NULL);
	make_disks(in);
}

static void receive(struct migrate_in *in)
{
	struct section_job *j;
	struct err err;

	if (in->writing || in->g.m->op != NULL)
		return;
	if (in->section == NULL) {
		make_disks(in);
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j != NULL) {
		*j = (struct section_job){ .in = in,
			.state_dir = in->g.d->state_dir,
			.name = strdup(in->g.m->name),
			.text = in->section };
		in->section = NULL;
		in->writing = true;
		if (j->name != NULL &&
			pool_work(in->g.d->loop, write_section, section_written, j) == 0) {
			in->g.pending++;
			return;
		}
		in->writing = false;
		section_job_free(j);
	}
	err_nomem(&err);
	in->err = err;
	migrate_in_event(in, TARGET_LOST);
}

/* ---- it is ours ---- */

static void runs(struct migrate_in *in)
{
	struct machine *m = in->g.m;
	struct err err;

	/* Left there, what was put aside would be taken for the whole one the next time. */
	if (!settle(in, true))
		return;
	in->ran = true;
	m->receiving = false;
	machine_save_soon(m);
	/* Its ports know now that it is behind them. */
	for (unsigned i = 0; i < m->nnics; i++) {
		if (m->nics[i].bridge[0] != '\0' && network_set_link(m, &m->nics[i], &err) < 0)
			log_warn("vm %s: %s (tried again)", m->name, err.msg);
	}
	machine_tell(m, "received", "it came from %s", in->from);
	emit(in, "received", NULL);
	machine_passthrough_reload(m);
	if (has_op(in))
		machine_end_op(m, NULL);
	reply_answer(in);
}

static void resumed(void *arg, const struct err *err)
{
	struct migrate_in *in = arg;
	struct machine *m = in->g.m;

	in->resuming = false;
	if (err != NULL) {
		log_msg(LOG_LVL_WARN, m->name, "it stands still here yet: %s", err->msg);
		deadline_set(&in->g.timer, RESUME_MS);
		return;
	}
	if (m->state == MACHINE_MIGRATING)
		machine_event(m, EV_RESUMED);
	fault_at("receive", "running", NULL);
	runs(in);
}

static void run(struct migrate_in *in)
{
	struct machine *m = in->g.m;

	if (in->ran || in->resuming)
		return;
	if (m->left.pid != 0 || m->tearing_down) {
		deadline_set(&in->g.timer, RESUME_MS);
	} else if (m->process && m->state != MACHINE_STOPPING) {
		in->resuming = true;
		hv_resume(m->hv, resumed, in);
	} else {
		runs(in);
	}
}

/* ---- one way through ---- */

void migrate_in_drive(struct migrate_in *in)
{
	struct machine *m = in->g.m;

	if (m == NULL || (in->g.unsaved && !in->g.free) || m->adopted != NULL || m->closing > 0 ||
		m->d->leaving)
		return;
	switch (in->state) {
	case TARGET_RECEIVING:
		receive(in);
		break;
	case TARGET_ARRIVED:
		operation_step(m->op, "commit");
		deadline_set(&in->g.timer, SILENCE_MS);
		break;
	case TARGET_TAKEN:
		run(in);
		break;
	case TARGET_DROPPED:
		drop(in);
		break;
	default:
		break;
	}
}

static void is_dropped(struct migrate_in *in)
{
	struct machine *m = in->g.m;

	migrate_close_stream(&in->g);
	if (in->err.code == 0 && m->error.code < 0)
		in->err = m->error;
	in->since_ms = clock_unix_ms();
	m->want_known = true;
	m->want_running = false;
	machine_tell(m, "receive-failed", "%s",
		in->err.code < 0 ? in->err.msg : "it did not come to its end");
	emit(in, "receive-failed", in->err.code < 0 ? in->err.msg : NULL);
}

/*
 * It says `receiving` in the file yet, and a daemon that finds that drops the guest. So one whose
 * arrival cannot be written down is dropped, and goes on at the source instead of standing still at
 * both until somebody makes room here; and what is dropped need not wait for the record.
 */
static void end_receiving(struct migrate_in *in)
{
	struct err err;

	if (in->state == TARGET_ARRIVED && migrate_record(&in->g, &err) < 0) {
		err_wrap(&err, "its record cannot be written");
		in->err = err;
		in->state = TARGET_DROPPED;
	}
	if (in->state != TARGET_DROPPED)
		return;
	is_dropped(in);
	if (migrate_record(&in->g, NULL) == 0)
		return;
	in->g.free = true;
	migrate_in_drive(in);
}

void migrate_in_event(struct migrate_in *in, enum handover_target_event ev)
{
	enum handover_target from = in->state;
	struct handover_step s = handover_target_step(in->state, ev);
	struct machine *m = in->g.m;

	if ((int)from == s.next)
		return;
	in->state = (enum handover_target)s.next;
	in->g.free = false;
	deadline_cancel(&in->g.timer);
	if (in->state == TARGET_TAKEN) {
		free(m->migrated_to);
		m->migrated_to = NULL;
		m->migrated_disks = false;
	}
	if (from == TARGET_RECEIVING) {
		end_receiving(in);
		return;
	}
	if (in->state == TARGET_DROPPED)
		is_dropped(in);
	migrate_record(&in->g, NULL);
}

/* ---- the beginning ---- */

static int make_id(char *out, struct err *err)
{
	unsigned char b[MIGRATE_ID_LEN / 2];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return err_errno(err, -errno, "random numbers");
	for (size_t i = 0; i < sizeof(b); i++)
		snprintf(out + 2 * i, 3, "%02x", b[i]);
	return 0;
}

/* One that was here, and went: it has its section and its disks already. */
static int check_known(struct machine *m, const json_t *body, struct err *err)
{
	const char *section = json_str(body, "section");
	bool copies = json_flag(body, "copy_disks", false);
	struct buf text = { 0 };
	bool same;

	if (m->in != NULL && m->in->state == TARGET_DROPPED && !machine_active(m))
		return err_set(err, -EBUSY,
			"vm %s: what is left of a migration that failed is being removed, or its "
			"source has not heard of it yet",
			m->name);
	if (m->migrated_to == NULL || m->in != NULL || m->out != NULL || machine_active(m) ||
		m->op != NULL)
		return err_set(err, -EEXIST, "there is a machine %s already", quote(m->name));
	if (copies != m->migrated_disks)
		return err_set(err, -EINVAL,
			"vm %s: it has gone from here %s copies of its disks, and cannot come back %s",
			m->name, copies ? "without" : "with", copies ? "with them" : "without");
	if (m->cfg == NULL)
		return 0;
	migrate_section(m->cfg, m->name, &text);
	same = !text.bad && strcmp(buf_str(&text), section) == 0;
	buf_finish(&text);
	return same ? 0
		    : err_set(err, -EINVAL, "vm %s: its section here differs from the one there",
			      m->name);
}

static int fill(struct migrate_in *in, const json_t *body, struct err *err)
{
	struct machine *m = in->g.m;
	const char *via = json_str(body, "via"), *section = json_str(body, "section");
	int r = make_id(in->g.id, err);

	if (via != NULL && (in->want_via = strdup(via)) == NULL)
		return err_nomem(err);
	if (m->cfg == NULL) {
		in->section = str_printf(
			"; It has migrated here from %s; `drover rm %s --disks` removes it.\n%s",
			in->from, m->name, section);
		if (in->section == NULL)
			return err_nomem(err);
	}
	in->facts = json_incref((json_t *)(uintptr_t)body);
	migrate_disks_read(&in->disks, body);
	in->copied = in->disks.n > 0;
	if (r == 0)
		r = make_id(in->disks.key, err);
	return r == 0 ? migrate_take_facts(m, body, err) : r;
}

static void begin(struct drover *d, const json_t *body, struct request *rq, struct err *err)
{
	const char *name = json_str(body, "name"), *from = json_str(body, "from");
	struct machine *m = machine_find(d, name);
	bool known = m != NULL;
	struct migrate_in *in = NULL;
	int r = known ? check_known(m, body, err) : machine_create(&m, d, name, err);

	if (r == 0 && (in = create(m, from)) == NULL)
		r = err_nomem(err);
	if (r == 0) {
		in->came_back = known;
		r = fill(in, body, err);
	}
	if (r == 0) {
		m->in = in;
		m->want_known = true;
		m->want_running = false;
		answer_later(in, rq);
		migrate_in_event(in, TARGET_HEARD_PREPARE);
		return;
	}
	if (in != NULL)
		migrate_in_free(in);
	if (!known && m != NULL)
		machine_destroy(m);
}

static void looked(struct drover *d, const json_t *body, struct request *rq, const struct err *err)
{
	struct err mine = { 0 };

	if (err != NULL)
		mine = *err;
	else if (d->stopping)
		err_set(&mine, -ECANCELED, "droverd is stopping");
	else
		begin(d, body, rq, &mine);
	if (mine.code < 0)
		reply_err(rq, &mine, json_str(body, "name"), NULL);
}

void migrate_receive(struct drover *d, const json_t *body, struct request *rq)
{
	struct err err = { 0 };

	if (migrate_check_body(d, body, &err) < 0)
		reply_err(rq, &err, json_str(body, "name"), NULL);
	else
		migrate_look_target(d, body, rq, looked);
}

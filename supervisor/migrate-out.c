/* The source of a migration: supervisor/migrate.h, supervisor/handover.h. */
#include "supervisor/migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/faults.h"

#define PREPARE_MS (10 * 60 * 1000) /* images may have to be pulled there */
#define ANSWER_MS  10000
#define CONNECT_MS 10000
#define AGAIN_MS   1000 /* until somebody who does not answer is asked again */
#define SOON_MS    50   /* until somebody who has not done it yet is */
#define RESUME_MS  200
#define UNSURE_MS  10000 /* for a migration that was cancelled to end, one way or the other */

static const char *migrate_point(size_t i)
{
	static const char *const points[] = { "prepare", "prepared", "sending", "disks",
		"connected", "copying", "sent", "giving", "taken", "gone", "farewell", "keeping",
		"abort", "forget" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table migrate_faults = { "migrate", migrate_point, 0 };

static void emit(const struct migrate_out *o, const char *event, const char *reason)
{
	json_t *more = json_object();

	json_put_str(more, "to", o->url);
	if (reason != NULL)
		json_put_str(more, "reason", reason);
	events_emit(o->g.d->events, "vm", o->g.m->name, event, more);
}

static bool has_op(const struct migrate_out *o)
{
	const struct machine *m = o->g.m;

	return m->op != NULL && str_eq(operation_verb(m->op), "migrate");
}

static void step(const struct migrate_out *o, const char *what)
{
	if (has_op(o))
		operation_step(o->g.m->op, what);
}

/* ---- the object ---- */

void migrate_out_free(struct migrate_out *o)
{
	if (o->g.m != NULL)
		o->g.m->out = NULL;
	if (o->http != NULL)
		http_cancel(o->http);
	o->http = NULL;
	free(o->url);
	free(o->via);
	json_decref(o->body);
	o->url = o->via = NULL;
	o->body = NULL;
	migrate_release(&o->g);
}

static void timer(void *arg)
{
	struct migrate_out *o = arg;

	if (o->g.unsaved && !o->g.saving)
		migrate_record(&o->g, NULL);
	if (!o->g.unsaved || o->g.free)
		migrate_out_drive(o);
}

static void saved(struct migrate *g)
{
	struct migrate_out *o = container_of(g, struct migrate_out, g);

	if (o->state == SOURCE_NONE) {
		fault_at("migrate", "forget", NULL);
		migrate_out_free(o);
		return;
	}
	fault_at("migrate", handover_source_name(o->state), NULL);
	migrate_out_drive(o);
}

static struct migrate_out *create(struct machine *m, const char *url)
{
	struct migrate_out *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->url = strdup(url);
	if (o->url == NULL) {
		free(o);
		return NULL;
	}
	migrate_init(&o->g, m, timer, o);
	o->g.saved = saved;
	return o;
}

struct migrate_out *migrate_out_load(struct machine *m, const json_t *j)
{
	const char *url = json_str(j, "to"), *id = json_str(j, "id");
	struct migrate_out *o = url != NULL && id != NULL ? create(m, url) : NULL;

	if (o == NULL || !handover_source_from_name(json_str(j, "state"), &o->state)) {
		log_msg(LOG_LVL_ERROR, m->name, "the record of its migration cannot be read");
		if (o != NULL)
			migrate_out_free(o);
		return NULL;
	}
	o->died = json_flag(j, "died", false);
	o->copied = json_flag(j, "copied", false);
	o->kept = json_flag(j, "kept", false);
	snprintf(o->g.id, sizeof(o->g.id), "%s", id);
	return o;
}

/* ---- questions to the target ---- */

/* url: unix:PATH or http://HOST:PORT. */
static int post(struct migrate_out *o, const char *path, const json_t *body, uint64_t timeout_ms,
	http_done_fn *done, struct err *err)
{
	static const char *const headers[] = { "Content-Type: application/json", NULL };
	bool is_unix = str_starts(o->url, "unix:");
	char *url = str_printf("%s%s", is_unix ? "http://drover" : o->url, path);
	char *text = body != NULL ? json_text(body) : strdup("{}");
	struct http_spec spec = { .method = "POST",
		.url = url,
		.unix_socket = is_unix ? o->url + 5 : NULL,
		.headers = headers,
		.body = text,
		.body_len = text != NULL ? strlen(text) : 0,
		.timeout_ms = timeout_ms,
		.fresh = true,
		.no_proxy = true };
	int r = url == NULL || text == NULL
			? err_nomem(err)
			: http_request(o->g.d->http, &spec, done, o, &o->http, err);

	if (r == 0)
		o->g.pending++;
	free(url);
	free(text);
	return r;
}

/* What it says of an error, or that it says nothing of use. */
static int answer_of(const struct migrate_out *o, const struct http_result *res,
	const struct err *err, json_t **out, struct err *mine)
{
	json_t *j = NULL;
	const char *message;
	int r;

	if (err != NULL)
		return err_set(mine, err->code, "%s does not answer: %s", o->url, err->msg);
	if (json_parse(res->body, res->len, &j, NULL) < 0 || !json_is_object(j)) {
		json_decref(j);
		return err_set(mine, -EBADMSG, "%s answers with HTTP status %d and no JSON", o->url,
			res->status);
	}
	if (res->status == 200) {
		*out = j;
		return 0;
	}
	message = json_obj(j, "error") != NULL ? json_str(json_obj(j, "error"), "message") : NULL;
	r = err_set(mine, -EIO, "%s: %s", o->url,
		message != NULL ? message : "it answers with an error and does not say which");
	json_decref(j);
	return r;
}

/* Only a person who resolved a doubt the wrong way can bring this about. */
static void on_both_sides(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	if (o->both_told)
		return;
	o->both_told = true;
	log_msg(LOG_LVL_ERROR, m->name,
		"it was kept here, but %s has taken it: it may run on both sides, on the same disks; "
		"stop one of them",
		o->url);
	machine_tell(m, "migrate-both", "%s has taken it, too", o->url);
	emit(o, "migrate-both", NULL);
}

static void told(void *arg, const struct http_result *res, const struct err *err)
{
	struct migrate_out *o = arg;
	enum handover_answer answer;
	json_t *j = NULL;
	struct err mine;

	o->http = NULL;
	if (!migrate_came_back(&o->g))
		return;
	if (answer_of(o, res, err, &j, &mine) < 0 ||
		!handover_answer_from_name(json_str(j, "answer"), &answer)) {
		if (!o->was_silent)
			log_msg(LOG_LVL_WARN, o->g.m->name, "migration: %s; asking on",
				j == NULL ? mine.msg : "an answer that makes no sense");
		o->was_silent = true;
		json_decref(j);
		deadline_set(&o->g.timer, AGAIN_MS);
		return;
	}
	json_decref(j);
	o->was_silent = false;
	if (answer == ANSWER_TAKEN && o->state == SOURCE_GIVING)
		fault_at("migrate", "taken", NULL);
	if (answer == ANSWER_TAKEN && o->state == SOURCE_KEEPING)
		on_both_sides(o);
	deadline_set(&o->g.timer, answer == ANSWER_UNKNOWN ? AGAIN_MS : SOON_MS);
	migrate_out_event(o, handover_heard(answer));
}

static void ask(struct migrate_out *o, const char *what)
{
	char *path;
	struct err err;
	int r;

	if (o->http != NULL)
		return;
	path = str_printf("/migrations/%s/%s", o->g.id, what);
	r = path == NULL ? err_nomem(&err) : post(o, path, NULL, ANSWER_MS, told, &err);
	free(path);
	if (r < 0)
		deadline_set(&o->g.timer, AGAIN_MS);
}

/* ---- the end of it, either way ---- */

static void end_op(struct migrate_out *o)
{
	struct err err = o->err;

	if (!has_op(o))
		return;
	if (err.code == 0)
		err_set(&err, -EIO, "it did not come to its end");
	if (err.code == -ECANCELED)
		err_set(&err, -ECANCELED, "vm %s: migrate was cancelled", o->g.m->name);
	else
		err_wrap(&err, "vm %s: migrate", o->g.m->name);
	machine_end_op(o->g.m, &err);
}

static void stays(struct migrate_out *o)
{
	machine_tell(o->g.m, "migrate-failed", "it stays here: %s",
		o->err.code < 0 ? o->err.msg : "an earlier daemon had not come to the end");
	emit(o, "migrate-failed", o->err.code < 0 ? o->err.msg : NULL);
}

static void keeps(struct migrate_out *o, enum handover_source from)
{
	if (o->err.code == 0 && from == SOURCE_GIVING)
		err_set(&o->err, -EIO, "%s has dropped it", o->url);
	stays(o);
}

static void kept(void *arg, const struct err *err)
{
	struct migrate_out *o = arg;
	struct machine *m = o->g.m;

	o->resuming = false;
	/* QEMU may not have put its migration aside yet. */
	if (err != NULL) {
		deadline_set(&o->g.timer, RESUME_MS);
		return;
	}
	if (m->state == MACHINE_MIGRATING)
		machine_event(m, EV_RESUMED);
	migrate_out_drive(o);
}

/* Of a guest that may still be on its way: it stands still here when all of it has been sent. */
static bool stands_still(const struct machine *m)
{
	enum hv_status status = m->hv != NULL ? hv_status(m->hv) : HV_STATUS_UNKNOWN;

	return m->process && m->state != MACHINE_STOPPING &&
	       (m->state == MACHINE_MIGRATING || status == HV_STATUS_PAUSED);
}

static void resume(struct migrate_out *o)
{
	if (o->resuming)
		return;
	o->resuming = true;
	hv_job_cancel(o->g.m->hv);
	hv_resume(o->g.m->hv, kept, o);
}

/* It has died while it was not known whose it was. */
static void revive(struct migrate_out *o)
{
	struct machine *m = o->g.m;
	struct err err;

	end_op(o);
	if (!o->died || m->op != NULL || machine_active(m))
		return;
	o->died = false;
	if (m->want_known && m->want_running && m->cfg != NULL && !m->d->stopping &&
		machine_start(m, "the end of a migration that failed", false, NULL, &err) < 0)
		log_error("%s", err.msg);
}

static void keep(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	if (m->left.pid != 0 || m->tearing_down) {
		deadline_set(&o->g.timer, RESUME_MS);
		return;
	}
	machine_passthrough_reload(m);
	/* Copies of its disks, too, may still be under way, and their connections are not ours. */
	if (!o->kept && !o->stopped && m->process && m->hv != NULL && o->unsure_until_ms != 0)
		hv_job_cancel(m->hv);
	o->stopped = true;
	if (!o->kept && stands_still(m)) {
		resume(o);
		return;
	}
	if (!o->kept && clock_mono_ms() >= o->unsure_until_ms) {
		o->kept = true;
		machine_save_soon(m);
	}
	revive(o);
	fault_at("migrate", "abort", NULL);
	ask(o, "abort");
}

static void gone(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	if (m->left.pid != 0) {
		deadline_set(&o->g.timer, RESUME_MS);
		return;
	}
	if (machine_active(m)) {
		/* It comes here again when the machine is at rest. */
		if (m->intent != INTENT_MIGRATE) {
			step(o, "end");
			m->intent = INTENT_MIGRATE;
			machine_event(m, EV_STOP);
		}
		return;
	}
	if (has_op(o))
		machine_end_op(m, NULL);
	fault_at("migrate", "farewell", NULL);
	ask(o, "farewell");
}

static void is_gone(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	free(m->migrated_to);
	m->migrated_to = strdup(o->url);
	m->migrated_disks = o->copied;
	m->want_known = true;
	m->want_running = false;
	machine_tell(m, "migrated", "it runs at %s", o->url);
	emit(o, "migrated", NULL);
	/* Its process has ended before that was known. */
	if (!machine_active(m)) {
		m->last_cause = CAUSE_MIGRATED;
		free(m->sentence);
		m->sentence = machine_migrated_text(m);
	}
}

/* ---- sending ---- */

static void fail(struct migrate_out *o, const struct err *err)
{
	migrate_close_stream(&o->g);
	if (o->err.code == 0)
		o->err = *err;
	migrate_out_event(o, SOURCE_NOT_SENT);
}

static void moved(void *arg, const struct hv_progress *p)
{
	struct migrate_out *o = arg;

	if (str_eq(p->step, "disks") || str_eq(p->step, "copied")) {
		/* Small ones are copied before anybody has looked. */
		if (!o->copying)
			fault_at("migrate", "copying", NULL);
		o->copying = true;
		o->all_copied = str_eq(p->step, "copied");
	} else if (o->g.fd >= 0) {
		/* The hypervisor has it: as long as we do, its death would not be seen over there. */
		close(o->g.fd);
		o->g.fd = -1;
	}
	step(o, p->step);
	if (has_op(o))
		operation_progress(o->g.m->op, p->done, p->total);
}

static void sent(void *arg, const struct err *err)
{
	struct migrate_out *o = arg;

	o->sending = false;
	migrate_close_stream(&o->g);
	if (err != NULL) {
		fail(o, err);
		return;
	}
	fault_at("migrate", "sent", NULL);
	step(o, "commit");
	migrate_out_event(o, SOURCE_SENT);
}

static void not_connected(struct migrate_out *o, const struct err *err)
{
	struct err mine = *err;

	err_wrap(&mine, "%s", o->via);
	fail(o, &mine);
}

static void connected(void *arg, int fd, const struct err *err)
{
	struct migrate_out *o = arg;
	struct hv_migration to = { .fd = fd,
		.max_bandwidth = o->max_bandwidth,
		.disks = o->disks.names,
		.ndisks = o->disks.n };
	char *nbd;

	o->g.wire = NULL;
	if (err != NULL) {
		not_connected(o, err);
		return;
	}
	fault_at("migrate", "connected", NULL);
	o->g.fd = fd;
	o->sending = true;
	step(o, o->disks.n > 0 ? "disks" : "memory");
	nbd = migrate_nbd_path(o->g.m);
	to.nbd = nbd != NULL ? nbd : "";
	hv_migrate_out(o->g.m->hv, &to, moved, sent, o);
	free(nbd);
}

static void connect_next(struct migrate_out *o);

static void disk_connected(void *arg, int fd, const struct err *err)
{
	struct migrate_out *o = arg;
	struct err mine;

	o->g.wire = NULL;
	if (err != NULL) {
		not_connected(o, err);
		return;
	}
	if (migrate_disk_reached(o, fd, &mine) < 0) {
		fail(o, &mine);
		return;
	}
	fault_at("migrate", "disks", NULL);
	connect_next(o);
}

/* One for each disk, and the memory's, with which the sending begins. */
static void connect_next(struct migrate_out *o)
{
	bool disk = o->disks.reached < o->disks.n;
	struct err err;

	if (wire_connect(&o->g.wire, o->g.m->d->loop, o->via, disk ? o->disks.key : o->g.id,
		    CONNECT_MS, disk ? disk_connected : connected, o, &err) < 0)
		fail(o, &err);
}

static void send_it(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	if (o->sending || o->g.wire != NULL || !m->process)
		return;
	machine_passthrough_reload(m);
	machine_event(m, EV_MIGRATE);
	connect_next(o);
}

/* ---- one way through ---- */

void migrate_out_drive(struct migrate_out *o)
{
	struct machine *m = o->g.m;

	if (m == NULL || (o->g.unsaved && !o->g.free) || m->adopted != NULL || m->closing > 0 ||
		m->d->leaving)
		return;
	switch (o->state) {
	case SOURCE_SENDING:
		send_it(o);
		break;
	case SOURCE_GIVING:
		ask(o, "commit");
		break;
	case SOURCE_KEEPING:
		keep(o);
		break;
	case SOURCE_GONE:
		gone(o);
		break;
	default:
		break;
	}
}

static void doubt(struct migrate_out *o)
{
	if (o->doubted)
		return;
	o->doubted = true;
	log_msg(LOG_LVL_ERROR, o->g.m->name,
		"%s does not know of its migration any more: whether it runs there is for a person to "
		"find out (`drover migrate %s --resolve keep` or `give`)",
		o->url, o->g.m->name);
	machine_tell(o->g.m, "migrate-doubt", "%s does not know of the migration any more", o->url);
	emit(o, "migrate-doubt", NULL);
}

static void record(struct migrate_out *o, enum handover_source from)
{
	if (o->state == SOURCE_KEEPING)
		keeps(o, from);
	migrate_record(&o->g, NULL);
}

/*
 * It says `sending` in the file yet, and a daemon that finds that keeps the guest. So one that is kept
 * may go on before that has been written, and one that cannot be given away, because that cannot be
 * written, is kept: on a full disk it would stand still until somebody makes room.
 */
static void end_sending(struct migrate_out *o)
{
	struct err err;

	if (o->state == SOURCE_GIVING && migrate_record(&o->g, &err) < 0) {
		err_wrap(&err, "its record cannot be written");
		o->err = err;
		o->state = SOURCE_KEEPING;
	}
	if (o->state != SOURCE_KEEPING)
		return;
	record(o, SOURCE_SENDING);
	if (o->g.saving)
		return;
	o->g.free = true;
	migrate_out_drive(o);
}

void migrate_out_event(struct migrate_out *o, enum handover_source_event ev)
{
	enum handover_source from = o->state;
	struct handover_step s = handover_source_step(o->state, ev);
	struct machine *m = o->g.m;

	/* It might have stood still only after it was let go on: all has been sent then. */
	if (from == SOURCE_KEEPING && ev == SOURCE_HEARD_UNKNOWN && !o->kept && stands_still(m)) {
		resume(o);
		return;
	}
	if (from == SOURCE_SENDING && ev == SOURCE_RESTARTED)
		o->unsure_until_ms = clock_mono_ms() + UNSURE_MS;
	if (s.action == SOURCE_DO_DOUBT)
		doubt(o);
	if ((int)from == s.next)
		return;
	o->state = (enum handover_source)s.next;
	o->g.free = false;
	if (o->state == SOURCE_GONE)
		is_gone(o);
	if (from == SOURCE_SENDING)
		end_sending(o);
	else
		record(o, from);
}

/* ---- the beginning ---- */

static void not_begun(struct migrate_out *o, const struct err *err)
{
	o->err = *err;
	stays(o);
	end_op(o);
	migrate_out_free(o);
}

static void prepared(void *arg, const struct http_result *res, const struct err *err)
{
	struct migrate_out *o = arg;
	struct machine *m = o->g.m;
	const char *id, *via, *key;
	json_t *j = NULL;
	struct err mine;
	int r;

	o->http = NULL;
	if (!migrate_came_back(&o->g))
		return;
	r = answer_of(o, res, err, &j, &mine);
	id = json_str(j, "id");
	via = json_str(j, "via");
	key = json_str(j, "disks_id");
	if (r == 0 && (id == NULL || strlen(id) != MIGRATE_ID_LEN || via == NULL))
		r = err_set(&mine, -EBADMSG, "%s: it says neither an id nor an address", o->url);
	if (r == 0 && (o->via = strdup(via)) == NULL)
		r = err_nomem(&mine);
	if (r == 0 && o->disks.n > 0 && (key == NULL || strlen(key) != MIGRATE_ID_LEN))
		r = err_set(&mine, -EBADMSG, "%s: it takes no copies of disks", o->url);
	if (r == 0 && o->disks.n > 0)
		snprintf(o->disks.key, sizeof(o->disks.key), "%s", key);
	if (o->cancelled || !has_op(o))
		r = err_set(&mine, -ECANCELED, "it was cancelled");
	else if (r == 0 && m->state != MACHINE_RUNNING)
		r = err_set(&mine, -EBADFD, "it is %s now", machine_state_name(m->state));
	if (r == 0)
		snprintf(o->g.id, sizeof(o->g.id), "%s", id);
	json_decref(j);
	/* Over there they will tire of waiting for what does not come. */
	if (r < 0) {
		not_begun(o, &mine);
		return;
	}
	fault_at("migrate", "prepared", NULL);
	step(o, "connect");
	migrate_out_event(o, SOURCE_BEGIN);
}

static void looked(void *arg, const struct err *err)
{
	struct migrate_out *o = arg;
	struct err mine;
	int r = 0;

	if (!migrate_came_back(&o->g))
		return;
	if (err != NULL)
		r = err_set(&mine, err->code, "%s", err->msg);
	if (o->cancelled || !has_op(o))
		r = err_set(&mine, -ECANCELED, "it was cancelled");
	if (r == 0)
		r = post(o, "/migrations", o->body, PREPARE_MS, prepared, &mine);
	if (r < 0)
		not_begun(o, &mine);
}

static int cancel(void *arg, struct err *err)
{
	struct machine *m = arg;
	struct migrate_out *o = m->out;

	if (o == NULL || o->state > SOURCE_SENDING || m->op_ending)
		return err_set(err, -EBADFD, "vm %s: it is too late, %s may have it already",
			m->name, o != NULL ? o->url : "the other side");
	if (o->cancelled)
		return 0;
	o->cancelled = true;
	err_set(&o->err, -ECANCELED, "it was cancelled");
	if (o->state == SOURCE_NONE && o->http != NULL)
		http_cancel(o->http);
	else if (o->state == SOURCE_NONE)
		return 0;
	else if (o->sending)
		hv_job_cancel(m->hv);
	else
		fail(o, &o->err);
	return 0;
}

static int check_url(const char *url, struct err *err)
{
	if (str_starts(url, "unix:/") || str_starts(url, "http://"))
		return 0;
	return err_set(err, -EINVAL,
		"%s is neither unix:/PATH nor http://HOST:PORT; to another host, forward its "
		"socket: `ssh -L /run/there.sock:/run/drover/api.sock HOST`",
		quote(url));
}

int machine_migrate(
	struct machine *m, const struct migrate_opts *opts, struct operation **op, struct err *err)
{
	struct migrate_out *o;
	int r = check_url(opts->to, err);

	*op = NULL;
	if (r == 0 && opts->via != NULL)
		r = wire_check(opts->via, err);
	if (r == 0)
		r = migrate_check_source(m, opts->copy_disks, err);
	if (r < 0)
		return r;
	/* One that has not heard yet that it stays here never will run it: there is no commit. */
	if (m->out != NULL)
		migrate_out_free(m->out);
	o = create(m, opts->to);
	if (o == NULL)
		return err_nomem(err);
	o->max_bandwidth = opts->max_bandwidth;
	o->body = migrate_prepare_json(m, opts->via, opts->copy_disks, err);
	if (o->body == NULL)
		r = err_wrap(err, "vm %s", m->name);
	else
		migrate_disks_read(&o->disks, o->body);
	o->copied = o->disks.n > 0;
	if (r == 0)
		r = machine_begin_op(m, "migrate", cancel, op, err);
	if (r < 0) {
		migrate_out_free(o);
		return r;
	}
	m->out = o;
	machine_tell(m, "migrate", "to %s", o->url);
	emit(o, "migrate-begun", NULL);
	fault_at("migrate", "prepare", NULL);
	step(o, "prepare");
	r = migrate_look_source(o, looked, err);
	if (r < 0) {
		operation_end(m->op, err);
		m->op = NULL;
		*op = NULL;
		migrate_out_free(o);
	}
	return r;
}

/* Of one whose owner is known and only the other side's last word is missing. */
static int may_forget(struct migrate_out *o, bool keep_it, struct err *err)
{
	const struct machine *m = o->g.m;
	bool ours = o->state == SOURCE_KEEPING;

	if (keep_it != ours)
		return err_set(err, -EBADFD, "vm %s: it is not in doubt: it %s%s", m->name,
			ours ? "stays here, and was never let run at " : "was taken by ", o->url);
	if (ours && !o->kept)
		return err_set(err, -EBUSY, "vm %s: it is being let go on here", m->name);
	/* Without the record the next daemon would take what stands still here for its own. */
	if (!ours && (machine_active(m) || m->left.pid != 0))
		return err_set(
			err, -EBUSY, "vm %s: its hypervisor here has not ended yet", m->name);
	if (!o->was_silent)
		return err_set(
			err, -EBUSY, "vm %s: %s answers: this ends by itself", m->name, o->url);
	return 0;
}

int migrate_out_resolve(struct migrate_out *o, bool keep_it, struct err *err)
{
	struct machine *m = o->g.m;
	enum handover_source_event ev = SOURCE_HEARD_UNKNOWN;

	if (o->g.unsaved || o->state == SOURCE_NONE || o->state == SOURCE_SENDING)
		return err_set(err, -EBUSY, "vm %s: its migration is under way", m->name);
	if (o->state != SOURCE_GIVING) {
		int r = may_forget(o, keep_it, err);

		if (r < 0)
			return r;
	} else if (!o->doubted && !o->was_silent) {
		/* It may be about to take the guest, which would then run on both sides. */
		return err_set(err, -EBUSY,
			"vm %s: %s is being asked; only what it does not answer is a person's to decide",
			m->name, o->url);
	} else {
		ev = keep_it ? SOURCE_HEARD_DROPPED : SOURCE_HEARD_TAKEN;
	}
	if (o->http != NULL)
		http_cancel(o->http);
	machine_tell(
		m, "migrate-resolve", "%s, says a person", keep_it ? "it stays" : "it is gone");
	migrate_out_event(o, ev);
	return 0;
}

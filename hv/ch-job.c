/* hv/ch-job.c - what takes cloud-hypervisor a while: snapshots, dumps, migrations. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/json.h"

/* Whoever asks has a shorter patience, or cancels; this is for what was forgotten. */
#define JOB_MS (60 * 60 * 1000)
/* From this version on send-migration answers when the migration has begun. */
#define ASYNC_SEND 53

enum kind {
	JOB_SAVE,
	JOB_DUMP,
	JOB_SEND,
	JOB_RECEIVE
};

struct ch_job {
	struct ch *c;
	enum kind kind;
	bool cancelled, told;
	bool answered, finished, failed; /* of the two signs of a migration */
	hv_done_fn *done;
	hv_progress_fn *progress;
	void *arg;
};

bool ch_migrates(const struct ch *c)
{
	return c->job != NULL && c->job->kind == JOB_SEND && !c->job->told;
}

/* The only exit of a job. Until its answer has come it is still in the way of others. */
static void finish(struct ch_job *j, const struct err *err)
{
	struct ch *c = j->c;
	hv_done_fn *done = j->done;
	void *arg = j->arg;
	struct err cancelled;

	err_set(&cancelled, -ECANCELED, "it was cancelled");
	if (err != NULL && j->cancelled)
		err = &cancelled;
	/* What came through in spite of it is not undone by saying otherwise, but for a file. */
	if (j->cancelled && (j->kind == JOB_SAVE || j->kind == JOB_DUMP))
		err = &cancelled;
	if (j->answered) {
		c->job = NULL;
		free(j);
	} else {
		j->told = true;
		j->done = NULL;
	}
	if (done != NULL)
		done(arg, err);
}

/* ---- a migration's two signs ---- */

static void sent(struct ch_job *j, const struct err *err)
{
	struct ch *c = j->c;

	if (err == NULL) {
		c->migrated = true;
		ch_set_status(c, HV_STATUS_SAVING, true, NULL, "migrated");
	}
	if (c->phase == CH_CLOSING)
		return;
	if (err == NULL) {
		finish(j, NULL);
		return;
	}
	finish(j, err);
	/* It runs on, or stands as before. */
	if (ch_alive(c))
		ch_ask_status(c);
}

static void check_send(struct ch_job *j)
{
	struct err err;

	if (!j->answered)
		return;
	if (j->failed) {
		err_set(&err, -EIO, "the migration failed; the hypervisor's log says why");
		hv_add_last_words(j->c->log_path, j->c->log_offset, &err);
		sent(j, &err);
	} else if (j->finished || j->c->major < ASYNC_SEND) {
		sent(j, NULL);
	}
}

void ch_job_event(struct ch *c, const char *name)
{
	const struct hv_progress p = { .step = "memory" };
	struct ch_job *j = c->job;

	if (j == NULL || j->kind != JOB_SEND)
		return;
	if (strcmp(name, "migration-finished") == 0)
		j->finished = true;
	else if (strcmp(name, "migration-failed") == 0)
		j->failed = true;
	else if (strcmp(name, "migration-memory-iteration") == 0 && j->progress != NULL)
		j->progress(j->arg, &p);
	if (c->job == j)
		check_send(j);
}

/* ---- the answer ---- */

static void arrived(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_job *j = arg;
	struct ch *c = j->c;
	json_t *info = NULL;

	j->answered = true;
	if (err == NULL && json_parse(a->text, a->len, &info, NULL) == 0)
		ch_take_info(c, info);
	json_decref(info);
	if (c->phase != CH_CLOSING)
		ch_dial_console(c);
	if (c->phase != CH_CLOSING && c->job == j)
		finish(j, err);
}

static void ask_arrived(struct ch_job *j)
{
	struct ch_request r = { .method = "GET", .path = "/vm.info", .done = arrived, .arg = j };

	j->c->incoming = false;
	j->answered = false;
	ch_api_send(j->c->api, &r);
}

static void answered(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_job *j = arg;
	struct err mine;

	j->answered = true;
	if (j->told) {
		finish(j, NULL);
	} else if (err != NULL && a == NULL && j->kind == JOB_SEND) {
		/* It ends by itself once its guest has gone, and its answer may get lost then. */
		err_set(&mine, -EUNATCH, "the migration's end is not known: %s", err->msg);
		finish(j, &mine);
	} else if (err != NULL) {
		j->kind == JOB_SEND ? sent(j, err) : finish(j, err);
	} else if (j->kind == JOB_RECEIVE) {
		ask_arrived(j);
	} else if (j->kind == JOB_SEND) {
		check_send(j);
	} else {
		finish(j, NULL);
	}
}

void ch_end_job(struct ch *c, const struct err *err)
{
	struct ch_job *j = c->job;
	struct err mine;

	if (j == NULL)
		return;
	/* The connection is gone or goes: no answer comes any more. */
	j->answered = true;
	if (err == NULL)
		j->done = NULL;
	if (err != NULL && j->kind == JOB_SEND) {
		err_set(&mine, -EUNATCH, "the migration's end is not known: %s", err->msg);
		err = &mine;
	}
	finish(j, err);
}

/* ---- starting one ---- */

static void start(struct ch *c, enum kind kind, const char *path, json_t *body,
	hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	struct ch_job *j = NULL;
	struct ch_request r = { .method = "PUT",
		.path = path,
		.body = body,
		.timeout_ms = kind == JOB_RECEIVE ? UINT64_MAX : JOB_MS,
		.slow = true,
		.done = answered };
	struct err err = { 0 };

	if (c->job != NULL)
		err_set(&err, -EBUSY, "a snapshot, dump or migration is under way");
	else if (c->api == NULL || c->phase != CH_UP)
		err_set(&err, -ESRCH, "the hypervisor is gone");
	else if (body == NULL || (j = calloc(1, sizeof(*j))) == NULL)
		err_nomem(&err);
	if (err.code != 0) {
		ch_op_later(c, &err, &op);
		json_decref(body);
		return;
	}
	*j = (struct ch_job){
		.c = c, .kind = kind, .done = done, .progress = progress, .arg = arg
	};
	r.arg = c->job = j;
	ch_api_send(c->api, &r);
	json_decref(body);
}

static json_t *url_body(const char *key, const char *prefix, const char *path)
{
	char *url = str_printf("%s%s", prefix, path);
	json_t *body = url != NULL ? json_pack("{s:s}", key, url) : NULL;

	free(url);
	return body;
}

void ch_save(struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	struct err err;

	if (hv->status == HV_STATUS_PAUSED || hv->status == HV_STATUS_PANICKED) {
		start(ch_of(hv), JOB_SAVE, "/vm.snapshot",
			url_body("destination_url", "file://", dir), progress, done, arg);
		return;
	}
	err_set(&err, -EBUSY, "the guest does not stand still: it is %s",
		hv_status_name(hv->status));
	ch_op_later(ch_of(hv), &err, &op);
}

void ch_dump(struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	start(ch_of(hv), JOB_DUMP, "/vm.coredump", url_body("destination_url", "file://", path),
		progress, done, arg);
}

static bool migration_refused(
	struct ch *c, const struct hv_migration *m, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	const char *what = m->nbd != NULL   ? "copy disks"
			   : m->uri == NULL ? "take a connected socket for a migration"
					    : NULL;
	struct err err;

	if (what == NULL)
		return false;
	err_set(&err, -ENOTSUP, "%s cannot %s", c->hv.program, what);
	ch_op_later(c, &err, &op);
	return true;
}

void ch_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	json_t *body;

	if (migration_refused(c, to, done, arg))
		return;
	body = json_pack("{s:s}", "destination_url", to->uri);
	if (body != NULL && to->max_downtime_ms > 0)
		json_put_int(body, "downtime_ms", (int64_t)to->max_downtime_ms);
	start(c, JOB_SEND, "/vm.send-migration", body, progress, done, arg);
}

void ch_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);

	if (migration_refused(c, from, done, arg))
		return;
	/* The guest's configuration comes with it, and its console is made where this says. */
	unlink(c->serial_path);
	start(c, JOB_RECEIVE, "/vm.receive-migration",
		json_pack("{s:s}", "receiver_url", from->uri), NULL, done, arg);
}

/*
 * Its API has no way to end one. A snapshot is waited for and called cancelled then; a migration is
 * what it has become; and one that still waits for its sender is left to whoever ends the process.
 */
void ch_job_cancel(struct hv *hv)
{
	struct ch_job *j = ch_of(hv)->job;
	struct err err;

	if (j == NULL || j->told)
		return;
	j->cancelled = true;
	if (j->kind == JOB_RECEIVE) {
		err_set(&err, -ECANCELED, "it was cancelled");
		finish(j, &err);
	}
}

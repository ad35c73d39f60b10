/*
 * hv/qemu-stream.c - one migration stream of a QEMU, out or in: its commands, its progress, its end
 * (QEMU, qapi/migration.json).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu.h"
#include "lib/json.h"

#define FD_NAME  "drover-stream"
#define NO_LIMIT (INT64_C(1) << 40) /* bytes a second; 0 is not "none" in all versions */
#define POLL_MS  200
#define STALL_MS 60000 /* nothing has moved for so long: it hangs */

/* Of qemu_stream.step. */
enum {
	NOTHING,
	PREPARING,
	STREAMING
};

bool qemu_stream_active(const struct qemu *q)
{
	return q->stream.step != NOTHING;
}

static void clear(struct qemu_stream *s)
{
	deadline_cancel(&s->poll);
	free(s->uri);
	json_decref(s->capabilities);
	json_decref(s->parameters);
	s->uri = NULL;
	s->capabilities = s->parameters = NULL;
	s->step = NOTHING;
	s->fd = -1;
}

/*
 * What the end is called after a cancel. A file is not wanted then, even when it is whole; but a guest
 * that has left has left, and of one whose process is gone nobody knows.
 */
static const struct err *end_of(
	const struct qemu_stream *s, const struct err *err, struct err *mine)
{
	if (!s->cancelled)
		return err;
	if (s->live && !s->incoming &&
		(err == NULL || (err->code != -EIO && err->code != -ECANCELED)))
		return err;
	if (s->stalled)
		err_set(mine, -ETIMEDOUT, "nothing was written for %d s", STALL_MS / 1000);
	else
		err_set(mine, -ECANCELED, "it was cancelled");
	return mine;
}

/* The only exit. */
static void finish(struct qemu *q, const struct err *err)
{
	struct qemu_stream *s = &q->stream;
	struct err mine;

	if (s->step == NOTHING)
		return;
	err = end_of(s, err, &mine);
	clear(s);
	s->done(s->arg, err);
}

static int command(struct qemu *q, const char *name, json_t *args, const struct qmp_opts *opts,
	qmp_reply_fn *reply)
{
	int r = -ENOMEM;

	if (args != NULL)
		r = q->qmp == NULL ? -EHOSTUNREACH
				   : qmp_command(q->qmp, name, args, opts, reply, q);
	json_decref(args);
	return r;
}

static void not_sent(int r, struct err *err)
{
	if (r == -ENOMEM)
		err_nomem(err);
	else
		err_set(err, r, "there is no connection to the monitor");
}

static void begun(void *arg, const json_t *reply, const struct err *err)
{
	if (err != NULL)
		finish(arg, err);
}

static void send_stream(struct qemu *q)
{
	struct qemu_stream *s = &q->stream;
	const char *uri = s->uri != NULL ? s->uri : "fd:" FD_NAME;
	struct err err;
	int r;

	s->step = STREAMING;
	s->moved = 0;
	s->moved_at = uv_now(q->hv.loop);
	deadline_set(&s->poll, POLL_MS);
	r = command(q, s->incoming ? "migrate-incoming" : "migrate", json_pack("{s:s}", "uri", uri),
		NULL, begun);
	if (r < 0) {
		not_sent(r, &err);
		finish(q, &err);
	}
}

static void prepared(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;
	struct qemu_stream *s = &q->stream;
	struct err mine;

	if (s->step != PREPARING)
		return;
	if (err != NULL && s->refused.code == 0)
		s->refused = *err;
	if (--s->awaited > 0)
		return;
	if (s->refused.code == 0 && s->cancelled)
		err_set(&s->refused, -ECANCELED, "it was cancelled");
	mine = s->refused;
	if (mine.code < 0)
		finish(q, &mine);
	else
		send_stream(q);
}

static void prepare(struct qemu *q, const char *name, json_t *args, const struct qmp_opts *opts)
{
	struct qemu_stream *s = &q->stream;
	int r = command(q, name, args, opts, prepared);

	if (r == 0)
		s->awaited++;
	else if (s->refused.code == 0)
		not_sent(r, &s->refused);
}

static json_t *capabilities(const struct qemu_stream *s)
{
	json_t *array = json_array(), *value;
	const char *name;

	json_array_append_new(array, json_pack("{s:s,s:b}", "capability", "events", "state", 1));
	json_object_foreach (s->capabilities, name, value)
		json_array_append_new(
			array, json_pack("{s:s,s:O}", "capability", name, "state", value));
	return json_pack("{s:o}", "capabilities", array);
}

/* At once: QEMU does one after the other. The stream is begun when all of them went well. */
static int prepare_all(struct qemu *q, struct err *err)
{
	struct qemu_stream *s = &q->stream;
	struct qmp_opts opts = { .fd = s->fd };

	s->step = PREPARING;
	s->awaited = 0;
	s->refused.code = 0;
	prepare(q, "migrate-set-capabilities", capabilities(s), NULL);
	prepare(q, "migrate-set-parameters", json_incref(s->parameters), NULL);
	if (s->uri == NULL)
		prepare(q, "getfd", json_pack("{s:s}", "fdname", FD_NAME), &opts);
	if (s->awaited > 0)
		return 0;
	*err = s->refused;
	clear(s);
	return err->code;
}

/* ---- how it goes ---- */

/* word: MigrationStatus. Whether that was its end. */
static bool at(struct qemu *q, const char *word, const char *why)
{
	struct qemu_stream *s = &q->stream;
	struct err err;

	if (str_eq(word, "completed")) {
		finish(q, NULL);
		return true;
	}
	if (str_eq(word, "pre-switchover") && s->held != NULL && !s->is_held) {
		s->is_held = true;
		s->held(s->arg);
		return false;
	}
	if (str_eq(word, "failed")) {
		err_set(&err, -EIO, "%s%s%s",
			q->stream.incoming ? "QEMU could not load it" : "QEMU could not write it",
			why != NULL ? ": " : "", why != NULL ? why : "");
		hv_clean_text(err.msg);
		finish(q, &err);
		return true;
	}
	if (str_eq(word, "cancelled")) {
		err_set(&err, -ECANCELED, "somebody cancelled it");
		finish(q, &err);
		return true;
	}
	return false;
}

static void queried(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;
	struct qemu_stream *s = &q->stream;
	const json_t *ram = json_obj(reply, "ram");
	struct hv_progress p = { .step = "memory" };

	/* Of a stream that has ended; the monitor's being late is others' to see. */
	if (s->step != STREAMING)
		return;
	if (err != NULL && err->code != -ETIMEDOUT) {
		finish(q, err);
		return;
	}
	if (at(q, json_str(reply, "status"), json_str(reply, "error-desc")))
		return;
	p.done = (uint64_t)json_int(ram, "transferred", 0);
	p.total = p.done + (uint64_t)json_int(ram, "remaining", 0);
	if (p.done > s->moved) {
		s->moved = p.done;
		s->moved_at = uv_now(q->hv.loop);
		if (s->progress != NULL)
			s->progress(s->arg, &p);
	} else if (!s->incoming && uv_now(q->hv.loop) - s->moved_at > STALL_MS) {
		s->stalled = true;
		s->moved_at = uv_now(q->hv.loop);
		qemu_stream_cancel(q);
		/* A guest that is sent may arrive in this very moment: QEMU says. */
		if (!s->live) {
			finish(q, NULL);
			return;
		}
	}
	if (s->step != NOTHING)
		deadline_set(&s->poll, POLL_MS);
}

/* The event tells the end at once; this is for the progress, and for an event that got lost. */
void qemu_stream_poll(void *arg)
{
	struct qemu *q = arg;

	if (q->stream.step == NOTHING)
		return;
	if (q->stream.incoming && q->stream.cancelled) {
		finish(q, NULL);
		return;
	}
	if (q->qmp == NULL || qmp_command(q->qmp, "query-migrate", NULL, NULL, queried, q) < 0)
		deadline_set(&q->stream.poll, POLL_MS);
}

static void why_failed(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;

	if (q->stream.step == STREAMING)
		at(q, "failed", err == NULL ? json_str(reply, "error-desc") : err->msg);
}

void qemu_stream_event(struct qemu *q, const json_t *data)
{
	const char *word = json_str(data, "status");

	if (q->stream.step != STREAMING)
		return;
	if (!str_eq(word, "failed"))
		at(q, word, NULL);
	else if (q->qmp == NULL ||
		 qmp_command(q->qmp, "query-migrate", NULL, NULL, why_failed, q) < 0)
		at(q, word, NULL);
}

/* ---- begin and end ---- */

static json_t *parameters(const struct qemu_stream_opts *opts)
{
	json_t *j = opts->parameters != NULL ? json_copy((json_t *)(uintptr_t)opts->parameters)
					     : json_object();

	json_put_int(j, "max-bandwidth",
		opts->max_bandwidth > 0 ? (int64_t)opts->max_bandwidth : NO_LIMIT);
	return j;
}

int qemu_stream_start(struct qemu *q, const struct qemu_stream_opts *opts, struct err *err)
{
	struct qemu_stream *s = &q->stream;

	if (s->step != NOTHING)
		return err_set(err, -EBUSY, "its memory is just being written or read");
	if (q->qmp == NULL)
		return err_set(err, -EHOSTUNREACH, "there is no connection to the monitor");
	s->incoming = opts->incoming;
	s->live = opts->live;
	s->cancelled = s->stalled = s->is_held = false;
	s->fd = opts->fd;
	s->uri = opts->uri != NULL ? strdup(opts->uri) : NULL;
	s->capabilities = opts->capabilities != NULL
				  ? json_copy((json_t *)(uintptr_t)opts->capabilities)
				  : json_object();
	s->parameters = parameters(opts);
	if ((opts->uri != NULL && s->uri == NULL) || s->capabilities == NULL ||
		s->parameters == NULL) {
		clear(s);
		return err_nomem(err);
	}
	s->progress = opts->progress;
	s->held = opts->held;
	s->done = opts->done;
	s->arg = opts->arg;
	return prepare_all(q, err);
}

static void gone_on(void *arg, const json_t *reply, const struct err *err)
{
	/* What else is wrong with it, its status tells. */
	if (err != NULL)
		qemu_stream_cancel(arg);
}

/* QEMU, qapi/migration.json, migrate-continue. */
void qemu_stream_go_on(struct qemu *q)
{
	json_t *args = json_pack("{s:s}", "state", "pre-switchover");

	if (args == NULL || q->qmp == NULL ||
		qmp_command(q->qmp, "migrate-continue", args, NULL, gone_on, q) < 0)
		qemu_stream_cancel(q);
	json_decref(args);
}

void qemu_stream_cancel(struct qemu *q)
{
	if (q->stream.step != NOTHING)
		q->stream.cancelled = true;
	/* Of an outgoing one; an incoming one ends with its process, which is the caller's to end. */
	if (q->stream.step != NOTHING && q->stream.incoming)
		deadline_set(&q->stream.poll, 0);
	if (q->qmp != NULL && !q->stream.incoming)
		qmp_command(q->qmp, "migrate_cancel", NULL, NULL, NULL, NULL);
}

void qemu_stream_fail(struct qemu *q)
{
	struct err err;

	err_set(&err, -ESRCH, "the hypervisor is gone");
	finish(q, &err);
}

void qemu_stream_drop(struct qemu *q)
{
	clear(&q->stream);
}

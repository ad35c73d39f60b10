/*
 * hv/qemu-migrate.c - a running guest to another QEMU, and from one (QEMU, qapi/migration.json).
 *
 * Three capabilities make the end of a migration a definite one:
 * - return-path: the sender's `completed` then comes only after the receiver has said that it has
 *   loaded everything; without it what was written counts, and a receiver that could not load it
 *   would leave a guest that stands still on both sides.
 * - late-block-activate: the receiver, which stands still (-S), leaves the disks alone until it is
 *   told to run. So one that never is told has neither locked nor written them.
 * - auto-converge: a guest that writes faster than it is sent is slowed down, instead of never
 *   arriving.
 * A sender that fails goes on with its guest by itself, after it has said so.
 *
 * Disks that the receiver does not share are mirrored first, and on while the memory is sent. With
 * pause-before-switchover QEMU then waits when the guest stands still: only when the mirrors have
 * ended well the migration may go on to its end (QEMU, docs/interop/live-block-operations.rst).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu.h"
#include "lib/json.h"

#define DOWNTIME_MS 300
#define SETTLE_MS   20

struct qemu_migration {
	struct list node; /* of q->migrations */
	struct qemu *q;
	bool incoming, ended;
	bool mirroring; /* its disks are copied */
	bool lost;      /* the end of the stream is not known */
	uint64_t downtime, max_bandwidth;
	int fd;    /* the caller's */
	char *uri; /* NULL: fd */
	hv_progress_fn *progress;
	hv_done_fn *done;
	void *arg;
	struct err err; /* of the end; code 0: it went well */
	/* Tells what must not be told from within a call; and asks again. */
	struct deadline later;
};

static void migration_closed(void *arg)
{
	struct qemu_migration *m = arg;

	free(m->uri);
	free(m);
}

static void migration_free(struct qemu_migration *m)
{
	list_remove(&m->node);
	deadline_close(&m->later, migration_closed);
}

/* The only exit. */
static void migration_done(struct qemu_migration *m)
{
	struct err err = m->err;
	hv_done_fn *done = m->done;
	void *arg = m->arg;

	migration_free(m);
	done(arg, err.code != 0 ? &err : NULL);
}

/* A sender that failed says so shortly before its guest runs on. */
static void settled(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu_migration *m = arg;

	if (err == NULL && m->q->hv.status == HV_STATUS_SAVING && m->err.code != 0)
		deadline_set(&m->later, SETTLE_MS);
	else
		migration_done(m);
}

static void ask(struct qemu_migration *m)
{
	json_t *cmd = json_pack("{s:s}", "execute", "query-status");

	/* The answers come in this order: with the second the first one is known. */
	qemu_ask_status(m->q);
	qemu_send(m->q, cmd, NULL, settled, m);
	json_decref(cmd);
}

static void later(void *arg)
{
	struct qemu_migration *m = arg;

	if (m->ended)
		ask(m);
	else
		migration_done(m);
}

static bool is_lost(int code)
{
	return code == -ESRCH || code == -ECONNRESET || code == -ENOTCONN || code == -EHOSTUNREACH;
}

/* Stream and mirrors have come to their end. */
static void all_ended(struct qemu_migration *m)
{
	if (!m->lost) {
		ask(m);
		return;
	}
	/* Whether everything had arrived before that, only the receiver knows. */
	if (!m->incoming) {
		struct err why = m->err;

		err_set(&m->err, -EUNATCH, "the migration's end is not known: %s", why.msg);
	}
	migration_done(m);
}

static void serves_no_more(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu_migration *m = arg;

	if (err != NULL && m->err.code == 0)
		m->err = *err;
	all_ended(m);
}

static void ended(void *arg, const struct err *err)
{
	struct qemu_migration *m = arg;

	m->ended = true;
	m->lost = err != NULL && is_lost(err->code);
	/* A mirror that failed is why it was cancelled. */
	if (err != NULL && (m->err.code == 0 || m->lost))
		m->err = *err;
	if (err != NULL && m->incoming)
		hv_add_last_words(m->q->log_path, m->q->log_offset, &m->err);
	if (m->mirroring)
		qemu_mirror_cancel(m->q);
	else if (m->incoming && m->q->serving && !m->lost)
		qemu_serve_no_more(m->q, serves_no_more, m);
	else
		all_ended(m);
}

static void moved(void *arg, const struct hv_progress *p)
{
	struct qemu_migration *m = arg;

	if (m->progress != NULL)
		m->progress(m->arg, p);
}

static int check(struct qemu_migration *m, const struct hv_migration *to, struct err *err)
{
	enum hv_status status = hv_status(&m->q->hv);
	enum hv_status want = m->incoming ? HV_STATUS_INCOMING : HV_STATUS_RUNNING;

	if (!qemu_alive(m->q))
		return err_set(err, -ESRCH, "the hypervisor is gone");
	if (qemu_stream_active(m->q) || m->q->mirror != NULL)
		return err_set(err, -EBUSY, "its memory is just being written or read");
	if (status != want)
		return err_set(err, -EBUSY, "the guest is %s, not %s", hv_status_name(status),
			hv_status_name(want));
	return 0;
}

static void held(void *arg)
{
	struct qemu_migration *m = arg;

	qemu_mirror_finish(m->q);
}

static int begin_stream(struct qemu_migration *m, struct err *err)
{
	struct qemu_stream_opts opts = { .incoming = m->incoming,
		.live = true,
		.uri = m->uri,
		.fd = m->fd,
		.max_bandwidth = m->max_bandwidth,
		.progress = moved,
		.held = m->mirroring ? held : NULL,
		.done = ended,
		.arg = m };
	json_t *capabilities, *parameters;
	int r;

	/* The last: as a start from a warm image has left it on. */
	capabilities = json_pack("{s:b,s:b,s:b,s:b,s:b}", "return-path", 1, "late-block-activate",
		1, "auto-converge", 1, "pause-before-switchover", m->mirroring, "x-ignore-shared",
		0);
	parameters = json_pack("{s:I}", "downtime-limit", (json_int_t)m->downtime);
	if (capabilities == NULL || parameters == NULL) {
		r = err_nomem(err);
	} else {
		opts.capabilities = capabilities;
		opts.parameters = parameters;
		r = qemu_stream_start(m->q, &opts, err);
	}
	json_decref(capabilities);
	json_decref(parameters);
	return r;
}

/* ---- disks ---- */

static void mirror_ready(void *arg)
{
	struct qemu_migration *m = arg;

	if (begin_stream(m, &m->err) < 0)
		qemu_mirror_cancel(m->q);
}

static void mirror_done(void *arg, const struct err *err)
{
	struct qemu_migration *m = arg;

	m->mirroring = false;
	if (err != NULL && m->err.code == 0)
		m->err = *err;
	if (m->ended)
		all_ended(m);
	else if (!qemu_stream_active(m->q))
		migration_done(m);
	else if (err != NULL)
		qemu_stream_cancel(m->q);
	else
		qemu_stream_go_on(m->q);
}

static int begin(struct qemu_migration *m, const struct hv_migration *to, struct err *err)
{
	struct qemu_mirror_opts opts = { .nbd = to->nbd,
		.ids = to->disks,
		.n = to->ndisks,
		.max_bandwidth = to->max_bandwidth,
		.progress = moved,
		.ready = mirror_ready,
		.done = mirror_done,
		.arg = m };
	int r = check(m, to, err);

	m->downtime = to->max_downtime_ms > 0 ? to->max_downtime_ms : DOWNTIME_MS;
	m->max_bandwidth = to->max_bandwidth;
	m->fd = to->fd;
	if (r == 0 && to->uri != NULL && (m->uri = strdup(to->uri)) == NULL)
		return err_nomem(err);
	if (r < 0 || m->incoming || to->ndisks == 0)
		return r < 0 ? r : begin_stream(m, err);
	r = qemu_mirror_start(m->q, &opts, err);
	m->mirroring = r == 0;
	return r;
}

static void migrate(struct qemu *q, bool incoming, const struct hv_migration *to,
	hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct qemu_migration *m = calloc(1, sizeof(*m));
	struct err err;

	/* As in qemu-ops.c: nothing can be remembered. */
	if (m == NULL) {
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	m->q = q;
	m->incoming = incoming;
	m->progress = progress;
	m->done = done;
	m->arg = arg;
	deadline_init(&m->later, q->hv.loop, later, m);
	list_append(&q->migrations, &m->node);
	if (begin(m, to, &m->err) < 0)
		deadline_set(&m->later, 0);
}

void qemu_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg)
{
	migrate(qemu_of(hv), false, to, progress, done, arg);
}

void qemu_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg)
{
	migrate(qemu_of(hv), true, from, NULL, done, arg);
}

void qemu_migrate_drop(struct qemu *q)
{
	while (!list_empty(&q->migrations))
		migration_free(list_first(&q->migrations, struct qemu_migration, node));
}

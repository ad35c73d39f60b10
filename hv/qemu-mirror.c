/*
 * hv/qemu-mirror.c - disks of a running guest to another QEMU, whose guest is to go on with them: a
 * mirror job for each, into the NBD exports of one that waits (QEMU, qapi/block-core.json,
 * blockdev-mirror; qapi/block-export.json).
 *
 * copy-mode=write-blocking: what the guest writes while it is copied has been written on both sides
 * when the guest hears of it, so that the copies come up with the disks however fast it writes. A
 * target that fails fails the job and not the guest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-row.h"
#include "lib/json.h"

#define POLL_MS   100
#define FINISH_MS 5 /* the guest stands still meanwhile */
#define FD_NAME   "drover-nbd"

enum mirror_state {
	BEGINNING,
	COPYING,
	READY,
	FINISHING,
	ENDING
};

struct qemu_mirror {
	struct qemu *q;
	enum mirror_state state;
	char **ids, *nbd;
	size_t n;
	uint64_t speed;
	hv_progress_fn *progress;
	void (*ready)(void *arg);
	hv_done_fn *done;
	void *arg;
	struct deadline poll;
	struct err err; /* the first that went wrong */
};

static void mirror_closed(void *arg)
{
	struct qemu_mirror *w = arg;

	for (size_t i = 0; i < w->n; i++)
		free(w->ids[i]);
	free(w->ids);
	free(w->nbd);
	free(w);
}

void qemu_mirror_drop(struct qemu *q)
{
	if (q->mirror != NULL)
		deadline_close(&q->mirror->poll, mirror_closed);
	q->mirror = NULL;
}

static void name_of(size_t i, char out[32])
{
	snprintf(out, 32, QEMU_COPY_PREFIX "%zu", i);
}

/* ---- the end ---- */

/* The only exit. */
static void cleaned(void *arg, const struct err *err)
{
	struct qemu_mirror *w = arg;
	hv_done_fn *done = w->done;
	struct err mine = w->err;
	void *told = w->arg;

	if (err != NULL && mine.code == 0)
		mine = *err;
	qemu_mirror_drop(w->q);
	done(told, mine.code != 0 ? &mine : NULL);
}

static void end(struct qemu_mirror *w, const struct err *err)
{
	struct err mine;

	if (w->err.code == 0 && err != NULL)
		w->err = *err;
	if (w->state == ENDING)
		return;
	w->state = ENDING;
	deadline_cancel(&w->poll);
	if (qemu_copy_clean(w->q, cleaned, w, &mine) < 0)
		cleaned(w, &mine);
}

void qemu_mirror_cancel(struct qemu *q)
{
	struct err err;

	if (q->mirror == NULL || q->mirror->state == ENDING)
		return;
	err_set(&err, -ECANCELED, "it was cancelled");
	/* Commands that are under way make more of it yet: it ends after them. */
	if (q->mirror->state == BEGINNING)
		q->mirror->err = err;
	else
		end(q->mirror, &err);
}

/* ---- how they go ---- */

static const json_t *job_of(const json_t *jobs, size_t i)
{
	const json_t *job;
	char name[32];
	size_t k;

	name_of(i, name);
	json_array_foreach (jobs, k, job) {
		if (str_eq(json_str(job, "id"), name))
			return job;
	}
	return NULL;
}

/* Whether it has ended well; -errno: not well. */
static int job_ended(const struct qemu_mirror *w, size_t i, const json_t *job, struct err *err)
{
	const char *error = json_str(job, "error");

	if (job != NULL && !str_eq(json_str(job, "status"), "concluded"))
		return 0;
	if (job != NULL && error == NULL && w->state == FINISHING)
		return 1;
	err_set(err, error != NULL && strstr(error, "No space left") != NULL ? -ENOSPC : -EIO,
		"QEMU could not copy %s: %s", w->ids[i],
		error != NULL ? error : "somebody has ended it");
	hv_clean_text(err->msg);
	return err->code;
}

static void look_again(struct qemu_mirror *w)
{
	deadline_set(&w->poll, w->state == FINISHING ? FINISH_MS : POLL_MS);
}

static void jobs_known(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_progress p = { .step = "disks" };
	struct qemu_mirror *w = arg;
	size_t ready = 0, over = 0;
	struct err mine;

	if (w->state == ENDING)
		return;
	/* A monitor that is late is others' to see. */
	if (err != NULL && err->code != -ETIMEDOUT) {
		end(w, err);
		return;
	}
	for (size_t i = 0; i < w->n && err == NULL; i++) {
		const json_t *job = job_of(reply, i);
		int r = job_ended(w, i, job, &mine);

		if (r < 0) {
			end(w, &mine);
			return;
		}
		over += (size_t)r;
		ready += str_eq(json_str(job, "status"), "ready");
		p.done += (uint64_t)json_int(job, "current-progress", 0);
		p.total += (uint64_t)json_int(job, "total-progress", 0);
	}
	if (w->state == FINISHING && over == w->n) {
		end(w, NULL);
		return;
	}
	look_again(w);
	if (w->state != COPYING || err != NULL)
		return;
	if (ready == w->n) {
		w->state = READY;
		p.step = "copied";
	}
	if (w->progress != NULL && p.total > 0)
		w->progress(w->arg, &p);
	if (w->state == READY)
		w->ready(w->arg);
}

static void ask_jobs(void *arg)
{
	struct qemu_mirror *w = arg;
	struct qmp_opts opts = { .fd = -1 };
	json_t *cmd = json_pack("{s:s}", "execute", "query-jobs");

	qemu_send(w->q, cmd, &opts, jobs_known, w);
	json_decref(cmd);
}

static void told_to_finish(void *arg, const struct err *err)
{
	struct qemu_mirror *w = arg;

	if (err != NULL)
		end(w, err);
	else if (w->state == FINISHING)
		ask_jobs(w);
}

/*
 * Of a job that is ready this is no cancel, but its end: the copy is as the disk is, and the guest
 * stays with the disk (blockdev-mirror, block-job-cancel).
 */
void qemu_mirror_finish(struct qemu *q)
{
	struct qemu_mirror *w = q->mirror;
	struct qemu_row *row;
	struct err err;

	if (w == NULL || w->state == ENDING)
		return;
	row = w->state == READY ? qemu_row_new(q, told_to_finish, w) : NULL;
	if (row == NULL) {
		err_set(&err, -EIO, "the copies of its disks are not ready");
		end(w, &err);
		return;
	}
	w->state = FINISHING;
	deadline_cancel(&w->poll);
	for (size_t i = 0; i < w->n; i++) {
		char name[32];

		name_of(i, name);
		qemu_row_add(row, "block-job-cancel", json_pack("{s:s}", "device", name));
	}
	qemu_row_run(row);
}

/* ---- the beginning ---- */

static void begun(void *arg, const struct err *err)
{
	struct qemu_mirror *w = arg;

	w->state = COPYING;
	if (err != NULL || w->err.code != 0)
		end(w, err);
	else
		ask_jobs(w);
}

static void add_steps(const struct qemu_mirror *w, struct qemu_row *row)
{
	for (size_t i = 0; i < w->n; i++) {
		char name[32];

		name_of(i, name);
		qemu_row_add(row, "blockdev-add",
			json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:s}}", "driver", "nbd",
				"node-name", name, "discard", "unmap", "export", w->ids[i],
				"server", "type", "unix", "path", w->nbd));
		qemu_row_add(row, "blockdev-mirror",
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I}", "job-id", name, "device",
				w->ids[i], "target", name, "sync", "full", "copy-mode",
				"write-blocking", "auto-dismiss", 0, "speed",
				(json_int_t)(w->speed / w->n)));
	}
}

static struct qemu_mirror *mirror_new(struct qemu *q, const struct qemu_mirror_opts *opts)
{
	struct qemu_mirror *w = calloc(1, sizeof(*w));
	bool whole;

	if (w == NULL)
		return NULL;
	w->q = q;
	w->nbd = strdup(opts->nbd);
	w->ids = calloc(opts->n, sizeof(*w->ids));
	whole = w->nbd != NULL && w->ids != NULL;
	for (size_t i = 0; i < opts->n && whole; i++) {
		w->ids[i] = strdup(opts->ids[i]);
		w->n = i + 1;
		whole = w->ids[i] != NULL;
	}
	if (!whole) {
		mirror_closed(w);
		return NULL;
	}
	w->speed = opts->max_bandwidth;
	w->progress = opts->progress;
	w->ready = opts->ready;
	w->done = opts->done;
	w->arg = opts->arg;
	deadline_init(&w->poll, q->hv.loop, ask_jobs, w);
	return w;
}

int qemu_mirror_start(struct qemu *q, const struct qemu_mirror_opts *opts, struct err *err)
{
	struct qemu_row *row;

	if (q->mirror != NULL || q->copy != NULL)
		return err_set(err, -EBUSY, "its disks are just being copied");
	q->mirror = mirror_new(q, opts);
	row = q->mirror != NULL ? qemu_row_new(q, begun, q->mirror) : NULL;
	if (row == NULL) {
		qemu_mirror_drop(q);
		return err_nomem(err);
	}
	add_steps(q->mirror, row);
	qemu_row_run(row);
	return 0;
}

/* ---- the other side ---- */

static void served(void *arg, const struct err *err)
{
	struct qemu *q = arg;

	q->serving = err == NULL;
	q->served(q->served_arg, err);
}

/* An export that can be written makes a disk that waits for its guest active (blk_exp_add()). */
void qemu_serve_disks(
	struct hv *hv, int fd, const char *const *ids, size_t n, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_row *row = qemu_row_new(q, served, q);
	struct err err;

	/* As in qemu-ops.c: nothing can be remembered. */
	if (row == NULL) {
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	q->served = done;
	q->served_arg = arg;
	qemu_row_add(row, "getfd", json_pack("{s:s}", "fdname", FD_NAME));
	qemu_row_fd(row, fd);
	qemu_row_undo(row, "closefd", json_pack("{s:s}", "fdname", FD_NAME));
	qemu_row_add(row, "nbd-server-start",
		json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "fd", "data", "str", FD_NAME));
	for (size_t i = 0; i < n; i++)
		qemu_row_add(row, "block-export-add",
			json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", ids[i],
				"node-name", ids[i], "name", ids[i], "writable", 1));
	qemu_row_run(row);
}

/* It ends when all its clients have gone and its exports are closed. */
void qemu_serve_no_more(struct qemu *q, hv_reply_fn *reply, void *arg)
{
	struct qmp_opts opts = { .fd = -1 };
	json_t *cmd = json_pack("{s:s}", "execute", "nbd-server-stop");

	q->serving = false;
	qemu_send(q, cmd, &opts, reply, arg);
	json_decref(cmd);
}

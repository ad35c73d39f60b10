/*
 * hv/qemu-copy.c - disks copied as they are in one moment, while the guest runs on: a backup job for
 * each, begun together (QEMU, docs/interop/live-block-operations.rst; qapi/transaction.json).
 *
 * What is copied is the file below the format, byte by byte: a guest that stands still has nothing in
 * QEMU's caches (vm_stop() flushes them). So a copy is what the disk was, of any format, and no image
 * has to be made for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/qemu-row.h"
#include "lib/json.h"

#define NAME_PREFIX QEMU_COPY_PREFIX
#define POLL_MS     100

struct copy {
	char *source, *target; /* node, file */
	bool made;             /* the file is there, and ours */
};

/* Jobs under way; q->copy. */
struct qemu_copy {
	struct qemu *q;
	struct copy *v;
	size_t n; /* 0: only what an earlier daemon has left is removed */
	hv_progress_fn *progress;
	hv_done_fn *begun, *done;
	void *arg;
	bool begun_told, cancelled, cancel_sent;
	struct qemu_copy *then; /* begins when this has removed what was left */
	struct deadline poll;
	struct err err; /* the first that went wrong */
};

static void drop(struct qemu_copy *c);

static void copy_closed(void *arg)
{
	struct qemu_copy *c = arg;

	drop(c->then);
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].source);
		free(c->v[i].target);
	}
	free(c->v);
	free(c);
}

static void drop(struct qemu_copy *c)
{
	if (c != NULL)
		deadline_close(&c->poll, copy_closed);
}

void qemu_copy_drop(struct qemu *q)
{
	drop(q->copy);
	q->copy = NULL;
}

static void set_err(struct qemu_copy *c, const struct err *err)
{
	if (c->err.code == 0 && err != NULL)
		c->err = *err;
}

static void tell_begun(struct qemu_copy *c, const struct err *err)
{
	bool told = c->begun_told;

	c->begun_told = true;
	if (!told && c->begun != NULL)
		c->begun(c->arg, err);
}

static void begin(struct qemu_copy *c);

/* The only exit. */
static void finish(struct qemu_copy *c)
{
	struct qemu_copy *then = c->then;
	struct err err = c->err;
	const struct err *result = err.code != 0 ? &err : NULL;
	hv_done_fn *done = c->done;
	struct qemu *q = c->q;
	void *arg = c->arg;

	if (result != NULL) {
		tell_begun(c, result);
		/* begun may have destroyed the machine's hypervisor. */
		if (q->copy != c)
			return;
		for (size_t i = 0; i < c->n; i++)
			if (c->v[i].made)
				unlink(c->v[i].target);
	}
	c->then = NULL;
	qemu_copy_drop(q);
	q->copy = then;
	if (then != NULL)
		begin(then);
	if (done != NULL)
		done(arg, result);
}

static void ask(struct qemu_copy *c, const char *name, json_t *args, hv_reply_fn *reply)
{
	struct qmp_opts opts = { .fd = -1 };
	json_t *cmd = args != NULL ? json_pack("{s:s, s:o}", "execute", name, "arguments", args)
				   : json_pack("{s:s}", "execute", name);

	qemu_send(c->q, cmd, &opts, reply, c);
	json_decref(cmd);
}

/* ---- the end: nothing of it stays in QEMU ---- */

static void cleaned(void *arg, const struct err *err)
{
	struct qemu_copy *c = arg;

	set_err(c, err);
	finish(c);
}

/* The jobs are gone, and hold the nodes no more. */
static void nodes_known(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu_copy *c = arg;
	struct qemu_row *row;
	const json_t *e;
	size_t i, n = 0;

	set_err(c, err);
	row = err == NULL ? qemu_row_new(c->q, cleaned, c) : NULL;
	if (row == NULL) {
		finish(c);
		return;
	}
	json_array_foreach (reply, i, e) {
		const char *node = json_str(e, "node-name");

		if (node == NULL || !str_starts(node, NAME_PREFIX))
			continue;
		qemu_row_add(row, "blockdev-del", json_pack("{s:s}", "node-name", node));
		n++;
	}
	if (n == 0)
		qemu_row_add(row, "query-status", json_object());
	qemu_row_run(row);
}

static void clean(struct qemu_copy *c)
{
	ask(c, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), nodes_known);
}

/* ---- how they go ---- */

static bool is_ours(const json_t *job)
{
	const char *id = json_str(job, "id");

	return id != NULL && str_starts(id, NAME_PREFIX);
}

/* A job that has ended says why until it is dismissed; one that has not is cancelled. */
static void end_job(struct qemu_copy *c, const json_t *job, bool ended)
{
	const char *error = json_str(job, "error");
	json_t *args = json_pack("{s:O}", "id", json_object_get(job, "id"));
	struct err err;

	if (ended && error != NULL) {
		err_set(&err, strstr(error, "No space left") != NULL ? -ENOSPC : -EIO,
			"QEMU could not copy a disk: %s", error);
		hv_clean_text(err.msg);
		set_err(c, &err);
	}
	if (c->q->qmp != NULL && args != NULL)
		qmp_command(
			c->q->qmp, ended ? "job-dismiss" : "job-cancel", args, NULL, NULL, NULL);
	json_decref(args);
}

static bool has_ended(const json_t *job)
{
	return str_eq(json_str(job, "status"), "concluded");
}

static void jobs_known(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_progress p = { .step = "disks" };
	struct qemu_copy *c = arg;
	size_t i, running = 0;
	const json_t *job;
	bool cancel;

	/* A monitor that is late is others' to see. */
	if (err != NULL && err->code == -ETIMEDOUT) {
		deadline_set(&c->poll, POLL_MS);
		return;
	}
	if (err != NULL) {
		set_err(c, err);
		finish(c);
		return;
	}
	json_array_foreach (reply, i, job) {
		if (!is_ours(job))
			continue;
		running += !has_ended(job);
		p.done += (uint64_t)json_int(job, "current-progress", 0);
		p.total += (uint64_t)json_int(job, "total-progress", 0);
	}
	cancel = (c->cancelled || c->n == 0) && !c->cancel_sent;
	json_array_foreach (reply, i, job) {
		/* All together: none of them is of use alone. */
		if (is_ours(job) && (running == 0 || (cancel && !has_ended(job))))
			end_job(c, job, has_ended(job));
	}
	c->cancel_sent = c->cancel_sent || cancel;
	if (running == 0) {
		clean(c);
		return;
	}
	if (c->progress != NULL && p.total > 0)
		c->progress(c->arg, &p);
	deadline_set(&c->poll, POLL_MS);
}

static void poll(void *arg)
{
	ask(arg, "query-jobs", NULL, jobs_known);
}

/* ---- the beginning ---- */

static void started(void *arg, const struct err *err)
{
	struct qemu_copy *c = arg;
	struct qemu *q = c->q;

	if (err != NULL) {
		set_err(c, err);
		finish(c);
		return;
	}
	tell_begun(c, NULL);
	if (q->copy == c)
		deadline_set(&c->poll, POLL_MS);
}

static int make_target(struct copy *copy, const json_t *nodes, struct err *err)
{
	const json_t *e, *node = NULL;
	size_t i;
	int fd, r = 0;

	json_array_foreach (nodes, i, e)
		if (str_eq(json_str(e, "node-name"), copy->source))
			node = e;
	if (node == NULL)
		return err_set(err, -ENOENT, "it has no disk %s", quote(copy->source));
	fd = open(copy->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(copy->target));
	copy->made = true;
	if (ftruncate(fd, json_int(json_obj(node, "image"), "virtual-size", 0)) < 0)
		r = err_errno(err, -errno, "%s", quote(copy->target));
	close(fd);
	return r;
}

static json_t *backup(const struct qemu_copy *c, size_t i)
{
	char name[64];

	snprintf(name, sizeof(name), NAME_PREFIX "%zu", i);
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:b}}", "type", "blockdev-backup", "data",
		"job-id", name, "device", c->v[i].source, "target", name, "sync", "full",
		"auto-dismiss", 0);
}

static void add_steps(struct qemu_copy *c, struct qemu_row *row)
{
	json_t *actions = json_array();

	for (size_t i = 0; i < c->n; i++) {
		char name[64];

		snprintf(name, sizeof(name), NAME_PREFIX "%zu", i);
		qemu_row_add(row, "blockdev-add",
			json_pack("{s:s, s:s, s:s, s:s}", "driver", "file", "node-name", name,
				"filename", c->v[i].target, "discard", "unmap"));
		qemu_row_undo(row, "blockdev-del", json_pack("{s:s}", "node-name", name));
		json_array_append_new(actions, backup(c, i));
	}
	/* One moment for all of them; and when one fails, none goes on. */
	qemu_row_add(row, "transaction",
		json_pack("{s:o, s:{s:s}}", "actions", actions, "properties", "completion-mode",
			"grouped"));
}

static void sizes_known(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu_copy *c = arg;
	struct qemu_row *row;
	struct err mine;
	int r = err != NULL ? err->code : 0;

	if (err != NULL)
		mine = *err;
	else if (c->cancelled)
		r = err_set(&mine, -ECANCELED, "it was cancelled");
	for (size_t i = 0; i < c->n && r == 0; i++)
		r = make_target(&c->v[i], reply, &mine);
	row = r == 0 ? qemu_row_new(c->q, started, c) : NULL;
	if (row == NULL) {
		if (r == 0)
			err_nomem(&mine);
		set_err(c, &mine);
		finish(c);
		return;
	}
	add_steps(c, row);
	qemu_row_run(row);
}

static void begin(struct qemu_copy *c)
{
	ask(c, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), sizes_known);
}

static struct qemu_copy *copy_new(struct qemu *q, const struct hv_disk_copy *copies, size_t n)
{
	struct qemu_copy *c = calloc(1, sizeof(*c));
	bool whole = c != NULL;

	if (c == NULL)
		return NULL;
	c->q = q;
	c->v = calloc(n + 1, sizeof(*c->v));
	whole = c->v != NULL;
	for (size_t i = 0; i < n && whole; i++) {
		c->v[i].source = str_printf("%s-file", copies[i].id);
		c->v[i].target = strdup(copies[i].target);
		c->n = i + 1;
		whole = c->v[i].source != NULL && c->v[i].target != NULL;
	}
	deadline_init(&c->poll, q->hv.loop, poll, c);
	if (!whole)
		drop(c);
	return whole ? c : NULL;
}

void qemu_copy_disks(struct hv *hv, const struct hv_disk_copy *copies, size_t n,
	hv_progress_fn *progress, hv_done_fn *begun, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	bool busy = q->copy != NULL && (q->copy->n > 0 || q->copy->then != NULL);
	struct qemu_copy *c = busy ? NULL : copy_new(q, copies, n);
	struct err err;

	/* As in qemu-ops.c: nothing can be remembered. */
	if (c == NULL) {
		if (busy)
			err_set(&err, -EBUSY, "its disks are just being copied");
		else
			err_nomem(&err);
		if (begun != NULL)
			begun(arg, &err);
		done(arg, &err);
		return;
	}
	c->progress = progress;
	c->begun = begun;
	c->done = done;
	c->arg = arg;
	if (q->copy != NULL) {
		q->copy->then = c;
		return;
	}
	q->copy = c;
	begin(c);
}

void qemu_copy_cancel(struct qemu *q)
{
	struct qemu_copy *c = q->copy != NULL && q->copy->then != NULL ? q->copy->then : q->copy;
	struct err err;

	if (c != NULL) {
		err_set(&err, -ECANCELED, "it was cancelled");
		set_err(c, &err);
		c->cancelled = true;
		return;
	}
	/* Of an earlier daemon. */
	if (q->qmp != NULL && (c = copy_new(q, NULL, 0)) != NULL) {
		q->copy = c;
		poll(c);
	}
}

int qemu_copy_clean(struct qemu *q, hv_done_fn *done, void *arg, struct err *err)
{
	struct qemu_copy *c = q->copy == NULL ? copy_new(q, NULL, 0) : NULL;

	if (q->copy != NULL)
		return err_set(err, -EBUSY, "its disks are just being copied");
	if (c == NULL)
		return err_nomem(err);
	c->done = done;
	c->arg = arg;
	q->copy = c;
	poll(c);
	return 0;
}

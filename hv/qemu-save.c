/*
 * hv/qemu-save.c - a guest's memory and device state into a file, and from there into a new QEMU.
 *
 * The file is opened here and passed as a descriptor: that works in a QEMU of any version that sees
 * nothing of our folders and may spawn nothing. (exec: is no way: with -sandbox spawn=deny it kills
 * QEMU. mapped-ram gains nothing for a guest that stands still: no page is written twice.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "hv/qemu.h"
#include "lib/file.h"

#define MEMORY_FILE "memory"

/* A save under way. */
struct qemu_save {
	struct qemu *q; /* NULL: nobody waits any more */
	int fd;
	hv_progress_fn *progress;
	hv_done_fn *done;
	void *arg;
	struct err refused; /* told by `later` */
	struct deadline later;
};

static void save_closed(void *arg)
{
	free(arg);
}

static void save_free(struct qemu_save *s)
{
	if (s->q != NULL)
		s->q->save = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->q = NULL;
	deadline_close(&s->later, save_closed);
}

static void save_done(struct qemu_save *s, const struct err *err)
{
	hv_done_fn *done = s->q != NULL ? s->done : NULL;
	void *arg = s->arg;

	save_free(s);
	if (done != NULL)
		done(arg, err);
}

static void written(void *arg, const struct err *err)
{
	save_done(arg, err);
}

static void save_progress(void *arg, const struct hv_progress *p)
{
	struct qemu_save *s = arg;

	if (s->progress != NULL)
		s->progress(s->arg, p);
}

static void tell_refused(void *arg)
{
	struct qemu_save *s = arg;
	struct err err = s->refused;

	save_done(s, &err);
}

static int open_memory(struct qemu_save *s, const char *dir, struct err *err)
{
	char *path = path_join(dir, MEMORY_FILE);

	if (path == NULL)
		return err_nomem(err);
	s->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->fd < 0)
		err_errno(err, -errno, "create %s", quote(path));
	free(path);
	return s->fd < 0 ? err->code : 0;
}

/*
 * Memory that is in a file which others share stays there, and is no part of the stream (QEMU,
 * qapi/migration.json, x-ignore-shared). A reader that maps the file for itself alone has to know;
 * what it saves itself one day is whole again.
 */
static int stream_start(struct qemu *q, struct qemu_stream_opts *opts, bool ignore, struct err *err)
{
	json_t *capabilities = json_pack("{s:b}", "x-ignore-shared", ignore);
	int r;

	if (capabilities == NULL)
		return err_nomem(err);
	opts->capabilities = capabilities;
	r = qemu_stream_start(q, opts, err);
	json_decref(capabilities);
	return r;
}

static int save_begin(struct qemu_save *s, const char *dir, struct err *err)
{
	struct qemu_stream_opts opts = { .progress = save_progress, .done = written, .arg = s };
	enum hv_status status = hv_status(&s->q->hv);
	int r;

	if (status == HV_STATUS_RUNNING || !qemu_alive(s->q))
		return err_set(err, -EBUSY, "the guest does not stand still: it is %s",
			hv_status_name(status));
	r = open_memory(s, dir, err);
	if (r < 0)
		return r;
	opts.fd = s->fd;
	return stream_start(s->q, &opts, s->q->memory_file, err);
}

void qemu_save(
	struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_save *s = calloc(1, sizeof(*s));
	struct err err;

	/* As in qemu-ops.c: nothing can be remembered. */
	if (s == NULL || q->save != NULL) {
		free(s);
		if (s == NULL)
			err_nomem(&err);
		else
			err_set(&err, -EBUSY, "it is just being saved");
		done(arg, &err);
		return;
	}
	s->q = q;
	s->fd = -1;
	s->progress = progress;
	s->done = done;
	s->arg = arg;
	deadline_init(&s->later, hv->loop, tell_refused, s);
	q->save = s;
	if (save_begin(s, dir, &s->refused) < 0)
		deadline_set(&s->later, 0);
}

void qemu_job_cancel(struct hv *hv)
{
	struct qemu *q = qemu_of(hv);

	qemu_stream_cancel(q);
	if (q->mirror != NULL)
		qemu_mirror_cancel(q);
	else
		qemu_copy_cancel(q);
}

void qemu_save_drop(struct qemu *q)
{
	struct qemu_save *s = q->save;

	qemu_stream_drop(q);
	if (q->restore_fd >= 0)
		close(q->restore_fd);
	q->restore_fd = -1;
	if (s == NULL)
		return;
	save_free(s);
}

void qemu_save_lost(struct qemu *q)
{
	qemu_stream_fail(q);
}

/* ---- and back ---- */

int qemu_restore_open(struct qemu *q, const struct hv_spec *spec, struct err *err)
{
	char *path;

	if (spec->restore_dir == NULL)
		return 0;
	path = path_join(spec->restore_dir, MEMORY_FILE);
	if (path == NULL)
		return err_nomem(err);
	q->restore_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (q->restore_fd < 0)
		err_errno(err, -errno, "open %s", quote(path));
	free(path);
	return q->restore_fd < 0 ? err->code : 0;
}

static void restored(void *arg, const struct err *err)
{
	struct qemu *q = arg;
	struct err mine;

	close(q->restore_fd);
	q->restore_fd = -1;
	q->restoring = false;
	if (err == NULL) {
		qemu_ask_status(q);
		return;
	}
	/* QEMU is about to exit, and its last words tell what did not fit. */
	err_set(&mine, -ECONNRESET, "the saved state: %s", err->msg);
	qemu_start_lost(q, &mine);
}

void qemu_restore(struct qemu *q)
{
	struct qemu_stream_opts opts = {
		.incoming = true, .fd = q->restore_fd, .done = restored, .arg = q
	};
	struct err err;

	if (q->restoring)
		return;
	q->restoring = true;
	if (stream_start(q, &opts, q->restore_file, &err) < 0)
		restored(q, &err);
}

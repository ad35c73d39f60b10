#include "hv/qemu-row.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct step {
	const char *name, *undo;
	json_t *args, *undo_args;
	int fd;
	const char *const *buses; /* the next one to try first */
	char *gone;               /* until this device is gone */
	qemu_row_then_fn *then;
};

struct qemu_row {
	struct list entry; /* in q->rows */
	struct qemu *q;
	hv_done_fn *done;
	void *arg;
	struct step *steps;
	size_t n, at;
	uint64_t values[2];
	bool bad;           /* a part of it could not be had */
	bool waiting;       /* steps[at] is sent and wants a device gone: */
	bool replied, gone; /* what of the two has come */
	struct deadline patience;
	struct err err;
};

static void finish_step(struct step *s)
{
	json_decref(s->args);
	json_decref(s->undo_args);
	free(s->gone);
	if (s->fd >= 0)
		close(s->fd);
}

static void row_free(void *arg)
{
	struct qemu_row *row = arg;

	for (size_t i = 0; i < row->n; i++)
		finish_step(&row->steps[i]);
	free(row->steps);
	free(row);
}

static void row_drop(struct qemu_row *row)
{
	list_remove(&row->entry);
	deadline_close(&row->patience, row_free);
}

static void impatient(void *arg);

struct qemu_row *qemu_row_new(struct qemu *q, hv_done_fn *done, void *arg)
{
	struct qemu_row *row = calloc(1, sizeof(*row));

	if (row == NULL)
		return NULL;
	row->q = q;
	row->done = done;
	row->arg = arg;
	deadline_init(&row->patience, q->hv.loop, impatient, row);
	list_append(&q->rows, &row->entry);
	return row;
}

void qemu_row_add(struct qemu_row *row, const char *name, json_t *args)
{
	struct step *more = realloc(row->steps, (row->n + 1) * sizeof(*more));

	if (more != NULL)
		row->steps = more;
	if (more == NULL || args == NULL) {
		row->bad = true;
		json_decref(args);
		return;
	}
	row->steps[row->n++] = (struct step){ .name = name, .args = args, .fd = -1 };
}

static struct step *last(struct qemu_row *row)
{
	return row->n > 0 && !row->bad ? &row->steps[row->n - 1] : NULL;
}

void qemu_row_undo(struct qemu_row *row, const char *name, json_t *args)
{
	struct step *s = last(row);

	if (s == NULL || args == NULL) {
		row->bad = true;
		json_decref(args);
		return;
	}
	s->undo = name;
	s->undo_args = args;
}

void qemu_row_fd(struct qemu_row *row, int fd)
{
	struct step *s = last(row);

	if (s == NULL)
		return;
	s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (s->fd < 0)
		row->bad = true;
}

void qemu_row_buses(struct qemu_row *row, const char *const *buses)
{
	struct step *s = last(row);

	if (s != NULL)
		s->buses = buses;
}

void qemu_row_until_gone(struct qemu_row *row, const char *id)
{
	struct step *s = last(row);

	if (s == NULL)
		return;
	s->gone = strdup(id);
	if (s->gone == NULL)
		row->bad = true;
}

void qemu_row_then(struct qemu_row *row, qemu_row_then_fn *then)
{
	struct step *s = last(row);

	if (s != NULL)
		s->then = then;
}

uint64_t *qemu_row_values(struct qemu_row *row)
{
	return row->values;
}

struct qemu *qemu_row_owner(struct qemu_row *row)
{
	return row->q;
}

static void row_end(struct qemu_row *row, const struct err *err)
{
	hv_done_fn *done = row->done;
	void *arg = row->arg;
	struct err mine;

	if (err != NULL)
		mine = *err;
	row_drop(row);
	if (done != NULL)
		done(arg, err != NULL ? &mine : NULL);
}

/* Those before the failed one are taken back, the last first; QEMU keeps their order. */
static void row_fail(struct qemu_row *row, const struct err *err)
{
	struct err mine = row->err.code != 0 ? row->err : *err;

	while (row->at-- > 0) {
		struct step *s = &row->steps[row->at];

		if (s->undo != NULL && row->q->qmp != NULL)
			qmp_command(row->q->qmp, s->undo, s->undo_args, NULL, NULL, NULL);
	}
	row_end(row, &mine);
}

static void row_step(struct qemu_row *row);

static void step_done(struct qemu_row *row)
{
	deadline_cancel(&row->patience);
	row->waiting = false;
	row->at++;
	if (row->at == row->n)
		row_end(row, NULL);
	else
		row_step(row);
}

static void step_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu_row *row = arg;
	struct step *s = &row->steps[row->at];
	struct err mine;

	if (err != NULL && s->buses != NULL && err->code == -EIO && s->buses[1] != NULL) {
		/* That place is taken, or not there: the next. */
		s->buses++;
		row_step(row);
	} else if (err != NULL && s->gone != NULL && err->code == -ENOENT) {
		/* It went after our patience had ended: what it used may still be there. */
		row->err = *err;
		step_done(row);
	} else if (err != NULL) {
		row_fail(row, err);
	} else {
		/* `then` may move the steps. */
		if (s->then != NULL && s->then(row, reply, &mine) < 0) {
			row_fail(row, &mine);
			return;
		}
		/* The event may come before the reply. */
		row->replied = true;
		if (!row->waiting || row->gone)
			step_done(row);
	}
}

static void row_step(struct qemu_row *row)
{
	struct qmp_opts opts = { .fd = -1 };
	struct step *s = NULL;
	json_t *cmd = NULL;

	if (!row->bad) {
		s = &row->steps[row->at];
		opts.fd = s->fd;
		if (s->buses != NULL) {
			/* A port has one slot, which QEMU does not choose by itself. */
			json_object_set_new(s->args, "bus", json_string(*s->buses));
			json_object_set_new(s->args, "addr", json_string("0"));
		}
		cmd = json_pack("{s:s, s:O}", "execute", s->name, "arguments", s->args);
		row->replied = row->gone = false;
		row->waiting = s->gone != NULL;
		if (row->waiting)
			deadline_set(&row->patience, QEMU_UNPLUG_MS);
	}
	qemu_send(row->q, cmd, &opts, step_reply, row);
	json_decref(cmd);
}

void qemu_row_refuse(struct qemu_row *row, const struct err *err)
{
	row->bad = true;
	row->err = *err;
}

void qemu_row_run(struct qemu_row *row)
{
	if (row->n == 0)
		row->bad = true;
	row_step(row);
}

/* At most one row waits for a device: two removals at once are two device_del, the second fails. */
static struct qemu_row *waits_for(struct qemu *q, const char *id)
{
	struct qemu_row *row;

	list_for_each_entry (row, &q->rows, entry)
		if (row->waiting && str_eq(row->steps[row->at].gone, id))
			return row;
	return NULL;
}

void qemu_rows_device(struct qemu *q, const char *id, bool refused)
{
	struct qemu_row *row = waits_for(q, id);
	struct err err;

	if (row == NULL)
		return;
	if (refused) {
		err_set(&err, -EBUSY, "the guest refused to let go of %s", id);
		row_fail(row, &err);
		return;
	}
	row->gone = true;
	if (row->replied)
		step_done(row);
}

void qemu_rows_fail(struct qemu *q)
{
	struct qemu_row *row;
	struct err err;

	err_set(&err, -ESRCH, "the hypervisor is gone");
again:
	list_for_each_entry (row, &q->rows, entry) {
		/* The others have a command under way, which fails by itself. */
		if (row->waiting && row->replied) {
			row_fail(row, &err);
			goto again;
		}
	}
}

void qemu_rows_forget(struct qemu *q)
{
	while (!list_empty(&q->rows))
		row_drop(list_first(&q->rows, struct qemu_row, entry));
}

static void impatient(void *arg)
{
	struct qemu_row *row = arg;
	struct err err;

	err_set(&err, -EBUSY, "the guest has not let go of %s in %d s", row->steps[row->at].gone,
		QEMU_UNPLUG_MS / 1000);
	row_fail(row, &err);
}

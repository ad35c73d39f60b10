/* hv/qemu-inspect.c - what QEMU tells or shows of a machine: counters, screen, memory; and the NMI. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-row.h"
#include "lib/json.h"

/* How often the progress of a dump is asked for. */
#define DUMP_POLL_MS 200

void qemu_inspect_caps(struct qemu *q, const struct hv_spec *spec)
{
	q->hv.caps.why_not[HV_CAP_SCREENDUMP] =
		spec->vnc != NULL ? NULL : "the machine has no display (display = none)";
}

static void one_command(struct hv *hv, const char *name, json_t *args, hv_done_fn *done, void *arg)
{
	struct qemu_row *row = qemu_row_new(qemu_of(hv), done, arg);
	struct err err;

	if (row == NULL) {
		json_decref(args);
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	qemu_row_add(row, name, args);
	qemu_row_run(row);
}

void qemu_nmi(struct hv *hv, hv_done_fn *done, void *arg)
{
	one_command(hv, "inject-nmi", json_object(), done, arg);
}

/* PNG is there since 7.1 (qapi/ui.json). */
void qemu_screendump(struct hv *hv, const char *path, hv_done_fn *done, void *arg)
{
	one_command(hv, "screendump", json_pack("{s:s, s:s}", "filename", path, "format", "png"),
		done, arg);
}

/* ---- counters ---- */

struct counters {
	struct list entry; /* in q->counters */
	hv_reply_fn *reply;
	void *arg;
};

/* QEMU's names (qapi/block-core.json, BlockDeviceStats), and ours. */
static const char *const disk_counters[][2] = {
	{ "rd_bytes", "read-bytes" },
	{ "rd_operations", "read-operations" },
	{ "wr_bytes", "write-bytes" },
	{ "wr_operations", "write-operations" },
	{ "flush_operations", "flush-operations" },
	{ "failed_rd_operations", "failed-reads" },
	{ "failed_wr_operations", "failed-writes" },
};

/* "/machine/peripheral/disk0/virtio-backend" and "disk0": the id of the device. */
static bool device_of(const json_t *entry, char *out, size_t cap)
{
	const char *path = json_str(entry, "qdev"), *id;
	size_t len;

	if (path == NULL)
		return false;
	id = str_starts(path, "/machine/peripheral/") ? path + strlen("/machine/peripheral/")
						      : path;
	len = strcspn(id, "/");
	if (len == 0 || len >= cap)
		return false;
	memcpy(out, id, len);
	out[len] = '\0';
	return true;
}

static json_t *counted(const json_t *reply)
{
	json_t *all = json_object(), *disks = json_object();
	const json_t *entry;
	char id[64];
	size_t i;

	json_array_foreach (reply, i, entry) {
		const json_t *stats = json_obj(entry, "stats");
		json_t *disk;

		if (stats == NULL || !device_of(entry, id, sizeof(id)))
			continue;
		disk = json_object();
		for (size_t k = 0; k < ARRAY_LEN(disk_counters); k++)
			json_object_set_new(disk, disk_counters[k][1],
				json_integer(json_int(stats, disk_counters[k][0], 0)));
		json_object_set_new(disks, id, disk);
	}
	json_object_set_new(all, "disks", disks);
	return all;
}

static void counters_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct counters c = *(struct counters *)arg;
	json_t *all = err == NULL ? counted(reply) : NULL;

	list_remove(&((struct counters *)arg)->entry);
	free(arg);
	c.reply(c.arg, all, err);
	json_decref(all);
}

void qemu_counters(struct hv *hv, hv_reply_fn *reply, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct counters *c = malloc(sizeof(*c));
	json_t *cmd = json_pack("{s:s}", "execute", "query-blockstats");
	struct err err;

	if (c == NULL) {
		err_nomem(&err);
		reply(arg, NULL, &err);
	} else {
		c->reply = reply;
		c->arg = arg;
		list_append(&q->counters, &c->entry);
		qemu_send(q, cmd, NULL, counters_reply, c);
	}
	json_decref(cmd);
}

/* ---- the guest's memory as a core ---- */

struct qemu_dump {
	struct qemu *q;
	hv_progress_fn *progress;
	hv_done_fn *done;
	void *arg;
	struct deadline poll;
	bool begun; /* QEMU has said so */
};

static void dump_free(void *arg)
{
	free(arg);
}

static void dump_end(struct qemu_dump *d, const struct err *err)
{
	hv_done_fn *done = d->done;
	void *arg = d->arg;

	d->q->dump = NULL;
	deadline_close(&d->poll, dump_free);
	if (done != NULL)
		done(arg, err);
}

/* qapi/dump.json, DumpQueryResult. */
static void dump_status(struct qemu_dump *d, const json_t *status, const char *why)
{
	const char *word = json_str(status, "status");
	struct hv_progress p = { .done = (uint64_t)json_int(status, "completed", 0),
		.total = (uint64_t)json_int(status, "total", 0),
		.step = "memory" };
	struct err err;

	if (str_eq(word, "completed")) {
		dump_end(d, NULL);
	} else if (str_eq(word, "failed")) {
		err_set(&err, -EIO, "the dump failed%s%s", why != NULL ? ": " : "",
			why != NULL ? why : "");
		dump_end(d, &err);
	} else {
		deadline_set(&d->poll, DUMP_POLL_MS);
		if (d->progress != NULL && p.total != 0)
			d->progress(d->arg, &p);
	}
}

/* DUMP_COMPLETED; the poll only tells how far it is. */
void qemu_dump_completed(struct qemu *q, const json_t *data)
{
	if (q->dump != NULL)
		dump_status(q->dump, json_obj(data, "result"), json_str(data, "error"));
}

static void dump_polled(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;

	/* Asked for another one, whose end came as an event meanwhile: answers come in order. */
	if (q->dump != NULL && !q->dump->begun)
		return;
	if (q->dump != NULL && err == NULL && !deadline_armed(&q->dump->poll))
		dump_status(q->dump, reply, NULL);
	else if (q->dump != NULL && err != NULL)
		deadline_set(&q->dump->poll, DUMP_POLL_MS);
}

static void dump_poll(void *arg)
{
	struct qemu_dump *d = arg;

	if (d->q->qmp != NULL)
		qmp_command(d->q->qmp, "query-dump", NULL, NULL, dump_polled, d->q);
}

static void dump_begun(void *arg, const struct err *err)
{
	struct qemu *q = arg;

	if (q->dump == NULL)
		return;
	if (err != NULL) {
		dump_end(q->dump, err);
		return;
	}
	q->dump->begun = true;
	deadline_set(&q->dump->poll, DUMP_POLL_MS);
}

void qemu_dump_fail(struct qemu *q)
{
	struct err err;

	if (q->dump != NULL) {
		err_set(&err, -ESRCH, "the hypervisor is gone");
		dump_end(q->dump, &err);
	}
}

void qemu_inspect_forget(struct qemu *q)
{
	while (!list_empty(&q->counters)) {
		struct counters *c = list_first(&q->counters, struct counters, entry);

		list_remove(&c->entry);
		free(c);
	}
	if (q->dump != NULL)
		deadline_close(&q->dump->poll, dump_free);
	q->dump = NULL;
}

void qemu_dump(
	struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct qemu_dump *d = q->dump == NULL ? calloc(1, sizeof(*d)) : NULL;
	struct qemu_row *row;
	char *protocol;
	struct err err;

	if (q->dump != NULL) {
		err_set(&err, -EBUSY, "a dump is under way already");
		row = qemu_row_new(q, done, arg);
		if (row != NULL)
			qemu_row_refuse(row, &err);
	} else {
		row = d != NULL ? qemu_row_new(q, dump_begun, q) : NULL;
	}
	if (row == NULL) {
		free(d);
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	if (d != NULL) {
		*d = (struct qemu_dump){ .q = q, .progress = progress, .done = done, .arg = arg };
		deadline_init(&d->poll, hv->loop, dump_poll, d);
		q->dump = d;
	}
	protocol = str_printf("file:%s", path);
	qemu_row_add(row, "dump-guest-memory",
		protocol == NULL ? NULL
				 : json_pack("{s:b, s:s, s:b}", "paging", 0, "protocol", protocol,
					   "detach", 1));
	free(protocol);
	qemu_row_run(row);
}

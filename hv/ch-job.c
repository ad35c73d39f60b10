/* hv/ch-job.c - what takes cloud-hypervisor a while: snapshots and dumps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/json.h"

/* Whoever asks has a shorter patience, or cancels; this is for what was forgotten. */
#define JOB_MS (60 * 60 * 1000)

enum kind {
	JOB_SAVE,
	JOB_DUMP
};

struct ch_job {
	struct ch *c;
	enum kind kind;
	bool cancelled, told, answered;
	hv_done_fn *done;
	hv_progress_fn *progress;
	void *arg;
};

/* The only exit of a job. Until its answer has come it is still in the way of others. */
static void finish(struct ch_job *j, const struct err *err)
{
	struct ch *c = j->c;
	hv_done_fn *done = j->done;
	void *arg = j->arg;
	struct err cancelled;

	err_set(&cancelled, -ECANCELED, "it was cancelled");
	/* What came through in spite of it is not undone by saying otherwise, but for a file. */
	if (j->cancelled)
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

static void answered(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_job *j = arg;

	j->answered = true;
	finish(j, j->told ? NULL : err);
}

void ch_end_job(struct ch *c, const struct err *err)
{
	struct ch_job *j = c->job;

	if (j == NULL)
		return;
	/* The connection is gone or goes: no answer comes any more. */
	j->answered = true;
	if (err == NULL)
		j->done = NULL;
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
		.timeout_ms = JOB_MS,
		.slow = true,
		.done = answered };
	struct err err = { 0 };

	if (c->job != NULL || ch_migrating(c))
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

/*
 * Its API has no way to end one: it is waited for and called cancelled then.
 */
void ch_job_cancel(struct hv *hv)
{
	struct ch *c = ch_of(hv);

	if (!ch_migrate_cancel(c) && c->job != NULL && !c->job->told)
		c->job->cancelled = true;
}

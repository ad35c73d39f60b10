#include "supervisor/doctor.h"

#include <stdlib.h>

#include "lib/json.h"
#include "supervisor/examine.h"
#include "supervisor/host-net.h"
#include "supervisor/reconcile.h"

struct doctor {
	struct drover *d;
	struct config_box *box; /* held while it is examined */
	json_t *differences;
	doctor_done_fn *done;
	void *arg;
};

static void finish(struct doctor *doc, json_t *report, const struct err *err)
{
	doc->done(doc->arg, report, err);
	config_box_unref(doc->box);
	json_decref(doc->differences);
	free(doc);
}

static void examined(void *arg, struct examination *x)
{
	struct doctor *doc = arg;
	json_t *report = json_object();
	struct err err;
	int r = examine_report(x, report, &err);

	if (r == 0 && json_object_set(report, "differences", doc->differences) < 0)
		r = err_nomem(&err);
	examine_destroy(x);
	finish(doc, r == 0 ? report : NULL, r == 0 ? NULL : &err);
	json_decref(report);
}

static void compared(void *arg, json_t *differences, const struct err *err)
{
	struct doctor *doc = arg;
	struct drover *d = doc->d;
	struct examine_opts opts = {
		.loop = d->loop,
		.state_dir = d->state_dir,
		.run_dir = d->run_dir,
		.daemon = true,
		.leaving = &d->leaving,
	};
	struct err mine;

	if (err != NULL) {
		finish(doc, NULL, err);
		return;
	}
	doc->differences = json_incref(differences);
	doc->box = config_box_ref(d->box);
	opts.config = doc->box->config;
	opts.forwarding_needed = host_net_needed(d);
	if (examine_start(&opts, examined, doc, &mine) < 0)
		finish(doc, NULL, &mine);
}

int doctor_run(struct drover *d, bool fix, doctor_done_fn *done, void *arg, struct err *err)
{
	struct doctor *doc = calloc(1, sizeof(*doc));
	int r;

	if (doc == NULL)
		return err_nomem(err);
	*doc = (struct doctor){ .d = d, .done = done, .arg = arg };
	r = reconcile_run(d->reconciler, fix ? RECONCILE_NOW : RECONCILE_LOOK, compared, doc, err);
	if (r < 0)
		free(doc);
	return r;
}

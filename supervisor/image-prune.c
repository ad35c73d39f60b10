#include "supervisor/image-prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "oci/image.h"
#include "supervisor/events.h"
#include "supervisor/image-job.h"
#include "supervisor/machine.h"

/* Who pulls one image often pulls another. */
#define AFTER_PULL_MS 1000
#define INTERVAL_MS   3600000
/* Others are at work; the last one asks again. */
#define BUSY_MS 10000

struct image_pruner {
	struct drover *d;
	struct deadline timer;
	struct image_sub sub;
	bool running;
};

static void keep(json_t *seen, const char *ref, struct strv *args)
{
	struct image_ref parsed;
	bool path = ref != NULL && ref[0] == '/';

	if (ref == NULL || ref[0] == '.' || json_object_get(seen, ref) != NULL ||
		(!path && image_ref_parse(ref, &parsed, NULL) < 0))
		return;
	json_object_set_new(seen, ref, json_true());
	strv_add(args, "--keep");
	/* What was made of a file of the host is in the store under this name. */
	strv_addf(args, "%s%s", path ? "file:" : "", ref);
}

static void keep_config(json_t *seen, const struct vm_config *cfg, struct strv *args)
{
	if (cfg == NULL)
		return;
	keep(seen, cfg->kernel, args);
	keep(seen, cfg->initrd, args);
	keep(seen, cfg->rootfs, args);
}

void image_limit_args(struct drover *d, bool age, struct strv *args)
{
	const struct drover_config *c = drover_config(d)->drover;
	const struct machine *m;
	json_t *seen;

	if (c->image_budget == 0 && (!age || c->image_age == 0))
		return;
	if (c->image_budget != 0) {
		strv_add(args, "--budget");
		strv_addf(args, "%llu", (unsigned long long)c->image_budget);
	}
	if (age && c->image_age != 0) {
		strv_add(args, "--max-age");
		strv_addf(args, "%llums", (unsigned long long)c->image_age);
	}
	seen = json_object();
	list_for_each_entry (m, &d->machines, entry) {
		keep_config(seen, m->cfg, args);
		keep_config(seen, m->run_cfg, args);
	}
	json_decref(seen);
}

static void prune_line(void *arg, const char *line)
{
	struct image_pruner *p = arg;
	json_t *j = NULL;
	const char *ref, *why;

	if (json_parse(line, strlen(line), &j, NULL) == 0 &&
		str_eq(json_str(j, "event"), "removed") && (ref = json_str(j, "ref")) != NULL &&
		(why = json_str(j, "why")) != NULL) {
		log_info("image %s: removed from the store (image_%s)", ref, why);
		events_emit(
			p->d->events, "image", ref, "removed", json_pack("{s:s}", "reason", why));
	}
	json_decref(j);
}

static void prune_done(void *arg, const json_t *result, const struct err *err)
{
	struct image_pruner *p = arg;

	p->running = false;
	if (err != NULL && err->code != -ECANCELED)
		log_warn("images: %s: ignoring, they are pruned later", err->msg);
	if (!deadline_armed(&p->timer))
		deadline_set(&p->timer, INTERVAL_MS);
}

static void due(void *arg)
{
	struct image_pruner *p = arg;
	const struct drover_config *c = drover_config(p->d)->drover;
	struct strv args = { 0 };
	struct err err;
	int r;

	if ((c->image_budget == 0 && c->image_age == 0) || p->running || p->d->stopping)
		return;
	if (!list_empty(&p->d->image_jobs)) {
		deadline_set(&p->timer, BUSY_MS);
		return;
	}
	strv_add(&args, "prune");
	strv_add(&args, "--store");
	strv_addf(&args, "%s/oci", p->d->state_dir);
	image_limit_args(p->d, true, &args);
	p->sub = (struct image_sub){ .line = prune_line, .done = prune_done, .arg = p };
	list_init(&p->sub.entry);
	r = args.bad ? err_nomem(&err) : image_job_args(p->d, &args, &p->sub, &err);
	strv_finish(&args);
	p->running = r == 0;
	if (r < 0)
		prune_done(p, NULL, &err);
}

void image_pruner_kick(struct image_pruner *p)
{
	const struct drover_config *c;

	if (p == NULL)
		return;
	c = drover_config(p->d)->drover;
	if (c->image_budget != 0 || c->image_age != 0)
		deadline_set(&p->timer, AFTER_PULL_MS);
}

int image_pruner_create(struct image_pruner **out, struct drover *d, struct err *err)
{
	struct image_pruner *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_nomem(err);
	p->d = d;
	list_init(&p->sub.entry);
	deadline_init(&p->timer, d->loop, due, p);
	*out = p;
	image_pruner_kick(p);
	return 0;
}

static void closed(void *arg)
{
	free(arg);
}

void image_pruner_destroy(struct image_pruner *p)
{
	if (p == NULL)
		return;
	if (p->running)
		image_unsub(&p->sub);
	deadline_close(&p->timer, closed);
}

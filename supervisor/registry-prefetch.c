/*
 * Images that a cache fetches before anybody asks for them: pulled through it one after the other, into a
 * folder that is thrown away, once it is up and every day.
 */
#include "supervisor/registry-private.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#define EVERY_MS 86400000ull

static void next(struct registry *r);

static void fetched(void *arg, const json_t *result, const struct err *err)
{
	struct registry *r = arg;
	const char *ref = r->prefetch.v[r->prefetch_at++];
	json_t *more = json_pack("{s:s}", "image", ref);

	if (err != NULL && err->code == -ECANCELED) {
		json_decref(more);
		r->prefetching = false;
		return;
	}
	if (err != NULL) {
		json_put_str(more, "error", err->msg);
		log_msg(LOG_LVL_WARN, r->name, "prefetch: %s", err->msg);
	}
	events_emit(r->d->events, "registry", r->name,
		err == NULL ? "prefetched" : "prefetch-failed", more);
	next(r);
}

static void next(struct registry *r)
{
	struct strv args = { 0 };
	struct err err;
	int ret;

	r->prefetching = !r->stopping && !r->d->stopping && r->prefetch_at < r->prefetch.n;
	if (!r->prefetching)
		return;
	strv_add(&args, "prefetch");
	strv_add(&args, "--spool");
	strv_add(&args, r->storage);
	strv_add(&args, "--ref");
	strv_add(&args, r->prefetch.v[r->prefetch_at]);
	image_pull_args(r->d, &args);
	r->prefetch_sub = (struct image_sub){ .done = fetched, .arg = r };
	list_init(&r->prefetch_sub.entry);
	ret = args.bad ? err_nomem(&err) : image_job_args(r->d, &args, &r->prefetch_sub, &err);
	strv_finish(&args);
	if (ret < 0) {
		log_msg(LOG_LVL_WARN, r->name, "prefetch: %s", err.msg);
		r->prefetching = false;
	}
}

void registry_prefetch(struct registry *r)
{
	uint64_t now = clock_mono_ms();

	if (r->prefetch.n == 0 || r->prefetching || !r->proxy || r->state != REGISTRY_UP ||
		(r->prefetch_ms != 0 && now - r->prefetch_ms < EVERY_MS))
		return;
	r->prefetch_ms = now;
	r->prefetch_at = 0;
	next(r);
}

void registry_prefetch_stop(struct registry *r)
{
	if (r->prefetching && !list_empty(&r->prefetch_sub.entry))
		image_cancel(&r->prefetch_sub);
	image_unsub(&r->prefetch_sub);
}

/*
 * The storage of a cache kept to its size and age. Only while docker-registry is down can anything be
 * taken away from it, so a look comes first, and it is stopped only for what has to go.
 */
#include "supervisor/registry-private.h"

#include <errno.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"

#define FIRST_MS    2000
#define INTERVAL_MS 3600000
#define BUSY_MS     10000

static void run(struct registry *r, bool look);

bool registry_prune_holds(const struct registry *r)
{
	return r->pruning == PRUNE_STOPPING || r->pruning == PRUNE_WORKING;
}

static void again(struct registry *r)
{
	r->pruning = PRUNE_NOT;
	deadline_set(&r->prune_timer, INTERVAL_MS);
	/* Not while it may be stopped for what has to go. */
	registry_prefetch(r);
}

static void pruned(void *arg, const json_t *result, const struct err *err)
{
	struct registry *r = arg;
	json_t *more;

	again(r);
	if (err != NULL) {
		log_msg(LOG_LVL_WARN, r->name, "the cache could not be pruned: %s", err->msg);
	} else if (json_int(result, "freed", 0) > 0) {
		uint64_t freed = (uint64_t)json_int(result, "freed", 0);

		r->size -= MIN(freed, r->size);
		more = json_pack("{s:I,s:I}", "freed", (json_int_t)freed, "blobs",
			(json_int_t)json_int(result, "blobs", 0));
		log_msg(LOG_LVL_INFO, r->name, "%s removed from the cache", format_size(freed));
		events_emit(r->d->events, "registry", r->name, "pruned", more);
	}
	if (!r->stopping && !r->d->stopping)
		registry_begin(r);
}

static void stopped_for_prune(void *arg)
{
	struct registry *r = arg;

	if (!r->stopping)
		run(r, false);
}

static void looked(void *arg, const json_t *result, const struct err *err)
{
	struct registry *r = arg;

	if (err == NULL)
		r->size = (uint64_t)json_int(result, "size", 0);
	if (r->stopping || r->state != REGISTRY_UP || err != NULL ||
		json_int(result, "freed", 0) <= 0) {
		again(r);
		return;
	}
	/* One that is under way would break off; those that come wait meanwhile. */
	if (!list_empty(&r->d->image_jobs)) {
		r->pruning = PRUNE_NOT;
		deadline_set(&r->prune_timer, BUSY_MS);
		return;
	}
	if (r->probe != NULL)
		http_cancel(r->probe);
	deadline_cancel(&r->timer);
	r->state = REGISTRY_STARTING;
	r->pruning = PRUNE_STOPPING;
	service_stop(r->service, stopped_for_prune, r);
}

static void run(struct registry *r, bool look)
{
	struct strv args = { 0 };
	struct err err;
	int ret;

	strv_add(&args, "cache-prune");
	strv_add(&args, "--storage");
	strv_add(&args, r->storage);
	if (look)
		strv_add(&args, "--dry-run");
	if (r->budget != 0) {
		strv_add(&args, "--budget");
		strv_addf(&args, "%llu", (unsigned long long)r->budget);
	}
	if (r->age != 0) {
		strv_add(&args, "--max-age");
		strv_addf(&args, "%llums", (unsigned long long)r->age);
	}
	r->prune_sub = (struct image_sub){ .done = look ? looked : pruned, .arg = r };
	list_init(&r->prune_sub.entry);
	r->pruning = look ? PRUNE_LOOKING : PRUNE_WORKING;
	ret = args.bad ? err_nomem(&err) : image_job_args(r->d, &args, &r->prune_sub, &err);
	strv_finish(&args);
	if (ret < 0)
		r->prune_sub.done(r, NULL, &err);
}

void registry_prune_due(void *arg)
{
	struct registry *r = arg;

	if (r->stopping || r->d->stopping || r->pruning != PRUNE_NOT)
		return;
	registries_count(r->d, NULL, NULL); /* without memory it is done next time */
	if (r->prefetching) {
		deadline_set(&r->prune_timer, BUSY_MS);
		return;
	}
	if (r->state == REGISTRY_UP)
		run(r, true);
	else
		again(r);
}

void registry_prune_up(struct registry *r)
{
	/* After a prune that failed it is to be left alone for a while. */
	if (r->pruning == PRUNE_NOT && !deadline_armed(&r->prune_timer))
		deadline_set(&r->prune_timer, FIRST_MS);
}

void registry_prune_stop(struct registry *r)
{
	if (r->pruning == PRUNE_WORKING && !list_empty(&r->prune_sub.entry))
		image_cancel(&r->prune_sub);
	image_unsub(&r->prune_sub);
}

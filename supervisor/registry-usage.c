/*
 * How much a cache spares its upstream: counted from two logs when somebody asks, and every hour, so
 * that the logs stay small. What is counted is kept beside them, with how far it was counted: a
 * restart of droverd, of the cache or of its relay loses nothing.
 */
#include "supervisor/registry-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/cache-log.h"
#include "supervisor/pool-work.h"

#define LOG_MAX ((uint64_t)16 << 20)

struct tally {
	struct cache_count count;
	struct cache_log_at at[2];
	uint64_t since_ms; /* 0: nothing was counted yet */
};

struct registry_usage {
	unsigned holders; /* the loop's */
	char *path, *logs[2];
	struct tally shown; /* the loop's */
	uv_mutex_t lock;    /* one thread of the pool at a time; tally is its */
	struct tally tally;
};

/* One round of all registries. */
struct round {
	struct drover *d;
	struct registry_usage **v;
	struct tally *tallies;
	size_t n;
	void (*done)(void *arg);
	void *arg;
};

/* ---- the file ---- */

static const struct {
	const char *name;
	size_t offset;
} fields[] = {
	{ "asked", offsetof(struct tally, count.asked) },
	{ "served", offsetof(struct tally, count.served) },
	{ "served_bytes", offsetof(struct tally, count.served_bytes) },
	{ "fetched", offsetof(struct tally, count.fetched) },
	{ "fetched_bytes", offsetof(struct tally, count.fetched_bytes) },
	{ "since_ms", offsetof(struct tally, since_ms) },
	{ "log_inode", offsetof(struct tally, at[0].inode) },
	{ "log_offset", offsetof(struct tally, at[0].offset) },
	{ "relay_log_inode", offsetof(struct tally, at[1].inode) },
	{ "relay_log_offset", offsetof(struct tally, at[1].offset) },
};

static uint64_t *field(struct tally *t, size_t i)
{
	return (uint64_t *)(void *)((char *)t + fields[i].offset);
}

/* From the beginning where nothing that can be read is there: with what comes from now on. */
static void load(struct registry_usage *u)
{
	json_t *saved = NULL;
	int64_t value;

	if (json_read_file(u->path, &saved, NULL) == 0 && json_int(saved, "since_ms", 0) > 0) {
		for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
			value = json_int(saved, fields[i].name, 0);
			*field(&u->tally, i) = (uint64_t)MAX(value, (int64_t)0);
		}
	} else {
		u->tally.since_ms = clock_unix_ms();
		for (size_t i = 0; i < ARRAY_LEN(u->logs); i++)
			cache_log_end(u->logs[i], &u->tally.at[i]);
	}
	json_decref(saved);
}

static int save(struct registry_usage *u, struct err *err)
{
	json_t *j = json_object();
	char *text;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		json_put_int(j, fields[i].name, (int64_t)*field(&u->tally, i));
	text = json_text(j);
	r = text == NULL ? err_nomem(err)
			 : file_write_atomic(u->path, text, strlen(text), 0640, false, err);
	json_decref(j);
	free(text);
	return r;
}

/* ---- counting ---- */

static int count(struct registry_usage *u, struct err *err)
{
	struct tally before = u->tally; /* all 0 the first time, so that it is saved then */
	int r = 0;

	if (u->tally.since_ms == 0)
		load(u);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(u->logs); i++)
		r = cache_log_follow(u->logs[i], LOG_MAX, &u->tally.at[i], &u->tally.count, err);
	if (r == 0 && memcmp(&before, &u->tally, sizeof(before)) != 0)
		r = save(u, err);
	return r;
}

/* In the pool. */
static int run(void *arg, struct err *err)
{
	struct round *c = arg;
	int r = 0;

	for (size_t i = 0; i < c->n; i++) {
		struct err one;

		uv_mutex_lock(&c->v[i]->lock);
		if (count(c->v[i], &one) < 0) {
			*err = one;
			r = one.code;
		}
		c->tallies[i] = c->v[i]->tally;
		uv_mutex_unlock(&c->v[i]->lock);
	}
	return r;
}

static void round_free(struct round *c)
{
	for (size_t i = 0; i < c->n; i++)
		registry_usage_release(c->v[i]);
	free(c->v);
	free(c->tallies);
	free(c);
}

static void counted(void *arg, const struct err *err)
{
	struct round *c = arg;

	if (err != NULL)
		log_warn("the use of a cache is not counted: %s", err->msg);
	for (size_t i = 0; i < c->n; i++) {
		struct tally *shown = &c->v[i]->shown;

		/* Two rounds may end in another order than they counted. */
		if (c->tallies[i].count.asked + c->tallies[i].count.fetched >=
			shown->count.asked + shown->count.fetched)
			*shown = c->tallies[i];
	}
	if (c->done != NULL)
		c->done(c->arg);
	round_free(c);
}

int registries_count(struct drover *d, void (*done)(void *arg), void *arg)
{
	struct round *c = calloc(1, sizeof(*c));
	struct registry *r;
	size_t n = 0;

	list_for_each_entry (r, &d->registries, entry)
		n++;
	if (c != NULL) {
		c->done = done;
		c->arg = arg;
		c->v = calloc(n + 1, sizeof(struct registry_usage *));
		c->tallies = calloc(n + 1, sizeof(*c->tallies));
	}
	if (c == NULL || c->v == NULL || c->tallies == NULL) {
		if (c != NULL)
			round_free(c);
		return -ENOMEM;
	}
	list_for_each_entry (r, &d->registries, entry) {
		c->v[c->n++] = r->usage;
		r->usage->holders++;
	}
	if (pool_work(d->loop, run, counted, c) == 0)
		return 0;
	round_free(c);
	return -ENOMEM;
}

/* ---- one cache's ---- */

struct registry_usage *registry_usage_create(const char *state_dir, const char *name)
{
	struct registry_usage *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->holders = 1;
	uv_mutex_init(&u->lock);
	u->path = str_printf("%s/log/registry-%s.count.json", state_dir, name);
	u->logs[0] = str_printf("%s/log/registry-%s.log", state_dir, name);
	u->logs[1] = str_printf("%s/log/registry-%s-relay.log", state_dir, name);
	if (u->path != NULL && u->logs[0] != NULL && u->logs[1] != NULL)
		return u;
	registry_usage_release(u);
	return NULL;
}

void registry_usage_release(struct registry_usage *u)
{
	if (u == NULL || --u->holders > 0)
		return;
	uv_mutex_destroy(&u->lock);
	for (size_t i = 0; i < ARRAY_LEN(u->logs); i++)
		free(u->logs[i]);
	free(u->path);
	free(u);
}

static json_t *rate_json(double rate)
{
	return rate < 0 ? json_null() : json_real(rate);
}

json_t *registry_usage_json(const struct registry_usage *u)
{
	const struct cache_count *c = &u->shown.count;
	char since[32];
	json_t *j;

	if (u->shown.since_ms == 0)
		return json_null();
	format_time(since, u->shown.since_ms);
	j = json_object();
	json_put_str(j, "since", since);
	json_put_int(j, "asked", (int64_t)c->asked);
	json_put_int(j, "served", (int64_t)c->served);
	json_put_int(j, "fetched", (int64_t)c->fetched);
	json_put_int(j, "served_bytes", (int64_t)c->served_bytes);
	json_put_int(j, "fetched_bytes", (int64_t)c->fetched_bytes);
	json_object_set_new(j, "hit_rate", rate_json(cache_hit_rate(c)));
	json_object_set_new(j, "byte_hit_rate", rate_json(cache_byte_hit_rate(c)));
	return j;
}

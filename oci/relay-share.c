#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lib/clock.h"
#include "lib/list.h"
#include "oci/relay-share.h"

struct share {
	struct list entry; /* empty when it is not in the table: whoever comes does not get it */
	char *digest, *path, *authorization;
	struct fetch *fetch;
	unsigned readers;
	uint64_t left_ms; /* when the last reader left */
};

struct shares {
	uint64_t keep_ms, keep_bytes;
	pthread_mutex_t lock; /* all below, and the shares; taken before a fetch's own */
	pthread_cond_t left;
	pthread_t keeper;
	bool stopping;
	struct list list; /* those left longest ago come first among those without readers */
};

static void share_free(struct share *s)
{
	list_remove(&s->entry);
	fetch_release(s->fetch);
	free(s->digest);
	free(s->path);
	free(s->authorization);
	free(s);
}

/* ---- keeping for a while ---- */

/* Frees what was kept long enough; returns how long the next may still stay, UINT64_MAX: none. */
static uint64_t expire(struct shares *t)
{
	uint64_t now = clock_mono_ms();
	struct share *s, *tmp;

	list_for_each_entry_safe (s, tmp, &t->list, entry) {
		if (s->readers > 0)
			continue;
		if (now - s->left_ms < t->keep_ms)
			return t->keep_ms - (now - s->left_ms);
		share_free(s);
	}
	return UINT64_MAX;
}

static void *keep(void *arg)
{
	struct shares *t = arg;
	struct timespec end;
	uint64_t ms;

	pthread_mutex_lock(&t->lock);
	while (!t->stopping) {
		ms = expire(t);
		if (ms == UINT64_MAX) {
			pthread_cond_wait(&t->left, &t->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_sec += (time_t)(ms / 1000) + 1;
		pthread_cond_timedwait(&t->left, &t->lock, &end);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* Makes room by those left longest ago. */
static void bound(struct shares *t)
{
	struct share *s, *tmp;
	uint64_t sum = 0, bytes;

	list_for_each_entry (s, &t->list, entry) {
		fetch_state(s->fetch, NULL, &bytes);
		sum += s->readers == 0 ? bytes : 0;
	}
	list_for_each_entry_safe (s, tmp, &t->list, entry) {
		if (sum <= t->keep_bytes)
			break;
		if (s->readers > 0)
			continue;
		fetch_state(s->fetch, NULL, &bytes);
		sum -= bytes;
		share_free(s);
	}
}

int shares_create(struct shares **out, uint64_t keep_ms, uint64_t keep_bytes, struct err *err)
{
	struct shares *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int r;

	if (t == NULL)
		return err_nomem(err);
	t->keep_ms = keep_ms;
	t->keep_bytes = keep_bytes;
	list_init(&t->list);
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->left, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&t->keeper, NULL, keep, t);
	if (r < 0) {
		free(t);
		return err_errno(err, r, "start a thread");
	}
	*out = t;
	return 0;
}

void shares_destroy(struct shares *t)
{
	struct share *s, *tmp;

	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	pthread_cond_signal(&t->left);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->keeper, NULL);
	list_for_each_entry_safe (s, tmp, &t->list, entry)
		share_free(s);
	pthread_cond_destroy(&t->left);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ---- joining and leaving ---- */

/* Only a blob that comes, or has come, as a whole is for others. */
static bool is_good(struct fetch *f)
{
	int status;
	enum fetch_state state = fetch_state(f, &status, NULL);

	return state != FETCH_FAILED && (status == 0 || status == 200);
}

static struct share *find(struct shares *t, const char *digest)
{
	struct share *s;

	list_for_each_entry (s, &t->list, entry) {
		if (strcmp(s->digest, digest) != 0)
			continue;
		if (is_good(s->fetch))
			return s;
		/* Its readers still see it out. */
		list_remove(&s->entry);
		return NULL;
	}
	return NULL;
}

static int begin(
	struct share **out, struct shares *t, const struct share_spec *spec, struct err *err)
{
	struct share *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return err_nomem(err);
	list_init(&s->entry);
	s->digest = strdup(spec->digest);
	s->path = strdup(spec->path);
	s->authorization = spec->authorization != NULL ? strdup(spec->authorization) : NULL;
	if (s->digest == NULL || s->path == NULL ||
		(spec->authorization != NULL && s->authorization == NULL))
		r = err_nomem(err);
	else
		r = fetch_start(&s->fetch, spec->fetcher, spec->fetch, err);
	if (r < 0) {
		share_free(s);
		return r;
	}
	list_append(&t->list, &s->entry);
	*out = s;
	return 0;
}

int shares_join(struct share **out, enum share_role *role, struct shares *t,
	const struct share_spec *spec, struct err *err)
{
	struct share *s;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	s = find(t, spec->digest);
	if (s == NULL) {
		r = begin(&s, t, spec, err);
		*role = SHARE_FIRST;
	} else if (strcmp(s->path, spec->path) == 0 &&
		   str_eq(s->authorization, spec->authorization)) {
		*role = SHARE_SAME;
	} else {
		*role = SHARE_OTHER;
	}
	if (r == 0) {
		s->readers++;
		*out = s;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

struct fetch *share_fetch(const struct share *s)
{
	return s->fetch;
}

void shares_leave(struct shares *t, struct share *s)
{
	bool whole;

	pthread_mutex_lock(&t->lock);
	if (--s->readers == 0) {
		whole = fetch_state(s->fetch, NULL, NULL) == FETCH_DONE && is_good(s->fetch);
		if (list_empty(&s->entry) || !whole) {
			share_free(s);
		} else {
			s->left_ms = clock_mono_ms();
			list_remove(&s->entry);
			list_append(&t->list, &s->entry);
			bound(t);
			pthread_cond_signal(&t->left);
		}
	}
	pthread_mutex_unlock(&t->lock);
}

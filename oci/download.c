#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/clock.h"
#include "lib/log.h"
#include "oci/blob.h"
#include "oci/download.h"

#define PARALLEL 4
/* How often to look whether another process has done with a blob. */
#define BUSY_POLL_MS 50
/* Open files that wait for their sync. */
#define VERIFIED_MAX 16
/* Bytes that count as progress: a try that brought so many is not held against the blob. */
#define PROGRESS_BYTES ((uint64_t)1 << 20)

enum item_state {
	ITEM_WAITING, /* to be started at start_ms: its turn, another process, a backoff */
	ITEM_ACTIVE,
	ITEM_VERIFIED, /* to be synced once there is nothing left to fetch */
	ITEM_DONE
};

struct item {
	struct download *download;
	const struct descriptor *desc;
	enum item_state state;
	struct blob *blob; /* ours since it was claimed, until it is complete */
	struct transfer transfer;
	struct registry_attempts attempts;
	uint64_t start_ms, have_at_start, most; /* most bytes there ever were */
	bool started_over;                      /* the bytes were wrong, and fetched once more */
};

struct download {
	struct registry *registry;
	struct store *store;
	const struct download_events *events;
	struct item *items;
	size_t n, active, verified, done;
	CURLM *multi;
};

static void complete(struct item *it, bool cached)
{
	struct download *d = it->download;

	it->state = ITEM_DONE;
	d->done++;
	d->events->complete(d->events->arg, it->desc, cached);
}

static int take_body(void *arg, struct transfer *t, const char *data, size_t len, struct err *err)
{
	struct item *it = arg;
	int r = 0;

	if (t->status == 206 && t->range_start != it->have_at_start)
		return err_set(err, -EBADMSG, "registry %s: it sends another range than asked for",
			registry_url(it->download->registry));
	/* All from the start, although the rest was asked for. */
	if (t->status == 200 && it->have_at_start > 0) {
		it->have_at_start = 0;
		r = blob_restart(it->blob, err);
	}
	if (r == 0)
		r = blob_write(it->blob, data, len, err);
	if (r == 0)
		it->download->events->progress(
			it->download->events->arg, it->desc, blob_have(it->blob));
	return r;
}

static int commit(struct item *it, struct err *err)
{
	int r = blob_commit(it->blob, err);

	it->download->verified--;
	it->state = ITEM_WAITING;
	if (r < 0)
		return r;
	it->blob = NULL;
	complete(it, false);
	return 0;
}

static int commit_verified(struct download *d, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && d->verified > 0 && i < d->n; i++) {
		if (d->items[i].state == ITEM_VERIFIED)
			r = commit(&d->items[i], err);
	}
	return r;
}

/* The blob has all its bytes. A sync takes long while others are written, and they would wait. */
static int finish(struct item *it, struct err *err)
{
	int r = blob_verify(it->blob, err);

	if (r == 0) {
		it->state = ITEM_VERIFIED;
		it->download->verified++;
		return 0;
	}
	/* What an earlier process left may have been damaged: once more, from the start. */
	if (r == -EBADMSG && !it->started_over) {
		log_debug("%s; trying again from the start", err->msg);
		it->started_over = true;
		it->state = ITEM_WAITING;
		return blob_restart(it->blob, err);
	}
	return r;
}

static int start_transfer(struct item *it, struct err *err)
{
	struct download *d = it->download;
	int r;

	if (blob_have(it->blob) == it->desc->size)
		return finish(it, err);
	it->have_at_start = blob_have(it->blob);
	r = registry_blob_transfer(d->registry, it->desc->digest, it->have_at_start, take_body, it,
		&it->attempts, &it->transfer, err);
	if (r < 0)
		return r;
	if (curl_multi_add_handle(d->multi, it->transfer.easy) != CURLM_OK) {
		curl_easy_cleanup(transfer_finish(&it->transfer));
		return err_nomem(err);
	}
	it->state = ITEM_ACTIVE;
	d->active++;
	return 0;
}

static int start(struct item *it, struct err *err)
{
	struct download *d = it->download;
	uint64_t theirs;
	int r;

	if (it->blob != NULL)
		return start_transfer(it, err);
	r = blob_open(&it->blob, d->store, it->desc->digest, it->desc->size, err);
	switch (r) {
	case 0:
		return start_transfer(it, err);
	case -EEXIST:
		complete(it, true);
		return 0;
	case -EBUSY:
		theirs = store_busy_bytes(d->store, STORE_BLOB, it->desc->digest);
		d->events->progress(d->events->arg, it->desc, MIN(theirs, it->desc->size));
		it->start_ms = clock_mono_ms() + BUSY_POLL_MS;
		return 0;
	}
	return r;
}

static int start_due(struct download *d, struct err *err)
{
	uint64_t now = clock_mono_ms();
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n && d->active < PARALLEL; i++) {
		struct item *it = &d->items[i];

		if (it->state == ITEM_WAITING && it->start_ms <= now)
			r = start(it, err);
	}
	return r;
}

/* How long nothing is to be started. */
static int next_due_ms(const struct download *d)
{
	uint64_t now = clock_mono_ms(), next = 1000;

	for (size_t i = 0; i < d->n && d->active < PARALLEL; i++) {
		const struct item *it = &d->items[i];

		if (it->state == ITEM_WAITING)
			next = MIN(next, it->start_ms > now ? it->start_ms - now : 0);
	}
	return (int)next;
}

static void stop_transfer(struct item *it)
{
	curl_multi_remove_handle(it->download->multi, it->transfer.easy);
	curl_easy_cleanup(transfer_finish(&it->transfer));
	it->download->active--;
	it->state = ITEM_WAITING;
}

static int ended(struct item *it, CURLcode code, struct err *err)
{
	uint64_t wait_ms = 0;
	int r;

	if (blob_have(it->blob) >= it->most + PROGRESS_BYTES) {
		it->most = blob_have(it->blob);
		it->attempts = (struct registry_attempts){ 0 };
	}
	/* The rest that was asked for is not there: what we have is no part of the blob. */
	if (it->transfer.status == 416 && code == CURLE_OK && it->have_at_start > 0 &&
		!it->started_over) {
		it->started_over = true;
		stop_transfer(it);
		return blob_restart(it->blob, err);
	}
	r = registry_after(
		it->download->registry, &it->transfer, code, &it->attempts, &wait_ms, err);
	if (r < 0 && it->transfer.body_err.code == 0)
		err_wrap(err, "layer %s", it->desc->digest);
	if (r == 0 && blob_have(it->blob) < it->desc->size) {
		/* A Content-Length of its own that is too small. */
		it->attempts.failed++;
		r = it->attempts.failed < 3 ? 1 : blob_finish(it->blob, err);
	}
	stop_transfer(it);
	if (r == 0)
		return finish(it, err);
	it->start_ms = clock_mono_ms() + wait_ms;
	return r < 0 ? r : 0;
}

static int take_ended(struct download *d, struct err *err)
{
	CURLMsg *m;
	int left, r = 0;

	while (r == 0 && (m = curl_multi_info_read(d->multi, &left)) != NULL) {
		struct transfer *t;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		r = ended(container_of(t, struct item, transfer), m->data.result, err);
	}
	return r;
}

int download_claim(struct download *d, struct err *err)
{
	for (size_t i = 0; i < d->n; i++) {
		struct item *it = &d->items[i];
		int r;

		if (it->blob != NULL || it->state == ITEM_DONE)
			continue;
		r = blob_open(&it->blob, d->store, it->desc->digest, it->desc->size, err);
		if (r == -EEXIST)
			complete(it, true);
		else if (r < 0)
			return r;
	}
	return 0;
}

struct blob *download_blob(struct download *d, const char *digest)
{
	for (size_t i = 0; i < d->n; i++) {
		if (strcmp(d->items[i].desc->digest, digest) == 0)
			return d->items[i].blob;
	}
	return NULL;
}

int download_run(struct download *d, struct err *err)
{
	while (d->done < d->n) {
		int running, r = start_due(d, err);

		/* Another process may wait for these while we wait for what it fetches. */
		if (r == 0 && (d->active == 0 || d->verified >= VERIFIED_MAX))
			r = commit_verified(d, err);
		if (r == 0 && curl_multi_perform(d->multi, &running) != CURLM_OK)
			r = err_set(err, -EIO, "libcurl's multi interface failed");
		if (r == 0)
			r = take_ended(d, err);
		if (r < 0)
			return r;
		if (d->done < d->n && (d->active > 0 || d->verified == 0))
			curl_multi_poll(d->multi, NULL, 0, next_due_ms(d), NULL);
	}
	return 0;
}

int download_create(struct download **out, struct registry *r, struct store *s,
	const struct descriptor *blobs, size_t n, const struct download_events *events,
	struct err *err)
{
	struct download *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return err_nomem(err);
	*d = (struct download){ .registry = r, .store = s, .events = events };
	d->items = calloc(n > 0 ? n : 1, sizeof(*d->items));
	d->multi = curl_multi_init();
	if (d->items == NULL || d->multi == NULL) {
		download_destroy(d);
		return err_nomem(err);
	}
	d->n = n;
	for (size_t i = 0; i < n; i++) {
		d->items[i].download = d;
		d->items[i].desc = &blobs[i];
	}
	*out = d;
	return 0;
}

void download_destroy(struct download *d)
{
	struct err ignored;

	if (d == NULL)
		return;
	/* What is right stays, also when another one failed. */
	commit_verified(d, &ignored);
	for (size_t i = 0; i < d->n; i++) {
		if (d->items[i].state == ITEM_ACTIVE)
			stop_transfer(&d->items[i]);
		blob_abandon(d->items[i].blob);
	}
	if (d->multi != NULL)
		curl_multi_cleanup(d->multi);
	free(d->items);
	free(d);
}

int download_blobs(struct registry *r, struct store *s, const struct descriptor *blobs, size_t n,
	const struct download_events *events, struct err *err)
{
	struct download *d = NULL;
	int ret = download_create(&d, r, s, blobs, n, events, err);

	if (ret == 0)
		ret = download_run(d, err);
	download_destroy(d);
	return ret;
}

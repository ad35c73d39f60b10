/*
 * A disk made while its layers are still being fetched: the unpacking process reads their files as
 * they grow. Whatever stands in the way of that (another process fetches a layer or makes the disk,
 * a layer has to be fetched a second time) ends in the other way, one after the other, which needs
 * nothing of this.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/log.h"
#include "oci/blob.h"
#include "oci/job.h"

struct ahead {
	struct unpacker *unpacker;
	struct store_work *work;
	int fd; /* of the disk */
	bool begun;
	bool broke;            /* the process was given bytes that were not the layer's */
	char seed[DIGEST_MAX]; /* the disk's key */
};

static void forget(void *arg)
{
	registry_forget_helpers(arg);
}

int ahead_start(struct image *im, struct err *err)
{
	struct ahead *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return err_nomem(err);
	a->fd = -1;
	r = unpacker_start(&a->unpacker, forget, (void *)&im->opts->registry, err);
	if (r < 0)
		free(a);
	else
		im->ahead = a;
	return r;
}

static void give_up(struct ahead *a)
{
	unpacker_stop(a->unpacker);
	a->unpacker = NULL;
	a->begun = false;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	store_abandon(a->work);
	a->work = NULL;
}

/* fds are closed by the caller. */
static int open_layer(struct image *im, struct download *d, struct layer_src *src,
	const struct descriptor *l, struct feed *feed, struct err *err)
{
	struct blob *b = download_blob(d, l->digest);
	char *path = b == NULL ? store_path(im->store, STORE_BLOB, l->digest) : NULL;
	const char *name = b != NULL ? blob_path(b) : path;

	src->fd = name != NULL ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	free(path);
	if (src->fd < 0)
		return err_errno(err, -errno, "open layer %s", l->digest);
	if (b != NULL) {
		feed_init(feed, l->size);
		blob_feed(b, feed, &im->ahead->broke);
		src->feed = feed;
	}
	return 0;
}

static int open_layers(struct image *im, struct download *d, struct layer_src *src, struct err *err)
{
	const struct manifest *m = &im->manifest;
	bool paired = im->config.n == m->n;
	int r = 0;

	for (size_t i = 0; i < m->n; i++)
		src[i].fd = -1;
	for (size_t i = 0; r == 0 && i < m->n; i++) {
		/* Its file has one reader that is told. */
		for (size_t k = 0; k < i; k++) {
			if (strcmp(m->layers[i].digest, m->layers[k].digest) == 0)
				return err_set(err, -ENOTSUP, "layer %zu is layer %zu", i, k);
		}
		src[i].media_type = m->layers[i].media_type;
		src[i].diff_id = paired ? im->config.diff_ids[i] : NULL;
		r = open_layer(
			im, d, &src[i], &m->layers[i], unpacker_feed(im->ahead->unpacker, i), err);
	}
	return r;
}

static int open_disk(struct image *im, struct ahead *a, struct err *err)
{
	int r = store_claim(im->store, STORE_DISK, a->seed, false, &a->work, err);

	if (r == 0)
		r = remove_tree(store_work_path(a->work), err);
	if (r < 0)
		return r;
	a->fd = open(store_work_path(a->work), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return a->fd < 0 ? err_errno(err, -errno, "create %s", quote(store_work_path(a->work))) : 0;
}

static int begin(struct image *im, struct download *d, struct err *err)
{
	struct ahead *a = im->ahead;
	size_t n = im->manifest.n;
	struct layer_src *src = calloc(n + 1, sizeof(*src));
	struct disk_opts opts = { .size_bytes = im->opts->size,
		.seed = a->seed,
		.progress = image_on_build,
		.arg = &im->progress };
	int r = src != NULL ? 0 : err_nomem(err);

	if (r == 0 && n > UNPACKER_LAYERS_MAX)
		r = err_set(err, -ENOTSUP, "it has %zu layers", n);
	if (r == 0)
		r = open_disk(im, a, err);
	if (r == 0)
		r = download_claim(d, err);
	if (r == 0) {
		r = open_layers(im, d, src, err);
		if (r == 0)
			r = unpacker_disk(
				a->unpacker, src, n, &opts, &im->opts->limits, a->fd, err);
		for (size_t i = 0; i < n && src[i].fd >= 0; i++)
			close(src[i].fd);
	}
	free(src);
	return r;
}

void ahead_begin(struct image *im, struct download *d)
{
	struct ahead *a = im->ahead;
	struct err err;

	if (a == NULL || a->seed[0] == '\0')
		return;
	a->begun = begin(im, d, &err) == 0;
	if (!a->begun) {
		log_debug("%s: %s: unpacking waits for all layers", im->name, err.msg);
		/* The feeds live as long as the download. */
		store_abandon(a->work);
		a->work = NULL;
	}
}

void ahead_expect(struct image *im, const char *key)
{
	if (im->ahead != NULL)
		snprintf(im->ahead->seed, sizeof(im->ahead->seed), "%s", key);
}

int ahead_finish(struct image *im, struct err *err)
{
	struct ahead *a = im->ahead;
	struct disk_result result;
	int r;

	if (a == NULL || !a->begun)
		return 0;
	r = a->broke ? -ESTALE : unpacker_result(a->unpacker, &result, err);
	if (r == -ESTALE) {
		log_debug("%s: a layer was fetched twice: unpacking begins again", im->name);
		give_up(a);
		return 0;
	}
	/* A disk that somebody else has made is to be looked at, and may have to be made raw. */
	if (r == 0 && result.kind == DISK_RAW) {
		give_up(a);
		return 0;
	}
	if (r == 0 && fsync(a->fd) < 0)
		r = err_errno(err, -errno, "sync %s", quote(store_work_path(a->work)));
	if (r == 0) {
		struct store_work *w = a->work;

		a->work = NULL;
		r = store_commit(w, err);
	}
	give_up(a);
	if (r == 0 && result.warning[0] != '\0')
		progress_warning(result.warning);
	return r < 0 ? err_wrap(err, "%s", im->name) : 1;
}

void ahead_close(struct image *im)
{
	if (im->ahead == NULL)
		return;
	give_up(im->ahead);
	free(im->ahead);
	im->ahead = NULL;
}

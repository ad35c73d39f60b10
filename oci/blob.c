#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "oci/blob.h"
#include "oci/digest.h"

/* Written back in pieces of this size as they come, so that the fsync at the end is short. */
#define FLUSH_BYTES ((uint64_t)8 << 20)

struct blob {
	const struct store *store; /* outlives it */
	struct store_work *work;
	struct digest *digest;
	char want[DIGEST_MAX];
	uint64_t size, have, flushed;
	int fd;
	struct feed *feed; /* NULL: nobody reads it while it comes */
	bool *broke;
};

static int io_error(const struct blob *b, int code, const char *what, struct err *err)
{
	if (code == -ENOSPC || code == -EDQUOT)
		return err_errno(err, -ENOSPC, "the image store %s: write blob %s (%s)",
			quote(store_dir(b->store)), b->want, format_size(b->size));
	return err_errno(err, code, "%s %s", what, quote(store_work_path(b->work)));
}

/* Reads what is there already, for the digest. */
static int take_up(struct blob *b, struct err *err)
{
	char *piece;
	ssize_t n;
	int r = 0;

	piece = malloc(256 << 10);
	if (piece == NULL)
		return err_nomem(err);
	while ((n = read(b->fd, piece, 256 << 10)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || digest_update(b->digest, piece, (size_t)n) < 0) {
			r = io_error(b, n < 0 ? -errno : -EIO, "read", err);
			break;
		}
		b->have += (uint64_t)n;
		if (b->have > b->size)
			break;
	}
	free(piece);
	if (r == 0 && b->have > b->size)
		r = blob_restart(b, err);
	return r;
}

int blob_open(
	struct blob **out, struct store *s, const char *digest, uint64_t size, struct err *err)
{
	struct blob *b = calloc(1, sizeof(*b));
	int r;

	if (b == NULL)
		return err_nomem(err);
	b->fd = -1;
	b->store = s;
	b->size = size;
	snprintf(b->want, sizeof(b->want), "%s", digest);
	r = store_claim(s, STORE_BLOB, digest, false, &b->work, err);
	if (r < 0) {
		free(b);
		return r;
	}
	r = digest_create(&b->digest, digest, err);
	if (r == 0) {
		b->fd = open(
			store_work_path(b->work), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		r = b->fd >= 0 ? take_up(b, err) : io_error(b, -errno, "create", err);
	}
	if (r < 0) {
		blob_abandon(b);
		return r;
	}
	*out = b;
	return 0;
}

void blob_feed(struct blob *b, struct feed *feed, bool *broke)
{
	b->broke = broke;
	b->feed = feed;
	feed_more(feed, b->have);
}

const char *blob_path(const struct blob *b)
{
	return store_work_path(b->work);
}

uint64_t blob_have(const struct blob *b)
{
	return b->have;
}

int blob_write(struct blob *b, const void *data, size_t len, struct err *err)
{
	const char *p = data;

	if (len > b->size - b->have)
		return err_set(err, -EMSGSIZE, "blob %s is longer than the %llu bytes announced",
			b->want, (unsigned long long)b->size);
	if (digest_update(b->digest, data, len) < 0)
		return err_set(err, -EIO, "digest of blob %s failed", b->want);
	while (len > 0) {
		ssize_t n = pwrite(b->fd, p, len, (off_t)b->have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_error(b, -errno, "write", err);
		p += n;
		len -= (size_t)n;
		b->have += (uint64_t)n;
	}
	if (b->feed != NULL)
		feed_more(b->feed, b->have);
	if (b->have - b->flushed >= FLUSH_BYTES) {
		sync_file_range(b->fd, (off_t)b->flushed, (off_t)(b->have - b->flushed),
			SYNC_FILE_RANGE_WRITE);
		b->flushed = b->have;
	}
	return 0;
}

int blob_restart(struct blob *b, struct err *err)
{
	if (digest_reset(b->digest) < 0)
		return err_nomem(err);
	/* Before a byte of it changes. */
	if (b->feed != NULL && b->have > 0) {
		*b->broke = true;
		feed_break(b->feed);
	}
	if (ftruncate(b->fd, 0) < 0)
		return io_error(b, -errno, "truncate", err);
	b->have = 0;
	b->flushed = 0;
	return 0;
}

int blob_verify(struct blob *b, struct err *err)
{
	char got[DIGEST_MAX];

	if (b->have != b->size)
		return err_set(err, -EPIPE, "blob %s ended after %llu of %llu bytes", b->want,
			(unsigned long long)b->have, (unsigned long long)b->size);
	if (digest_final(b->digest, got) < 0)
		return err_set(err, -EIO, "digest of blob %s failed", b->want);
	if (strcmp(got, b->want) != 0)
		return err_set(
			err, -EBADMSG, "wrong content for blob %s: its digest is %s", b->want, got);
	return 0;
}

int blob_commit(struct blob *b, struct err *err)
{
	int r;

	if (fsync(b->fd) < 0)
		return io_error(b, -errno, "sync", err);
	r = store_commit(b->work, err);
	b->work = NULL;
	if (r == 0)
		blob_abandon(b);
	return r;
}

int blob_finish(struct blob *b, struct err *err)
{
	int r = blob_verify(b, err);

	return r == 0 ? blob_commit(b, err) : r;
}

void blob_abandon(struct blob *b)
{
	if (b == NULL)
		return;
	if (b->fd >= 0)
		close(b->fd);
	store_abandon(b->work);
	digest_destroy(b->digest);
	free(b);
}

int blob_open_wait(
	struct blob **out, struct store *s, const char *digest, uint64_t size, struct err *err)
{
	int r = -EBUSY;

	/* For an hour at most: files of any size are copied by whoever is first. */
	for (int i = 0; i < 360000 && r == -EBUSY; i++) {
		r = blob_open(out, s, digest, size, err);
		if (r == -EBUSY)
			usleep(10000);
	}
	return r;
}

int blob_put(struct store *s, const char *digest, const void *data, size_t len, struct err *err)
{
	struct blob *b;
	int r = blob_open_wait(&b, s, digest, len, err);

	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return r;
	r = blob_restart(b, err);
	if (r == 0)
		r = blob_write(b, data, len, err);
	if (r == 0)
		r = blob_finish(b, err);
	if (r < 0)
		blob_abandon(b);
	return r;
}

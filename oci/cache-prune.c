#include "oci/cache-prune.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/str.h"
#include "oci/digest.h"

#define ROOT      "docker/registry/v2"
#define DEPTH_MAX 64

struct blob_file {
	char digest[DIGEST_MAX];
	uint64_t bytes, used_ms;
};

struct cache {
	struct blob_file *v;
	size_t n, cap;
	uint64_t bytes;
};

static uint64_t stamp_ms(const struct timespec *t)
{
	return t->tv_sec < 0 ? 0 : (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_nsec / 1000000;
}

static int add_blob(struct cache *c, const char *digest, const struct stat *st, struct err *err)
{
	struct blob_file *b;

	if (c->n == c->cap) {
		size_t cap = c->cap != 0 ? 2 * c->cap : 256;
		struct blob_file *v = realloc(c->v, cap * sizeof(*v));

		if (v == NULL)
			return err_nomem(err);
		c->v = v;
		c->cap = cap;
	}
	b = &c->v[c->n++];
	snprintf(b->digest, sizeof(b->digest), "%s", digest);
	b->bytes = (uint64_t)st->st_blocks * 512;
	b->used_ms = MAX(stamp_ms(&st->st_atim), stamp_ms(&st->st_mtim));
	c->bytes += b->bytes;
	return 0;
}

/* Opens a folder without following a link to one; NULL with errno. */
static DIR *open_dir_at(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL && fd >= 0)
		close(fd);
	return d;
}

/* One of blobs/ALGORITHM/XX. */
static int look_at_shelf(
	struct cache *c, int at, const char *name, const char *algorithm, struct err *err)
{
	DIR *d = open_dir_at(at, name);
	struct dirent *e;
	int r = 0;

	while (d != NULL && r == 0 && (e = readdir(d)) != NULL) {
		char digest[DIGEST_MAX + 8], data[NAME_MAX + 8];
		struct stat st;

		snprintf(digest, sizeof(digest), "%s:%.130s", algorithm, e->d_name);
		snprintf(data, sizeof(data), "%s/data", e->d_name);
		if (digest_valid(digest) &&
			fstatat(dirfd(d), data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode))
			r = add_blob(c, digest, &st, err);
	}
	if (d != NULL)
		closedir(d);
	return r;
}

static int look(struct cache *c, int storage, struct err *err)
{
	static const char *const algorithms[] = { "sha256", "sha512" };
	char path[64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(algorithms); i++) {
		struct dirent *e;
		DIR *d;

		snprintf(path, sizeof(path), ROOT "/blobs/%s", algorithms[i]);
		d = open_dir_at(storage, path);
		while (d != NULL && r == 0 && (e = readdir(d)) != NULL) {
			if (e->d_name[0] != '.')
				r = look_at_shelf(c, dirfd(d), e->d_name, algorithms[i], err);
		}
		if (d != NULL)
			closedir(d);
	}
	return r;
}

static int by_use(const void *a, const void *b)
{
	const struct blob_file *x = a, *y = b;

	if (x->used_ms != y->used_ms)
		return x->used_ms < y->used_ms ? -1 : 1;
	return strcmp(x->digest, y->digest);
}

static int by_digest(const void *a, const void *b)
{
	return strcmp(((const struct blob_file *)a)->digest, ((const struct blob_file *)b)->digest);
}

/* How many, of those in the order of their last use, are to go. */
static size_t choose(const struct cache *c, const struct cache_limits *l, uint64_t *freed)
{
	uint64_t now = clock_unix_ms(), left = c->bytes;
	size_t n;

	*freed = 0;
	for (n = 0; n < c->n; n++) {
		const struct blob_file *b = &c->v[n];
		bool old = l->age_ms != 0 && now > b->used_ms && now - b->used_ms > l->age_ms;

		if (!old && (l->budget == 0 || left <= l->budget))
			break;
		left -= b->bytes;
		*freed += b->bytes;
	}
	return n;
}

/* The digest that a link holds is one of the n that are gone. */
static bool is_gone(int at, const struct blob_file *gone, size_t n)
{
	struct blob_file key;
	ssize_t len;
	int fd = openat(at, "link", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return false;
	len = read(fd, key.digest, sizeof(key.digest) - 1);
	close(fd);
	if (len <= 0)
		return false;
	key.digest[len] = '\0';
	return bsearch(&key, gone, n, sizeof(key), by_digest) != NULL;
}

/* Links to what is gone, and folders that are empty then. */
static void unlink_below(
	int at, const char *name, const struct blob_file *gone, size_t n, int depth)
{
	DIR *d = depth < DEPTH_MAX ? open_dir_at(at, name) : NULL;
	struct dirent *e;

	if (d == NULL)
		return;
	if (is_gone(dirfd(d), gone, n))
		unlinkat(dirfd(d), "link", 0);
	while ((e = readdir(d)) != NULL) {
		/* Uploads that were broken off are swept by docker-registry itself. */
		if (e->d_name[0] != '.' && strcmp(e->d_name, "link") != 0 &&
			strcmp(e->d_name, "_uploads") != 0)
			unlink_below(dirfd(d), e->d_name, gone, n, depth + 1);
	}
	closedir(d);
	/* Fails where something is left. */
	if (depth > 0)
		unlinkat(at, name, AT_REMOVEDIR);
}

static int remove_blob(int storage, const struct blob_file *b, struct err *err)
{
	const char *hex = strchr(b->digest, ':') + 1;
	char dir[PATH_MAX], path[PATH_MAX + 8];

	snprintf(dir, sizeof(dir), ROOT "/blobs/%.*s/%.2s/%s", (int)(hex - 1 - b->digest),
		b->digest, hex, hex);
	snprintf(path, sizeof(path), "%s/data", dir);
	if (unlinkat(storage, path, 0) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "remove %s", path);
	unlinkat(storage, dir, AT_REMOVEDIR);
	return 0;
}

int cache_prune(const char *storage, const struct cache_limits *limits, bool look_only,
	struct cache_pruned *out, struct err *err)
{
	struct cache c = { 0 };
	size_t n = 0;
	int fd = open(storage, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	*out = (struct cache_pruned){ 0 };
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "open %s", quote(storage));
	r = look(&c, fd, err);
	if (r == 0 && c.n > 0) {
		qsort(c.v, c.n, sizeof(c.v[0]), by_use);
		out->bytes = c.bytes;
		n = out->blobs = choose(&c, limits, &out->freed);
	}
	if (!look_only && n > 0) {
		/* A crash in between leaves links without data, which is what is asked for again. */
		qsort(c.v, n, sizeof(c.v[0]), by_digest);
		for (size_t i = 0; r == 0 && i < n; i++)
			r = remove_blob(fd, &c.v[i], err);
		unlink_below(fd, ROOT "/repositories", c.v, n, 0);
	}
	close(fd);
	free(c.v);
	return r;
}

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/digest.h"
#include "oci/store.h"

struct store {
	char *dir;
	int lock;
};

struct store_work {
	struct store *store;
	char *final, *part, *lock_path;
	int lock;
};

static const char *const folders[] = { "blobs/sha256", "blobs/sha512", "built", "kernels", "tmp" };

int store_open(struct store **out, const char *dir, bool exclusive, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	char path[PATH_MAX];
	int r;

	if (s == NULL)
		return err_nomem(err);
	s->lock = -1;
	s->dir = strdup(dir);
	if (s->dir == NULL) {
		r = err_nomem(err);
		goto fail;
	}
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, folders[i]);
		r = mkdir_p(path, 0755, err);
		if (r < 0)
			goto fail;
	}
	snprintf(path, sizeof(path), "%s/lock", dir);
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (s->lock < 0) {
		r = err_errno(err, -errno, "open %s", quote(path));
		goto fail;
	}
	while (flock(s->lock, exclusive ? LOCK_EX | LOCK_NB : LOCK_SH) < 0) {
		if (errno == EINTR)
			continue;
		r = errno == EWOULDBLOCK
			    ? err_set(err, -EBUSY, "the image store %s is in use by another job",
				      quote(dir))
			    : err_errno(err, -errno, "lock %s", quote(path));
		goto fail;
	}
	*out = s;
	return 0;
fail:
	store_close(s);
	return r;
}

void store_close(struct store *s)
{
	if (s == NULL)
		return;
	if (s->lock >= 0)
		close(s->lock);
	free(s->dir);
	free(s);
}

const char *store_dir(const struct store *s)
{
	return s->dir;
}

/* Name of an item's files in tmp/. */
static void tmp_name(enum store_kind kind, const char *key, char *name, size_t cap)
{
	if (kind == STORE_BLOB) {
		const char *colon = strchr(key, ':');

		snprintf(name, cap, "%.*s-%s", (int)(colon - key), key, colon + 1);
	} else {
		snprintf(name, cap, "%s-%s", kind == STORE_DISK ? "disk" : "kernel", key);
	}
}

char *store_path(const struct store *s, enum store_kind kind, const char *key)
{
	const char *colon = strchr(key, ':');

	switch (kind) {
	case STORE_BLOB:
		return str_printf("%s/blobs/%.*s/%s", s->dir, (int)(colon - key), key, colon + 1);
	case STORE_DISK:
		return str_printf("%s/built/%s.ext4", s->dir, key);
	case STORE_KERNEL:
		break;
	}
	return str_printf("%s/kernels/%s", s->dir, key);
}

bool store_has(const struct store *s, enum store_kind kind, const char *key, uint64_t size)
{
	char *path = store_path(s, kind, key);
	struct stat st;
	bool has = path != NULL && stat(path, &st) == 0;

	if (has && size != UINT64_MAX)
		has = (uint64_t)st.st_size == size;
	free(path);
	return has;
}

int store_read_blob(
	const struct store *s, const char *digest, size_t max, struct buf *out, struct err *err)
{
	char *path = store_path(s, STORE_BLOB, digest);
	int r = path != NULL ? file_read(path, max, out, err) : err_nomem(err);

	free(path);
	return r;
}

/* Whether the locked file is still the one with that name: its last holder may have removed it. */
static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

/* Opens and locks the file; creates it if create. -EBUSY, -ENOENT, ... */
static int take_lock(const char *path, bool create, bool wait, int *out)
{
	for (;;) {
		int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0644), r;

		if (fd < 0)
			return -errno;
		do
			r = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
		while (r < 0 && errno == EINTR);
		if (r < 0) {
			r = errno == EWOULDBLOCK ? -EBUSY : -errno;
			close(fd);
			return r;
		}
		if (same_file(fd, path)) {
			*out = fd;
			return 0;
		}
		close(fd);
	}
}

static void work_free(struct store_work *w)
{
	if (w->lock >= 0) {
		/* Unlinked while it is held: who waits for it sees by the name that it is stale. */
		unlink(w->lock_path);
		close(w->lock);
	}
	free(w->final);
	free(w->part);
	free(w->lock_path);
	free(w);
}

int store_claim(struct store *s, enum store_kind kind, const char *key, bool wait,
	struct store_work **out, struct err *err)
{
	struct store_work *w = calloc(1, sizeof(*w));
	char name[DIGEST_MAX + 16];
	int r;

	if (w == NULL)
		return err_nomem(err);
	tmp_name(kind, key, name, sizeof(name));
	w->store = s;
	w->lock = -1;
	w->final = store_path(s, kind, key);
	w->part = str_printf("%s/tmp/%s.part", s->dir, name);
	w->lock_path = str_printf("%s/tmp/%s.lock", s->dir, name);
	if (w->final == NULL || w->part == NULL || w->lock_path == NULL) {
		work_free(w);
		return err_nomem(err);
	}
	r = take_lock(w->lock_path, true, wait, &w->lock);
	if (r == -EBUSY)
		err_set(err, r, "another process is making %s", quote(w->final));
	else if (r < 0)
		err_errno(err, r, "lock %s", quote(w->lock_path));
	else if (access(w->final, F_OK) == 0)
		r = err_set(err, -EEXIST, "%s is there already", quote(w->final));
	if (r < 0) {
		work_free(w);
		return r;
	}
	*out = w;
	return 0;
}

const char *store_work_path(const struct store_work *w)
{
	return w->part;
}

static int sync_parent(const char *path, struct err *err)
{
	char *dir = strdup(path);
	int fd, r = 0;

	if (dir == NULL)
		return err_nomem(err);
	*strrchr(dir, '/') = '\0';
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		r = err_errno(err, -errno, "sync %s", quote(dir));
	if (fd >= 0)
		close(fd);
	free(dir);
	return r;
}

int store_commit(struct store_work *w, struct err *err)
{
	int r = 0;

	if (rename(w->part, w->final) < 0) {
		r = err_errno(err, -errno, "rename %s to %s", quote(w->part), quote(w->final));
		store_abandon(w);
		return r;
	}
	r = sync_parent(w->final, err);
	work_free(w);
	return r;
}

void store_abandon(struct store_work *w)
{
	if (w == NULL)
		return;
	remove_tree(w->part, NULL);
	work_free(w);
}

uint64_t store_busy_bytes(const struct store *s, enum store_kind kind, const char *key)
{
	char name[DIGEST_MAX + 16], path[PATH_MAX];
	struct stat st;

	tmp_name(kind, key, name, sizeof(name));
	snprintf(path, sizeof(path), "%s/tmp/%s.part", s->dir, name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* What a file, or the files of a folder, occupy. */
static uint64_t disk_usage(const char *path)
{
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (lstat(path, &st) < 0)
		return 0;
	sum = (uint64_t)st.st_blocks * 512;
	d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	if (d == NULL)
		return sum;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.' &&
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	closedir(d);
	return sum;
}

/* One name of tmp/, "X.part" or "X.lock". */
static uint64_t sweep_one(struct store *s, const char *name)
{
	size_t n = strlen(name);
	char *part, *lock;
	uint64_t freed = 0;
	int fd;

	if (n < 6 || (!str_ends(name, ".part") && !str_ends(name, ".lock")))
		return 0;
	part = str_printf("%s/tmp/%.*s.part", s->dir, (int)n - 5, name);
	lock = str_printf("%s/tmp/%.*s.lock", s->dir, (int)n - 5, name);
	if (part != NULL && lock != NULL && take_lock(lock, true, false, &fd) == 0) {
		freed = disk_usage(part);
		remove_tree(part, NULL);
		unlink(lock);
		close(fd);
	}
	free(part);
	free(lock);
	return freed;
}

uint64_t store_sweep(struct store *s)
{
	char path[PATH_MAX];
	uint64_t freed = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/tmp", s->dir);
	d = opendir(path);
	if (d == NULL)
		return 0;
	while ((e = readdir(d)) != NULL)
		freed += sweep_one(s, e->d_name);
	closedir(d);
	return freed;
}

/* The key of the item with that name in its folder; false for what is none. */
static bool key_of(enum store_kind kind, const char *algorithm, const char *name, char *key)
{
	size_t n = strlen(name);

	if (kind == STORE_DISK) {
		if (!str_ends(name, ".ext4"))
			return false;
		n -= 5;
	}
	if (n == 0 || n > 128 || strspn(name, "0123456789abcdef") < n)
		return false;
	snprintf(key, DIGEST_MAX, "%s%.*s", algorithm, (int)n, name);
	return kind != STORE_BLOB || digest_valid(key);
}

int store_each(struct store *s, store_each_fn *fn, void *arg, struct err *err)
{
	static const struct {
		const char *folder, *algorithm;
		enum store_kind kind;
	} places[] = {
		{ "blobs/sha256", "sha256:", STORE_BLOB },
		{ "blobs/sha512", "sha512:", STORE_BLOB },
		{ "built", "", STORE_DISK },
		{ "kernels", "", STORE_KERNEL },
	};
	char path[PATH_MAX], item[PATH_MAX + 256], key[DIGEST_MAX];
	struct dirent *e;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(places); i++) {
		DIR *d;

		snprintf(path, sizeof(path), "%s/%s", s->dir, places[i].folder);
		d = opendir(path);
		if (d == NULL)
			return err_errno(err, -errno, "open %s", quote(path));
		while (r == 0 && (e = readdir(d)) != NULL) {
			if (!key_of(places[i].kind, places[i].algorithm, e->d_name, key))
				continue;
			snprintf(item, sizeof(item), "%s/%s", path, e->d_name);
			r = fn(arg, places[i].kind, key, disk_usage(item));
		}
		closedir(d);
	}
	return r;
}

int store_remove(struct store *s, enum store_kind kind, const char *key, struct err *err)
{
	char *path = store_path(s, kind, key);
	int r = path != NULL ? remove_tree(path, err) : err_nomem(err);

	free(path);
	return r;
}

/* The folder of a snapshot and its manifest: supervisor/snapshot.h. */
#include "supervisor/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"
#include "oci/clone.h"
#include "oci/digest.h"

void snapshot_disks_finish(struct snapshot_disks *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].path);
	d->n = 0;
}

/* ---- reading ---- */

int snapshot_read(const char *dir, json_t **out, struct err *err)
{
	char *path = path_join(dir, SNAPSHOT_MANIFEST);
	const char *kind;
	json_t *j = NULL;
	int r = path == NULL ? err_nomem(err) : json_read_file(path, &j, err);

	free(path);
	if (r < 0)
		return r;
	kind = json_str(j, "kind");
	if (json_int(j, "version", 0) != 1 ||
		(!str_eq(kind, "full") && !str_eq(kind, "disks") && !str_eq(kind, "suspend") &&
			!str_eq(kind, "warm")) ||
		json_obj(j, "config") == NULL || json_arr(j, "files") == NULL) {
		json_decref(j);
		return err_set(err, -EINVAL,
			"%s/%s is not the manifest of a snapshot that this drover knows", dir,
			SNAPSHOT_MANIFEST);
	}
	*out = j;
	return 0;
}

bool snapshot_has_memory(const json_t *manifest)
{
	return !str_eq(json_str(manifest, "kind"), "disks");
}

const json_t *snapshot_file_of(const json_t *manifest, const char *disk)
{
	const json_t *files = json_arr(manifest, "files"), *f;
	size_t i;

	json_array_foreach (files, i, f) {
		if (str_eq(json_str(f, "disk"), disk))
			return f;
	}
	return NULL;
}

json_t *snapshot_summary(const json_t *manifest)
{
	static const char *const keys[] = { "name", "created", "kind", "consistency", "description",
		"hypervisor_version" };
	const json_t *files = json_arr(manifest, "files"), *f;
	json_t *j = json_object();
	int64_t size = 0, allocated = 0;
	size_t i;

	for (i = 0; i < ARRAY_LEN(keys); i++)
		json_put_str(j, keys[i], json_str(manifest, keys[i]));
	json_array_foreach (files, i, f) {
		size += json_int(f, "size", 0);
		allocated += json_int(f, "allocated", 0);
	}
	json_put_int(j, "size", size);
	json_put_int(j, "allocated", allocated);
	return j;
}

/* One that nobody can restore takes its room all the same, and can be deleted. */
static json_t *broken_summary(const char *name, const struct err *err)
{
	json_t *j = json_object();

	json_put_str(j, "name", name);
	json_put_str(j, "broken", err->msg);
	return j;
}

static int by_time(const void *a, const void *b)
{
	const char *x = json_str(*(json_t *const *)a, "created");
	const char *y = json_str(*(json_t *const *)b, "created");

	return strcmp(x != NULL ? x : "", y != NULL ? y : "");
}

static json_t *sorted(json_t **v, size_t n)
{
	json_t *array = json_array();

	if (n > 0)
		qsort(v, n, sizeof(*v), by_time);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, v[i]);
	return array;
}

json_t *snapshot_list(const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	json_t **v = NULL, *array;
	size_t n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char *dir = NULL;
		json_t *manifest, **more;
		struct err err;

		if (str_ends(e->d_name, ".tmp") || name_check(e->d_name, "snapshot", NULL) < 0)
			continue;
		dir = path_join(folder, e->d_name);
		more = realloc(v, (n + 1) * sizeof(*v));
		v = more != NULL ? more : v;
		if (dir != NULL && more != NULL && snapshot_read(dir, &manifest, &err) == 0) {
			v[n++] = snapshot_summary(manifest);
			json_decref(manifest);
		} else if (dir != NULL && more != NULL) {
			v[n++] = broken_summary(e->d_name, &err);
		}
		free(dir);
	}
	if (d != NULL)
		closedir(d);
	array = sorted(v, n);
	free(v);
	return array;
}

/* ---- making ---- */

int snapshot_copy_disks(struct snapshot_disks *disks, const char *dir, bool reflink_only,
	const atomic_bool *cancel, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < disks->n && r == 0; i++) {
		struct snapshot_disk *d = &disks->v[i];
		char *to = path_join(dir, d->id);
		enum clone_method method;

		if (to == NULL)
			r = err_nomem(err);
		else if (!d->cloned)
			r = clone_file_until(d->path, to, reflink_only, cancel, &method, err);
		if (r == 0)
			d->cloned = true;
		/* Only that it would have to be copied. */
		if (r == -EOPNOTSUPP && reflink_only)
			r = 0;
		free(to);
	}
	return r;
}

/* More would be new pages each time, and leave the processor's caches. */
#define DIGEST_CHUNK (64 << 10)

int snapshot_digest(const char *path, char *out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	struct digest *d = NULL;
	char *buf = malloc(DIGEST_CHUNK);
	ssize_t n = 1;

	if (fd < 0)
		r = err_errno(err, -errno, "open %s", quote(path));
	else if (buf == NULL)
		r = err_nomem(err);
	else
		r = digest_create(&d, "sha256:", err);
	while (r == 0 && n > 0) {
		n = read(fd, buf, DIGEST_CHUNK);
		if (n < 0)
			r = err_errno(err, -errno, "read %s", quote(path));
		else if (n > 0 && digest_update(d, buf, (size_t)n) < 0)
			r = err_nomem(err);
	}
	if (r == 0 && digest_final(d, out) < 0)
		r = err_nomem(err);
	digest_destroy(d);
	free(buf);
	if (fd >= 0)
		close(fd);
	return r;
}

int64_t snapshot_mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

int snapshot_commit(const char *tmp, const char *dir, struct err *err)
{
	char *parent = strdup(dir), *slash;
	int r = 0;

	if (parent == NULL)
		return err_nomem(err);
	slash = strrchr(parent, '/');
	*slash = '\0';
	/* Over an empty folder of that name it would succeed: there is none, and none is made here. */
	if (rename(tmp, dir) < 0)
		r = err_errno(err, -errno, "rename %s to %s", quote(tmp), quote(dir));
	if (r == 0)
		r = file_sync(parent, err);
	free(parent);
	return r;
}

/* ---- checking ---- */

static int check_file(const char *dir, const json_t *f, bool digests, struct err *err)
{
	const char *name = json_str(f, "name"), *sha = json_str(f, "sha256");
	const char *own = json_str(f, "path");
	char *path = NULL, digest[DIGEST_MAX];
	struct stat st;
	int r = 0;

	if (name == NULL && own == NULL)
		return err_set(err, -EINVAL, "a file of its manifest has no name");
	if (name != NULL && (strchr(name, '/') != NULL || name[0] == '.'))
		return err_set(err, -EINVAL, "%s is no name of a file in it", quote(name));
	path = name != NULL ? path_join(dir, name) : strdup(own);
	if (path == NULL)
		return err_nomem(err);
	if (stat(path, &st) < 0)
		r = err_errno(err, -EINVAL == -errno ? -EIO : -errno, "%s", quote(path));
	else if (st.st_size != json_int(f, "size", -1))
		r = err_set(err, -EINVAL, "%s has %lld bytes, and had %lld", quote(path),
			(long long)st.st_size, (long long)json_int(f, "size", -1));
	else if (sha == NULL && snapshot_mtime_ns(&st) != json_int(f, "mtime_ns", -1))
		r = err_set(err, -EINVAL, "%s was changed since", quote(path));
	if (r == 0 && digests && sha != NULL) {
		r = snapshot_digest(path, digest, err);
		if (r == 0 && !str_eq(digest + strlen("sha256:"), sha))
			r = err_set(err, -EINVAL, "%s was changed since: its digest is another one",
				quote(path));
	}
	free(path);
	return r;
}

static int check_files(const char *dir, const json_t *manifest, bool digests, struct err *err)
{
	const json_t *files = json_arr(manifest, "files"), *f;
	size_t i;
	int r = 0;

	json_array_foreach (files, i, f) {
		r = check_file(dir, f, digests, err);
		if (r < 0)
			break;
	}
	return r;
}

int snapshot_check_files(const char *dir, const json_t *manifest, struct err *err)
{
	return check_files(dir, manifest, false, err);
}

int snapshot_verify(const char *dir, const json_t *manifest, struct err *err)
{
	return check_files(dir, manifest, true, err);
}

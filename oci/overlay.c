#include "oci/overlay.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/log.h"
#include "oci/clone.h"
#include "oci/qcow2.h"

#define BASE_SUFFIX   ".raw"
#define BASE_NAME_MAX 32

bool overlay_is_base(const char *name)
{
	return str_starts(name, OVERLAY_BASE_PREFIX) && str_ends(name, BASE_SUFFIX);
}

/* path's folder and name, malloc'd. */
static char *beside(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? strdup(name)
			     : str_printf("%.*s/%s", (int)(slash - path), path, name);
}

/* ---- the base ---- */

/* The same file has the same name everywhere, and another file another one. */
static void name_base(const struct stat *st, char out[BASE_NAME_MAX])
{
	const uint64_t v[] = { st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
		(uint64_t)st->st_mtim.tv_nsec };

	snprintf(out, BASE_NAME_MAX, OVERLAY_BASE_PREFIX "%016llx" BASE_SUFFIX,
		(unsigned long long)hash64(v, sizeof(v), HASH64_SEED));
}

static bool same_file(const char *path, const struct stat *st)
{
	struct stat other;

	return lstat(path, &other) == 0 && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

static int link_base(const char *from, const struct stat *st, const char *to, struct err *err)
{
	int e = link(from, to) == 0 ? 0 : errno;

	if (e == 0 || (e == EEXIST && same_file(to, st)))
		return 0;
	if (e == EXDEV || e == EMLINK || e == EPERM || e == EOPNOTSUPP)
		return err_errno(
			err, -EOPNOTSUPP, "link %s to %s: %s", quote(from), quote(to), strerror(e));
	return err_errno(err, -e, "link %s to %s", quote(from), quote(to));
}

int overlay_create(const char *from, const char *to, uint64_t size, struct err *err)
{
	char name[BASE_NAME_MAX], *base;
	struct stat st;
	int r;

	if (lstat(from, &st) < 0)
		return err_errno(err, -errno, "%s", quote(from));
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return err_set(
			err, -EOPNOTSUPP, "%s is no file that a disk can lie above", quote(from));
	if (size != 0 && size < (uint64_t)st.st_size)
		return err_set(err, -EINVAL,
			"a size of %s is smaller than the original's %s, and disks are not shrunk",
			format_size(size), format_size((uint64_t)st.st_size));
	name_base(&st, name);
	base = beside(to, name);
	r = base != NULL ? link_base(from, &st, base, err) : err_nomem(err);
	if (r == 0)
		r = qcow2_create(to, name, MAX(size, (uint64_t)st.st_size), err);
	free(base);
	return r;
}

int overlay_base(const char *path, char **out, struct err *err)
{
	struct qcow2_head head;
	int r = qcow2_head(path, &head, err);

	if (r < 0)
		return r;
	/* QEMU's users may have put it above something else: that is not for us. */
	if (!head.backing_raw || !overlay_is_base(head.backing) ||
		strchr(head.backing, '/') != NULL)
		return err_set(err, -EINVAL,
			"%s is not above a raw disk that droverd put beside it, but above %s",
			quote(path), head.backing[0] != '\0' ? quote(head.backing) : "nothing");
	*out = beside(path, head.backing);
	return *out != NULL ? 0 : err_nomem(err);
}

int overlay_check(const char *path, struct err *err)
{
	char *base = NULL;
	int r = overlay_base(path, &base, err);

	if (r == 0 && access(base, R_OK) < 0)
		r = err_errno(err, -errno,
			"the disk %s lies above %s, without which it is nothing: put that back, or "
			"remove the disk (its content is lost)",
			quote(path), quote(base));
	free(base);
	return r;
}

int overlay_link(const char *from, const char *dir, struct err *err)
{
	char *base = NULL, *to = NULL;
	struct stat st;
	int r = overlay_base(from, &base, err);

	if (r < 0)
		return r;
	to = path_join(dir, strrchr(base, '/') != NULL ? strrchr(base, '/') + 1 : base);
	if (to == NULL)
		r = err_nomem(err);
	else if (access(to, F_OK) == 0)
		r = 0;
	else if (lstat(base, &st) < 0)
		r = err_errno(err, -errno, "%s", quote(base));
	else
		r = link_base(base, &st, to, err);
	free(base);
	free(to);
	return r;
}

/* ---- no overlay any more ---- */

static int put_piece(void *arg, uint64_t at, const void *data, size_t len, struct err *err)
{
	int fd = *(int *)arg;

	if (data != NULL)
		return file_write_at(fd, data, len, at, err);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len) < 0)
		return err_errno(err, -errno, "make a hole");
	return 0;
}

static int put_pieces(struct qcow2 *q, const char *to, struct err *err)
{
	int fd = open(to, O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(to));
	r = qcow2_each(q, put_piece, &fd, err);
	close(fd);
	return r;
}

int overlay_flatten(const char *from, const char *to, struct err *err)
{
	enum clone_method method;
	struct qcow2 *q = NULL;
	char *base = NULL;
	int r = overlay_base(from, &base, err);

	if (r == 0)
		r = qcow2_open(&q, from, false, err);
	if (r == 0)
		r = clone_file_sized(base, to, qcow2_size(q), &method, err);
	if (r == 0 && (r = put_pieces(q, to, err)) < 0)
		unlink(to);
	qcow2_close(q);
	free(base);
	return r < 0 ? err_wrap(err, "write %s out to %s", quote(from), quote(to)) : 0;
}

/* ---- bases that nobody needs ---- */

static bool is_overlay(const char *name)
{
	return strstr(name, OVERLAY_SUFFIX) != NULL;
}

static void note_base(const char *dir, const char *name, struct strv *needed)
{
	char *path = path_join(dir, name);
	struct qcow2_head head;

	/* Of one that cannot be read nothing is known: then all of them stay. */
	if (path == NULL || qcow2_head(path, &head, NULL) < 0)
		needed->bad = true;
	else
		strv_add(needed, head.backing);
	free(path);
}

/* false: there may be others. */
static bool each_name(const char *dir, void (*fn)(const char *, const char *, struct strv *),
	bool (*is)(const char *), struct strv *arg)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool all = d != NULL;

	while (d != NULL) {
		errno = 0;
		e = readdir(d);
		if (e == NULL)
			break;
		if (is(e->d_name))
			fn(dir, e->d_name, arg);
	}
	all = all && errno == 0;
	if (d != NULL)
		closedir(d);
	return all;
}

static void drop_base(const char *dir, const char *name, struct strv *needed)
{
	char *path = strv_has(needed, name) ? NULL : path_join(dir, name);

	if (path != NULL && unlink(path) < 0 && errno != ENOENT)
		log_debug("ignoring: unlink %s: %s", quote(path), strerror(errno));
	free(path);
}

void overlay_sweep(const char *dir)
{
	struct strv needed = { 0 };

	if (each_name(dir, note_base, is_overlay, &needed) && !needed.bad)
		each_name(dir, drop_base, overlay_is_base, &needed);
	strv_finish(&needed);
}

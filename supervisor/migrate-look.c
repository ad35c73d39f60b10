/*
 * What the files of a machine's disks are, at both hosts: looked at by a thread, because a filesystem
 * that is shared may be slow, or not answer at all. supervisor/migrate.h.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/json.h"
#include "supervisor/hardware.h"
#include "supervisor/migrate.h"
#include "supervisor/pool-work.h"

/* QEMU, docs/interop/qcow2.txt: "QFI\xfb", and the virtual size in the bytes 24 to 31. */
static int virtual_size(const char *path, const char *format, uint64_t *out, struct err *err)
{
	unsigned char head[32];
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = err_errno(err, -errno, "%s", quote(path));
	} else if (!S_ISREG(st.st_mode)) {
		r = err_set(err, -ENOTSUP, "%s is no file: it is not copied", quote(path));
	} else if (str_eq(format, disk_format_name(HV_DISK_RAW))) {
		*out = (uint64_t)st.st_size;
	} else if (pread(fd, head, sizeof(head), 0) != sizeof(head) ||
		   memcmp(head, "QFI\xfb", 4) != 0) {
		r = err_set(err, -EINVAL, "%s is no qcow2 image", quote(path));
	} else {
		memcpy(out, head + 24, sizeof(*out));
		*out = be64toh(*out);
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- at the source: what the target is told of them ---- */

static int tell_copy(json_t *j, struct err *err)
{
	uint64_t size = 0;
	int r = virtual_size(json_str(j, "path"), json_str(j, "format_here"), &size, err);

	/* Where it lies, and how, is no business of the target's. */
	json_object_del(j, "format_here");
	json_object_del(j, "path");
	json_put_int(j, "size", (int64_t)size);
	return r;
}

static void tell_shared(json_t *j)
{
	bool raw = str_eq(json_str(j, "format_here"), disk_format_name(HV_DISK_RAW));
	struct stat st;

	json_object_del(j, "format_here");
	/* On a shared filesystem the number is the same everywhere. */
	if (stat(json_str(j, "path"), &st) < 0)
		return;
	json_put_int(j, "inode", (int64_t)st.st_ino);
	/* A qcow2 grows while its guest writes. */
	if (raw)
		json_put_int(j, "size", (int64_t)st.st_size);
}

/* The facts are held: the migration may be let go of meanwhile. */
struct telling {
	struct migrate_out *o;
	json_t *body;
	pool_done_fn *done;
};

static int tell_all(void *arg, struct err *err)
{
	struct telling *t = arg;
	json_t *j;
	size_t i;
	int r = 0;

	json_array_foreach (json_arr(t->body, "disks"), i, j) {
		if (!json_flag(j, "copy", false))
			tell_shared(j);
		else if (tell_copy(j, err) < 0)
			r = err->code;
		if (r < 0)
			return r;
	}
	return 0;
}

static void told(void *arg, const struct err *err)
{
	struct telling *t = arg;
	struct migrate_out *o = t->o;
	pool_done_fn *done = t->done;

	json_decref(t->body);
	free(t);
	done(o, err);
}

int migrate_look_source(struct migrate_out *o, pool_done_fn *done, struct err *err)
{
	struct telling *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_nomem(err);
	*t = (struct telling){ o, json_incref(o->body), done };
	if (pool_work(o->g.d->loop, tell_all, told, t) < 0) {
		json_decref(t->body);
		free(t);
		return err_nomem(err);
	}
	o->g.pending++;
	return 0;
}

/* ---- at the target: whether they are the same ---- */

struct look {
	struct drover *d;
	struct request *rq; /* NULL: it waits no longer */
	json_t *body;
	migrate_looked_fn *done;
};

static int check_shared(const json_t *j, struct err *err)
{
	const char *path = json_str(j, "path");
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, -EINVAL, "its disk %s is not shared with this host: %s",
			quote(path), strerror(errno));
	if (json_int(j, "inode", -1) != (int64_t)st.st_ino ||
		(S_ISREG(st.st_mode) && json_int(j, "size", st.st_size) != (int64_t)st.st_size))
		return err_set(err, -EINVAL,
			"its disk %s is not shared with this host: there is another file of that name",
			quote(path));
	return 0;
}

static int check_all(void *arg, struct err *err)
{
	const struct look *k = arg;
	const json_t *j;
	size_t i;

	json_array_foreach (json_arr(k->body, "disks"), i, j) {
		if (!json_flag(j, "copy", false) && check_shared(j, err) < 0)
			return err_wrap(err, "vm %s", json_str(k->body, "name"));
	}
	return 0;
}

static void gone(void *arg)
{
	((struct look *)arg)->rq = NULL;
}

static void looked(void *arg, const struct err *err)
{
	struct look *k = arg;

	if (k->rq != NULL) {
		request_on_gone(k->rq, NULL, NULL);
		k->done(k->d, k->body, k->rq, err);
	}
	json_decref(k->body);
	free(k);
}

void migrate_look_target(
	struct drover *d, const json_t *body, struct request *rq, migrate_looked_fn *done)
{
	struct look *k = calloc(1, sizeof(*k));
	struct err err;

	if (k != NULL) {
		*k = (struct look){ .d = d, .rq = rq, .done = done };
		k->body = json_incref((json_t *)(uintptr_t)body);
		request_on_gone(rq, gone, k);
		if (pool_work(d->loop, check_all, looked, k) == 0)
			return;
		request_on_gone(rq, NULL, NULL);
		json_decref(k->body);
		free(k);
	}
	err_nomem(&err);
	done(d, body, rq, &err);
}

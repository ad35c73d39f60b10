/* The volumes of a machine: supervisor/machine-steps.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "oci/clone.h"
#include "supervisor/machine-steps.h"

#define CREATE_MS 60000

/* ---- a file that is whole or not there ---- */

struct publish {
	uv_work_t work;
	struct machine *m;
	void (*done)(struct machine *m, const struct err *err);
	char *from, *part, *to; /* from may be NULL */
	struct err err;
};

/* A thread of the pool. */
static void publish_work(uv_work_t *work)
{
	struct publish *p = container_of(work, struct publish, work);
	char *slash = strrchr(p->to, '/');
	enum clone_method method;
	int r = 0;

	if (p->from != NULL) {
		unlink(p->part);
		r = clone_file(p->from, p->part, 0, &method, &p->err);
	}
	if (r == 0)
		r = file_sync(p->part, &p->err);
	if (r == 0 && rename(p->part, p->to) < 0)
		r = err_errno(&p->err, -errno, "rename %s", quote(p->part));
	if (r < 0) {
		unlink(p->part);
		return;
	}
	*slash = '\0';
	file_sync(p->to, &p->err);
	*slash = '/';
}

static void publish_free(struct publish *p)
{
	free(p->from);
	free(p->part);
	free(p->to);
	free(p);
}

static void published(uv_work_t *work, int status)
{
	struct publish *p = container_of(work, struct publish, work);
	struct machine *m = p->m;

	m->attaching = false;
	if (m->closing > 0)
		machine_closed(m);
	else
		p->done(m, p->err.code < 0 ? &p->err : NULL);
	publish_free(p);
}

int machine_publish(struct machine *m, const char *from, const char *to,
	void (*done)(struct machine *m, const struct err *err), struct err *err)
{
	struct publish *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return err_nomem(err);
	p->m = m;
	p->done = done;
	p->from = from != NULL ? strdup(from) : NULL;
	p->part = str_printf("%s.part", to);
	p->to = strdup(to);
	if ((from != NULL && p->from == NULL) || p->part == NULL || p->to == NULL) {
		publish_free(p);
		return err_nomem(err);
	}
	r = uv_queue_work(m->d->loop, &p->work, publish_work, published);
	if (r < 0) {
		publish_free(p);
		return err_errno(err, r, "%s", quote(to));
	}
	m->attaching = true;
	return 0;
}

/* ---- volumes ---- */

char *machine_volume_path(const struct machine *m, const char *name, enum hv_disk_format format)
{
	return str_printf("%s/" VOLUME_PREFIX "%s.%s", m->dir, name, disk_format_name(format));
}

int machine_volumes(const struct machine *m, struct volume *out, size_t *n, struct err *err)
{
	int r = 0;

	*n = 0;
	for (size_t i = 0; i < m->run_cfg->volumes.n && r == 0 && *n < VOLUMES_MAX; i++) {
		struct volume *v = &out[*n];

		r = volume_parse(v, m->run_cfg->volumes.v[i], err);
		if (r < 0)
			break;
		++*n;
		if (v->name == NULL)
			continue;
		v->path = machine_volume_path(m, v->name, v->format);
		if (v->path == NULL)
			r = err_nomem(err);
	}
	return r;
}

bool machine_has_volumes(const struct machine *m)
{
	DIR *dir = opendir(m->dir);
	struct dirent *e;
	bool any = false;

	while (dir != NULL && !any && (e = readdir(dir)) != NULL)
		any = str_starts(e->d_name, VOLUME_PREFIX);
	if (dir != NULL)
		closedir(dir);
	return any;
}

static void volume_published(struct machine *m, const struct err *err)
{
	if (err != NULL)
		machine_start_next(m, err);
	else
		machine_step_volumes(m); /* the next one, or none is missing any more */
}

static void volume_made(void *arg, const struct child_result *res, const struct err *err)
{
	struct volume all[VOLUMES_MAX];
	struct machine *m = arg;
	struct err mine;
	size_t n = 0;
	int r;

	m->attaching = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	if (err != NULL || m->cancelled) {
		machine_start_next(m, err);
		return;
	}
	r = machine_volumes(m, all, &n, &mine);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (all[i].name == NULL || access(all[i].path, F_OK) == 0)
			continue;
		machine_tell(m, "volume", "%s made: %s", all[i].name, all[i].path);
		r = machine_publish(m, NULL, all[i].path, volume_published, &mine);
		break;
	}
	while (n > 0)
		volume_finish(&all[--n]);
	if (r < 0)
		machine_start_next(m, &mine);
}

/* By qemu-img, into a file beside it that becomes the volume once it is whole. */
static int make_volume(struct machine *m, const struct volume *v, struct err *err)
{
	char *program = find_program("qemu-img");
	char *part = str_printf("%s.part", v->path);
	char *size = str_printf("%llu", (unsigned long long)v->size);
	char *argv[] = { "qemu-img", "create", "-q", "-f",
		(char *)(uintptr_t)disk_format_name(v->format), part, size, NULL };
	struct child_spec spec = { .file = program, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = CREATE_MS, .async = true };
	int r;

	if (program == NULL)
		r = err_set(err, -ENOENT, "qemu-img is not installed (Debian package qemu-utils)");
	else if (part == NULL || size == NULL)
		r = err_nomem(err);
	else
		r = child_run(NULL, m->d->loop, &spec, &opts, volume_made, m, err);
	m->attaching = r == 0;
	free(program);
	free(part);
	free(size);
	return r;
}

/* Another format in the configuration must not look like another, empty disk. */
static int check_other_format(const struct machine *m, const struct volume *v, struct err *err)
{
	enum hv_disk_format other = v->format == HV_DISK_RAW ? HV_DISK_QCOW2 : HV_DISK_RAW;
	char *path = machine_volume_path(m, v->name, other);
	int r = 0;

	if (path == NULL)
		return err_nomem(err);
	if (access(path, F_OK) == 0)
		r = err_set(err, -EEXIST,
			"%s is there with format=%s; set that, or remove %s to have an empty one",
			quote(v->name), disk_format_name(other), path);
	free(path);
	return r;
}

/* 1: it is being made. */
static int need_volume(struct machine *m, const struct volume *v, struct err *err)
{
	int r;

	if (access(v->path, v->readonly ? R_OK : R_OK | W_OK) == 0) {
		r = machine_check_file(v->path, err);
		return r < 0 || v->name != NULL ? r
						: machine_file_free(m, v->path, v->readonly, err);
	}
	if (errno != ENOENT || v->name == NULL)
		return err_errno(err, -errno, "%s", quote(v->path));
	r = check_other_format(m, v, err);
	if (r == 0)
		r = make_volume(m, v, err);
	return r < 0 ? r : 1;
}

void machine_step_volumes(struct machine *m)
{
	struct volume all[VOLUMES_MAX];
	struct err err;
	size_t n = 0;
	int r = machine_volumes(m, all, &n, &err);

	for (size_t i = 0; i < n && r == 0; i++)
		r = need_volume(m, &all[i], &err);
	if (r == 0 && m->run_cfg->cdrom != NULL)
		r = machine_check_file(m->run_cfg->cdrom, &err);
	if (r == 0 && m->run_cfg->cdrom != NULL)
		r = machine_file_free(m, m->run_cfg->cdrom, true, &err);
	while (n > 0)
		volume_finish(&all[--n]);
	if (r <= 0)
		machine_start_next(m, r < 0 ? &err : NULL);
}

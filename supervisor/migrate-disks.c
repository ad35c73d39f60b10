/* The files, the sockets and the connections of disks that are copied: supervisor/migrate-disks.h. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/overlay.h"
#include "supervisor/machine-steps.h"
#include "supervisor/migrate.h"
#include "supervisor/pool-work.h"

#define CREATE_MS 60000
/* The name of a disk that was here before, while it may have to come back to be that. */
#define ASIDE ".before"

void migrate_disks_read(struct migrate_disks *d, const json_t *body)
{
	const json_t *j;
	size_t i;

	d->n = 0;
	json_array_foreach (json_arr(body, "disks"), i, j) {
		if (!json_flag(j, "copy", false) || d->n == MIGRATE_DISKS_MAX)
			continue;
		snprintf(d->ids[d->n], sizeof(d->ids[0]), "%s", json_str(j, "id"));
		d->names[d->n] = d->ids[d->n];
		d->n++;
	}
}

char *migrate_nbd_path(const struct machine *m)
{
	return path_join(m->run_dir, "nbd.sock");
}

/* ---- the source ---- */

void migrate_add_copy(json_t *array, unsigned place, const char *volume, enum hv_disk_format format,
	const char *path)
{
	json_t *j = json_object();
	char id[16];

	/* As hv.h names those without an id. */
	snprintf(id, sizeof(id), "disk%u", place);
	json_put_str(j, "id", id);
	json_put_bool(j, "copy", true);
	json_put_str(j, "volume", volume);
	/* Its first disk is whole there, whatever it lies above here. */
	json_put_str(j, "format", volume == NULL ? "raw" : disk_format_name(format));
	json_put_str(j, "format_here", disk_format_name(format));
	json_put_str(j, "path", path);
	json_array_append_new(array, j);
}

/* A copy that is slowed down notices only at its next write, which may be minutes away. */
static void broken(void *arg)
{
	struct migrate_out *o = arg;

	/* Later this may be the good end of it; and else the memory's stream tells. */
	if (!o->sending || o->all_copied || o->g.m->hv == NULL)
		return;
	if (o->err.code == 0)
		err_set(&o->err, -ECONNRESET, "%s has closed the connection of its disks", o->url);
	hv_job_cancel(o->g.m->hv);
}

int migrate_disk_reached(struct migrate_out *o, int fd, struct err *err)
{
	struct migrate *g = &o->g;
	char *path;
	int r = 0;

	if (g->tunnel == NULL)
		r = tunnel_create(&g->tunnel, g->d->loop, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	tunnel_on_broken(g->tunnel, broken, o);
	r = tunnel_offer(g->tunnel, fd, err);
	if (r < 0 || ++o->disks.reached < o->disks.n)
		return r;
	path = migrate_nbd_path(g->m);
	r = path != NULL ? tunnel_listen(g->tunnel, path, err) : err_nomem(err);
	free(path);
	return r;
}

/* ---- the target: files ---- */

int migrate_check_copy(const json_t *j, struct err *err)
{
	const char *id, *format, *volume = json_str(j, "volume");
	int64_t size = json_int(j, "size", 0);
	unsigned place;
	char same[16];

	if (json_need_str(j, "id", &id, err) < 0 || json_need_str(j, "format", &format, err) < 0)
		return err->code;
	if (sscanf(id, "disk%u", &place) != 1 || place >= MIGRATE_DISKS_MAX)
		return err_set(err, -EINVAL, "disks: %s is no disk", quote(id));
	snprintf(same, sizeof(same), "disk%u", place);
	if (strcmp(same, id) != 0 || (place == 0 && volume == NULL && !str_eq(format, "raw")))
		return err_set(err, -EINVAL, "disks: %s is no disk", quote(id));
	if (size <= 0)
		return err_set(err, -EINVAL, "disks: %s has no size", id);
	return 0;
}

/* By its section here: what is said of it chooses no paths. */
static int path_of(const struct machine *m, const json_t *j, char **out, struct err *err)
{
	const char *name = json_str(j, "volume");

	*out = NULL;
	if (name == NULL)
		*out = path_join(m->dir, "disk.raw");
	for (size_t i = 0; name != NULL && *out == NULL && i < m->cfg->volumes.n; i++) {
		struct volume v;

		if (volume_parse(&v, m->cfg->volumes.v[i], err) < 0)
			return err->code;
		if (str_eq(v.name, name) &&
			str_eq(disk_format_name(v.format), json_str(j, "format")))
			*out = machine_volume_path(m, v.name, v.format);
		volume_finish(&v);
	}
	if (*out != NULL)
		return 0;
	return name == NULL ? err_nomem(err)
			    : err_set(err, -EINVAL, "its section has no volume %s", quote(name));
}

struct making {
	struct migrate_in *in;
	void (*done)(struct migrate_in *in, const struct err *err);
	char *path; /* the one that is being made */
	bool first; /* which is the machine's own disk */
};

static void make_next(struct making *k);

static void making_done(struct making *k, const struct err *err)
{
	struct migrate_in *in = k->in;
	void (*done)(struct migrate_in * in, const struct err *err) = k->done;

	free(k->path);
	free(k);
	done(in, err);
}

static void disk_made(void *arg, const struct child_result *res, const struct err *err)
{
	struct making *k = arg;
	struct migrate_in *in = k->in;
	struct machine *m = in->g.m;
	struct err mine;

	if (m == NULL || err != NULL) {
		if (err != NULL) {
			mine = *err;
			err_wrap(&mine, "its disk %s", quote(k->path));
		}
		making_done(k, err != NULL ? &mine : NULL);
		return;
	}
	if (k->first) {
		free(m->disk_path);
		m->disk_path = k->path;
		k->path = NULL;
	}
	in->disks.made++;
	make_next(k);
}

static int put_aside(const char *path, struct err *err)
{
	char *to = str_printf("%s" ASIDE, path);
	int r = to == NULL ? err_nomem(err) : 0;

	/* What is aside already is the whole one. */
	if (r == 0 && access(to, F_OK) < 0 && access(path, F_OK) == 0 && rename(path, to) < 0)
		r = err_errno(err, -errno, "rename %s", quote(path));
	free(to);
	return r;
}

/* One of the other kind that lies there has another name, and is the machine's no more either. */
static int put_other_aside(const char *path, struct err *err)
{
	char *other = machine_other_disk(path);
	int r = other == NULL ? err_nomem(err) : put_aside(other, err);

	free(other);
	return r;
}

static int make_disk(struct making *k, const json_t *j, struct err *err)
{
	struct machine *m = k->in->g.m;
	char *program = find_program("qemu-img");
	char *size = str_printf("%lld", (long long)json_int(j, "size", 0));
	char *argv[] = { "qemu-img", "create", "-q", "-f", (char *)(uintptr_t)json_str(j, "format"),
		k->path, size, NULL };
	struct child_spec spec = { .file = program, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = CREATE_MS, .async = true };
	int r;

	if (program == NULL)
		r = err_set(err, -ENOENT, "qemu-img is not installed (Debian package qemu-utils)");
	else if (size == NULL)
		r = err_nomem(err);
	else
		r = put_aside(k->path, err);
	if (r == 0 && k->first)
		r = put_other_aside(k->path, err);
	if (r == 0)
		r = child_run(NULL, m->d->loop, &spec, &opts, disk_made, k, err);
	free(program);
	free(size);
	return r;
}

static const json_t *copy_at(const json_t *body, unsigned place)
{
	const json_t *j;
	size_t i;

	json_array_foreach (json_arr(body, "disks"), i, j) {
		if (json_flag(j, "copy", false) && place-- == 0)
			return j;
	}
	return NULL;
}

static void make_next(struct making *k)
{
	struct migrate_in *in = k->in;
	const json_t *j = copy_at(in->facts, in->disks.made);
	struct err err;
	int r;

	free(k->path);
	k->path = NULL;
	if (j == NULL || in->state != TARGET_RECEIVING) {
		making_done(k, NULL);
		return;
	}
	k->first = json_str(j, "volume") == NULL;
	r = in->g.m->cfg == NULL ? err_set(&err, -EINVAL, "its section is gone")
				 : path_of(in->g.m, j, &k->path, &err);
	if (r == 0)
		r = make_disk(k, j, &err);
	if (r < 0)
		making_done(k, &err);
}

/* The folder first, by a thread: from then on nothing is done from within a call. */
static int make_folder(void *arg, struct err *err)
{
	return mkdir_p(((struct making *)arg)->path, 0700, err);
}

static void folder_made(void *arg, const struct err *err)
{
	struct making *k = arg;

	if (err != NULL || k->in->g.m == NULL)
		making_done(k, err);
	else
		make_next(k);
}

void migrate_make_disks(
	struct migrate_in *in, void (*done)(struct migrate_in *in, const struct err *err))
{
	struct making *k = calloc(1, sizeof(*k));
	struct err err;

	in->g.pending++;
	if (k != NULL) {
		*k = (struct making){ .in = in, .done = done, .path = strdup(in->g.m->dir) };
		if (k->path != NULL && pool_work(in->g.d->loop, make_folder, folder_made, k) == 0)
			return;
		free(k->path);
		free(k);
	}
	err_nomem(&err);
	done(in, &err);
}

struct keeping {
	struct migrate_in *in;
	void (*done)(struct migrate_in *in);
	char *dir, *disk;
	bool made;
};

static void keep(const struct keeping *k, const char *name)
{
	char *aside = path_join(k->dir, name);
	char *disk = aside != NULL ? strndup(aside, strlen(aside) - strlen(ASIDE)) : NULL;

	/* In place of which one of the other kind was made. */
	if (disk != NULL && !k->made && str_eq(strrchr(disk, '/') + 1, MACHINE_OVERLAY))
		machine_drop_other_disk(disk, NULL);
	if (disk == NULL || (k->made ? unlink(aside) : rename(aside, disk)) < 0)
		log_error("%s in %s is left as it is: %s", quote(name), k->dir, strerror(errno));
	free(aside);
	free(disk);
}

static int keep_all(void *arg, struct err *err)
{
	struct keeping *k = arg;
	DIR *dir = opendir(k->dir);
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL)
		if (str_ends(e->d_name, ASIDE))
			keep(k, e->d_name);
	if (dir != NULL)
		closedir(dir);
	if (k->made)
		overlay_sweep(k->dir);
	else
		k->disk = machine_find_disk(k->dir);
	return 0;
}

static void kept_all(void *arg, const struct err *err)
{
	struct keeping *k = arg;
	struct migrate_in *in = k->in;
	void (*done)(struct migrate_in * in) = k->done;
	char *disk = k->disk;

	free(k->dir);
	free(k);
	if (!migrate_came_back(&in->g)) {
		free(disk);
		return;
	}
	/* What came back may be of the other kind than what was made. */
	if (disk != NULL) {
		free(in->g.m->disk_path);
		in->g.m->disk_path = disk;
	}
	done(in);
}

int migrate_keep_disks(struct migrate_in *in, bool made, void (*done)(struct migrate_in *in))
{
	struct keeping *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -ENOMEM;
	*k = (struct keeping){ .in = in, .done = done, .dir = strdup(in->g.m->dir), .made = made };
	if (k->dir == NULL || pool_work(in->g.d->loop, keep_all, kept_all, k) < 0) {
		free(k->dir);
		free(k);
		return -ENOMEM;
	}
	in->g.pending++;
	return 0;
}

/* ---- the target: connections ---- */

int migrate_serve_disks(
	struct migrate_in *in, void (*done)(void *arg, const struct err *err), struct err *err)
{
	char *path = migrate_nbd_path(in->g.m);
	int fd = path != NULL ? tunnel_socket(path, err) : err_nomem(err);

	free(path);
	if (fd < 0)
		return fd;
	hv_serve_disks(in->g.m->hv, fd, in->disks.names, in->disks.n, done, in);
	close(fd);
	return 0;
}

void migrate_disk_wanted(struct migrate_in *in, int fd)
{
	struct migrate *g = &in->g;
	char *path = migrate_nbd_path(g->m);
	struct err err;
	int r = path != NULL ? 0 : err_nomem(&err);

	if (r == 0 && g->tunnel == NULL)
		r = tunnel_create(&g->tunnel, g->d->loop, &err);
	if (r == 0)
		r = tunnel_join(g->tunnel, fd, path, &err);
	else
		close(fd);
	/* The source finds its connection closed. */
	if (r < 0)
		log_msg(LOG_LVL_WARN, g->m->name, "its disks cannot be copied here: %s", err.msg);
	free(path);
}

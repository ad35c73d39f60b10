/* The files in a machine's folder that are its state, for snapshots: supervisor/machine-job.h. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"

/* swtpm's permanent state, which it writes by a rename (swtpm_nvstore_dir.c). */
#define TPM_FILE "tpm/tpm2-00.permall"

static const char *const vars_names[] = { "vars.fd", "vars.qcow2", "vars-secure.fd",
	"vars-secure.qcow2" };

/* Takes path over. */
static int add(struct snapshot_disks *out, const char *id, char *path, bool disk, struct err *err)
{
	struct snapshot_disk *d;

	if (path == NULL)
		return err_nomem(err);
	if (out->n == ARRAY_LEN(out->v)) {
		free(path);
		return err_set(err, -E2BIG, "it has more files than a snapshot can hold");
	}
	d = &out->v[out->n++];
	*d = (struct snapshot_disk){ .path = path, .disk = disk };
	snprintf(d->id, sizeof(d->id), "%s", id);
	return 0;
}

static int add_if_there(
	struct snapshot_disks *out, const char *id, char *path, bool disk, struct err *err)
{
	if (path != NULL && access(path, F_OK) < 0) {
		free(path);
		return 0;
	}
	return add(out, id, path, disk, err);
}

static int add_volume(const struct machine *m, const struct volume *v, bool foreign,
	struct snapshot_disks *out, struct err *err)
{
	char id[SNAPSHOT_ID_MAX];
	struct stat st;

	if (v->name != NULL) {
		snprintf(id, sizeof(id), VOLUME_PREFIX "%s", v->name);
		return add_if_there(out, id, machine_volume_path(m, v->name, v->format), true, err);
	}
	if (v->readonly)
		return 0;
	if (!foreign)
		return err_set(err, -EBADFD,
			"vm %s: volume %s is not the machine's own, and written to: a snapshot "
			"could not put it back",
			m->name, quote(v->path));
	/* Of a block device there is nothing to be seen that its content would change. */
	if (stat(v->path, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	snprintf(id, sizeof(id), "file%zu", out->n);
	return add(out, id, strdup(v->path), true, err);
}

static int add_volumes(const struct machine *m, const struct vm_config *cfg, bool foreign,
	struct snapshot_disks *out, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < cfg->volumes.n && r == 0; i++) {
		struct volume v;

		r = volume_parse(&v, cfg->volumes.v[i], err);
		if (r < 0)
			break;
		r = add_volume(m, &v, foreign, out, err);
		volume_finish(&v);
	}
	return r;
}

int machine_own_disks(const struct machine *m, const struct vm_config *cfg, bool foreign,
	struct snapshot_disks *out, struct err *err)
{
	int r = 0;

	if (m->disk_path != NULL)
		r = add(out, "disk0", strdup(m->disk_path), true, err);
	if (r == 0 && cfg != NULL)
		r = add_volumes(m, cfg, foreign, out, err);
	for (size_t i = 0; i < ARRAY_LEN(vars_names) && r == 0; i++)
		r = add_if_there(out, vars_names[i], path_join(m->dir, vars_names[i]), false, err);
	return r;
}

int machine_own_files(const struct machine *m, const struct vm_config *cfg,
	struct snapshot_disks *out, struct err *err)
{
	int r = machine_own_disks(m, cfg, false, out, err);

	return r < 0 ? r : add_if_there(out, "tpm", path_join(m->dir, TPM_FILE), false, err);
}

bool machine_has_disks(const struct machine *m, const struct vm_config *cfg)
{
	struct snapshot_disks all = { .n = 0 };
	bool any = false;

	/* What is not the machine's own is a disk all the same. */
	if (machine_own_disks(m, cfg, true, &all, NULL) < 0)
		any = true;
	for (size_t i = 0; i < all.n; i++)
		any = any || all.v[i].disk;
	snapshot_disks_finish(&all);
	return any;
}

static bool is_at(const struct machine *m, const char *path, const char *name)
{
	size_t len = strlen(m->dir);

	return str_starts(path, m->dir) && path[len] == '/' && strcmp(path + len + 1, name) == 0;
}

static bool is_volume(const struct machine *m, const char *name, const char *path)
{
	bool yes = false;

	for (size_t i = 0; i < m->cfg->volumes.n && !yes; i++) {
		struct volume v;
		char *own;

		if (volume_parse(&v, m->cfg->volumes.v[i], NULL) < 0)
			continue;
		own = v.name != NULL ? machine_volume_path(m, v.name, v.format) : NULL;
		yes = own != NULL && strcmp(v.name, name) == 0 && strcmp(own, path) == 0;
		free(own);
		volume_finish(&v);
	}
	return yes;
}

static bool is_own(const struct machine *m, const char *id, const char *path)
{
	if (strcmp(id, "disk0") == 0)
		return m->cfg->rootfs != NULL &&
		       (str_eq(path, m->disk_path) || is_at(m, path, MACHINE_DISK) ||
			       is_at(m, path, MACHINE_OVERLAY));
	if (str_starts(id, VOLUME_PREFIX))
		return is_volume(m, id + strlen(VOLUME_PREFIX), path);
	if (strcmp(id, "tpm") == 0)
		return is_at(m, path, TPM_FILE);
	for (size_t i = 0; i < ARRAY_LEN(vars_names); i++) {
		if (strcmp(id, vars_names[i]) == 0)
			return is_at(m, path, vars_names[i]);
	}
	return false;
}

static int check_copies(const struct snapshot_disks *own, const json_t *manifest, struct err *err)
{
	for (size_t i = 0; i < own->n; i++) {
		const struct snapshot_disk *d = &own->v[i];

		if (!d->disk || snapshot_file_of(manifest, d->id) != NULL)
			continue;
		if (strcmp(d->id, "disk0") == 0)
			return err_set(err, -EINVAL, "it has no copy of the machine's disk");
		return err_set(err, -EINVAL, "it has no copy of %s", quote(d->path));
	}
	return 0;
}

int machine_check_disks(const struct machine *m, const json_t *manifest, struct err *err)
{
	const json_t *files = json_arr(manifest, "files"), *f;
	struct snapshot_disks own = { .n = 0 };
	int r = machine_own_disks(m, m->cfg, true, &own, err);
	size_t i;

	if (r == 0)
		r = check_copies(&own, manifest, err);
	snapshot_disks_finish(&own);
	json_array_foreach (files, i, f) {
		const char *path = json_str(f, "path"), *id = json_str(f, "disk");

		if (path == NULL || r < 0)
			continue;
		if (m->cfg->rootfs == NULL && str_eq(id, "disk0"))
			r = err_set(err, -EINVAL, "the machine has no disk any more");
		else if (id == NULL || !is_own(m, id, path))
			r = err_set(
				err, -EINVAL, "%s is no disk of the machine any more", quote(path));
	}
	return r;
}

static void sweep_in(struct machine *m, const char *sub, const char *suffix)
{
	char *dir = path_join(m->dir, sub);
	DIR *d = dir != NULL ? opendir(dir) : NULL;
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char *path = str_ends(e->d_name, suffix) ? path_join(dir, e->d_name) : NULL;

		if (path != NULL)
			pool_remove_tree(m->d->loop, path);
		free(path);
	}
	if (d != NULL)
		closedir(d);
	free(dir);
}

void machine_sweep_own(struct machine *m, const char *suffix)
{
	sweep_in(m, ".", suffix);
	sweep_in(m, "tpm", suffix);
}

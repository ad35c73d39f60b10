#include "supervisor/warm.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <config.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-job.h"
#include "supervisor/plan.h"
#include "supervisor/snapshot.h"

char *warm_folder(const struct drover *d, const char *name)
{
	return str_printf("%s/" WARM_DIR "/%s", d->state_dir, name);
}

/* Their numbers are times, of 13 digits for some centuries. */
static bool is_image(const char *name)
{
	return name[0] != '\0' && strspn(name, "0123456789") == strlen(name);
}

char *warm_newest(const char *folder)
{
	DIR *dir = opendir(folder);
	char best[32] = "";
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (is_image(e->d_name) && strlen(e->d_name) < sizeof(best) &&
			strcmp(e->d_name, best) > 0)
			strcpy(best, e->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	return best[0] != '\0' ? path_join(folder, best) : NULL;
}

/* ---- what it was made from ---- */

static void add_input(json_t *inputs, const char *path)
{
	struct stat st;
	json_t *j;

	if (path == NULL || stat(path, &st) < 0)
		return;
	j = json_object();
	json_put_str(j, "path", path);
	json_put_int(j, "size", st.st_size);
	json_put_int(j, "mtime_ns", snapshot_mtime_ns(&st));
	json_array_append_new(inputs, j);
}

void warm_describe(const struct machine *t, json_t *manifest)
{
	char *binary = machine_program(t->run_cfg);
	json_t *inputs = json_array();

	add_input(inputs, t->kernel_path);
	add_input(inputs, t->initrd_path);
	add_input(inputs, t->rootfs_path);
	add_input(inputs, t->firmware_path);
	add_input(inputs, binary);
	free(binary);
	json_object_set_new(manifest, "inputs", inputs);
	json_put_str(manifest, "drover", PACKAGE_VERSION);
}

static int check_inputs(const json_t *manifest, struct err *err)
{
	const json_t *inputs = json_arr(manifest, "inputs"), *f;
	size_t i;

	json_array_foreach (inputs, i, f) {
		const char *path = json_str(f, "path");
		struct stat st;

		if (path == NULL)
			continue;
		if (stat(path, &st) < 0)
			return err_errno(err, -errno, "%s", quote(path));
		if (st.st_size != json_int(f, "size", -1) ||
			snapshot_mtime_ns(&st) != json_int(f, "mtime_ns", -1))
			return err_set(err, -ESTALE, "%s has changed since", quote(path));
	}
	return 0;
}

static int check_keys(const json_t *manifest, const struct vm_config *cfg, struct err *err)
{
	const json_t *was = json_obj(manifest, "config");
	json_t *now = plan_applied(&cfg->s);
	int r = now == NULL ? err_nomem(err) : 0;

	for (size_t i = 0; i < config_nkeys && r == 0; i++) {
		const struct config_key *key = &config_keys[i];
		const char *a, *b;

		if (key->section != SECTION_VM || key->meta || key->reload == RELOAD_LIVE)
			continue;
		a = json_str(was, key->name);
		b = json_str(now, key->name);
		a = a != NULL ? a : key->def != NULL ? key->def : "";
		b = b != NULL ? b : key->def != NULL ? key->def : "";
		if (strcmp(a, b) != 0)
			r = err_set(err, -ESTALE, "%s has changed since", key->name);
	}
	json_decref(now);
	return r;
}

int warm_check(const struct machine *t, const char *dir, const json_t *manifest, struct err *err)
{
	int r;

	if (!str_eq(json_str(manifest, "drover"), PACKAGE_VERSION))
		r = err_set(err, -ESTALE, "it was made by drover %s",
			json_str(manifest, "drover") != NULL ? json_str(manifest, "drover") : "?");
	else
		r = check_keys(manifest, t->cfg, err);
	if (r == 0)
		r = check_inputs(manifest, err);
	if (r == 0)
		r = snapshot_check_config(manifest, t->cfg, err);
	if (r == 0)
		r = snapshot_check_files(dir, manifest, err);
	if (r < 0 && r != -ENOMEM)
		r = err->code = -ESTALE;
	return r;
}

int warm_find(const struct machine *t, const struct vm_config *cfg, char **dir, json_t **manifest,
	struct err *err)
{
	char *folder = warm_folder(t->d, t->name);
	char *newest = folder != NULL ? warm_newest(folder) : NULL;
	json_t *j = NULL;
	int r;

	free(folder);
	if (newest == NULL)
		return err_set(err, -ENOENT, "%s was not frozen yet", t->name);
	r = snapshot_read(newest, &j, err);
	if (r < 0)
		r = err->code = -ESTALE;
	if (r == 0)
		r = warm_check(t, newest, j, err);
	if (r == 0)
		r = snapshot_check_config(j, cfg, err);
	if (r < 0) {
		json_decref(j);
		free(newest);
		return r;
	}
	*dir = newest;
	*manifest = j;
	return 0;
}

/* ---- what goes ---- */

static bool is_needed(struct drover *d, const char *path, const char *newest, bool at_start)
{
	struct machine *m;

	if (str_ends(path, ".tmp")) {
		list_for_each_entry (m, &d->machines, entry) {
			if (m->job != NULL && str_eq(m->job->tmp, path))
				return true;
		}
		/* What was put aside is on its way already. */
		return !at_start && str_ends(path, ".gone.tmp");
	}
	if (str_eq(path, newest))
		return true;
	list_for_each_entry (m, &d->machines, entry) {
		if (str_eq(m->warm_image, path))
			return true;
	}
	return false;
}

static void remove_image(struct drover *d, const char *path)
{
	char *gone = str_ends(path, ".tmp") ? strdup(path) : str_printf("%s.gone.tmp", path);

	if (gone != NULL && (strcmp(gone, path) == 0 || rename(path, gone) == 0))
		pool_remove_tree(d->loop, gone);
	free(gone);
}

bool warm_has_ram(const char *dir)
{
	char *path = path_join(dir, WARM_RAM);
	bool has = path != NULL && access(path, F_OK) == 0;

	free(path);
	return has;
}

void warm_drop(struct drover *d, const char *image)
{
	remove_image(d, image);
}

static void sweep_folder(struct drover *d, const char *folder, const char *name, bool at_start)
{
	const struct machine *t = machine_find(d, name);
	bool warm = t != NULL && t->cfg != NULL && t->cfg->warm;
	char *newest = warm ? warm_newest(folder) : NULL;
	DIR *dir = opendir(folder);
	struct dirent *e;
	bool any = false;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		char *path = e->d_name[0] != '.' ? path_join(folder, e->d_name) : NULL;

		if (path != NULL && is_needed(d, path, newest, at_start))
			any = true;
		else if (path != NULL)
			remove_image(d, path);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	free(newest);
	/* Unless something is in it still: then it goes the next time. */
	if (!any)
		rmdir(folder);
}

void warm_sweep(struct drover *d, bool at_start)
{
	char *root = path_join(d->state_dir, WARM_DIR);
	DIR *dir = root != NULL ? opendir(root) : NULL;
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		char *folder = e->d_name[0] != '.' ? path_join(root, e->d_name) : NULL;

		if (folder != NULL)
			sweep_folder(d, folder, e->d_name, at_start);
		free(folder);
	}
	if (dir != NULL)
		closedir(dir);
	free(root);
}

/*
 * How a machine's own disk is made and what it is then: the file itself, or an overlay above a disk
 * that nobody writes (oci/overlay.h). By the name that droverd gave it, and never by what is in it,
 * which the guest has written. supervisor/machine-steps.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "oci/clone.h"
#include "oci/image.h"
#include "oci/overlay.h"
#include "oci/qcow2.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"

enum hv_disk_format machine_disk_format(const struct machine *m)
{
	return m->disk_path != NULL && str_ends(m->disk_path, OVERLAY_SUFFIX) ? HV_DISK_QCOW2
									      : HV_DISK_RAW;
}

bool machine_is_raw_path(const char *rootfs)
{
	enum image_format f = image_format_of_name(rootfs);

	return rootfs[0] == '/' && (f == FORMAT_BY_NAME || f == FORMAT_RAW);
}

bool machine_may_overlay(const struct vm_config *cfg)
{
	return str_eq(cfg->hypervisor, "qemu") &&
	       (cfg->clone == CLONE_KEY_AUTO || cfg->clone == CLONE_KEY_OVERLAY);
}

void machine_clone_args(const struct machine *m, struct strv *args)
{
	static const char *const methods[] = { "auto", "reflink", "overlay", "copy" };
	const struct vm_config *cfg = m->run_cfg;

	if (cfg->clone != CLONE_KEY_AUTO) {
		strv_add(args, "--method");
		strv_add(args, methods[cfg->clone]);
	}
	/* What somebody's own file has can change; what is in the store cannot. */
	if (machine_may_overlay(cfg) && !machine_is_raw_path(cfg->rootfs)) {
		strv_add(args, "--overlay");
		strv_addf(args, "%s/" MACHINE_OVERLAY, m->dir);
	}
}

char *machine_find_disk(const char *dir)
{
	static const char *const names[] = { MACHINE_DISK, MACHINE_OVERLAY };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = path_join(dir, names[i]);

		if (path != NULL && access(path, F_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

int machine_check_overlay(const struct machine *m, struct err *err)
{
	return machine_disk_format(m) == HV_DISK_QCOW2 ? overlay_check(m->disk_path, err) : 0;
}

bool machine_must_flatten(const struct machine *m)
{
	return machine_disk_format(m) == HV_DISK_QCOW2 && !str_eq(m->run_cfg->hypervisor, "qemu");
}

void machine_flatten_args(const struct machine *m, struct strv *args)
{
	strv_add(args, "flatten");
	strv_add(args, "--from");
	strv_add(args, m->disk_path);
	strv_add(args, "--to");
	machine_add_other_disk(m->disk_path, args);
}

/* ---- copies for snapshots, and of machines ---- */

bool machine_is_own_disk(const char *name)
{
	return strcmp(name, MACHINE_DISK) == 0 || strcmp(name, MACHINE_OVERLAY) == 0;
}

static int unlink_if_there(const char *path, struct err *err)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "delete %s", quote(path));
	return 0;
}

char *machine_other_disk(const char *path)
{
	const char *slash = strrchr(path, '/');
	bool overlay = str_ends(path, OVERLAY_SUFFIX);

	return slash == NULL ? NULL
			     : str_printf("%.*s/%s", (int)(slash - path), path,
				       overlay ? MACHINE_DISK : MACHINE_OVERLAY);
}

void machine_add_other_disk(const char *path, struct strv *args)
{
	char *other = machine_other_disk(path);

	if (other != NULL)
		strv_add(args, other);
	else
		args->bad = true;
	free(other);
}

int machine_drop_other_disk(const char *path, struct err *err)
{
	char *other = machine_other_disk(path);
	int r = other == NULL ? err_nomem(err) : unlink_if_there(other, err);

	free(other);
	return r;
}

void machine_find_flattened(struct machine *m)
{
	const char *slash = m->disk_path != NULL ? strrchr(m->disk_path, '/') : NULL;
	char *other;

	if (slash == NULL || !machine_is_own_disk(slash + 1) || access(m->disk_path, F_OK) == 0)
		return;
	other = machine_other_disk(m->disk_path);
	if (other != NULL && access(other, F_OK) == 0) {
		free(m->disk_path);
		m->disk_path = other;
		other = NULL;
	}
	free(other);
}

int machine_link_base(const char *overlay, const char *dir, struct err *err)
{
	return str_ends(overlay, OVERLAY_SUFFIX) ? overlay_link(overlay, dir, err) : 0;
}

static int link_one(const char *name, const char *from, const char *dir, struct err *err)
{
	char *base = path_join(from, name), *to = path_join(dir, name);
	int r = base == NULL || to == NULL ? err_nomem(err) : 0;

	if (r == 0 && link(base, to) < 0 && errno != EEXIST)
		r = err_errno(err, -errno, "link %s to %s", quote(base), quote(to));
	free(base);
	free(to);
	return r;
}

int machine_link_bases(const char *from, const json_t *files, const char *dir, struct err *err)
{
	const json_t *f;
	size_t i;
	int r = 0;

	json_array_foreach (files, i, f) {
		const char *name = json_str(f, "name");

		if (r == 0 && name != NULL && overlay_is_base(name))
			r = link_one(name, from, dir, err);
	}
	return r;
}

int machine_take_disk(const struct vm_config *cfg, const char *from, const char *to,
	const atomic_bool *cancel, char **made, struct err *err)
{
	bool whole = str_ends(to, "/" MACHINE_DISK);
	enum clone_method method;
	char *path = strdup(to);
	int r = path == NULL ? err_nomem(err) : -EOPNOTSUPP;

	/* The layer of an overlay is copied, and no second one made above it. */
	if (path != NULL && whole && machine_may_overlay(cfg)) {
		if (cfg->clone == CLONE_KEY_AUTO)
			r = clone_file_until(from, to, true, cancel, &method, err);
		if (r == -EOPNOTSUPP) {
			free(path);
			path = machine_other_disk(to);
			r = path == NULL ? err_nomem(err) : unlink_if_there(path, err);
			if (r == 0)
				r = overlay_create(from, path, 0, err);
		}
	}
	if (r == -EOPNOTSUPP) {
		free(path);
		path = strdup(to);
		r = path == NULL ? err_nomem(err)
				 : clone_file_until(from, to, false, cancel, &method, err);
	}
	if (r < 0) {
		free(path);
		return r;
	}
	*made = path;
	return 0;
}

/* ---- what is shown of it ---- */

json_t *machine_layers_json(const struct machine *m)
{
	bool overlay = machine_disk_format(m) == HV_DISK_QCOW2;
	struct qcow2_head head;
	char *base = NULL;
	json_t *j;

	if (m->disk_path == NULL)
		return json_null();
	j = json_object();
	json_put_str(j, "format", overlay ? "qcow2" : "raw");
	if (overlay && overlay_base(m->disk_path, &base, NULL) < 0)
		base = NULL;
	json_put_str(j, "backing", base);
	if (overlay && qcow2_head(m->disk_path, &head, NULL) == 0)
		json_put_int(j, "virtual_size", (int64_t)head.size);
	free(base);
	return j;
}

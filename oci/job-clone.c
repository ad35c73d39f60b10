/* The verbs clone and inject: a machine's own disk, with what it is to know of itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "oci/clone.h"
#include "oci/inject.h"
#include "oci/job.h"
#include "oci/overlay.h"
#include "oci/qcow2.h"

/* The strings of a JSON array, borrowed, NULL-terminated; -EINVAL when it holds anything else. */
static int take_keys(const json_t *array, const char ***out, struct err *err)
{
	size_t n = json_array_size(array), i;
	const char **keys = calloc(n + 1, sizeof(*keys));
	const json_t *v;

	if (keys == NULL)
		return err_nomem(err);
	json_array_foreach (array, i, v) {
		keys[i] = json_string_value(v);
		if (keys[i] == NULL) {
			free(keys);
			return err_set(err, -EINVAL, "authorized_keys must be a list of strings");
		}
	}
	*out = keys;
	return 0;
}

/* The files of a JSON array, borrowed, ended by one without a name. */
static int take_files(const json_t *array, struct inject_file **out, struct err *err)
{
	size_t n = json_array_size(array), i;
	struct inject_file *files = calloc(n + 1, sizeof(*files));
	const json_t *v;

	if (files == NULL)
		return err_nomem(err);
	json_array_foreach (array, i, v) {
		files[i].name = json_str(v, "name");
		files[i].text = json_str(v, "text");
		if (files[i].name == NULL || files[i].text == NULL) {
			free(files);
			return err_set(err, -EINVAL,
				"host_keys must be a list of objects with name and text");
		}
	}
	*out = files;
	return 0;
}

/* Whose disk it is, because the log of the daemon has those of all machines. */
static void warn_of(const char *whose, const char *warning)
{
	char text[512];

	snprintf(text, sizeof(text), "the disk of %s: %s", quote(whose), warning);
	progress_warning(text);
}

static int inject_file(const char *disk, const char *file, bool qcow2, struct err *err)
{
	struct inject_result result;
	struct inject_spec spec;
	const char **keys = NULL;
	struct inject_file *files = NULL;
	json_t *doc;
	int r = json_read_file(file, &doc, err);

	if (r < 0)
		return r;
	r = take_keys(json_arr(doc, "authorized_keys"), &keys, err);
	if (r == 0)
		r = take_files(json_arr(doc, "host_keys"), &files, err);
	if (r < 0) {
		free(keys);
		json_decref(doc);
		return err_wrap(err, "%s", quote(file));
	}
	spec = (struct inject_spec){ .hostname = json_str(doc, "hostname"),
		.user = json_str(doc, "user"),
		.authorized_keys = keys,
		.machine_id = json_str(doc, "machine_id"),
		.host_keys = files,
		.root_device = json_str(doc, "root_device"),
		.hosts = json_flag(doc, "hosts", false),
		.network = json_flag(doc, "network", false),
		.qcow2 = qcow2 };
	r = inject_ext4(disk, &spec, &result, err);
	if (r == 0 && result.warning[0] != '\0')
		warn_of(spec.hostname != NULL ? spec.hostname : disk, result.warning);
	free(keys);
	free(files);
	json_decref(doc);
	return r;
}

static int sync_parent(const char *path, struct err *err)
{
	char *dir = strdup(path), *slash;
	int r;

	if (dir == NULL)
		return err_nomem(err);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		slash[slash == dir ? 1 : 0] = '\0';
	r = file_sync(slash != NULL ? dir : ".", err);
	free(dir);
	return r;
}

/* For the folder of the disk, and the file of what goes into it. */
static int sandbox_for(const struct job_opts *o, struct err *err)
{
	struct sandbox_path paths[] = { { NULL, true }, { o->inject, false } };
	char *dir = strdup(o->to), *slash;
	int r;

	if (dir == NULL)
		return err_nomem(err);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		slash[slash == dir ? 1 : 0] = '\0';
	paths[0].path = slash != NULL ? dir : ".";
	r = job_sandbox(paths, o->inject != NULL ? 2 : 1, false, err);
	free(dir);
	return r;
}

/* ---- ways ---- */

static int unlink_if_there(const char *path, struct err *err)
{
	if (path != NULL && unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "remove %s", quote(path));
	return 0;
}

/* What is being made: under a name of its own until it is whole. */
struct making {
	const struct job_opts *o;
	const char *to;
	char *tmp;
	enum clone_method method;
};

static int by_overlay(struct making *k, struct err *err)
{
	const struct job_opts *o = k->o;
	int r;

	if (o->overlay == NULL)
		return err_set(err, -EOPNOTSUPP, "it cannot be an overlay here");
	/* resize2fs does not know of overlays. */
	r = o->size != 0 ? clone_must_grow(o->from, o->size, err) : 0;
	if (r > 0)
		return err_set(err, -EOPNOTSUPP,
			"an overlay cannot have a filesystem that grows from that of %s",
			quote(o->from));
	if (r < 0)
		return r;
	free(k->tmp);
	k->to = o->overlay;
	k->tmp = str_printf("%s.part", o->overlay);
	if (k->tmp == NULL)
		return err_nomem(err);
	r = unlink_if_there(k->tmp, err);
	return r == 0 ? overlay_create(o->from, k->tmp, o->size, err) : r;
}

static int by_file(struct making *k, struct err *err)
{
	const struct job_opts *o = k->o;
	int r;

	free(k->tmp);
	k->to = o->to;
	k->tmp = str_printf("%s.part", o->to);
	if (k->tmp == NULL)
		return err_nomem(err);
	r = unlink_if_there(k->tmp, err);
	return r == 0 ? clone_file_by(o->from, k->tmp, o->size, k->method, err) : r;
}

/* Left by a clone that was killed are names that are taken here again. */
static int make(struct making *k, struct err *err)
{
	static const enum clone_method order[] = { CLONE_REFLINK, CLONE_OVERLAY, CLONE_COPY };
	const struct job_opts *o = k->o;
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < ARRAY_LEN(order) && r == -EOPNOTSUPP; i++) {
		k->method = order[i];
		if (o->method_given && o->method != k->method)
			continue;
		r = k->method == CLONE_OVERLAY ? by_overlay(k, err) : by_file(k, err);
	}
	return r;
}

/* The disk that was there before may have been of the other kind: one of them is the machine's. */
static int put_in_place(const struct making *k, struct err *err)
{
	int r = unlink_if_there(k->to == k->o->to ? k->o->overlay : k->o->to, err);

	if (r == 0 && rename(k->tmp, k->to) < 0)
		r = err_errno(err, -errno, "rename %s to %s", quote(k->tmp), quote(k->to));
	return r;
}

static void sweep_beside(const char *path)
{
	char *dir = strdup(path), *slash = dir != NULL ? strrchr(dir, '/') : NULL;

	if (slash != NULL) {
		*slash = '\0';
		overlay_sweep(dir);
	}
	free(dir);
}

static int clone_to(struct making *k, struct err *err)
{
	const struct job_opts *o = k->o;
	bool qcow2;
	int r = make(k, err);

	if (r < 0)
		return r;
	qcow2 = k->method == CLONE_OVERLAY;
	/* The copying is root's, for originals of any user; what is in them is looked at by nobody. */
	r = sandbox_for(o, err);
	if (r == 0 && o->size != 0 && !qcow2)
		r = clone_grow(k->tmp, o->size, err);
	if (r == 0 && o->inject != NULL)
		r = inject_file(k->tmp, o->inject, qcow2, err);
	if (r == 0 && !o->no_sync)
		r = file_sync(k->tmp, err);
	if (r == 0)
		r = put_in_place(k, err);
	if (r == 0) {
		sweep_beside(k->to);
		return o->no_sync ? 0 : sync_parent(k->to, err);
	}
	unlink(k->tmp);
	sweep_beside(k->to);
	return r;
}

static void report(const struct making *k)
{
	struct qcow2_head head = { 0 };
	struct stat st = { 0 };

	stat(k->to, &st);
	if (k->method != CLONE_OVERLAY || qcow2_head(k->to, &head, NULL) < 0)
		head.size = (uint64_t)st.st_size;
	progress_event(json_pack("{s:s,s:s,s:I,s:s}", "event", "done", "disk", k->to, "size",
		(json_int_t)head.size, "method", clone_method_name(k->method)));
}

int job_clone(const struct job_opts *o)
{
	struct making k = { .o = o, .to = o->to };
	struct err err = { 0 };
	int r = clone_to(&k, &err);

	if (r == 0) {
		report(&k);
	} else {
		err_wrap(&err, "clone %s", quote(o->from));
		progress_error(NULL, &err);
	}
	free(k.tmp);
	return r;
}

/* ---- into one that is there ---- */

/* The overlay is written out, and goes once the whole disk is there: its name tells of it. */
static int flatten(const char *overlay, const char *to, const char *inject, struct err *err)
{
	char *tmp = str_printf("%s.part", to);
	int r = tmp == NULL ? err_nomem(err) : unlink_if_there(tmp, err);

	if (r == 0)
		r = overlay_flatten(overlay, tmp, err);
	if (r == 0 && inject != NULL)
		r = inject_file(tmp, inject, false, err);
	if (r == 0)
		r = file_sync(tmp, err);
	if (r == 0 && rename(tmp, to) < 0)
		r = err_errno(err, -errno, "rename %s to %s", quote(tmp), quote(to));
	if (r == 0)
		r = sync_parent(to, err);
	if (r < 0 && tmp != NULL)
		unlink(tmp);
	free(tmp);
	if (r < 0)
		return r;
	r = unlink_if_there(overlay, err);
	sweep_beside(overlay);
	return r == 0 ? sync_parent(overlay, err) : r;
}

int job_flatten(const struct job_opts *o)
{
	struct err err = { 0 };
	int r = sandbox_for(o, &err);

	if (r == 0)
		r = flatten(o->from, o->to, NULL, &err);
	if (r == 0)
		progress_event(json_pack("{s:s,s:s}", "event", "done", "disk", o->to));
	else
		progress_error(NULL, &err);
	return r;
}

int job_inject(const struct job_opts *o)
{
	const char *disk = o->to;
	struct err err = { 0 };
	int r = sandbox_for(o, &err);

	if (r == 0)
		r = inject_file(o->to, o->inject, o->qcow2, &err);
	if (r == -EUCLEAN && o->qcow2 && o->flatten != NULL) {
		/* What e2fsck has to mend has to be one file. */
		disk = o->flatten;
		r = flatten(o->to, o->flatten, o->inject, &err);
	}
	if (r == 0)
		r = file_sync(disk, &err);
	if (r == 0) {
		progress_event(json_pack("{s:s,s:s}", "event", "done", "disk", disk));
	} else {
		err_wrap(&err, "write into %s", quote(o->to));
		progress_error(NULL, &err);
	}
	return r;
}

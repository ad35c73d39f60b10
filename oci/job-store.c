/* The verbs list, rm and prune. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/json.h"
#include "oci/job.h"
#include "oci/prune.h"

/* How long prune waits for other jobs to let go of the store. */
#define PRUNE_WAIT_MS 10000
#define PRUNE_POLL_MS 50

static json_t *built_paths(struct store *s, enum store_kind kind, const json_t *keys, int *in_use)
{
	json_t *list = json_array();
	const json_t *v;
	size_t i;

	json_array_foreach (keys, i, v) {
		const char *key = json_string_value(v);
		char *path;

		if (key == NULL || !store_has(s, kind, key, UINT64_MAX))
			continue;
		path = store_path(s, kind, key);
		if (path != NULL)
			json_array_append_new(list, json_string(path));
		if (kind == STORE_DISK && prune_in_use(s, key))
			++*in_use;
		free(path);
	}
	return list;
}

static void list_one(struct store *s, const char *ref, const json_t *entry)
{
	const char *kernel = json_str(entry, "kernel");
	struct index_entry e;
	json_t *v, *disks;
	int in_use = 0;

	if (index_entry_parse(entry, &e, NULL) < 0)
		return;
	disks = built_paths(s, STORE_DISK, json_arr(entry, "disks"), &in_use);
	v = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:o,s:i}", "event", "image", "ref", ref,
		"digest", e.manifest, "tag_digest", e.digest, "os", e.platform.os, "architecture",
		e.platform.architecture, "size", (json_int_t)e.size, "pulled",
		(json_int_t)e.pulled_ms, "disks", disks, "in_use", in_use);
	if (v != NULL && kernel != NULL && store_has(s, STORE_KERNEL, kernel, UINT64_MAX)) {
		char *dir = store_path(s, STORE_KERNEL, kernel);

		json_object_set_new(v, "kernel", json_sprintf("%s/kernel", dir != NULL ? dir : ""));
		free(dir);
	}
	progress_event(v);
}

static int add_bytes(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	*(uint64_t *)arg += bytes;
	return 0;
}

static int list_images(struct store *s, struct err *err)
{
	uint64_t bytes = 0;
	const char *ref;
	json_t *images, *v;
	int r = index_images(s, &images, err);

	if (r < 0)
		return r;
	json_object_foreach (images, ref, v)
		list_one(s, ref, v);
	json_decref(images);
	r = store_each(s, add_bytes, &bytes, err);
	if (r == 0)
		progress_event(json_pack("{s:s,s:I}", "event", "done", "size", (json_int_t)bytes));
	return r;
}

static int open_exclusive(struct store **out, const char *dir, int wait_ms, struct err *err)
{
	for (;;) {
		int r = store_open(out, dir, true, err);

		if (r != -EBUSY || wait_ms <= 0)
			return r;
		usleep(PRUNE_POLL_MS * 1000);
		wait_ms -= PRUNE_POLL_MS;
	}
}

static void told(void *arg, const char *ref, const char *why)
{
	progress_event(json_pack("{s:s,s:s,s:s}", "event", "removed", "ref", ref, "why", why));
}

static int prune(
	const struct job_opts *o, const struct prune_limits *limits, int wait_ms, struct err *err)
{
	uint64_t freed = 0;
	unsigned stayed = 0;
	struct store *s;
	int r = open_exclusive(&s, o->store, wait_ms, err);

	if (r < 0)
		return r;
	r = prune_index(s, limits, told, NULL, err);
	if (r == 0)
		r = prune_collect(s, &freed, &stayed, err);
	store_close(s);
	if (r == 0)
		progress_event(json_pack("{s:s,s:I,s:i}", "event", "done", "size",
			(json_int_t)freed, "in_use", (int)stayed));
	return r;
}

static int finish(int r, const char *ref, const struct err *err)
{
	if (r < 0)
		progress_error(ref, err);
	return r;
}

int job_list(const struct job_opts *o)
{
	struct err err = { 0 };
	struct store *s;
	int r = job_sandbox_store(o, false, &err);

	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r == 0) {
		r = list_images(s, &err);
		store_close(s);
	}
	return finish(r, NULL, &err);
}

int job_prune(const struct job_opts *o)
{
	struct err err = { 0 };
	int r = job_sandbox_store(o, false, &err);

	if (r == 0)
		r = prune(o, &o->prune, PRUNE_WAIT_MS, &err);
	return finish(r, NULL, &err);
}

static int remove_one(struct store *s, const char *name, struct err *err)
{
	struct image_ref ref;
	struct buf canonical = { 0 };
	int r = image_ref_parse(name, &ref, err);

	if (r < 0)
		return r;
	image_ref_format(&ref, &canonical);
	r = canonical.bad ? err_nomem(err) : index_remove(s, buf_str(&canonical), err);
	buf_finish(&canonical);
	return r;
}

int job_rm(const struct job_opts *o)
{
	struct err err = { 0 };
	struct store *s;
	int r = job_sandbox_store(o, false, &err);

	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r < 0)
		return finish(r, NULL, &err);
	for (size_t i = 0; r == 0 && i < o->refs.n; i++)
		r = finish(remove_one(s, o->refs.v[i], &err), o->refs.v[i], &err);
	store_close(s);
	if (r < 0)
		return r;
	r = prune(o, &(struct prune_limits){ 0 }, 0, &err);
	if (r != -EBUSY)
		return finish(r, NULL, &err);
	/* The image is gone from the index; another job keeps us from removing its files. */
	progress_warning("the image store is in use: the files stay until the next prune");
	progress_event(json_pack("{s:s,s:i}", "event", "done", "size", 0));
	return 0;
}

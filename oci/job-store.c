/* The verbs list, rm and prune. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/json.h"
#include "oci/job.h"

/* How long prune waits for other jobs to let go of the store. */
#define PRUNE_WAIT_MS 10000
#define PRUNE_POLL_MS 50

static json_t *built_paths(struct store *s, enum store_kind kind, const json_t *keys)
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
		free(path);
	}
	return list;
}

static void list_one(struct store *s, const char *ref, const json_t *entry)
{
	const char *kernel = json_str(entry, "kernel");
	struct index_entry e;
	json_t *v, *disks;

	if (index_entry_parse(entry, &e, NULL) < 0)
		return;
	disks = built_paths(s, STORE_DISK, json_arr(entry, "disks"));
	v = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:o}", "event", "image", "ref", ref,
		"digest", e.manifest, "tag_digest", e.digest, "os", e.platform.os, "architecture",
		e.platform.architecture, "size", (json_int_t)e.size, "pulled",
		(json_int_t)e.pulled_ms, "disks", disks);
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

/* What the images of the index need: a set of "blob sha256:...", "disk HEX", "kernel HEX". */
static void mark(json_t *set, enum store_kind kind, const char *key)
{
	static const char *const names[] = { "blob", "disk", "kernel" };
	char name[DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "%s %s", names[kind], key);
	json_object_set_new(set, name, json_true());
}

static bool marked(const json_t *set, enum store_kind kind, const char *key)
{
	static const char *const names[] = { "blob", "disk", "kernel" };
	char name[DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "%s %s", names[kind], key);
	return json_object_get(set, name) != NULL;
}

static int mark_image(struct store *s, const json_t *entry, json_t *set, struct err *err)
{
	const json_t *disks = json_arr(entry, "disks"), *v;
	const char *kernel = json_str(entry, "kernel");
	struct buf text = { 0 };
	struct index_entry e;
	struct manifest m;
	size_t i;
	int r = index_entry_parse(entry, &e, err);

	if (r < 0)
		return r;
	mark(set, STORE_BLOB, e.digest);
	mark(set, STORE_BLOB, e.manifest);
	if (kernel != NULL)
		mark(set, STORE_KERNEL, kernel);
	json_array_foreach (disks, i, v) {
		if (json_is_string(v))
			mark(set, STORE_DISK, json_string_value(v));
	}
	/* An image whose manifest is lost has to be pulled again, layers and all. */
	if (!store_has(s, STORE_BLOB, e.manifest, UINT64_MAX))
		return 0;
	r = store_read_blob(s, e.manifest, MANIFEST_SIZE_MAX, &text, err);
	if (r == 0)
		r = manifest_parse(text.data, text.len, &m, err);
	buf_finish(&text);
	if (r < 0)
		return r;
	mark(set, STORE_BLOB, m.config.digest);
	for (i = 0; i < m.n; i++)
		mark(set, STORE_BLOB, m.layers[i].digest);
	manifest_finish(&m);
	return 0;
}

struct sweep {
	struct store *store;
	json_t *needed;
	uint64_t freed;
};

static int remove_unmarked(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	struct sweep *w = arg;
	int r;

	if (marked(w->needed, kind, key))
		return 0;
	r = store_remove(w->store, kind, key, NULL);
	if (r == 0)
		w->freed += bytes;
	return r;
}

/* Removes what no image of the index needs. The store is open exclusively. */
static int collect(struct store *s, uint64_t *freed, struct err *err)
{
	struct sweep w = { .store = s, .needed = json_object() };
	const char *ref;
	json_t *images, *v;
	int r = w.needed != NULL ? index_images(s, &images, err) : err_nomem(err);

	if (r == 0) {
		json_object_foreach (images, ref, v) {
			r = mark_image(s, v, w.needed, err);
			if (r < 0) {
				err_wrap(err, "%s", ref);
				break;
			}
		}
		json_decref(images);
	}
	if (r == 0)
		r = store_each(s, remove_unmarked, &w, err);
	if (r == 0)
		*freed = w.freed + store_sweep(s);
	json_decref(w.needed);
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

static int prune(const char *dir, int wait_ms, struct err *err)
{
	uint64_t freed = 0;
	struct store *s;
	int r = open_exclusive(&s, dir, wait_ms, err);

	if (r < 0)
		return r;
	r = collect(s, &freed, err);
	store_close(s);
	if (r == 0)
		progress_event(json_pack("{s:s,s:I}", "event", "done", "size", (json_int_t)freed));
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
		r = prune(o->store, PRUNE_WAIT_MS, &err);
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
	r = prune(o->store, 0, &err);
	if (r != -EBUSY)
		return finish(r, NULL, &err);
	/* The image is gone from the index; another job keeps us from removing its files. */
	progress_warning("the image store is in use: the files stay until the next prune");
	progress_event(json_pack("{s:s,s:i}", "event", "done", "size", 0));
	return 0;
}

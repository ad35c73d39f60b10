#include "oci/prune.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/clock.h"
#include "lib/json.h"
#include "oci/image.h"
#include "oci/index.h"

#define GRACE_MS 600000

/*
 * A built disk has a second name where a machine's disk, or a snapshot's, lies above it
 * (oci/overlay.h): taking away the first one would free nothing, and it would be built once more.
 */
bool prune_in_use(struct store *s, const char *key)
{
	char *path = store_path(s, STORE_DISK, key);
	struct stat st;
	bool used = path != NULL && stat(path, &st) == 0 && st.st_nlink > 1;

	free(path);
	return used;
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
	unsigned stayed;
};

static int remove_unmarked(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	struct sweep *w = arg;
	int r;

	if (marked(w->needed, kind, key))
		return 0;
	if (kind == STORE_DISK && prune_in_use(w->store, key)) {
		w->stayed++;
		return 0;
	}
	r = store_remove(w->store, kind, key, NULL);
	if (r == 0)
		w->freed += bytes;
	return r;
}

/* Removes what no image of the index needs. The store is open exclusively. */
int prune_collect(struct store *s, uint64_t *freed, unsigned *stayed, struct err *err)
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
	*stayed = w.stayed;
	json_decref(w.needed);
	return r;
}

/* ---- age and size ---- */

struct candidate {
	const char *ref;
	const json_t *entry;
	uint64_t used_ms;
	bool kept, gone;
};

struct candidates {
	struct store *store;
	json_t *images;
	struct candidate *v;
	size_t n;
};

static int by_use(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->used_ms != y->used_ms)
		return x->used_ms < y->used_ms ? -1 : 1;
	return strcmp(x->ref, y->ref);
}

/* Both ways of writing a reference are taken. */
static bool is_kept(const struct strv *keep, const char *ref)
{
	for (size_t i = 0; i < keep->n; i++) {
		struct image_ref parsed;
		struct buf canonical = { 0 };
		bool same = strcmp(keep->v[i], ref) == 0;

		if (!same && image_ref_parse(keep->v[i], &parsed, NULL) == 0) {
			image_ref_format(&parsed, &canonical);
			same = str_eq(buf_str(&canonical), ref);
		}
		buf_finish(&canonical);
		if (same)
			return true;
	}
	return false;
}

/* Without the image its disk would stay all the same. */
static bool has_disk_in_use(struct store *s, const json_t *entry)
{
	const json_t *v;
	size_t i;

	json_array_foreach (json_arr(entry, "disks"), i, v) {
		if (json_is_string(v) && prune_in_use(s, json_string_value(v)))
			return true;
	}
	return false;
}

static int candidates_init(
	struct candidates *c, struct store *s, const struct strv *keep, struct err *err)
{
	const char *ref;
	json_t *v;
	int r;

	*c = (struct candidates){ .store = s };
	r = index_images(s, &c->images, err);
	if (r < 0)
		return r;
	c->v = calloc(json_object_size(c->images) + 1, sizeof(*c->v));
	if (c->v == NULL) {
		json_decref(c->images);
		return err_nomem(err);
	}
	json_object_foreach (c->images, ref, v) {
		uint64_t pulled = (uint64_t)MAX(json_int(v, "pulled", 0), (int64_t)0);
		uint64_t used = (uint64_t)MAX(json_int(v, "used", 0), (int64_t)0);

		c->v[c->n++] = (struct candidate){ .ref = ref,
			.entry = v,
			.used_ms = MAX(pulled, used),
			.kept = is_kept(keep, ref) || has_disk_in_use(s, v) };
	}
	qsort(c->v, c->n, sizeof(c->v[0]), by_use);
	return 0;
}

static void candidates_finish(struct candidates *c)
{
	json_decref(c->images);
	free(c->v);
}

struct total {
	const json_t *needed;
	uint64_t bytes;
};

static int add_marked(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	struct total *t = arg;

	if (marked(t->needed, kind, key))
		t->bytes += bytes;
	return 0;
}

/* What the images that have not gone occupy together; those alone that are kept with only_kept. */
static int occupied(struct candidates *c, bool only_kept, uint64_t *out, struct err *err)
{
	json_t *needed = json_object();
	struct total t = { .needed = needed };
	int r = needed != NULL ? 0 : err_nomem(err);

	for (size_t i = 0; r == 0 && i < c->n; i++) {
		if (!c->v[i].gone && (!only_kept || c->v[i].kept))
			r = mark_image(c->store, c->v[i].entry, needed, err);
	}
	if (r == 0)
		r = store_each(c->store, add_marked, &t, err);
	json_decref(needed);
	*out = t.bytes;
	return r;
}

static int evict(struct candidates *c, struct candidate *x, const char *why, prune_told_fn *told,
	void *arg, struct err *err)
{
	int r = index_remove(c->store, x->ref, err);

	x->gone = true;
	if (r == -ENOENT)
		return 0;
	if (r == 0 && told != NULL)
		told(arg, x->ref, why);
	return r;
}

/* It was not used for so long, however far behind the index may be. */
static bool older(const struct candidate *x, uint64_t now, uint64_t ms)
{
	return !x->kept && !x->gone && now > x->used_ms &&
	       now - x->used_ms > ms + INDEX_USED_STEP_MS;
}

static int by_budget(struct candidates *c, uint64_t budget, uint64_t now, prune_told_fn *told,
	void *arg, struct err *err)
{
	uint64_t bytes;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n; i++) {
		if (!older(&c->v[i], now, GRACE_MS))
			continue;
		r = occupied(c, false, &bytes, err);
		if (r < 0 || bytes <= budget)
			break;
		r = evict(c, &c->v[i], "budget", told, arg, err);
	}
	return r;
}

int prune_index(struct store *s, const struct prune_limits *limits, prune_told_fn *told, void *arg,
	struct err *err)
{
	uint64_t now = clock_unix_ms();
	struct candidates c;
	int r;

	if (limits->budget == 0 && limits->age_ms == 0)
		return 0;
	r = candidates_init(&c, s, &limits->keep, err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && limits->age_ms != 0 && i < c.n; i++) {
		if (older(&c.v[i], now, limits->age_ms))
			r = evict(&c, &c.v[i], "age", told, arg, err);
	}
	if (r == 0 && limits->budget != 0)
		r = by_budget(&c, limits->budget, now, told, arg, err);
	candidates_finish(&c);
	return r;
}

int prune_kept_bytes(
	struct store *s, const struct strv *keep, const char *ref, uint64_t *out, struct err *err)
{
	struct candidates c;
	int r = candidates_init(&c, s, keep, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < c.n; i++)
		c.v[i].gone = strcmp(c.v[i].ref, ref) == 0;
	r = occupied(&c, true, out, err);
	candidates_finish(&c);
	return r;
}

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "oci/index.h"

/* A read document with the lock that makes changing it safe. */
struct index {
	struct store *store;
	json_t *doc, *images;
	int lock;
};

static void index_close(struct index *x)
{
	json_decref(x->doc);
	if (x->lock >= 0)
		close(x->lock);
}

static int index_read(struct index *x, struct err *err)
{
	char *path = path_join(store_dir(x->store), "index.json");
	int r = 0;

	if (path == NULL)
		return err_nomem(err);
	if (access(path, F_OK) == 0)
		r = json_read_file(path, &x->doc, err);
	else
		x->doc = json_pack("{s:i,s:{}}", "version", 1, "images");
	/* A damaged file is nobody's invalid argument. */
	if (r == -EINVAL) {
		r = -EBADMSG;
		if (err != NULL)
			err->code = r;
	}
	if (r == 0 && x->doc == NULL)
		r = err_nomem(err);
	if (r == 0 && json_int(x->doc, "version", 0) != 1)
		r = err_set(err, -EBADMSG, "%s: not an image index of version 1", quote(path));
	if (r == 0) {
		x->images = json_object_get(x->doc, "images");
		if (!json_is_object(x->images))
			r = err_set(err, -EBADMSG, "%s: it has no \"images\"", quote(path));
	}
	free(path);
	return r;
}

static int index_open(struct index *x, struct store *s, bool change, struct err *err)
{
	int r = 0;

	*x = (struct index){ .store = s, .lock = -1 };
	if (change) {
		char *path = path_join(store_dir(s), "index.lock");

		if (path == NULL)
			return err_nomem(err);
		x->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		while (x->lock >= 0 && (r = flock(x->lock, LOCK_EX)) < 0 && errno == EINTR)
			;
		r = x->lock < 0 || r < 0 ? err_errno(err, -errno, "lock %s", quote(path)) : 0;
		free(path);
		if (r < 0)
			goto fail;
	}
	r = index_read(x, err);
	if (r < 0)
		goto fail;
	return 0;
fail:
	index_close(x);
	return r;
}

static int index_write(struct index *x, struct err *err)
{
	char *path = path_join(store_dir(x->store), "index.json");
	char *text = json_dumps(x->doc, JSON_INDENT(1));
	int r;

	if (path == NULL || text == NULL)
		r = err_nomem(err);
	else
		r = file_write_atomic(path, text, strlen(text), 0644, true, err);
	free(path);
	free(text);
	return r;
}

static bool copy(char *dst, size_t cap, const char *s)
{
	if (s == NULL || strlen(s) >= cap)
		return false;
	strcpy(dst, s);
	return true;
}

int index_entry_parse(const json_t *v, struct index_entry *out, struct err *err)
{
	struct index_entry e = { 0 };

	if (!copy(e.digest, sizeof(e.digest), json_str(v, "digest")) ||
		!copy(e.manifest, sizeof(e.manifest), json_str(v, "manifest")) ||
		!digest_valid(e.digest) || !digest_valid(e.manifest))
		return err_set(err, -EBADMSG, "index.json: an entry has no valid digest");
	copy(e.platform.os, sizeof(e.platform.os), json_str(v, "os"));
	copy(e.platform.architecture, sizeof(e.platform.architecture), json_str(v, "architecture"));
	copy(e.platform.variant, sizeof(e.platform.variant), json_str(v, "variant"));
	e.size = (uint64_t)json_int(v, "size", 0);
	e.pulled_ms = (uint64_t)json_int(v, "pulled", 0);
	*out = e;
	return 0;
}

int index_get(struct store *s, const char *ref, struct index_entry *out, struct err *err)
{
	struct index x;
	const json_t *v;
	int r = index_open(&x, s, false, err);

	if (r < 0)
		return r;
	v = json_object_get(x.images, ref);
	if (v == NULL)
		r = err_set(err, -ENOENT, "%s: not in the image store", ref);
	else
		r = index_entry_parse(v, out, err);
	index_close(&x);
	return r;
}

static json_t *entry_json(const struct index_entry *e)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:[]}", "digest", e->digest, "manifest",
		e->manifest, "os", e->platform.os, "architecture", e->platform.architecture,
		"variant", e->platform.variant, "size", (json_int_t)e->size, "pulled",
		(json_int_t)e->pulled_ms, "disks");
}

static bool same_entry(const struct index_entry *a, const struct index_entry *b)
{
	return strcmp(a->digest, b->digest) == 0 && strcmp(a->manifest, b->manifest) == 0 &&
	       strcmp(a->platform.os, b->platform.os) == 0 &&
	       strcmp(a->platform.architecture, b->platform.architecture) == 0;
}

static bool used_is_old(const json_t *entry, uint64_t pulled_ms)
{
	uint64_t used = (uint64_t)MAX(json_int(entry, "used", 0), (int64_t)0);
	uint64_t now = clock_unix_ms();

	used = MAX(used, pulled_ms);
	return now > used && now - used > INDEX_USED_STEP_MS;
}

int index_put(struct store *s, const char *ref, const struct index_entry *e, struct err *err)
{
	struct index_entry was, now;
	struct index x;
	const json_t *old;
	json_t *v;
	int r = index_open(&x, s, true, err);

	if (r < 0)
		return r;
	old = json_object_get(x.images, ref);
	if (index_entry_parse(old, &was, NULL) == 0 && same_entry(&was, e)) {
		if (!used_is_old(old, was.pulled_ms))
			goto out;
		/* When it was pulled stays. */
		now = *e;
		now.pulled_ms = was.pulled_ms;
		e = &now;
	}
	v = entry_json(e);
	if (v != NULL)
		json_object_set_new(v, "used", json_integer((json_int_t)clock_unix_ms()));
	if (v != NULL && old != NULL && str_eq(json_str(old, "manifest"), e->manifest)) {
		if (json_object_get(old, "disks") != NULL)
			json_object_set(v, "disks", json_object_get(old, "disks"));
		if (json_object_get(old, "kernel") != NULL)
			json_object_set(v, "kernel", json_object_get(old, "kernel"));
	}
	if (v == NULL || json_object_set_new(x.images, ref, v) < 0)
		r = err_nomem(err);
	else
		r = index_write(&x, err);
out:
	index_close(&x);
	return r;
}

static bool has_string(const json_t *array, const char *s)
{
	const json_t *v;
	size_t i;

	json_array_foreach (array, i, v) {
		if (str_eq(json_string_value(v), s))
			return true;
	}
	return false;
}

int index_add_built(
	struct store *s, const char *ref, enum store_kind kind, const char *key, struct err *err)
{
	struct index x;
	json_t *v, *disks;
	int r = index_open(&x, s, true, err);

	if (r < 0)
		return r;
	v = json_object_get(x.images, ref);
	disks = json_object_get(v, "disks");
	if (v == NULL || (kind == STORE_KERNEL && str_eq(json_str(v, "kernel"), key)) ||
		(kind == STORE_DISK && has_string(disks, key)))
		goto out;
	if (kind == STORE_KERNEL)
		r = json_object_set_new(v, "kernel", json_string(key));
	else if (json_is_array(disks))
		r = json_array_append_new(disks, json_string(key));
	else
		r = json_object_set_new(v, "disks", json_pack("[s]", key));
	r = r < 0 ? err_nomem(err) : index_write(&x, err);
out:
	index_close(&x);
	return r;
}

int index_remove(struct store *s, const char *ref, struct err *err)
{
	struct index x;
	int r = index_open(&x, s, true, err);

	if (r < 0)
		return r;
	if (json_object_del(x.images, ref) < 0)
		r = err_set(err, -ENOENT, "%s: not in the image store", ref);
	else
		r = index_write(&x, err);
	index_close(&x);
	return r;
}

int index_images(struct store *s, json_t **out, struct err *err)
{
	struct index x;
	int r = index_open(&x, s, false, err);

	if (r < 0)
		return r;
	*out = json_incref(x.images);
	index_close(&x);
	return 0;
}

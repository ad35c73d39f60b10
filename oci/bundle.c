#include "oci/bundle.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"
#include "oci/blob.h"
#include "oci/bundle-file.h"

#define LAYERS_MAX 1024

/* Where in what `docker save` wrote a blob lies. */
struct place {
	char digest[DIGEST_MAX];
	char *name;
};

struct bundle {
	const struct image_ref *ref;
	struct buf made; /* the manifest that docker's own form lacks */
	char *name;      /* of the image in it; NULL: it does not say */
	struct place *places;
	size_t n;
};

static bool is_tar(const struct bundle *b)
{
	return b->ref->source != IMAGE_OCI_FOLDER;
}

static int add_data(void *arg, const void *data, size_t len, uint64_t size, struct err *err)
{
	struct buf *out = arg;

	if (size > MANIFEST_SIZE_MAX || len > MANIFEST_SIZE_MAX - out->len)
		return err_set(err, -EFBIG, "it is larger than %s", format_size(MANIFEST_SIZE_MAX));
	buf_add(out, data, len);
	return out->bad ? err_nomem(err) : 0;
}

static int read_file(struct bundle *b, const char *name, struct buf *out, struct err *err)
{
	int r = bundle_file(b->ref->path, is_tar(b), name, add_data, out, err);

	return r == -EFBIG ? err_wrap(err, "%s: %s", quote(b->ref->path), quote(name)) : r;
}

static int read_json(struct bundle *b, const char *name, json_t **out, struct err *err)
{
	struct buf text = { 0 };
	int r = read_file(b, name, &text, err);

	if (r == 0 && json_parse(buf_str(&text), text.len, out, err) < 0) {
		err_wrap(err, "%s: %s", quote(b->ref->path), name);
		r = -EBADMSG;
		if (err != NULL)
			err->code = r;
	}
	buf_finish(&text);
	return r;
}

/* ---- docker save ---- */

/* A name of theirs may be anything; it is only ever compared with names within the tar. */
static int add_place(struct bundle *b, const char *digest, const char *name, struct err *err)
{
	struct place *p = realloc(b->places, (b->n + 1) * sizeof(*p));

	if (p == NULL)
		return err_nomem(err);
	b->places = p;
	p += b->n;
	p->name = strdup(name);
	if (p->name == NULL)
		return err_nomem(err);
	strcpy(p->digest, digest);
	b->n++;
	return 0;
}

static bool has_tag(const json_t *image, const char *tag)
{
	const json_t *v;
	size_t i;

	json_array_foreach (json_arr(image, "RepoTags"), i, v) {
		const char *name = json_string_value(v), *colon;

		colon = name != NULL ? strrchr(name, ':') : NULL;
		if (colon != NULL && strcmp(colon + 1, tag) == 0)
			return true;
	}
	return false;
}

static const json_t *choose_saved(struct bundle *b, const json_t *doc, struct err *err)
{
	const json_t *found = NULL, *v;
	size_t n = 0, i;

	json_array_foreach (doc, i, v) {
		if (b->ref->tag[0] != '\0' && !has_tag(v, b->ref->tag))
			continue;
		found = v;
		n++;
	}
	if (n == 1)
		return found;
	if (n == 0)
		err_set(err, -ENOENT, "%s has no image%s%s", quote(b->ref->path),
			b->ref->tag[0] != '\0' ? " with the tag " : "", b->ref->tag);
	else
		err_set(err, -EINVAL, "%s has %zu images: say which by :TAG", quote(b->ref->path),
			n);
	return NULL;
}

static json_t *descriptor(const char *type, const char *digest, uint64_t size)
{
	return json_pack(
		"{s:s,s:s,s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size);
}

/* Its layers are not compressed: their digests are the config's diff_ids. */
static int add_layers(struct bundle *b, const json_t *names, const struct image_config *c,
	json_t *out, struct err *err)
{
	if (c->n != json_array_size(names) || c->n > LAYERS_MAX)
		return err_set(err, -EBADMSG, "%s: it names %zu layers, its config %zu",
			quote(b->ref->path), json_array_size(names), c->n);
	for (size_t i = 0; i < c->n; i++) {
		const char *name = json_string_value(json_array_get(names, i));
		uint64_t size;
		int r;

		if (name == NULL)
			return err_set(
				err, -EBADMSG, "%s: a layer has no name", quote(b->ref->path));
		r = bundle_file_size(b->ref->path, true, name, &size, err);
		if (r == 0)
			r = add_place(b, c->diff_ids[i], name, err);
		if (r < 0)
			return r;
		json_array_append_new(
			out, descriptor("application/vnd.docker.image.rootfs.diff.tar",
				     c->diff_ids[i], size));
	}
	return 0;
}

static int make_manifest(struct bundle *b, const json_t *image, struct err *err)
{
	const char *name = json_str(image, "Config");
	struct image_config c = { 0 };
	struct buf config = { 0 };
	char digest[DIGEST_MAX], *text = NULL;
	json_t *layers = json_array(), *doc = NULL;
	int r;

	if (name == NULL)
		r = err_set(err, -EBADMSG, "%s: its image has no config", quote(b->ref->path));
	else
		r = read_file(b, name, &config, err);
	if (r == 0)
		r = image_config_parse(buf_str(&config), config.len, &c, err);
	if (r == 0)
		r = digest_of("sha256:", buf_str(&config), config.len, digest, err);
	if (r == 0)
		r = add_place(b, digest, name, err);
	if (r == 0)
		r = add_layers(b, json_arr(image, "Layers"), &c, layers, err);
	if (r == 0) {
		doc = json_pack("{s:i,s:s,s:o,s:O}", "schemaVersion", 2, "mediaType",
			"application/vnd.docker.distribution.manifest.v2+json", "config",
			descriptor("application/vnd.docker.container.image.v1+json", digest,
				config.len),
			"layers", layers);
		text = doc != NULL ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
		if (text == NULL)
			r = err_nomem(err);
		else
			buf_adds(&b->made, text);
	}
	free(text);
	json_decref(doc);
	json_decref(layers);
	image_config_finish(&c);
	buf_finish(&config);
	return r;
}

static int open_saved(struct bundle *b, struct err *err)
{
	const json_t *image;
	json_t *doc;
	int r = read_json(b, "manifest.json", &doc, err);

	if (r < 0)
		return r;
	image = choose_saved(b, doc, err);
	if (image != NULL && json_array_size(json_arr(image, "RepoTags")) > 0) {
		const char *tag = json_string_value(json_array_get(json_arr(image, "RepoTags"), 0));

		b->name = tag != NULL ? strdup(tag) : NULL;
	}
	r = image != NULL ? make_manifest(b, image, err) : err->code;
	json_decref(doc);
	return r;
}

int bundle_open(struct bundle **out, const struct image_ref *ref, struct err *err)
{
	struct bundle *b = calloc(1, sizeof(*b));
	int r = 0;

	if (b == NULL)
		return err_nomem(err);
	b->ref = ref;
	if (ref->source == IMAGE_DOCKER_ARCHIVE)
		r = open_saved(b, err);
	if (r < 0) {
		bundle_close(b);
		return r;
	}
	*out = b;
	return 0;
}

void bundle_close(struct bundle *b)
{
	if (b == NULL)
		return;
	for (size_t i = 0; i < b->n; i++)
		free(b->places[i].name);
	free(b->places);
	buf_finish(&b->made);
	free(b->name);
	free(b);
}

/* ---- the OCI image layout ---- */

/* Where the blob lies; malloc'd. OCI image spec, "Image Layout", "Blobs". */
static char *name_of(const struct bundle *b, const char *digest)
{
	const char *colon = strchr(digest, ':');

	for (size_t i = 0; i < b->n; i++) {
		if (strcmp(b->places[i].digest, digest) == 0)
			return strdup(b->places[i].name);
	}
	return str_printf("blobs/%.*s/%s", (int)(colon - digest), digest, colon + 1);
}

static const char *name_in_index(const json_t *v)
{
	return json_str(json_obj(v, "annotations"), "org.opencontainers.image.ref.name");
}

/* The tag, or what is after its colon where a whole reference stands there (as docker writes). */
static bool means(const json_t *v, const char *tag)
{
	const char *name = name_in_index(v), *colon = name != NULL ? strrchr(name, ':') : NULL;

	return name != NULL &&
	       (strcmp(name, tag) == 0 || (colon != NULL && strcmp(colon + 1, tag) == 0));
}

static int none_of_tag(struct bundle *b, const json_t *all, struct err *err)
{
	struct buf have = { 0 };
	const json_t *v;
	size_t i;

	json_array_foreach (all, i, v) {
		const char *name = name_in_index(v);

		if (name != NULL && have.len < 300)
			buf_printf(&have, "%s%s", have.len > 0 ? ", " : "", quote(name));
	}
	err_set(err, -ENOENT, "%s has no image with the tag %s; there is %s", quote(b->ref->path),
		b->ref->tag, have.len > 0 ? buf_str(&have) : "none with any");
	buf_finish(&have);
	return -ENOENT;
}

/* containerd and docker say all of it in an annotation of their own, others in the usual one. */
static void keep_name(struct bundle *b, const json_t *v)
{
	const char *name = json_str(json_obj(v, "annotations"), "io.containerd.image.name");

	if (name == NULL)
		name = name_in_index(v);
	free(b->name);
	/* A bare tag is no name. */
	b->name = name != NULL && strchr(name, '/') != NULL ? strdup(name) : NULL;
}

int bundle_name(struct bundle *b, struct buf *out, struct err *err)
{
	if (b->name != NULL)
		buf_adds(out, b->name);
	return out->bad ? err_nomem(err) : 0;
}

/* index.json, cut down to what the reference means: the one document, or an index of several. */
static int top(struct bundle *b, struct buf *out, struct err *err)
{
	json_t *doc, *chosen = json_array(), *all, *v, *cut;
	char digest[DIGEST_MAX], *text;
	size_t i;
	int r = read_json(b, "index.json", &doc, err);

	if (r < 0) {
		json_decref(chosen);
		return r;
	}
	all = json_object_get(doc, "manifests");
	json_array_foreach (all, i, v) {
		if (b->ref->tag[0] == '\0' || means(v, b->ref->tag))
			json_array_append(chosen, v);
	}
	if (json_array_size(chosen) > 0)
		keep_name(b, json_array_get(chosen, 0));
	snprintf(digest, sizeof(digest), "%s",
		json_str(json_array_get(chosen, 0), "digest") != NULL
			? json_str(json_array_get(chosen, 0), "digest")
			: "");
	if (json_array_size(chosen) == 0) {
		r = none_of_tag(b, all, err);
	} else if (json_array_size(chosen) == 1 && digest_valid(digest)) {
		r = bundle_document(b, digest, out, err);
	} else {
		cut = json_pack("{s:i,s:s,s:O}", "schemaVersion", 2, "mediaType",
			"application/vnd.oci.image.index.v1+json", "manifests", chosen);
		text = cut != NULL ? json_dumps(cut, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
		if (text == NULL)
			r = err_nomem(err);
		else
			buf_adds(out, text);
		free(text);
		json_decref(cut);
	}
	json_decref(chosen);
	json_decref(doc);
	return r;
}

int bundle_blob(struct bundle *b, const char *digest, struct buf *out, struct err *err)
{
	char *name = name_of(b, digest), got[DIGEST_MAX];
	int r = name != NULL ? read_file(b, name, out, err) : err_nomem(err);

	free(name);
	if (r == 0)
		r = digest_of(digest, buf_str(out), out->len, got, err);
	if (r == 0 && strcmp(got, digest) != 0)
		r = err_set(err, -EBADMSG, "%s: wrong content for %s: its digest is %s",
			quote(b->ref->path), digest, got);
	return r;
}

int bundle_document(struct bundle *b, const char *digest, struct buf *out, struct err *err)
{
	if (b->ref->source == IMAGE_DOCKER_ARCHIVE) {
		buf_add(out, buf_str(&b->made), b->made.len);
		return out->bad ? err_nomem(err) : 0;
	}
	return digest == NULL ? top(b, out, err) : bundle_blob(b, digest, out, err);
}

/* ---- layers ---- */

struct copy {
	struct blob *blob;
	const struct descriptor *desc;
	bundle_progress_fn *progress;
	void *arg;
};

static int copy_data(void *arg, const void *data, size_t len, uint64_t size, struct err *err)
{
	struct copy *c = arg;
	int r = blob_write(c->blob, data, len, err);

	if (r == 0)
		c->progress(c->arg, c->desc, blob_have(c->blob));
	return r;
}

int bundle_fetch(struct bundle *b, struct store *s, const struct descriptor *desc,
	bundle_progress_fn *progress, void *arg, bool *cached, struct err *err)
{
	struct copy c = { .desc = desc, .progress = progress, .arg = arg };
	char *name;
	int r;

	*cached = false;
	r = blob_open_wait(&c.blob, s, desc->digest, desc->size, err);
	if (r == -EEXIST) {
		*cached = true;
		return 0;
	}
	if (r < 0)
		return r;
	name = name_of(b, desc->digest);
	r = name != NULL ? blob_restart(c.blob, err) : err_nomem(err);
	if (r == 0)
		r = bundle_file(b->ref->path, is_tar(b), name, copy_data, &c, err);
	if (r == 0)
		r = blob_finish(c.blob, err);
	if (r < 0)
		blob_abandon(c.blob);
	free(name);
	return r;
}

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"
#include "oci/manifest.h"

#define LAYERS_MAX 1024

int platform_parse(const char *s, struct platform *out, struct err *err)
{
	struct platform p = { 0 };
	char *const parts[] = { p.os, p.architecture, p.variant };
	size_t n = 0;

	for (const char *at = s; n < ARRAY_LEN(parts); n++) {
		size_t len = strcspn(at, "/");

		if (len == 0 || len >= sizeof(p.os))
			break;
		memcpy(parts[n], at, len);
		at += len;
		if (*at == '\0') {
			if (n == 0)
				break;
			*out = p;
			return 0;
		}
		at++;
	}
	return err_set(err, -EINVAL, "platform %s: must be like linux/amd64", quote(s));
}

/* Copies a string that must be there and fit. */
static bool take(char *dst, size_t cap, const char *s)
{
	if (s == NULL || strlen(s) >= cap)
		return false;
	strcpy(dst, s);
	return true;
}

static int parse_descriptor(
	const json_t *v, const char *what, struct descriptor *out, struct err *err)
{
	const char *media_type = json_str(v, "mediaType"), *digest = json_str(v, "digest");
	int64_t size = json_int(v, "size", -1);

	if (digest == NULL || !digest_valid(digest))
		return err_set(err, -EBADMSG, "%s: its digest %s is not valid", what,
			digest != NULL ? quote(digest) : "is missing and");
	if (size < 0)
		return err_set(err, -EBADMSG, "%s: its size is missing or negative", what);
	if (!take(out->media_type, sizeof(out->media_type), media_type != NULL ? media_type : ""))
		return err_set(err, -EBADMSG, "%s: its media type is too long", what);
	strcpy(out->digest, digest);
	out->size = (uint64_t)size;
	return 0;
}

static int parse_object(
	const char *data, size_t len, const char *what, json_t **out, struct err *err)
{
	json_t *doc;
	int r = json_parse(data, len, &doc, err);

	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		err_wrap(err, "%s", what);
		/* What a registry sends is never the user's invalid argument. */
		if (err != NULL)
			err->code = -EBADMSG;
		return -EBADMSG;
	}
	if (!json_is_object(doc)) {
		json_decref(doc);
		return err_set(err, -EBADMSG, "%s: not a JSON object", what);
	}
	*out = doc;
	return 0;
}

static int kind_of(const json_t *doc, const char *type, enum manifest_kind *out, struct err *err)
{
	static const char *const indexes[] = { "application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json" };
	static const char *const images[] = { "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json" };

	if (json_int(doc, "schemaVersion", 2) == 1 ||
		(type != NULL &&
			str_starts(type, "application/vnd.docker.distribution.manifest.v1")))
		return err_set(err, -ENOTSUP,
			"manifest: it has the old schema 1, which names no layers by digest; "
			"push the image again with a current tool");
	for (size_t i = 0; type != NULL && i < ARRAY_LEN(indexes); i++) {
		if (strcmp(type, indexes[i]) == 0) {
			*out = MANIFEST_INDEX;
			return 0;
		}
		if (strcmp(type, images[i]) == 0) {
			*out = MANIFEST_IMAGE;
			return 0;
		}
	}
	if (json_arr(doc, "manifests") != NULL && json_arr(doc, "layers") == NULL) {
		*out = MANIFEST_INDEX;
		return 0;
	}
	if (json_arr(doc, "layers") != NULL && json_arr(doc, "manifests") == NULL) {
		*out = MANIFEST_IMAGE;
		return 0;
	}
	return err_set(err, -EBADMSG, "manifest: its type %s is not known",
		type != NULL ? quote(type) : "is not given and");
}

int manifest_kind(const char *data, size_t len, const char *content_type, enum manifest_kind *out,
	struct err *err)
{
	json_t *doc;
	const char *type;
	int r = parse_object(data, len, "manifest", &doc, err);

	if (r < 0)
		return r;
	type = json_str(doc, "mediaType");
	if (type == NULL && content_type != NULL && str_starts(content_type, "application/vnd."))
		type = content_type;
	r = kind_of(doc, type, out, err);
	json_decref(doc);
	return r;
}

static int parse_layers(const json_t *layers, struct manifest *m, struct err *err)
{
	size_t n = json_array_size(layers);

	if (layers == NULL)
		return err_set(err, -EBADMSG, "manifest: it has no list of layers");
	if (n > LAYERS_MAX)
		return err_set(
			err, -EBADMSG, "manifest: it has %zu layers, more than %d", n, LAYERS_MAX);
	m->layers = calloc(n > 0 ? n : 1, sizeof(*m->layers));
	if (m->layers == NULL)
		return err_nomem(err);
	for (m->n = 0; m->n < n; m->n++) {
		const json_t *v = json_array_get(layers, m->n);
		char what[40];
		int r;

		snprintf(what, sizeof(what), "manifest: layer %zu", m->n);
		r = parse_descriptor(v, what, &m->layers[m->n], err);
		if (r < 0)
			return r;
		if (json_array_size(json_arr(v, "urls")) > 0)
			return err_set(err, -ENOTSUP,
				"%s: it lies outside the registry (a foreign layer)", what);
	}
	return 0;
}

int manifest_parse(const char *data, size_t len, struct manifest *out, struct err *err)
{
	struct manifest m = { 0 };
	json_t *doc;
	int r = parse_object(data, len, "manifest", &doc, err);

	if (r < 0)
		return r;
	r = parse_descriptor(json_obj(doc, "config"), "manifest: config", &m.config, err);
	if (r == 0)
		r = parse_layers(json_arr(doc, "layers"), &m, err);
	json_decref(doc);
	if (r < 0)
		manifest_finish(&m);
	else
		*out = m;
	return r;
}

void manifest_finish(struct manifest *m)
{
	free(m->layers);
	*m = (struct manifest){ 0 };
}

static void platform_of(const json_t *v, struct platform *p)
{
	*p = (struct platform){ 0 };
	if (!take(p->os, sizeof(p->os), json_str(v, "os")) ||
		!take(p->architecture, sizeof(p->architecture), json_str(v, "architecture")))
		*p = (struct platform){ 0 };
	else if (!take(p->variant, sizeof(p->variant), json_str(v, "variant")))
		p->variant[0] = '\0';
}

/* 0: not for the platform; the higher the better. */
static int match(const struct platform *want, const struct platform *have)
{
	if (strcmp(want->os, have->os) != 0 || strcmp(want->architecture, have->architecture) != 0)
		return 0;
	if (strcmp(want->variant, have->variant) == 0)
		return 3;
	/* arm64 without a variant is v8 (OCI image spec, "Platform Variants"). */
	if (strcmp(want->architecture, "arm64") == 0 &&
		(want->variant[0] == '\0' || have->variant[0] == '\0'))
		return 2;
	/* An amd64 variant is a level of the instruction set that the guest's CPU may lack. */
	if (want->variant[0] == '\0')
		return 1;
	return 0;
}

static void list_platform(struct buf *have, const struct platform *p)
{
	/* "unknown/unknown" marks attestations, not images. */
	if (p->os[0] == '\0' || strcmp(p->os, "unknown") == 0 || have->len > 300)
		return;
	buf_printf(have, "%s%s/%s%s%s", have->len > 0 ? ", " : "", p->os, p->architecture,
		p->variant[0] != '\0' ? "/" : "", p->variant);
}

int index_choose(const char *data, size_t len, const struct platform *want, struct descriptor *out,
	struct err *err)
{
	struct buf have = { 0 };
	const json_t *best = NULL, *bare = NULL, *v;
	size_t n_bare = 0, i;
	int score = 0, r;
	json_t *doc;

	r = parse_object(data, len, "index", &doc, err);
	if (r < 0)
		return r;
	json_array_foreach (json_arr(doc, "manifests"), i, v) {
		struct platform p;
		int s;

		if (json_obj(v, "platform") == NULL) {
			bare = v;
			n_bare++;
			continue;
		}
		platform_of(json_obj(v, "platform"), &p);
		list_platform(&have, &p);
		s = match(want, &p);
		if (s > score) {
			score = s;
			best = v;
		}
	}
	/* A single image that says nothing of platforms here says it in its config. */
	if (best == NULL && n_bare == 1 && have.len == 0)
		best = bare;
	if (best != NULL)
		r = parse_descriptor(best, "index: manifest", out, err);
	else
		r = err_set(err, -ENOENT, "no image for %s/%s%s%s; there is %s", want->os,
			want->architecture, want->variant[0] != '\0' ? "/" : "", want->variant,
			have.len > 0 ? quote(buf_str(&have)) : "none for any platform");
	buf_finish(&have);
	json_decref(doc);
	return r;
}

static int parse_diff_ids(const json_t *ids, struct image_config *c, struct err *err)
{
	size_t n = json_array_size(ids);

	if (n > LAYERS_MAX)
		return err_set(err, -EBADMSG, "image config: it has %zu layers, more than %d", n,
			LAYERS_MAX);
	c->diff_ids = calloc(n > 0 ? n : 1, sizeof(*c->diff_ids));
	if (c->diff_ids == NULL)
		return err_nomem(err);
	for (c->n = 0; c->n < n; c->n++) {
		const char *id = json_string_value(json_array_get(ids, c->n));

		if (id == NULL || !digest_valid(id))
			return err_set(
				err, -EBADMSG, "image config: diff_id %zu is not valid", c->n);
		strcpy(c->diff_ids[c->n], id);
	}
	return 0;
}

int image_config_parse(const char *data, size_t len, struct image_config *out, struct err *err)
{
	struct image_config c = { 0 };
	json_t *doc;
	int r = parse_object(data, len, "image config", &doc, err);

	if (r < 0)
		return r;
	platform_of(doc, &c.platform);
	r = parse_diff_ids(json_arr(json_obj(doc, "rootfs"), "diff_ids"), &c, err);
	json_decref(doc);
	if (r < 0)
		image_config_finish(&c);
	else
		*out = c;
	return r;
}

void image_config_finish(struct image_config *c)
{
	free(c->diff_ids);
	*c = (struct image_config){ 0 };
}

bool config_is_image(const struct descriptor *config)
{
	return strcmp(config->media_type, "application/vnd.oci.image.config.v1+json") == 0 ||
	       strcmp(config->media_type, "application/vnd.docker.container.image.v1+json") == 0;
}

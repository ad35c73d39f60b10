#include "oci/archive-write.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/json.h"
#include "oci/digest.h"

#define PIECE ((size_t)256 << 10)

struct out {
	struct image *im;
	struct archive *a;
	uint64_t done, total;
};

static int tar_error(struct out *o, struct err *err)
{
	int code = archive_errno(o->a);

	return err_set(
		err, code > 0 ? -code : -EIO, "write the archive: %s", archive_error_string(o->a));
}

static int put_head(struct out *o, const char *name, unsigned type, uint64_t size, struct err *err)
{
	struct archive_entry *e = archive_entry_new();
	int r = 0;

	if (e == NULL)
		return err_nomem(err);
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	if (archive_write_header(o->a, e) != ARCHIVE_OK)
		r = tar_error(o, err);
	archive_entry_free(e);
	return r;
}

static int put_data(struct out *o, const void *data, size_t len, struct err *err)
{
	if (archive_write_data(o->a, data, len) != (la_ssize_t)len)
		return tar_error(o, err);
	o->done += len;
	progress_build(&o->im->progress, MIN(o->done, o->total), o->total);
	return 0;
}

static int put_text(struct out *o, const char *name, const char *text, struct err *err)
{
	int r = put_head(o, name, AE_IFREG, strlen(text), err);

	return r == 0 ? put_data(o, text, strlen(text), err) : r;
}

static int put_content(struct out *o, int fd, const struct descriptor *d, struct err *err)
{
	char *piece = malloc(PIECE), got[DIGEST_MAX];
	struct digest *sum = NULL;
	uint64_t left = d->size;
	int r = piece != NULL ? digest_create(&sum, d->digest, err) : err_nomem(err);

	while (r == 0 && left > 0) {
		ssize_t n = read(fd, piece, MIN(left, (uint64_t)PIECE));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			r = n < 0 ? err_errno(err, -errno, "read blob %s", d->digest)
				  : err_set(err, -EBADMSG, "blob %s is cut off", d->digest);
		else if (digest_update(sum, piece, (size_t)n) < 0)
			r = err_set(err, -EIO, "digest of blob %s failed", d->digest);
		else
			r = put_data(o, piece, (size_t)n, err);
		left -= n > 0 ? (uint64_t)n : 0;
	}
	if (r == 0 && (digest_final(sum, got) < 0 || strcmp(got, d->digest) != 0))
		r = err_set(err, -EBADMSG,
			"blob %s is damaged in the store (drover image verify removes it)",
			d->digest);
	digest_destroy(sum);
	free(piece);
	return r;
}

static int put_blob(struct out *o, const struct descriptor *d, struct err *err)
{
	const char *colon = strchr(d->digest, ':');
	char *path = store_path(o->im->store, STORE_BLOB, d->digest);
	char *name = str_printf("blobs/%.*s/%s", (int)(colon - d->digest), d->digest, colon + 1);
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1, r = 0;

	if (path == NULL || name == NULL)
		r = err_nomem(err);
	else if (fd < 0)
		r = err_errno(err, -errno, "open blob %s", d->digest);
	if (r == 0)
		r = put_head(o, name, AE_IFREG, d->size, err);
	if (r == 0)
		r = put_content(o, fd, d, err);
	if (fd >= 0)
		close(fd);
	free(path);
	free(name);
	return r;
}

/* ---- the documents ---- */

/* Of the manifest: its media type is in it. */
static int describe_manifest(struct image *im, struct descriptor *d, struct err *err)
{
	struct buf text = { 0 };
	json_t *doc = NULL;
	const char *type;
	int r = store_read_blob(im->store, im->entry.manifest, MANIFEST_SIZE_MAX, &text, err);

	if (r == 0)
		r = json_parse(buf_str(&text), text.len, &doc, err);
	if (r == 0) {
		type = json_str(doc, "mediaType");
		*d = (struct descriptor){ .size = text.len };
		snprintf(d->digest, sizeof(d->digest), "%s", im->entry.manifest);
		snprintf(d->media_type, sizeof(d->media_type), "%s",
			type != NULL ? type : "application/vnd.oci.image.manifest.v1+json");
	}
	json_decref(doc);
	buf_finish(&text);
	return r;
}

/* Names as skopeo looks for them (the tag) and as docker and containerd do (all of it). */
static int put_index(struct out *o, const struct descriptor *d, struct err *err)
{
	const struct image *im = o->im;
	const struct platform *p = &im->entry.platform;
	json_t *names = json_pack("{s:s}", "io.containerd.image.name", im->canonical);
	json_t *item = json_pack("{s:s,s:s,s:I,s:O*}", "mediaType", d->media_type, "digest",
		d->digest, "size", (json_int_t)d->size, "annotations", names);
	json_t *doc;
	char *text;
	int r;

	if (names != NULL && im->ref.tag[0] != '\0')
		json_object_set_new(
			names, "org.opencontainers.image.ref.name", json_string(im->ref.tag));
	if (item != NULL && p->os[0] != '\0')
		json_object_set_new(item, "platform",
			json_pack("{s:s,s:s}", "os", p->os, "architecture", p->architecture));
	doc = json_pack("{s:i,s:s,s:[O]}", "schemaVersion", 2, "mediaType",
		"application/vnd.oci.image.index.v1+json", "manifests", item);
	text = doc != NULL ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	r = text != NULL ? put_text(o, "index.json", text, err) : err_nomem(err);
	free(text);
	json_decref(doc);
	json_decref(item);
	json_decref(names);
	return r;
}

static bool seen_before(const struct manifest *m, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (strcmp(m->layers[i].digest, m->layers[j].digest) == 0)
			return true;
	}
	return strcmp(m->layers[i].digest, m->config.digest) == 0;
}

static int put_all(struct out *o, const struct descriptor *manifest, struct err *err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	const struct manifest *m = &o->im->manifest;
	int r = put_text(o, "oci-layout", layout, err);

	/* The index first: who reads a tar from its beginning finds out what is in it. */
	if (r == 0)
		r = put_index(o, manifest, err);
	if (r == 0)
		r = put_head(o, "blobs/", AE_IFDIR, 0, err);
	if (r == 0)
		r = put_head(o, "blobs/sha256/", AE_IFDIR, 0, err);
	if (r == 0)
		r = put_blob(o, manifest, err);
	if (r == 0)
		r = put_blob(o, &m->config, err);
	for (size_t i = 0; r == 0 && i < m->n; i++) {
		if (!seen_before(m, i))
			r = put_blob(o, &m->layers[i], err);
	}
	return r;
}

int archive_write_image(struct image *im, int fd, struct err *err)
{
	struct out o = { .im = im, .a = archive_write_new() };
	struct descriptor manifest;
	int r = o.a != NULL ? describe_manifest(im, &manifest, err) : err_nomem(err);

	if (r == 0) {
		o.total = manifest.size + im->manifest.config.size;
		for (size_t i = 0; i < im->manifest.n; i++)
			o.total += seen_before(&im->manifest, i) ? 0 : im->manifest.layers[i].size;
		if (archive_write_set_format_pax_restricted(o.a) != ARCHIVE_OK ||
			archive_write_open_fd(o.a, fd) != ARCHIVE_OK)
			r = tar_error(&o, err);
	}
	if (r == 0)
		r = put_all(&o, &manifest, err);
	if (r == 0 && archive_write_close(o.a) != ARCHIVE_OK)
		r = tar_error(&o, err);
	archive_write_free(o.a);
	return r;
}

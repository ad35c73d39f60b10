#include "oci/source.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "oci/blob.h"
#include "oci/fetch.h"

#define PIECE ((size_t)256 << 10)
/* OCI image spec, "Guidance for an Empty Descriptor". */
#define EMPTY_TYPE    "application/vnd.oci.empty.v1+json"
#define ARTIFACT_TYPE "application/vnd.drover.file.v1"

/* One file on its way into the store. */
struct getting {
	struct image *im;
	const char *where; /* a URL or a path */
	bool url;
	struct descriptor desc;       /* its digest is known, or stands for where */
	char etag[160], modified[64]; /* as its server says; "" */
	bool unchanged;
};

/* ---- formats ---- */

enum image_format source_layer_format(const struct descriptor *layer)
{
	enum image_format f = FORMAT_BY_NAME;

	if (str_starts(layer->media_type, SOURCE_MEDIA_TYPE))
		image_format_parse(layer->media_type + strlen(SOURCE_MEDIA_TYPE), &f, NULL);
	return f;
}

enum image_format source_format(const struct manifest *m)
{
	return m->n > 0 ? source_layer_format(&m->layers[0]) : FORMAT_BY_NAME;
}

const char *source_magic(const char *path)
{
	static const struct {
		const char *magic, *name;
	} rows[] = { { "QFI\xfb", "qcow2" }, { "KDMV", "vmdk" }, { "vhdxfile", "vhdx" } };
	char head[8] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, head, sizeof(head)) : 0;

	if (fd >= 0)
		close(fd);
	for (size_t i = 0; n == sizeof(head) && i < ARRAY_LEN(rows); i++) {
		if (memcmp(head, rows[i].magic, strlen(rows[i].magic)) == 0)
			return rows[i].name;
	}
	return NULL;
}

/* Where nothing says what it is, and it looks like more than raw, that is asked about. */
static int settle_format(
	const struct getting *g, enum image_format given, enum image_format *out, struct err *err)
{
	enum image_format f = given != FORMAT_BY_NAME ? given : image_format_of_name(g->where);
	const char *magic = NULL;
	char *path;

	if (f == FORMAT_BY_NAME) {
		path = store_path(g->im->store, STORE_BLOB, g->desc.digest);
		magic = path != NULL ? source_magic(path) : NULL;
		free(path);
		f = FORMAT_RAW;
	}
	if (magic != NULL)
		return err_set(err, -EINVAL,
			"%s begins as a %s does, but its name does not say so: give its format (format = %s, or format = raw)",
			quote(g->where), magic, magic);
	*out = f;
	return 0;
}

/* ---- one file ---- */

static void show_progress(void *arg, uint64_t done)
{
	struct getting *g = arg;

	progress_layer(&g->im->progress, &g->desc, done);
}

static int begin_file(void *arg, uint64_t size, struct err *err)
{
	struct getting *g = arg;
	int r = 0;

	/* Its digest, which is what would be compared, would take all of it. */
	if (g->im->opts->look_only)
		return err_set(err, -ESTALE,
			"its server does not say that it is what it was; to have it now, pull it with --policy always");
	g->desc.size = size != UINT64_MAX ? size : 0;
	if (size != UINT64_MAX)
		r = image_check_budget(g->im, g->im->came_bytes + size, err);
	if (r == 0 && size != UINT64_MAX)
		r = image_check_space(g->im, size, err);
	return r == 0 ? progress_start(&g->im->progress, &g->desc, 1, 0, err) : r;
}

typedef int piece_fn(void *arg, const void *data, size_t len, struct err *err);

static int read_pieces(
	const char *path, int fd, uint64_t size, piece_fn *fn, void *arg, struct err *err)
{
	char *piece = malloc(PIECE);
	uint64_t done = 0;
	ssize_t n;
	int r = piece != NULL ? 0 : err_nomem(err);

	while (r == 0 && (n = pread(fd, piece, PIECE, (off_t)done)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = err_errno(err, -errno, "read %s", quote(path));
		else if ((uint64_t)n > size - done)
			r = err_set(err, -EBADMSG, "it grows while it is read");
		else
			r = fn(arg, piece, (size_t)n, err);
		done += n > 0 ? (uint64_t)n : 0;
	}
	free(piece);
	return r;
}

static int count_piece(void *arg, const void *data, size_t len, struct err *err)
{
	return digest_update(arg, data, len) < 0
		       ? err_set(err, -EIO, "its digest cannot be computed")
		       : 0;
}

static int digest_pieces(
	struct getting *g, int fd, uint64_t size, char out[DIGEST_MAX], struct err *err)
{
	struct digest *d = NULL;
	int r = digest_create(&d, "sha256:", err);

	if (r == 0)
		r = read_pieces(g->where, fd, size, count_piece, d, err);
	if (r == 0 && digest_final(d, out) < 0)
		r = err_set(err, -EIO, "its digest cannot be computed");
	digest_destroy(d);
	return r;
}

struct taking {
	struct getting *g;
	struct part *part;
};

static int take_piece_of(void *arg, const void *data, size_t len, struct err *err)
{
	struct taking *t = arg;
	int r = part_write(t->part, data, len, err);

	if (r == 0)
		show_progress(t->g, part_have(t->part));
	return r;
}

static int open_file(struct getting *g, int *fd, uint64_t *size, struct err *err)
{
	struct stat st;
	int r = 0;

	*fd = open(g->where, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return err_errno(err, -errno, "open %s", quote(g->where));
	if (fstat(*fd, &st) < 0)
		r = err_errno(err, -errno, "%s", quote(g->where));
	else if (!S_ISREG(st.st_mode))
		r = err_set(err, -EINVAL, "%s is no regular file", quote(g->where));
	else if ((uint64_t)st.st_size > g->im->opts->max_bytes)
		r = err_set(err, -EFBIG, "it has %s, and an image may have %s (image_max)",
			format_size((uint64_t)st.st_size), format_size(g->im->opts->max_bytes));
	else
		*size = (uint64_t)st.st_size;
	if (r < 0)
		close(*fd);
	return r;
}

/* Its digest first: what the store has is not copied once more. */
static int digest_file_of(struct getting *g, char digest[DIGEST_MAX], struct err *err)
{
	uint64_t size = 0;
	int fd = -1, r = open_file(g, &fd, &size, err);

	if (r < 0)
		return r;
	r = digest_pieces(g, fd, size, digest, err);
	close(fd);
	return r;
}

/* A file of the host. */
static int take_file(struct getting *g, struct part *p, char digest[DIGEST_MAX], struct err *err)
{
	struct taking t = { g, p };
	uint64_t size = 0;
	int fd = -1, r = open_file(g, &fd, &size, err);

	if (r < 0)
		return r;
	r = begin_file(g, size, err);
	if (r == 0)
		r = part_restart(p, err);
	if (r == 0)
		r = read_pieces(g->where, fd, size, take_piece_of, &t, err);
	if (r == 0)
		r = part_finish(p, digest, err);
	close(fd);
	return r;
}

static int take_url(struct getting *g, struct part *p, char digest[DIGEST_MAX], struct err *err)
{
	struct fetch_spec spec = { .url = g->where,
		.conf = &g->im->opts->registry,
		.etag = g->etag,
		.modified = g->modified,
		.begin = begin_file,
		.progress = show_progress,
		.arg = g };
	uint64_t max = g->im->opts->max_bytes, room;
	struct fetch_result res;
	int r = image_budget_room(g->im, &room, err);

	if (r < 0)
		return r;
	/* Not every server says before how much it is. */
	room -= MIN(room, g->im->came_bytes);
	spec.max_bytes = MIN(max, room);
	r = fetch_file(&spec, p, &res, err);
	if (r == -EFBIG && room < max)
		return err_set(err, -EDQUOT,
			"it has more than the %s that the image store may take beside what machines need (image_budget)",
			format_size(room));
	if (r < 0)
		return r;
	g->unchanged = res.unchanged;
	if (res.unchanged)
		return 0;
	strcpy(digest, res.digest);
	strcpy(g->etag, res.etag);
	strcpy(g->modified, res.modified);
	return 0;
}

static int blob_size(struct getting *g, struct err *err)
{
	char *path = store_path(g->im->store, STORE_BLOB, g->desc.digest);
	struct stat st;
	int r = 0;

	if (path == NULL)
		return err_nomem(err);
	if (stat(path, &st) < 0)
		r = err_errno(err, -errno, "%s", quote(path));
	else
		g->desc.size = (uint64_t)st.st_size;
	free(path);
	return r;
}

/* digest: "" if only the file itself can tell. desc is filled in, unless it is unchanged. */
static int get(struct getting *g, const char *digest, struct err *err)
{
	char got[DIGEST_MAX] = "";
	struct part *p = NULL;
	bool known = digest[0] != '\0', cached;
	int r = 0;

	if (known)
		snprintf(g->desc.digest, sizeof(g->desc.digest), "%s", digest);
	else if (g->url)
		r = digest_of("sha256:", g->where, strlen(g->where), g->desc.digest, err);
	else
		r = digest_file_of(g, g->desc.digest, err);
	if (!known && !g->url) {
		digest = g->desc.digest;
		known = true;
	}
	if (r == 0)
		r = part_open(&p, g->im->store, known ? digest : NULL, g->where, err);
	cached = r == -EEXIST;
	if (cached)
		r = 0;
	else if (r == 0)
		r = g->url ? take_url(g, p, got, err) : take_file(g, p, got, err);
	if (r == 0 && !g->unchanged)
		progress_layer_done(&g->im->progress, &g->desc, cached);
	progress_end(&g->im->progress);
	if (r == 0 && !g->unchanged) {
		if (got[0] != '\0')
			strcpy(g->desc.digest, got);
		r = blob_size(g, err);
		g->im->came_bytes += g->desc.size;
	}
	part_close(p);
	return r;
}

/* ---- the manifest ---- */

static json_t *layer_json(const struct descriptor *d)
{
	return json_pack("{s:s,s:s,s:I}", "mediaType", d->media_type, "digest", d->digest, "size",
		(json_int_t)d->size);
}

static int put_text(struct image *im, const char *text, char digest[DIGEST_MAX], struct err *err)
{
	int r = digest_of("sha256:", text, strlen(text), digest, err);

	return r == 0 ? blob_put(im->store, digest, text, strlen(text), err) : r;
}

static void annotate(json_t *doc, const char *name, const char *value)
{
	if (json_object_get(doc, "annotations") == NULL)
		json_object_set_new(doc, "annotations", json_object());
	json_object_set_new(json_object_get(doc, "annotations"), name, json_str_new(value));
}

/*
 * Without times and names: the same files give the same manifest, but for what their server says of
 * them.
 */
static int make_document(struct image *im, json_t *layers, const struct getting *g, struct err *err)
{
	static const char *const names[] = { "vnd.drover.etag", "vnd.drover.last-modified" };
	const char *values[] = { g->etag, g->modified };
	char config[DIGEST_MAX], *text = NULL;
	json_t *doc = NULL;
	int r = put_text(im, "{}", config, err);

	if (r == 0) {
		doc = json_pack("{s:i,s:s,s:s,s:{s:s,s:s,s:i},s:O}", "schemaVersion", 2,
			"mediaType", "application/vnd.oci.image.manifest.v1+json", "artifactType",
			ARTIFACT_TYPE, "config", "mediaType", EMPTY_TYPE, "digest", config, "size",
			2, "layers", layers);
		for (size_t i = 0; doc != NULL && i < ARRAY_LEN(names); i++) {
			if (values[i][0] != '\0')
				annotate(doc, names[i], values[i]);
		}
		text = doc != NULL ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
		r = text != NULL ? put_text(im, text, im->entry.manifest, err) : err_nomem(err);
	}
	if (r == 0)
		r = manifest_parse(text, strlen(text), &im->manifest, err);
	free(text);
	json_decref(doc);
	return r;
}

/* Gets one and adds it to layers. given: what the reference says of its format. */
static int add_file(struct getting *g, const char *digest, enum image_format given, json_t *layers,
	struct err *err)
{
	enum image_format f = FORMAT_RAW;
	int r = get(g, digest, err);

	if (r < 0 || g->unchanged)
		return r;
	r = settle_format(g, given, &f, err);
	if (r < 0)
		return r;
	snprintf(g->desc.media_type, sizeof(g->desc.media_type), SOURCE_MEDIA_TYPE "%s",
		image_format_name(f));
	return json_array_append_new(layers, layer_json(&g->desc)) == 0 ? 0 : err_nomem(err);
}

static int add_backing_files(struct image *im, json_t *layers, struct err *err)
{
	const char *p = im->ref.backing;
	int r = 0;

	for (; r == 0 && *p != '\0'; p = strchr(p, '\n') + 1) {
		char *path = strndup(p, strcspn(p, "\n"));
		struct getting g = { .im = im, .where = path };

		r = path != NULL ? add_file(&g, "", FORMAT_BY_NAME, layers, err) : err_nomem(err);
		if (r < 0)
			err_wrap(err, "backing file");
		free(path);
	}
	return r;
}

static void take_annotation(const json_t *doc, const char *name, char *out, size_t cap)
{
	const char *value = json_str(json_obj(doc, "annotations"), name);

	if (value != NULL && strlen(value) < cap)
		strcpy(out, value);
}

/* What the server said of the content that is pinned, if that is all there. */
static void pinned_validators(struct getting *g)
{
	struct image *im = g->im;
	struct index_entry was;
	struct buf text = { 0 };
	json_t *doc = NULL;

	if (index_get(im->store, im->canonical, &was, NULL) < 0 ||
		!store_has(im->store, STORE_BLOB, was.digest, UINT64_MAX) ||
		store_read_blob(im->store, was.manifest, MANIFEST_SIZE_MAX, &text, NULL) < 0)
		return;
	if (json_parse(buf_str(&text), text.len, &doc, NULL) == 0) {
		take_annotation(doc, "vnd.drover.etag", g->etag, sizeof(g->etag));
		take_annotation(doc, "vnd.drover.last-modified", g->modified, sizeof(g->modified));
	}
	json_decref(doc);
	buf_finish(&text);
}

static int load_unchanged(struct image *im, struct err *err)
{
	struct buf text = { 0 };
	int r = index_get(im->store, im->canonical, &im->entry, err);

	if (r == 0)
		r = store_read_blob(im->store, im->entry.manifest, MANIFEST_SIZE_MAX, &text, err);
	if (r == 0)
		r = manifest_parse(buf_str(&text), text.len, &im->manifest, err);
	buf_finish(&text);
	if (r == 0 && im->manifest.n == 0)
		r = err_set(err, -EBADMSG, "its manifest has no file");
	return r;
}

/* Its server says that it is what it was; of what it lies above nobody has said that. */
static int take_unchanged(struct getting *g, json_t *layers, struct err *err)
{
	struct image *im = g->im;
	int r = load_unchanged(im, err);

	if (r < 0 || im->ref.backing[0] == '\0' || im->opts->look_only)
		return r;
	g->desc = im->manifest.layers[0];
	g->im->came_bytes = g->desc.size;
	manifest_finish(&im->manifest);
	if (json_array_append_new(layers, layer_json(&g->desc)) < 0)
		return err_nomem(err);
	r = add_backing_files(im, layers, err);
	return r == 0 ? make_document(im, layers, g, err) : r;
}

int source_resolve(struct image *im, struct err *err)
{
	struct getting g = { .im = im, .where = im->ref.path, .url = im->ref.source == IMAGE_URL };
	bool known = im->ref.digest[0] != '\0';
	json_t *layers = json_array();
	int r = layers != NULL ? 0 : err_nomem(err);

	if (r == 0 && im->opts->look_only && !g.url) {
		json_decref(layers);
		return digest_file_of(&g, im->entry.digest, err);
	}
	if (r == 0 && g.url && !known)
		pinned_validators(&g);
	if (r == 0)
		r = add_file(&g, im->ref.digest, im->ref.format, layers, err);
	if (r == 0 && g.unchanged) {
		r = take_unchanged(&g, layers, err);
	} else if (r == 0) {
		r = add_backing_files(im, layers, err);
		im->came = r == 0;
		strcpy(im->entry.digest, g.desc.digest);
		if (known)
			g.etag[0] = g.modified[0] = '\0';
		if (r == 0)
			r = make_document(im, layers, &g, err);
	}
	json_decref(layers);
	return r;
}

/* The place of one of the manifest's layers: the file itself, or one that it lies above. */
static char *place_of(const struct image *im, const char *digest)
{
	const char *p = im->ref.backing;

	if (strcmp(im->manifest.layers[0].digest, digest) == 0)
		return strdup(im->ref.path);
	for (size_t i = 1; i < im->manifest.n && *p != '\0'; i++, p = strchr(p, '\n') + 1) {
		if (strcmp(im->manifest.layers[i].digest, digest) == 0)
			return strndup(p, strcspn(p, "\n"));
	}
	return NULL;
}

int source_fetch(struct image *im, const struct descriptor *missing, size_t n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		char *where = place_of(im, missing[i].digest);
		struct getting g = { .im = im, .where = where };

		g.url = where != NULL && where[0] != '/';
		r = where != NULL ? get(&g, missing[i].digest, err) : err_nomem(err);
		free(where);
	}
	return r;
}

/* The verb pull, and what the verbs that need a pulled image share with it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include "lib/clock.h"
#include "lib/file.h"
#include "oci/blob.h"
#include "oci/download.h"
#include "oci/job.h"
#include "oci/source.h"

#define INDEX_DEPTH_MAX 3

int image_open(struct image *im, const struct job_opts *o, struct store *s, const char *name,
	struct err *err)
{
	struct buf canonical = { 0 };
	int r;

	*im = (struct image){ .opts = o, .store = s, .name = name };
	progress_init(&im->progress, name);
	r = image_ref_parse(name, &im->ref, err);
	if (r < 0)
		return r;
	image_ref_format(&im->ref, &canonical);
	im->canonical = buf_steal(&canonical);
	return im->canonical != NULL ? 0 : err_nomem(err);
}

void image_close(struct image *im)
{
	ahead_close(im);
	registry_close(im->registry);
	bundle_close(im->bundle);
	manifest_finish(&im->manifest);
	image_config_finish(&im->config);
	progress_finish(&im->progress);
	free(im->canonical);
}

void image_disconnect(struct image *im)
{
	registry_close(im->registry);
	im->registry = NULL;
}

static int need_registry(struct image *im, struct err *err)
{
	int r;

	if (im->registry != NULL || im->bundle != NULL)
		return 0;
	if (im->ref.source != IMAGE_REGISTRY)
		return bundle_open(&im->bundle, &im->ref, err);
	/* Before any credentials are known; without it the layers are unpacked when all are there. */
	r = im->wants_disk && im->ahead == NULL ? ahead_start(im, err) : 0;
	return r == 0 ? registry_open(&im->registry, &im->opts->registry, &im->ref, err) : r;
}

/* Puts a verified document into the store. */
static int keep(struct image *im, const char *want, const struct registry_answer *a, char *digest,
	struct err *err)
{
	char got[DIGEST_MAX];
	int r = digest_of(want != NULL ? want : "sha256:", a->body.data, a->body.len, got, err);

	if (r < 0)
		return r;
	if (want == NULL && str_starts(a->content_digest, "sha256:"))
		want = a->content_digest;
	if (want != NULL && strcmp(got, want) != 0 && im->registry == NULL)
		return err_set(err, -EBADMSG, "%s: its content has changed: it was %s, and is %s",
			quote(im->ref.path), want, got);
	if (want != NULL && strcmp(got, want) != 0)
		return err_set(err, -EBADMSG, "registry %s: wrong content for %s: its digest is %s",
			registry_url(im->registry), want, got);
	strcpy(digest, got);
	return blob_put(im->store, got, a->body.data, a->body.len, err);
}

static int get_manifest(struct image *im, const char *what, struct registry_answer *out,
	char *digest, struct err *err)
{
	const char *want = what != NULL && strchr(what, ':') != NULL ? what : NULL;
	struct registry_answer a = { 0 };
	int r;

	if (im->bundle != NULL)
		r = bundle_document(im->bundle, want, &a.body, err);
	else
		r = registry_get_manifest(im->registry, what, MANIFEST_SIZE_MAX, &a, err);
	if (im->bundle != NULL && r < 0)
		registry_answer_finish(&a);
	else if (r == -ENOENT)
		return err_set(err, r, "not found in registry %s", registry_url(im->registry));
	if (r < 0)
		return r;
	r = keep(im, want, &a, digest, err);
	if (r < 0)
		registry_answer_finish(&a);
	else
		*out = a;
	return r;
}

/* From a tag or a digest down to the platform's manifest. */
static int ask_registry(struct image *im, const char *what, struct err *err)
{
	struct registry_answer a;
	struct descriptor chosen;
	char digest[DIGEST_MAX];
	int r = need_registry(im, err);

	for (int depth = 0; r == 0; depth++) {
		enum manifest_kind kind;

		r = get_manifest(im, what, &a, digest, err);
		if (r < 0)
			return r;
		if (depth == 0)
			strcpy(im->entry.digest, digest);
		r = manifest_kind(a.body.data, a.body.len, a.content_type, &kind, err);
		if (r == 0 && kind == MANIFEST_IMAGE) {
			strcpy(im->entry.manifest, digest);
			r = manifest_parse(a.body.data, a.body.len, &im->manifest, err);
			registry_answer_finish(&a);
			return r;
		}
		if (r == 0)
			r = index_choose(
				a.body.data, a.body.len, &im->opts->platform, &chosen, err);
		registry_answer_finish(&a);
		if (r == 0 && depth == INDEX_DEPTH_MAX)
			r = err_set(err, -EBADMSG, "an index in an index, more than %d deep",
				INDEX_DEPTH_MAX);
		what = chosen.digest;
	}
	return r;
}

static int load_config(struct image *im, struct err *err)
{
	struct buf text = { 0 };
	int r = 0;

	if (!config_is_image(&im->manifest.config))
		return 0;
	r = store_read_blob(im->store, im->manifest.config.digest, MANIFEST_SIZE_MAX, &text, err);
	if (r == 0)
		r = image_config_parse(text.data, text.len, &im->config, err);
	buf_finish(&text);
	return r;
}

/* Fetches the config where it is missing, and compares what it says of the platform. */
static int get_config(struct image *im, struct err *err)
{
	const struct platform *want = &im->opts->platform, *is = &im->config.platform;
	const struct descriptor *config = &im->manifest.config;
	struct registry_answer a = { 0 };
	char digest[DIGEST_MAX];
	int r;

	if (!store_has(im->store, STORE_BLOB, config->digest, config->size)) {
		r = need_registry(im, err);
		if (r == 0 && im->bundle != NULL)
			r = bundle_blob(im->bundle, config->digest, &a.body, err);
		else if (r == 0)
			r = registry_get_blob(
				im->registry, config->digest, MANIFEST_SIZE_MAX, &a, err);
		if (r < 0) {
			registry_answer_finish(&a);
			return err_wrap(err, "image config");
		}
		r = keep(im, config->digest, &a, digest, err);
		registry_answer_finish(&a);
		if (r < 0)
			return r;
	}
	r = load_config(im, err);
	if (r < 0)
		return r;
	if (is->os[0] != '\0' && (strcmp(is->os, want->os) != 0 ||
					 strcmp(is->architecture, want->architecture) != 0))
		return err_set(err, -ENOENT, "no image for %s/%s; there is one for %s and %s",
			want->os, want->architecture, quote(is->os), quote(is->architecture));
	return 0;
}

static int load_pinned(struct image *im, struct err *err)
{
	struct buf text = { 0 };
	int r;

	r = store_read_blob(im->store, im->entry.manifest, MANIFEST_SIZE_MAX, &text, err);
	if (r == 0)
		r = manifest_parse(text.data, text.len, &im->manifest, err);
	if (r == 0)
		r = load_config(im, err);
	buf_finish(&text);
	return r;
}

/* Whether what the store has pinned is for the platform that is asked for now. */
static bool pinned_fits(const struct image *im)
{
	const struct platform *p = &im->entry.platform, *want = &im->opts->platform;

	return p->os[0] == '\0' ||
	       (strcmp(p->os, want->os) == 0 && strcmp(p->architecture, want->architecture) == 0);
}

int image_resolve(struct image *im, struct err *err)
{
	const char *what = im->ref.digest[0] != '\0' ? im->ref.digest : im->ref.tag;
	struct err ignored;
	int r;

	if (im->opts->policy != PULL_ALWAYS) {
		bool pinned = index_get(im->store, im->canonical, &im->entry, &ignored) == 0 &&
			      pinned_fits(im);

		if (pinned && load_pinned(im, &ignored) == 0)
			return 0;
		if (im->opts->policy == PULL_NEVER)
			return err_set(err, -ENOENT,
				"%s: not in the image store, and the policy is never to pull",
				im->name);
		/* A store with holes is mended from what was pinned, not from a moved tag. */
		manifest_finish(&im->manifest);
		if (pinned)
			what = im->entry.digest;
	}
	r = image_is_file(&im->ref) ? source_resolve(im, err) : ask_registry(im, what, err);
	if (r == 0 && !image_is_file(&im->ref))
		r = get_config(im, err);
	if (r < 0)
		return err_wrap(err, "%s", im->name);
	im->entry.platform = im->config.platform;
	return 0;
}

/* The layers without repetitions; returns their number. */
static size_t distinct_layers(const struct manifest *m, struct descriptor *out)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++) {
		size_t j;

		for (j = 0; j < n && strcmp(out[j].digest, m->layers[i].digest) != 0; j++)
			;
		if (j == n)
			out[n++] = m->layers[i];
	}
	return n;
}

static void on_progress(void *arg, const struct descriptor *blob, uint64_t done)
{
	progress_layer(arg, blob, done);
}

static void on_complete(void *arg, const struct descriptor *blob, bool cached)
{
	progress_layer_done(arg, blob, cached);
}

static uint64_t total_size(const struct image *im)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < im->manifest.n; i++)
		sum += im->manifest.layers[i].size;
	return sum;
}

/* A disk made of it is no smaller than its layers are, and counts beside them. */
static uint64_t room_beside(const struct image *im, uint64_t kept)
{
	uint64_t left = im->opts->prune.budget - MIN(kept, im->opts->prune.budget);

	return im->wants_disk ? left / 2 : left;
}

int image_budget_room(const struct image *im, uint64_t *out, struct err *err)
{
	const struct prune_limits *limits = &im->opts->prune;
	uint64_t kept;
	int r;

	*out = UINT64_MAX;
	if (limits->budget == 0)
		return 0;
	r = prune_kept_bytes(im->store, &limits->keep, im->canonical, &kept, err);
	if (r == 0)
		*out = room_beside(im, kept);
	return r;
}

int image_check_budget(const struct image *im, uint64_t bytes, struct err *err)
{
	const struct prune_limits *limits = &im->opts->prune;
	uint64_t kept;
	int r;

	if (limits->budget == 0)
		return 0;
	r = prune_kept_bytes(im->store, &limits->keep, im->canonical, &kept, err);
	if (r < 0 || bytes <= room_beside(im, kept))
		return r;
	return err_set(err, -EDQUOT,
		"it needs %s at least, those that machines need take %s, and the image store may "
		"take %s (image_budget)",
		format_size(im->wants_disk ? 2 * bytes : bytes), format_size(kept),
		format_size(limits->budget));
}

static int check_space(const struct image *im, uint64_t need, struct err *err)
{
	struct statvfs fs;
	uint64_t avail;

	if (statvfs(store_dir(im->store), &fs) < 0)
		return 0;
	avail = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (need <= avail)
		return 0;
	return err_errno(err, -ENOSPC, "it needs %s at least, but %s has only %s free",
		format_size(need), quote(store_dir(im->store)), format_size(avail));
}

/* Returns how many layers the store lacks. */
static size_t missing_layers(struct image *im, const struct descriptor *layers, size_t n,
	struct descriptor *missing, uint64_t *bytes)
{
	size_t lacks = 0;

	*bytes = 0;
	for (size_t i = 0; i < n; i++) {
		if (store_has(im->store, STORE_BLOB, layers[i].digest, layers[i].size))
			continue;
		*bytes += layers[i].size;
		missing[lacks++] = layers[i];
	}
	return lacks;
}

/* From an image in files. */
static int copy_blobs(struct image *im, const struct descriptor *missing, size_t n, struct err *err)
{
	bool cached;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = bundle_fetch(im->bundle, im->store, &missing[i], on_progress, &im->progress,
			&cached, err);
		if (r == 0)
			on_complete(&im->progress, &missing[i], cached);
	}
	return r;
}

static int download(struct image *im, const struct descriptor *missing, size_t n, struct err *err)
{
	const struct download_events events = { on_progress, on_complete, &im->progress };
	struct download *d;
	int r = download_create(&d, im->registry, im->store, missing, n, &events, err);

	if (r < 0)
		return r;
	ahead_begin(im, d);
	r = download_run(d, err);
	download_destroy(d);
	return r;
}

static int fetch(
	struct image *im, struct descriptor *layers, struct descriptor *missing, struct err *err)
{
	size_t n = distinct_layers(&im->manifest, layers), lacks;
	uint64_t bytes;
	int r;

	lacks = missing_layers(im, layers, n, missing, &bytes);
	if (lacks == 0 && im->came)
		return 0;
	r = progress_start(&im->progress, layers, n, n - lacks, err);
	for (size_t i = 0, j = 0; r == 0 && i < n; i++) {
		if (j < lacks && strcmp(layers[i].digest, missing[j].digest) == 0)
			j++;
		else
			progress_layer_done(&im->progress, &layers[i], true);
	}
	if (r < 0 || lacks == 0)
		return r;
	if (im->opts->policy == PULL_NEVER)
		return err_set(err, -ENOENT,
			"a layer is not in the image store, and the policy is never to pull");
	r = image_check_budget(im, total_size(im), err);
	/* What a disk takes is known when it is there: no less than the layers do. */
	if (r == 0)
		r = check_space(im, bytes + (im->wants_disk ? total_size(im) : 0), err);
	if (r == 0 && !image_is_file(&im->ref))
		r = need_registry(im, err);
	if (r == 0 && image_is_file(&im->ref))
		r = source_fetch(im, missing, lacks, err);
	else if (r == 0 && im->bundle != NULL)
		r = copy_blobs(im, missing, lacks, err);
	else if (r == 0)
		r = download(im, missing, lacks, err);
	return r;
}

int image_check_space(struct image *im, uint64_t need, struct err *err)
{
	return check_space(im, need, err);
}

int image_fetch(struct image *im, struct err *err)
{
	struct descriptor *layers = calloc(im->manifest.n + 1, sizeof(*layers));
	struct descriptor *missing = calloc(im->manifest.n + 1, sizeof(*missing));
	int r = layers != NULL && missing != NULL ? fetch(im, layers, missing, err)
						  : err_nomem(err);

	progress_end(&im->progress);
	free(layers);
	free(missing);
	return r < 0 ? err_wrap(err, "%s", im->name) : 0;
}

int image_record(struct image *im, struct err *err)
{
	im->entry.size = 0;
	for (size_t i = 0; i < im->manifest.n; i++)
		im->entry.size += im->manifest.layers[i].size;
	im->entry.pulled_ms = clock_unix_ms();
	return index_put(im->store, im->canonical, &im->entry, err);
}

json_t *image_done(const struct image *im)
{
	json_t *v = json_pack(
		"{s:s,s:s,s:s}", "event", "done", "ref", im->name, "digest", im->entry.manifest);

	if (v != NULL && im->entry.platform.os[0] != '\0') {
		json_object_set_new(v, "os", json_string(im->entry.platform.os));
		json_object_set_new(
			v, "architecture", json_string(im->entry.platform.architecture));
	}
	return v;
}

int job_each_image(const struct job_opts *given, image_fn *each)
{
	struct job_opts mine = *given, *o = &mine;
	struct store *s;
	struct err err = { 0 };
	int r = registry_ask_helpers(&mine.registry, &o->refs, &err);

	if (r == 0)
		r = job_sandbox_store(o, true, &err);
	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r < 0) {
		registry_forget_helpers(&mine.registry);
		progress_error(NULL, &err);
		return r;
	}
	for (size_t i = 0; r == 0 && i < o->refs.n; i++) {
		struct image im;

		r = image_open(&im, o, s, o->refs.v[i], &err);
		if (r == 0)
			r = each(&im, &err);
		if (r < 0)
			progress_error(o->refs.v[i], &err);
		image_close(&im);
	}
	registry_forget_helpers(&mine.registry);
	store_sweep(s);
	store_close(s);
	return r;
}

static int pull_one(struct image *im, struct err *err)
{
	json_t *done;
	int r = image_resolve(im, err);

	if (r == 0)
		r = image_fetch(im, err);
	if (r == 0)
		r = image_record(im, err);
	if (r < 0)
		return r;
	done = image_done(im);
	if (done != NULL)
		json_object_set_new(done, "size", json_integer((json_int_t)im->entry.size));
	progress_event(done);
	return 0;
}

int job_pull(const struct job_opts *o)
{
	return job_each_image(o, pull_one);
}

static void empty_store(const char *dir)
{
	static const char *const names[] = { "blobs", "built", "kernels", "tmp", "index.json",
		"index.lock", "lock" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = path_join(dir, names[i]);

		if (path != NULL)
			remove_tree(path, NULL);
		free(path);
	}
}

/*
 * Through a cache, for its sake alone: what comes is verified, and thrown away. Only one process at a
 * time has the folder; the sandbox lets it be emptied, but not removed.
 */
int job_prefetch(const struct job_opts *given)
{
	struct job_opts o = *given;
	char *dir = path_join(given->spool, "prefetch");
	struct err err = { 0 };
	int r = dir != NULL ? remove_tree(dir, &err) : err_nomem(&err);

	if (r < 0) {
		progress_error(NULL, &err);
	} else {
		o.store = dir;
		r = job_pull(&o);
		empty_store(dir);
	}
	free(dir);
	return r;
}

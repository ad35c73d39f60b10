/* The verbs that only look: inspect, outdated, verify. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/json.h"
#include "oci/digest.h"
#include "oci/job.h"
#include "oci/source.h"

/* ---- inspect ---- */

enum layout_kind {
	LAYOUT_FEOS,
	LAYOUT_CONTAINER_DISK,
	LAYOUT_KERNEL,
	LAYOUT_KERNEL_ROOTFS,
	LAYOUT_ROOTFS,
	LAYOUT_FILES,
	LAYOUT_UKI,
	LAYOUT_FILE,
	LAYOUT_DISK_FILE
};

static const struct layout {
	const char *name, *boot;
} layouts[] = {
	[LAYOUT_FEOS] = { "feos",
		"kernel = and rootfs = take it: its layers are kernel, initramfs and disk" },
	[LAYOUT_CONTAINER_DISK] = { "container-disk",
		"rootfs = takes it: its one file is the disk, firmware boots it" },
	[LAYOUT_KERNEL] = { "kernel", "kernel = takes it: kernel and initrd are in /boot" },
	[LAYOUT_KERNEL_ROOTFS] = { "kernel-rootfs",
		"kernel = and rootfs = take it: a filesystem with its own kernel" },
	[LAYOUT_ROOTFS] = { "rootfs",
		"rootfs = takes it, made into an ext4; a kernel = is needed beside it" },
	[LAYOUT_FILES] = { "files",
		"rootfs = takes it, made into an ext4, but there is nothing in it to start" },
	[LAYOUT_UKI] = { "uki",
		"kernel = takes it: a unified kernel image, which firmware = uefi boots" },
	[LAYOUT_FILE] = { "file",
		"rootfs = takes it as a raw disk, which firmware boots; or kernel = as a kernel" },
	[LAYOUT_DISK_FILE] = { "disk-file",
		"rootfs = takes it, made raw by qemu-img: a disk, which firmware boots" },
};

static const struct layout *layout_of(const struct image *im, const struct look *l)
{
	enum image_format f = source_format(&im->manifest);

	if (f != FORMAT_BY_NAME)
		return &layouts[f == FORMAT_EFI   ? LAYOUT_UKI
				: f == FORMAT_RAW ? LAYOUT_FILE
						  : LAYOUT_DISK_FILE];
	if (look_feos(&im->manifest, "vmlinuz") != NULL ||
		look_feos(&im->manifest, "rootfs") != NULL ||
		look_feos(&im->manifest, "squashfs") != NULL)
		return &layouts[LAYOUT_FEOS];
	if (l->disk[0] != '\0')
		return &layouts[LAYOUT_CONTAINER_DISK];
	if (image_format_of_name(l->kernel) == FORMAT_EFI)
		return &layouts[LAYOUT_UKI];
	if (l->kernel[0] != '\0')
		return &layouts[l->init ? LAYOUT_KERNEL_ROOTFS : LAYOUT_KERNEL];
	return &layouts[l->init ? LAYOUT_ROOTFS : LAYOUT_FILES];
}

static void put(json_t *v, const char *key, const char *value)
{
	if (value[0] != '\0')
		json_object_set_new(v, key, json_str_new(value));
}

static void tell_image(const struct image *im, const struct look *l)
{
	const struct layout *layout = layout_of(im, l);
	json_t *v = image_done(im), *layers = json_array();

	for (size_t i = 0; i < im->manifest.n; i++) {
		const struct descriptor *d = &im->manifest.layers[i];

		json_array_append_new(
			layers, json_pack("{s:s,s:o,s:I}", "digest", d->digest, "type",
					json_str_new(d->media_type), "size", (json_int_t)d->size));
	}
	if (v != NULL) {
		json_object_set_new(v, "layout", json_string(layout->name));
		json_object_set_new(v, "boot", json_string(layout->boot));
		json_object_set_new(v, "files", json_integer((json_int_t)l->files));
		if (source_format(&im->manifest) != FORMAT_BY_NAME)
			put(v, "format", image_format_name(source_format(&im->manifest)));
		put(v, "kernel", l->kernel);
		put(v, "initrd", l->initrd);
		put(v, "disk", l->disk);
		json_object_set(v, "layers", layers);
	}
	json_decref(layers);
	progress_event(v);
}

static int inspect_one(struct image *im, struct err *err)
{
	struct layer_src *src;
	struct look l = { 0 };
	int r = image_resolve(im, err);

	if (r == 0)
		r = image_fetch(im, err);
	image_disconnect(im);
	/* What is one file, or a file a layer, has no names to read. */
	if (r == 0 && source_format(&im->manifest) == FORMAT_BY_NAME &&
		layout_of(im, &l) != &layouts[LAYOUT_FEOS]) {
		r = image_sources(im, &src, err);
		if (r == 0) {
			r = unpack_look(src, im->manifest.n, &im->opts->limits, &l, err);
			image_sources_free(src, im->manifest.n);
		}
	}
	if (r == 0)
		r = image_record(im, err);
	if (r == 0)
		tell_image(im, &l);
	return r;
}

int job_inspect(const struct job_opts *o)
{
	return job_each_image(o, inspect_one);
}

/* ---- outdated ---- */

static int compare(const struct job_opts *o, struct store *s, const char *name,
	const struct index_entry *was, json_int_t *moved)
{
	struct job_opts ask = *o;
	struct image im;
	struct err err = { 0 };
	int r;

	ask.policy = PULL_ALWAYS;
	ask.look_only = true;
	ask.platform = was->platform.os[0] != '\0' ? was->platform : o->platform;
	r = image_open(&im, &ask, s, name, &err);
	/* What is named by its digest cannot move. */
	if (r == 0 && im.ref.digest[0] == '\0')
		r = image_resolve(&im, &err);
	else if (r == 0)
		im.entry = *was;
	if (r < 0) {
		progress_event(json_pack("{s:s,s:s,s:s,s:o}", "event", "unknown", "ref", name,
			"digest", was->digest, "message", json_str_new(err.msg)));
	} else if (strcmp(im.entry.digest, was->digest) != 0) {
		progress_event(json_pack("{s:s,s:s,s:s,s:s}", "event", "moved", "ref", name,
			"digest", was->digest, "now", im.entry.digest));
		++*moved;
	}
	image_close(&im);
	return 0;
}

static int each_outdated(const struct job_opts *o, struct store *s, struct err *err)
{
	struct index_entry was;
	json_int_t moved = 0;
	json_t *images, *v;
	const char *name;
	int r = index_images(s, &images, err);

	if (r < 0)
		return r;
	json_object_foreach (images, name, v) {
		if (index_entry_parse(v, &was, NULL) == 0)
			compare(o, s, name, &was, &moved);
	}
	json_decref(images);
	progress_event(json_pack("{s:s,s:I}", "event", "done", "moved", moved));
	return 0;
}

static int with_store(const struct job_opts *o, bool network,
	int (*fn)(const struct job_opts *o, struct store *s, struct err *err))
{
	struct err err = { 0 };
	struct store *s;
	int r = job_sandbox_store(o, network, &err);

	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r == 0) {
		r = fn(o, s, &err);
		store_close(s);
	}
	if (r < 0)
		progress_error(NULL, &err);
	return r;
}

/* The sandbox leaves open where they came from: that is read from the index before. */
int job_outdated(const struct job_opts *o)
{
	struct job_opts all = *o;
	struct store *s = NULL;
	json_t *images = NULL, *v;
	struct err err = { 0 };
	const char *name;
	int r = store_open(&s, o->store, false, &err);

	all.refs = (struct strv){ 0 };
	if (r == 0)
		r = index_images(s, &images, &err);
	json_object_foreach (images, name, v)
		strv_add(&all.refs, name);
	json_decref(images);
	store_close(s);
	if (r == 0 && all.refs.bad)
		r = err_nomem(&err);
	if (r == 0)
		r = registry_ask_helpers(&all.registry, &all.refs, &err);
	if (r < 0)
		progress_error(NULL, &err);
	else
		r = with_store(&all, true, each_outdated);
	registry_forget_helpers(&all.registry);
	strv_finish(&all.refs);
	return r;
}

/* ---- verify ---- */

struct check {
	struct store *store;
	json_int_t good, damaged;
};

static int digest_file(const char *path, const char *like, char got[DIGEST_MAX], struct err *err)
{
	struct digest *d;
	char *piece = malloc(256 << 10);
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;

	r = fd < 0 ? err_errno(err, -errno, "open %s", quote(path)) : 0;
	if (r == 0)
		r = piece != NULL ? digest_create(&d, like, err) : err_nomem(err);
	if (r == 0) {
		while ((n = read(fd, piece, 256 << 10)) > 0)
			digest_update(d, piece, (size_t)n);
		if (n < 0)
			r = err_errno(err, -errno, "read %s", quote(path));
		else
			r = digest_final(d, got);
		digest_destroy(d);
	}
	if (fd >= 0)
		close(fd);
	free(piece);
	return r;
}

/* What is wrong goes: the next pull of an image that needs it fetches it again. */
static int verify_one(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	struct check *c = arg;
	char got[DIGEST_MAX], *path;
	struct err err = { 0 };
	int r;

	if (kind != STORE_BLOB)
		return 0;
	path = store_path(c->store, kind, key);
	r = path != NULL ? digest_file(path, key, got, &err) : -ENOMEM;
	free(path);
	if (r == 0 && strcmp(got, key) == 0) {
		c->good++;
		return 0;
	}
	c->damaged++;
	progress_event(json_pack("{s:s,s:s,s:o}", "event", "damaged", "digest", key, "message",
		json_str_new(r < 0 ? err.msg : "its content has another digest")));
	return r == 0 ? store_remove(c->store, kind, key, NULL) : 0;
}

static int each_verify(const struct job_opts *o, struct store *s, struct err *err)
{
	struct check c = { .store = s };
	int r = store_each(s, verify_one, &c, err);

	if (r == 0)
		progress_event(json_pack(
			"{s:s,s:I,s:I}", "event", "done", "good", c.good, "damaged", c.damaged));
	return r;
}

int job_verify(const struct job_opts *o)
{
	return with_store(o, false, each_verify);
}

/* The verbs kernel and rootfs: what machines boot from, made of an image's layers once. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/extract.h"
#include "oci/job.h"
#include "oci/job-convert.h"
#include "oci/source.h"
#include "oci/clone.h"
#include "oci/unpack.h"

/* Counted up when the same layers give another result, so that old results are not reused. */
#define DISK_VERSION   1
#define KERNEL_VERSION 1

/* The key of what is made of the layers: a digest of them and of how it is made. */
static int make_key(const struct image *im, const char *how, char key[DIGEST_MAX], struct err *err)
{
	struct buf text = { 0 };
	char digest[DIGEST_MAX];
	int r;

	buf_printf(&text, "%s\n", how);
	for (size_t i = 0; i < im->manifest.n; i++) {
		const struct descriptor *l = &im->manifest.layers[i];
		enum image_format f = source_layer_format(l);

		buf_printf(&text, "%s\n", l->digest);
		/* The same bytes as another format are another disk. */
		if (f != FORMAT_BY_NAME)
			buf_printf(&text, "format %s\n", image_format_name(f));
	}
	if (im->ref.format != FORMAT_BY_NAME && !image_is_file(&im->ref))
		buf_printf(&text, "disk format %s\n", image_format_name(im->ref.format));
	r = text.bad ? err_nomem(err) : digest_of("sha256:", text.data, text.len, digest, err);
	if (r == 0)
		strcpy(key, strchr(digest, ':') + 1);
	buf_finish(&text);
	return r;
}

void image_sources_free(struct layer_src *src, size_t n)
{
	for (size_t i = 0; src != NULL && i < n; i++)
		free((char *)src[i].path);
	free(src);
}

int image_sources(const struct image *im, struct layer_src **out, struct err *err)
{
	struct layer_src *src = calloc(im->manifest.n + 1, sizeof(*src));
	/* Docker leaves empty layers out of diff_ids' number only in schema 1; else they pair up. */
	bool paired = im->config.n == im->manifest.n;

	if (src == NULL)
		return err_nomem(err);
	for (size_t i = 0; i < im->manifest.n; i++) {
		const struct descriptor *l = &im->manifest.layers[i];

		src[i].path = store_path(im->store, STORE_BLOB, l->digest);
		src[i].fd = -1;
		src[i].media_type = l->media_type;
		src[i].diff_id = paired ? im->config.diff_ids[i] : NULL;
		if (src[i].path == NULL) {
			image_sources_free(src, i);
			return err_nomem(err);
		}
	}
	*out = src;
	return 0;
}

void image_on_build(void *arg, uint64_t done, uint64_t total)
{
	progress_build(arg, done, total);
}

static int sync_file(const char *dir, const char *name, struct err *err)
{
	char *path = name != NULL ? str_printf("%s/%s", dir, name) : strdup(dir);
	int fd, r = 0;

	if (path == NULL)
		return err_nomem(err);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fsync(fd) < 0)
		r = err_errno(err, -errno, "sync %s", quote(path));
	else if (fd < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "open %s", quote(path));
	if (fd >= 0)
		close(fd);
	free(path);
	return r;
}

/* A layer that is the file itself. */
static int take_whole(struct image *im, const struct descriptor *d, const char *dir,
	const char *name, struct err *err)
{
	char *from = store_path(im->store, STORE_BLOB, d->digest);
	char *to = name != NULL ? str_printf("%s/%s", dir, name) : strdup(dir);
	enum clone_method method;
	int r;

	r = from != NULL && to != NULL ? clone_file(from, to, 0, &method, err) : err_nomem(err);
	if (r == 0 && chmod(to, 0644) < 0)
		r = err_errno(err, -errno, "chmod %s", quote(to));
	if (r == 0)
		r = file_sync(to, err);
	free(from);
	free(to);
	return r;
}

static int feos_kernel(struct image *im, const char *dir, struct err *err)
{
	const struct descriptor *initrd = look_feos(&im->manifest, "initramfs");
	int r = take_whole(im, look_feos(&im->manifest, "vmlinuz"), dir, "kernel", err);

	if (r == 0 && initrd != NULL)
		r = take_whole(im, initrd, dir, "initrd", err);
	return r == 0 ? sync_file(dir, NULL, err) : r;
}

/* The image is the kernel. */
static int file_kernel(struct image *im, const char *dir, struct err *err)
{
	enum image_format f = source_format(&im->manifest);
	int r;

	if (f != FORMAT_RAW && f != FORMAT_EFI)
		return err_set(err, -EINVAL, "a %s is a disk and no kernel", image_format_name(f));
	r = take_whole(im, &im->manifest.layers[0], dir, "kernel", err);
	return r == 0 ? sync_file(dir, NULL, err) : r;
}

static const struct descriptor *feos_disk(const struct manifest *m)
{
	const struct descriptor *d = look_feos(m, "rootfs");

	return d != NULL ? d : look_feos(m, "squashfs");
}

static int extract_into(struct image *im, const char *dir, struct err *err)
{
	struct layer_src *src;
	struct kernel_files files = { 0 };
	int fds[2], fd, r;

	if (mkdir(dir, 0755) < 0)
		return err_errno(err, -errno, "create %s", quote(dir));
	if (look_feos(&im->manifest, "vmlinuz") != NULL)
		return feos_kernel(im, dir, err);
	if (source_format(&im->manifest) != FORMAT_BY_NAME)
		return file_kernel(im, dir, err);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(dir));
	r = image_sources(im, &src, err);
	if (r == 0) {
		r = extract_create(fd, fds, err);
		if (r == 0) {
			r = unpack_kernel(src, im->manifest.n, &im->opts->limits, fds[0], fds[1],
				image_on_build, &im->progress, &files, err);
			r = extract_close(fd, fds, files.initrd[0] != '\0', r, err);
		}
		image_sources_free(src, im->manifest.n);
	}
	close(fd);
	if (r == 0)
		r = sync_file(dir, "kernel", err);
	if (r == 0)
		r = sync_file(dir, "initrd", err);
	return r == 0 ? sync_file(dir, NULL, err) : r;
}

/* The image is the disk. A raw one is taken by its blob, which has holes where zeros were. */
static int file_disk(struct image *im, const char *path, struct err *err)
{
	enum image_format f = source_format(&im->manifest);

	if (f == FORMAT_EFI)
		return err_set(err, -EINVAL, "an EFI program is a kernel and no disk");
	if (f == FORMAT_RAW)
		return take_whole(im, &im->manifest.layers[0], path, NULL, err);
	return convert_image(im, path, err);
}

static int build_into(struct image *im, const char *path, const char *key, struct err *err)
{
	struct disk_opts opts = { .size_bytes = im->opts->size,
		.seed = key,
		.progress = image_on_build,
		.arg = &im->progress };
	struct disk_result result;
	struct layer_src *src;
	int fd, r;

	if (feos_disk(&im->manifest) != NULL)
		return take_whole(im, feos_disk(&im->manifest), path, NULL, err);
	if (source_format(&im->manifest) != FORMAT_BY_NAME)
		return file_disk(im, path, err);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(path));
	r = image_sources(im, &src, err);
	if (r == 0) {
		r = unpack_disk(src, im->manifest.n, &opts, &im->opts->limits, fd, &result, err);
		image_sources_free(src, im->manifest.n);
	}
	if (r == 0 && fsync(fd) < 0)
		r = err_errno(err, -errno, "sync %s", quote(path));
	close(fd);
	if (r == 0 && result.kind == DISK_RAW)
		r = convert_extracted(im, path, result.format, key, err);
	if (r == 0 && result.warning[0] != '\0')
		progress_warning(result.warning);
	return r;
}

/* Makes the item unless it is there, also when another process is just making it. */
static int make(struct image *im, enum store_kind kind, const char *key, struct err *err)
{
	struct store_work *w;
	const char *path;
	int r = store_claim(im->store, kind, key, true, &w, err);

	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return r;
	path = store_work_path(w);
	/* What a dead process left here is no use. */
	r = remove_tree(path, err);
	if (r == 0)
		r = kind == STORE_KERNEL ? extract_into(im, path, err)
					 : build_into(im, path, key, err);
	if (r == 0)
		return store_commit(w, err);
	store_abandon(w);
	return r < 0 ? err_wrap(err, "%s", im->name) : 0;
}

/* Resolves, fetches and makes, each only if it is needed. */
static int obtain(struct image *im, enum store_kind kind, const char *how, char key[DIGEST_MAX],
	struct err *err)
{
	int r;

	im->wants_disk = kind == STORE_DISK;
	r = image_resolve(im, err);
	if (r == 0)
		r = make_key(im, how, key, err);
	if (r == 0 && !store_has(im->store, kind, key, UINT64_MAX)) {
		if (feos_disk(&im->manifest) == NULL &&
			source_format(&im->manifest) == FORMAT_BY_NAME)
			ahead_expect(im, key);
		r = image_fetch(im, err);
		/* Its credentials are nothing for the process that unpacks. */
		image_disconnect(im);
		if (r == 0)
			r = ahead_finish(im, err);
		if (r == 0)
			r = make(im, kind, key, err);
		r = MIN(r, 0);
	}
	if (r == 0)
		r = image_record(im, err);
	if (r == 0)
		r = index_add_built(im->store, im->canonical, kind, key, err);
	return r;
}

static int kernel_one(struct image *im, struct err *err)
{
	char key[DIGEST_MAX], how[64];
	char *dir, *kernel = NULL, *initrd = NULL;
	json_t *done;
	int r;

	snprintf(how, sizeof(how), "kernel %d", KERNEL_VERSION);
	r = obtain(im, STORE_KERNEL, how, key, err);
	if (r < 0)
		return r;
	dir = store_path(im->store, STORE_KERNEL, key);
	if (dir != NULL) {
		kernel = str_printf("%s/kernel", dir);
		initrd = str_printf("%s/initrd", dir);
	}
	done = image_done(im);
	if (done != NULL && kernel != NULL && initrd != NULL) {
		json_object_set_new(done, "kernel", json_string(kernel));
		if (access(initrd, F_OK) == 0)
			json_object_set_new(done, "initrd", json_string(initrd));
	} else {
		r = err_nomem(err);
	}
	if (r == 0)
		progress_event(json_incref(done));
	json_decref(done);
	free(dir);
	free(kernel);
	free(initrd);
	return r;
}

static int rootfs_one(struct image *im, struct err *err)
{
	char key[DIGEST_MAX], how[64];
	struct stat st;
	json_t *done;
	char *path;
	int r;

	/* A disk that is there already has the size that it has. */
	snprintf(how, sizeof(how), "disk %d %llu", DISK_VERSION,
		image_is_file(&im->ref) ? 0 : (unsigned long long)im->opts->size);
	r = obtain(im, STORE_DISK, how, key, err);
	if (r < 0)
		return r;
	path = store_path(im->store, STORE_DISK, key);
	done = image_done(im);
	if (path == NULL || done == NULL)
		r = err_nomem(err);
	else if (stat(path, &st) < 0)
		r = err_errno(err, -errno, "%s: %s", im->name, quote(path));
	if (r == 0) {
		json_object_set_new(done, "disk", json_string(path));
		json_object_set_new(done, "size", json_integer(st.st_size));
		progress_event(json_incref(done));
	}
	json_decref(done);
	free(path);
	return r;
}

int job_kernel(const struct job_opts *o)
{
	return job_each_image(o, kernel_one);
}

int job_rootfs(const struct job_opts *o)
{
	struct job_opts sized = *o;

	/* A copy that shares its blocks grows; an overlay cannot, and is above a disk of its size. */
	if (o->size_if_copied != 0 && mkdir_p(o->store, 0755, NULL) == 0 &&
		!clone_can_reflink(o->store))
		sized.size = o->size_if_copied;
	return job_each_image(&sized, rootfs_one);
}

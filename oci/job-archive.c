/* The verbs import and export: images that come and go in files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "oci/archive-write.h"
#include "oci/bundle-file.h"
#include "oci/job.h"

/* ---- import ---- */

/* "oci:/dir" and the like, of a bare path by what is there; "" for what has to be looked into. */
static int guess_folder(const char *from, struct buf *out, struct err *err)
{
	struct stat st;

	if (from[0] != '/') {
		buf_adds(out, from);
		return 0;
	}
	if (stat(from, &st) < 0)
		return err_errno(err, -errno, "%s", quote(from));
	if (S_ISDIR(st.st_mode))
		buf_printf(out, "oci:%s", from);
	else if (image_format_of_name(from) != FORMAT_BY_NAME)
		buf_printf(out, "file:%s", from);
	return out->bad ? err_nomem(err) : 0;
}

/* In the sandbox: a tar is taken for what it has, the OCI layout before docker's own. */
static int guess_archive(const char *path, struct buf *out, struct err *err)
{
	uint64_t size;
	int r = bundle_file_size(path, true, "index.json", &size, err);

	if (r == 0) {
		buf_printf(out, "oci-archive:%s", path);
	} else if (r == -ENOENT) {
		r = bundle_file_size(path, true, "manifest.json", &size, err);
		if (r == -ENOENT)
			return err_set(err, r,
				"%s is no archive of an image: it has neither index.json nor manifest.json",
				quote(path));
		buf_printf(out, "docker-archive:%s", path);
	}
	return r == 0 && out->bad ? err_nomem(err) : r;
}

/* The name under which it goes into the store. */
static int name_import(struct image *im, const char *given, struct err *err)
{
	struct buf inside = { 0 }, canonical = { 0 };
	const char *name = given;
	struct image_ref ref;
	int r = 0;

	if (name == NULL && im->bundle != NULL) {
		r = bundle_name(im->bundle, &inside, err);
		name = buf_str(&inside);
	}
	if (r == 0 && (name == NULL || name[0] == '\0'))
		r = err_set(err, -EINVAL,
			"the file does not say what the image is called: give its name (--name)");
	if (r == 0)
		r = image_ref_parse(name, &ref, err);
	if (r == 0 && (ref.source != IMAGE_REGISTRY || ref.digest[0] != '\0'))
		r = err_set(err, -EINVAL, "the name %s is none of a registry's kind with a tag",
			quote(name));
	if (r == 0) {
		ref.format = FORMAT_BY_NAME;
		image_ref_format(&ref, &canonical);
		free(im->canonical);
		im->canonical = buf_steal(&canonical);
		if (im->canonical == NULL)
			r = err_nomem(err);
	}
	buf_finish(&inside);
	return r;
}

static int import_from(
	const struct job_opts *o, struct store *s, const char *source, struct err *err)
{
	struct job_opts always = *o;
	struct image im;
	json_t *done;
	int r;

	always.policy = PULL_ALWAYS;
	r = image_open(&im, &always, s, source, err);
	if (r == 0 && im.ref.source == IMAGE_REGISTRY)
		r = err_set(err, -EINVAL, "%s is no file", quote(source));
	if (r == 0)
		r = image_resolve(&im, err);
	if (r == 0)
		r = name_import(&im, o->name, err);
	if (r == 0)
		r = image_fetch(&im, err);
	if (r == 0)
		r = image_record(&im, err);
	if (r == 0) {
		done = image_done(&im);
		json_object_set_new(done, "name", json_string(im.canonical));
		json_object_set_new(done, "size", json_integer((json_int_t)im.entry.size));
		progress_event(done);
	}
	image_close(&im);
	return r;
}

int job_import(const struct job_opts *o)
{
	struct job_opts mine = *o;
	struct buf source = { 0 };
	struct store *s = NULL;
	struct err err = { 0 };
	int r = guess_folder(o->from, &source, &err);

	/* What the sandbox leaves open is the file. */
	mine.refs = (struct strv){ 0 };
	if (source.len > 0)
		strv_add(&mine.refs, buf_str(&source));
	else
		strv_addf(&mine.refs, "oci-archive:%s", o->from);
	if (r == 0 && mine.refs.bad)
		r = err_nomem(&err);
	if (r == 0)
		r = job_sandbox_store(&mine, false, &err);
	if (r == 0 && source.len == 0)
		r = guess_archive(o->from, &source, &err);
	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r == 0)
		r = import_from(&mine, s, buf_str(&source), &err);
	if (r < 0)
		progress_error(o->from, &err);
	if (s != NULL) {
		store_sweep(s);
		store_close(s);
	}
	buf_finish(&source);
	strv_finish(&mine.refs);
	return r;
}

/* ---- export ---- */

static int write_file(struct image *im, const char *to, struct err *err)
{
	char *part = str_printf("%s.part", to);
	int fd = -1, r = part != NULL ? 0 : err_nomem(err);

	if (r == 0 && unlink(part) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "remove %s", quote(part));
	if (r == 0) {
		fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			r = err_errno(err, -errno, "create %s", quote(part));
	}
	if (r == 0)
		r = archive_write_image(im, fd, err);
	if (r == 0 && fsync(fd) < 0)
		r = err_errno(err, -errno, "sync %s", quote(part));
	if (r == 0 && rename(part, to) < 0)
		r = err_errno(err, -errno, "rename %s to %s", quote(part), quote(to));
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && r < 0)
		unlink(part);
	free(part);
	return r;
}

static int export_to(const struct job_opts *o, struct store *s, struct err *err)
{
	struct job_opts never = *o;
	struct image im;
	struct stat st;
	json_t *done;
	int r;

	/* What is exported is what machines were started from. */
	never.policy = PULL_NEVER;
	r = image_open(&im, &never, s, o->refs.v[0], err);
	if (r == 0)
		r = image_resolve(&im, err);
	if (r == 0)
		r = image_fetch(&im, err);
	if (r == 0) {
		r = write_file(&im, o->to, err);
		if (r < 0)
			err_wrap(err, "%s", im.name);
	}
	if (r == 0) {
		done = image_done(&im);
		json_object_set_new(done, "file", json_str_new(o->to));
		if (stat(o->to, &st) == 0)
			json_object_set_new(done, "size", json_integer(st.st_size));
		progress_event(done);
	}
	image_close(&im);
	return r;
}

static int sandbox_export(const struct job_opts *o, struct err *err)
{
	struct sandbox_path paths[] = { { o->store, true }, { NULL, true } };
	char *dir = strdup(o->to), *slash = dir != NULL ? strrchr(dir, '/') : NULL;
	int r;

	if (dir == NULL)
		return err_nomem(err);
	if (slash != NULL)
		slash[slash == dir ? 1 : 0] = '\0';
	paths[1].path = slash != NULL ? dir : ".";
	r = job_sandbox(paths, 2, false, err);
	free(dir);
	return r;
}

int job_export(const struct job_opts *o)
{
	struct store *s = NULL;
	struct err err = { 0 };
	int r = o->refs.n == 1 ? sandbox_export(o, &err)
			       : err_set(&err, -EINVAL, "one image goes into one file");

	if (r == 0)
		r = store_open(&s, o->store, false, &err);
	if (r == 0)
		r = export_to(o, s, &err);
	if (r < 0)
		progress_error(o->refs.v[0], &err);
	store_close(s);
	return r;
}

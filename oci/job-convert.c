#include "oci/job-convert.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "oci/convert.h"
#include "oci/source.h"

static void on_convert(void *arg, uint64_t done, uint64_t total)
{
	progress_build(arg, done, total);
}

static int convert_chain(struct image *im, const struct convert_file *files, size_t n,
	const char *to, struct err *err)
{
	struct convert_spec spec = { .files = files,
		.n = n,
		.max_bytes = im->opts->max_bytes,
		.limits = &im->opts->limits,
		.progress = on_convert,
		.arg = &im->progress };

	return convert_disk(&spec, to, err);
}

int convert_image(struct image *im, const char *path, struct err *err)
{
	struct convert_file files[IMAGE_BACKING_MAX + 1];
	size_t n = 0;
	int r = 0;

	if (im->manifest.n > ARRAY_LEN(files))
		return err_set(err, -EINVAL, "it has too many backing files");
	for (; r == 0 && n < im->manifest.n; n++) {
		const struct descriptor *l = &im->manifest.layers[n];

		files[n].format = source_layer_format(l);
		files[n].path = store_path(im->store, STORE_BLOB, l->digest);
		if (files[n].path == NULL)
			r = err_nomem(err);
	}
	if (r == 0)
		r = convert_chain(im, files, n, path, err);
	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)files[i].path);
	return r;
}

/* A place beside it, whose lock keeps it from being swept away. */
static int claim_beside(struct image *im, const char *key, struct store_work **out, struct err *err)
{
	char *text = str_printf("what disk %s is converted from", key), digest[DIGEST_MAX];
	int r = text != NULL ? digest_of("sha256:", text, strlen(text), digest, err)
			     : err_nomem(err);

	free(text);
	return r == 0 ? store_claim(im->store, STORE_DISK, strchr(digest, ':') + 1, true, out, err)
		      : r;
}

int convert_extracted(struct image *im, const char *path, enum image_format by_name,
	const char *key, struct err *err)
{
	struct convert_file file = { .format = im->ref.format };
	struct store_work *beside;
	const char *magic;
	int r;

	if (file.format == FORMAT_BY_NAME)
		file.format = by_name;
	/* The process that unpacked is not to be believed. */
	if (file.format < FORMAT_BY_NAME || file.format > FORMAT_VHDX)
		return err_set(err, -EINVAL, "its disk is in no format of disks");
	magic = file.format == FORMAT_BY_NAME ? source_magic(path) : NULL;
	if (magic != NULL)
		return err_set(err, -EINVAL,
			"its disk begins as a %s does, but its name does not say so: give its format (format = %s, or format = raw)",
			magic, magic);
	if (file.format == FORMAT_BY_NAME || file.format == FORMAT_RAW)
		return 0;
	r = claim_beside(im, key, &beside, err);
	if (r < 0)
		return r;
	file.path = store_work_path(beside);
	if (rename(path, file.path) < 0)
		r = err_errno(err, -errno, "rename %s", quote(path));
	if (r == 0)
		r = convert_chain(im, &file, 1, path, err);
	store_abandon(beside);
	return r;
}

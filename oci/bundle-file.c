#include "oci/bundle-file.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/str.h"

#define PIECE ((size_t)256 << 10)

static int open_regular(const char *path, int *out, struct stat *st, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r = 0;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	if (fstat(fd, st) < 0)
		r = err_errno(err, -errno, "stat %s", quote(path));
	else if (!S_ISREG(st->st_mode))
		r = err_set(err, -EINVAL, "%s is no regular file", quote(path));
	if (r < 0)
		close(fd);
	else
		*out = fd;
	return r;
}

static int from_folder(
	const char *dir, const char *name, bundle_data_fn *fn, void *arg, struct err *err)
{
	char *path = path_join(dir, name), *piece = malloc(PIECE);
	struct stat st;
	ssize_t n;
	int fd = -1, r;

	r = path != NULL && piece != NULL ? open_regular(path, &fd, &st, err) : err_nomem(err);
	while (r == 0 && (n = read(fd, piece, PIECE)) != 0) {
		if (n < 0 && errno != EINTR)
			r = err_errno(err, -errno, "read %s", quote(path));
		else if (n > 0)
			r = fn(arg, piece, (size_t)n, (uint64_t)st.st_size, err);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	free(piece);
	return r;
}

static int unreadable(struct archive *a, const char *path, struct err *err)
{
	const char *why = archive_error_string(a);

	if (archive_errno(a) == ENOMEM)
		return err_nomem(err);
	return err_set(err, -EBADMSG, "%s: no tar that can be read: %s", quote(path),
		why != NULL ? quote(why) : "unknown reason");
}

static bool is_file(struct archive_entry *e, const char *name)
{
	const char *path = archive_entry_pathname(e);

	if (path == NULL || archive_entry_filetype(e) != AE_IFREG ||
		archive_entry_hardlink(e) != NULL)
		return false;
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	return strcmp(path, name) == 0;
}

static int take(struct archive *a, struct archive_entry *e, const char *path, bundle_data_fn *fn,
	void *arg, struct err *err)
{
	uint64_t size = (uint64_t)MAX(archive_entry_size(e), 0), at = 0;
	const void *data;
	int64_t offset;
	size_t len;
	int r, code;

	while ((code = archive_read_data_block(a, &data, &len, &offset)) == ARCHIVE_OK) {
		if ((uint64_t)offset != at)
			return err_set(err, -EBADMSG, "%s: it has a sparse file", quote(path));
		r = fn(arg, data, len, size, err);
		if (r < 0)
			return r;
		at += len;
	}
	return code == ARCHIVE_EOF ? 0 : unreadable(a, path, err);
}

static int from_tar(
	const char *path, const char *name, bundle_data_fn *fn, void *arg, struct err *err)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	struct stat st;
	int fd, r, code;

	if (a == NULL)
		return err_nomem(err);
	r = open_regular(path, &fd, &st, err);
	if (r < 0) {
		archive_read_free(a);
		return r;
	}
	archive_read_support_format_tar(a);
	/* Not all filters: some are programs. */
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	code = archive_read_open_fd(a, fd, PIECE);
	while (code == ARCHIVE_OK) {
		code = archive_read_next_header(a, &e);
		if (code == ARCHIVE_WARN)
			code = ARCHIVE_OK;
		if (code == ARCHIVE_OK && is_file(e, name))
			break;
	}
	if (code == ARCHIVE_OK)
		r = take(a, e, path, fn, arg, err);
	else if (code == ARCHIVE_EOF)
		r = err_set(err, -ENOENT, "%s has no file %s", quote(path), quote(name));
	else
		r = unreadable(a, path, err);
	archive_read_free(a);
	close(fd);
	return r;
}

int bundle_file(const char *path, bool tar, const char *name, bundle_data_fn *fn, void *arg,
	struct err *err)
{
	return tar ? from_tar(path, name, fn, arg, err) : from_folder(path, name, fn, arg, err);
}

static int take_size(void *arg, const void *data, size_t len, uint64_t size, struct err *err)
{
	*(uint64_t *)arg = size;
	return -ECANCELED;
}

int bundle_file_size(const char *path, bool tar, const char *name, uint64_t *out, struct err *err)
{
	uint64_t size = 0;
	int r = bundle_file(path, tar, name, take_size, &size, err);

	if (r < 0 && r != -ECANCELED)
		return r;
	*out = size;
	return 0;
}

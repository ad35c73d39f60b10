#include "oci/clone.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ext2fs/ext2fs.h>
#include "lib/str.h"
#include "oci/run.h"

/* No resize of a disk takes so long; a program that hangs must not hold a machine's start. */
#define RESIZE_TIMEOUT_MS (10 * 60 * 1000)
#define COPY_CHUNK        (64ull << 20)

const char *clone_method_name(enum clone_method m)
{
	static const char *const names[] = { "reflink", "copy", "overlay" };

	return names[m];
}

/* What a copy is to keep to. */
struct copy_opts {
	uint64_t size;
	bool grow;                 /* the ext4 in it as well */
	bool reflink_only, full;   /* full: no blocks are shared, also where they could be */
	const atomic_bool *cancel; /* NULL: nobody will */
};

/* Within the kernel where the two filesystems allow it, else through a buffer. */
static int copy_range(
	int from, int to, off_t start, off_t end, const struct copy_opts *opts, struct err *err)
{
	size_t size = 1 << 20;
	/* Some filesystems share what the kernel is to copy within them. */
	bool buffered = opts->full;
	char *buf = buffered ? malloc(size) : NULL;
	off_t in, out;
	ssize_t n;
	int r = 0;

	if (buffered && buf == NULL)
		return err_nomem(err);
	while (start < end) {
		if (opts->cancel != NULL && atomic_load(opts->cancel)) {
			r = err_set(err, -ECANCELED, "it was cancelled");
			break;
		}
		in = out = start;
		if (!buffered) {
			n = copy_file_range(
				from, &in, to, &out, MIN((uint64_t)(end - start), COPY_CHUNK), 0);
			if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
					     errno == ENOSYS)) {
				buffered = true;
				buf = malloc(size);
				if (buf == NULL)
					return err_nomem(err);
				continue;
			}
		} else {
			n = pread(from, buf, MIN((size_t)(end - start), size), start);
			if (n > 0)
				n = pwrite(to, buf, n, start);
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = err_errno(err, -errno, "copy");
			break;
		}
		if (n == 0) {
			r = err_set(err, -EIO, "the original became shorter while it was copied");
			break;
		}
		start += n;
	}
	free(buf);
	return r;
}

/* Copies what holds data; the holes of `to` are there by its size. */
static int copy_sparse(int from, int to, off_t size, const struct copy_opts *opts, struct err *err)
{
	off_t data = 0, hole;
	int r = 0;

	if (ftruncate(to, size) < 0)
		return err_errno(err, -errno, "set the size");
	while (r == 0 && data < size) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : err_errno(err, -errno, "look for data");
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return err_errno(err, -errno, "look for holes");
		r = copy_range(from, to, data, MIN(hole, size), opts, err);
		data = hole;
	}
	return r;
}

static int copy(
	int from, int to, const struct copy_opts *opts, enum clone_method *out, struct err *err)
{
	uint64_t size = opts->size;
	struct stat st;
	int r;

	if (fstat(from, &st) < 0)
		return err_errno(err, -errno, "stat");
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "the original is no regular file");
	if (size != 0 && size < (uint64_t)st.st_size)
		return err_set(err, -EINVAL,
			"a size of %s is smaller than the original's %s, and disks are not shrunk",
			format_size(size), format_size(st.st_size));
	*out = CLONE_REFLINK;
	if (opts->full || ioctl(to, FICLONE, from) < 0) {
		if (opts->reflink_only)
			return err_set(err, -EOPNOTSUPP, "the filesystem cannot share blocks");
		*out = CLONE_COPY;
		r = copy_sparse(from, to, st.st_size, opts, err);
		if (r < 0)
			return r;
	}
	if (size > (uint64_t)st.st_size && ftruncate(to, size) < 0)
		return err_errno(err, -errno, "set the size");
	return 0;
}

static int clone(const char *from, const char *to, const struct copy_opts *opts,
	enum clone_method *out, struct err *err)
{
	enum clone_method method = CLONE_COPY;
	int in, fd, r;

	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return err_errno(err, -errno, "open %s", quote(from));
	fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = err_errno(err, -errno, "create %s", quote(to));
		close(in);
		return r;
	}
	r = copy(in, fd, opts, &method, err);
	close(in);
	if (close(fd) < 0 && r == 0)
		r = err_errno(err, -errno, "close");
	if (r == 0 && opts->grow)
		r = clone_grow(to, opts->size, err);
	if (r < 0) {
		unlink(to);
		return err_wrap(err, "clone %s to %s", quote(from), quote(to));
	}
	*out = method;
	return 0;
}

int clone_file(
	const char *from, const char *to, uint64_t size, enum clone_method *out, struct err *err)
{
	return clone(from, to, &(struct copy_opts){ .size = size, .grow = size != 0 }, out, err);
}

int clone_file_sized(
	const char *from, const char *to, uint64_t size, enum clone_method *out, struct err *err)
{
	return clone(from, to, &(struct copy_opts){ .size = size }, out, err);
}

int clone_file_by(
	const char *from, const char *to, uint64_t size, enum clone_method how, struct err *err)
{
	struct copy_opts opts = {
		.size = size, .reflink_only = how == CLONE_REFLINK, .full = how == CLONE_COPY
	};

	return clone(from, to, &opts, &how, err);
}

bool clone_can_reflink(const char *dir)
{
	int from = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int to = from >= 0 ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	bool can = to >= 0 && ioctl(to, FICLONE, from) == 0;

	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return can;
}

int clone_file_until(const char *from, const char *to, bool reflink_only, const atomic_bool *cancel,
	enum clone_method *out, struct err *err)
{
	struct copy_opts opts = { .reflink_only = reflink_only, .cancel = cancel };

	return clone(from, to, &opts, out, err);
}

/* Size of the ext2, 3 or 4 that fills the file from its beginning; 0 when there is none. */
static int ext4_size(int fd, uint64_t *out, struct err *err)
{
	struct ext2_super_block sb;
	ssize_t n = pread(fd, &sb, sizeof(sb), SUPERBLOCK_OFFSET);

	if (n < 0)
		return err_errno(err, -errno, "read");
	*out = 0;
	if (n == sizeof(sb) && sb.s_magic == EXT2_SUPER_MAGIC && sb.s_log_block_size <= 6)
		*out = ext2fs_blocks_count(&sb) << (10 + sb.s_log_block_size);
	return 0;
}

/*
 * Offline resizing of a filesystem that was never mounted needs no e2fsck before (-f): it was
 * checked when it was built, or is as its image had it.
 */
static int resize(const char *path, struct err *err)
{
	char *argv[] = { "resize2fs", "-f", (char *)path, NULL };

	return run_program(argv, RESIZE_TIMEOUT_MS, 0, err);
}

/* Less than a block group of room is not worth it, nor always possible. */
static bool is_worth(uint64_t fs_size, uint64_t size)
{
	return fs_size != 0 && size >= fs_size + (1 << 20);
}

int clone_must_grow(const char *path, uint64_t size, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	uint64_t fs_size = 0;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	r = ext4_size(fd, &fs_size, err);
	close(fd);
	return r < 0 ? r : is_worth(fs_size, size);
}

int clone_grow(const char *path, uint64_t size, struct err *err)
{
	uint64_t fs_size = 0;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	r = fstat(fd, &st) < 0 ? err_errno(err, -errno, "stat") : 0;
	if (r == 0 && size > (uint64_t)st.st_size && ftruncate(fd, size) < 0)
		r = err_errno(err, -errno, "set the size of %s", quote(path));
	if (r == 0)
		r = ext4_size(fd, &fs_size, err);
	close(fd);
	if (r < 0)
		return r;
	size = MAX(size, (uint64_t)st.st_size);
	return is_worth(fs_size, size) ? resize(path, err) : 0;
}

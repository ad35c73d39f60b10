#include "lib/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * Without O_NONBLOCK the open of a FIFO would wait for a writer, and opening a device may do things.
 * A path below /proc or /sys is a regular file.
 */
static int open_regular(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return S_ISDIR(st.st_mode) ? err_errno(err, -EISDIR, "read %s", quote(path))
				   : err_set(err, -EINVAL, "%s is not a regular file", quote(path));
}

int file_read(const char *path, size_t max, struct buf *out, struct err *err)
{
	struct buf b = { 0 };
	char chunk[16384];
	int fd, r = 0;
	ssize_t n;

	fd = open_regular(path, err);
	if (fd < 0)
		return fd;
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = err_errno(err, -errno, "read %s", quote(path));
			break;
		}
		if (b.len + (size_t)n > max) {
			r = err_set(
				err, -EFBIG, "%s is larger than %s", quote(path), format_size(max));
			break;
		}
		buf_add(&b, chunk, (size_t)n);
	}
	close(fd);
	if (r == 0 && b.data == NULL)
		buf_add(&b, "", 0);
	if (r == 0 && b.bad)
		r = err_nomem(err);
	if (r < 0) {
		buf_finish(&b);
		return r;
	}
	*out = b;
	return 0;
}

int file_read_line(const char *path, char *line, size_t cap, struct err *err)
{
	int fd = open_regular(path, err);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, line, cap - 1);
	if (n < 0) {
		int code = -errno;

		close(fd);
		return err_errno(err, code, "read %s", quote(path));
	}
	close(fd);
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_write_at(int fd, const void *data, size_t len, uint64_t offset, struct err *err)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(err, n < 0 ? -errno : -EIO, "write");
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* The folder of path, for its fsync: the rename is durable only with it. */
static int sync_parent(const char *path)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	int fd, r = 0;

	if (slash == NULL || (size_t)(slash - path) >= sizeof(dir))
		return 0;
	snprintf(dir, sizeof(dir), "%.*s", (int)MAX(slash - path, 1), path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0 && errno != EINVAL)
		r = -errno;
	close(fd);
	return r;
}

/* A new file beside path; its name in *tmp, malloc'd. */
static int write_beside(const char *path, const void *data, size_t len, mode_t mode, bool sync,
	char **tmp, struct err *err)
{
	int fd, r;

	*tmp = str_printf("%s.tmp.XXXXXX", path);
	if (*tmp == NULL)
		return err_nomem(err);
	fd = mkostemp(*tmp, O_CLOEXEC);
	if (fd < 0) {
		r = err_errno(err, -errno, "create %s", quote(*tmp));
		free(*tmp);
		return r;
	}
	r = write_all(fd, data, len);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && sync && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0)
		return 0;
	unlink(*tmp);
	free(*tmp);
	return err_errno(err, r, "write %s", quote(path));
}

int file_write_atomic(
	const char *path, const void *data, size_t len, mode_t mode, bool sync, struct err *err)
{
	char *tmp;
	int r = write_beside(path, data, len, mode, sync, &tmp, err);

	if (r < 0)
		return r;
	if (rename(tmp, path) < 0) {
		r = -errno;
		unlink(tmp);
	} else if (sync) {
		r = sync_parent(path);
	}
	free(tmp);
	return r < 0 ? err_errno(err, r, "write %s", quote(path)) : 0;
}

/*
 * What lies within one block is the old or the new after a crash of the host, and not some of both.
 * The length may be the other's: what is cut off or has zeros behind it is no JSON.
 */
static bool can_reuse(int fd, size_t len, mode_t mode, off_t *old_len)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
		(st.st_mode & 07777) != mode || st.st_size > st.st_blksize ||
		(off_t)len > st.st_blksize)
		return false;
	*old_len = st.st_size;
	return true;
}

/* An older file, to be written over, or a new one. */
static int open_spare(const char *spare, bool reuse, size_t len, mode_t mode, off_t *old_len)
{
	int fd = reuse && len > 0 ? open(spare, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
				  : -1;
	int r;

	if (fd >= 0 && can_reuse(fd, len, mode, old_len))
		return fd;
	if (fd >= 0)
		close(fd);
	unlink(spare);
	*old_len = 0;
	fd = open(spare, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0 || fchmod(fd, mode) == 0)
		return fd < 0 ? -errno : fd;
	r = -errno;
	close(fd);
	return r;
}

static int write_spare(
	const char *spare, bool reuse, const void *data, size_t len, mode_t mode, struct err *err)
{
	off_t old_len;
	int fd = open_spare(spare, reuse, len, mode, &old_len), r;

	if (fd < 0)
		return err_errno(err, fd, "create %s", quote(spare));
	r = write_all(fd, data, len);
	/* Afterwards: a file that was cut to nothing is written out by close() (auto_da_alloc). */
	if (r == 0 && old_len > (off_t)len && ftruncate(fd, (off_t)len) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0)
		return 0;
	unlink(spare);
	return err_errno(err, r, "write %s", quote(spare));
}

int file_swap(const char *path, const char *spare, bool reuse, const void *data, size_t len,
	mode_t mode, struct err *err)
{
	int r = write_spare(spare, reuse, data, len, mode, err);

	if (r < 0)
		return r;
	if (renameat2(AT_FDCWD, spare, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
		return 0;
	if (errno != ENOENT && errno != EINVAL && errno != ENOSYS)
		r = -errno;
	else if (rename(spare, path) < 0)
		r = -errno; /* nothing to exchange, or a filesystem that cannot */
	if (r < 0)
		unlink(spare);
	return r < 0 ? err_errno(err, r, "write %s", quote(path)) : 0;
}

int file_write_proc(const char *path, const char *value, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	r = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return r < 0 ? err_errno(err, r, "write %s to %s", quote(value), quote(path)) : 0;
}

struct sync_job {
	uv_work_t work;
	char *path, *keep; /* keep may be NULL */
	file_done_fn *done;
	void *arg;
	int result;
};

/* The file that was synced, which need not be what stands at its path by now. */
static void keep_synced(const struct sync_job *job, int fd)
{
	char from[32], *tmp = str_printf("%s.tmp", job->keep);

	if (tmp == NULL)
		return;
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	unlink(tmp);
	/* It fails for one that was replaced and removed meanwhile: the next one follows soon. */
	if (linkat(AT_FDCWD, from, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) == 0 &&
		rename(tmp, job->keep) < 0)
		unlink(tmp);
	/* Of two names of one file rename() keeps both. */
	unlink(tmp);
	free(tmp);
}

int file_sync(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = err_errno(err, -errno, "write out %s", quote(path));
	if (fd >= 0)
		close(fd);
	return r;
}

static void sync_work(uv_work_t *work)
{
	struct sync_job *job = container_of(work, struct sync_job, work);
	int fd = open(job->path, O_RDONLY | O_CLOEXEC);

	/* A file that was replaced or removed meanwhile is no longer of interest. */
	if (fd < 0) {
		job->result = errno == ENOENT ? 0 : -errno;
		return;
	}
	job->result = fsync(fd) < 0 ? -errno : 0;
	if (job->result == 0 && job->keep != NULL)
		keep_synced(job, fd);
	close(fd);
	if (job->result == 0)
		job->result = sync_parent(job->path);
}

static void sync_free(struct sync_job *job)
{
	free(job->path);
	free(job->keep);
	free(job);
}

static void sync_after(uv_work_t *work, int status)
{
	struct sync_job *job = container_of(work, struct sync_job, work);
	struct err err;

	if (job->result < 0)
		err_errno(&err, job->result, "fsync of %s", quote(job->path));
	if (job->done != NULL)
		job->done(job->arg, job->result < 0 ? &err : NULL);
	sync_free(job);
}

int file_sync_async(
	uv_loop_t *loop, const char *path, const char *keep, file_done_fn *done, void *arg)
{
	struct sync_job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return -ENOMEM;
	job->path = strdup(path);
	job->keep = keep != NULL ? strdup(keep) : NULL;
	if (job->path == NULL || (keep != NULL && job->keep == NULL) ||
		uv_queue_work(loop, &job->work, sync_work, sync_after) < 0) {
		sync_free(job);
		return -ENOMEM;
	}
	job->done = done;
	job->arg = arg;
	return 0;
}

char *path_join(const char *dir, const char *name)
{
	return str_printf("%s%s%s", dir, str_ends(dir, "/") ? "" : "/", name);
}

static bool executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *find_program(const char *name)
{
	/* A service's PATH often lacks the sbin folders, where dnsmasq and nft live. */
	static const char extra[] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
	const char *path = getenv("PATH");
	char *all, *save = NULL, *found = NULL;

	if (strchr(name, '/') != NULL)
		return executable(name) ? strdup(name) : NULL;
	all = str_printf("%s:%s", path != NULL ? path : "", extra);
	if (all == NULL)
		return NULL;
	for (char *dir = strtok_r(all, ":", &save); dir != NULL; dir = strtok_r(NULL, ":", &save)) {
		char *candidate = path_join(dir, name);

		if (candidate != NULL && dir[0] == '/' && executable(candidate)) {
			found = candidate;
			break;
		}
		free(candidate);
	}
	free(all);
	return found;
}

const char *boot_id(void)
{
	static char id[64];

	if (id[0] == '\0' &&
		file_read_line("/proc/sys/kernel/random/boot_id", id, sizeof(id), NULL) < 0)
		id[0] = '\0';
	return id;
}

static int unix_address(const char *path, struct sockaddr_un *sa, struct err *err)
{
	if (strlen(path) >= sizeof(sa->sun_path))
		return err_set(err, -ENAMETOOLONG,
			"the socket path %s has %zu bytes, a socket's path can have %zu: choose a shorter run_dir",
			quote(path), strlen(path), sizeof(sa->sun_path) - 1);
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return 0;
}

int unix_listen(const char *path, mode_t mode, int backlog, int *out_fd, struct err *err)
{
	struct sockaddr_un sa;
	int r = unix_address(path, &sa, err);
	int fd;

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	unlink(path);
	/* The mode is set before listen(), so that nobody can connect in between. */
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, mode) < 0 ||
		listen(fd, backlog) < 0) {
		r = err_errno(err, -errno, "listen at %s", quote(path));
		close(fd);
		return r;
	}
	*out_fd = fd;
	return 0;
}

int unix_connect(const char *path, int *out_fd, struct err *err)
{
	struct sockaddr_un sa;
	int r = unix_address(path, &sa, err);
	int fd;

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = err_errno(err, -errno, "connect to %s", quote(path));
		close(fd);
		return r;
	}
	*out_fd = fd;
	return 0;
}

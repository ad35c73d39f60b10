#include "supervisor/console-log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/console.h"

/* Beyond any console_max that the configuration takes. */
#define LOG_READ_MAX (256u << 20)

static char *boot_path(const char *dir, unsigned boot, bool old)
{
	return str_printf("%s/%u%s.log", dir, boot, old ? ".0" : "");
}

/* Has the position at which BOOT.log begins, once there was a rotation. */
static char *at_path(const char *dir, unsigned boot)
{
	return str_printf("%s/%u.at", dir, boot);
}

/* The number in "7.log" or "7.0.log"; false for anything else. */
static bool boot_of(const char *name, unsigned *out)
{
	char canonical[32];
	unsigned boot;

	if (sscanf(name, "%9u", &boot) != 1)
		return false;
	*out = boot;
	snprintf(canonical, sizeof(canonical), "%u.log", boot);
	if (strcmp(name, canonical) == 0)
		return true;
	snprintf(canonical, sizeof(canonical), "%u.0.log", boot);
	return strcmp(name, canonical) == 0;
}

static int newer_first(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x < y) - (x > y);
}

/* The boots that have a log, newest first, each once; *out is malloc'd. */
static int list_boots(const char *dir, unsigned **out, size_t *n, struct err *err)
{
	unsigned *v = NULL, boot;
	size_t len = 0, cap = 0, kept = 0;
	struct dirent *e;
	DIR *d = opendir(dir);

	if (d == NULL)
		return err_errno(err, -errno, "open the folder %s", quote(dir));
	while ((e = readdir(d)) != NULL) {
		if (!boot_of(e->d_name, &boot))
			continue;
		if (len == cap) {
			unsigned *more = realloc(v, (cap + 32) * sizeof(*v));

			if (more == NULL) {
				free(v);
				closedir(d);
				return err_nomem(err);
			}
			v = more;
			cap += 32;
		}
		v[len++] = boot;
	}
	closedir(d);
	if (len > 0)
		qsort(v, len, sizeof(*v), newer_first);
	for (size_t i = 0; i < len; i++) {
		if (kept == 0 || v[kept - 1] != v[i])
			v[kept++] = v[i];
	}
	*out = v;
	*n = kept;
	return 0;
}

static void remove_boot(const char *dir, unsigned boot)
{
	char *at = at_path(dir, boot);

	if (at != NULL)
		unlink(at);
	free(at);
	for (int old = 0; old < 2; old++) {
		char *path = boot_path(dir, boot, old);

		if (path != NULL)
			unlink(path);
		free(path);
	}
}

/* The present boot counts, whether or not it has a file yet. */
static void prune(const char *dir, unsigned boot)
{
	unsigned *boots = NULL;
	size_t n = 0, kept = 1;

	if (list_boots(dir, &boots, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (boots[i] == boot)
			continue;
		if (kept < CONSOLE_BOOTS)
			kept++;
		else
			remove_boot(dir, boots[i]);
	}
	free(boots);
}

static int log_open(struct console_log *l)
{
	struct stat st;

	l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->fd < 0)
		return -errno;
	l->size = fstat(l->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	return 0;
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Of a log that an earlier daemon has begun. */
static void find_base(struct console_log *l)
{
	uint64_t old = file_size(l->old_path);
	struct buf text = { 0 };

	l->base = old;
	if (old > 0 && file_read(l->at_path, 64, &text, NULL) == 0 &&
		parse_u64(buf_str(&text), 0, UINT64_MAX / 2, &l->base, NULL) == 0)
		l->base = MAX(l->base, old);
	buf_finish(&text);
}

/* Lost or old it only makes who comes again read some of it twice. */
static void keep_base(const struct console_log *l)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)l->base);
	int fd = open(l->at_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	if (write(fd, text, (size_t)n) < 0)
		unlink(l->at_path);
	close(fd);
}

int console_log_init(
	struct console_log *l, const char *dir, unsigned boot, uint64_t max_bytes, struct err *err)
{
	int r = mkdir_p(dir, 0700, err);

	*l = (struct console_log){ .fd = -1, .half = MAX(max_bytes / 2, 1) };
	if (r < 0)
		return r;
	prune(dir, boot);
	l->path = boot_path(dir, boot, false);
	l->old_path = boot_path(dir, boot, true);
	l->at_path = at_path(dir, boot);
	if (l->path == NULL || l->old_path == NULL || l->at_path == NULL)
		r = err_nomem(err);
	else if ((r = log_open(l)) < 0)
		err_errno(err, r, "open the console log %s", quote(l->path));
	if (r < 0)
		console_log_finish(l);
	else
		find_base(l);
	return r;
}

static void failed(struct console_log *l, int code)
{
	if (!l->failing)
		log_warn("ignoring that console log %s cannot be written: %s", quote(l->path),
			strerror(-code));
	l->failing = true;
}

/* The log before goes when there is already one that is older still. */
static void rotate(struct console_log *l)
{
	int r;

	if (rename(l->path, l->old_path) < 0) {
		/* The bound holds before all else. */
		if (ftruncate(l->fd, 0) < 0)
			failed(l, -errno);
		l->base += l->size;
		l->size = 0;
		return;
	}
	close(l->fd);
	l->base += l->size;
	l->size = 0;
	keep_base(l);
	r = log_open(l);
	if (r < 0)
		failed(l, r);
}

void console_log_write(struct console_log *l, const char *data, size_t len)
{
	if (l->fd < 0 && log_open(l) < 0)
		return;
	while (len > 0) {
		size_t room, part;
		ssize_t n;

		if (l->size >= l->half) {
			rotate(l);
			if (l->fd < 0)
				return;
		}
		room = l->size < l->half ? l->half - l->size : 1;
		part = MIN(len, room);
		n = write(l->fd, data, part);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			failed(l, -errno);
			return;
		}
		l->failing = false;
		l->size += (uint64_t)n;
		data += n;
		len -= (size_t)n;
	}
}

void console_log_finish(struct console_log *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	free(l->path);
	free(l->old_path);
	free(l->at_path);
	l->path = l->old_path = l->at_path = NULL;
}

uint64_t console_log_position(const struct console_log *l)
{
	return l->base + l->size;
}

uint64_t console_log_written_ms(const struct console_log *l)
{
	struct stat st;

	if (l->fd < 0 || fstat(l->fd, &st) < 0 || console_log_position(l) == 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
}

/* What path has from offset on. */
static int read_from(const char *path, uint64_t offset, size_t len, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	char chunk[16384];
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while (len > 0 && r == 0) {
		n = pread(fd, chunk, MIN(len, sizeof(chunk)), (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		buf_add(out, chunk, (size_t)n);
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	close(fd);
	return r;
}

int console_log_from(const struct console_log *l, uint64_t from, size_t max, struct buf *out,
	uint64_t *start, struct err *err)
{
	uint64_t end = console_log_position(l), old = file_size(l->old_path);
	uint64_t oldest = l->base - MIN(old, l->base);
	struct buf text = { 0 };
	int r = 0;

	from = MIN(MAX(from, oldest), end);
	from = MAX(from, end - MIN(end, (uint64_t)max));
	if (from < l->base)
		r = read_from(l->old_path, from - oldest, (size_t)(l->base - from), &text);
	if (r == 0 && end > MAX(from, l->base))
		r = read_from(l->path, MAX(from, l->base) - l->base,
			(size_t)(end - MAX(from, l->base)), &text);
	if (r == 0 && text.bad)
		r = -ENOMEM;
	if (r < 0) {
		buf_finish(&text);
		return err_errno(err, r, "read the console log %s", quote(l->path));
	}
	*out = text;
	if (start != NULL)
		*start = from;
	return 0;
}

static int read_part(const char *dir, unsigned boot, bool old, struct buf *out, struct err *err)
{
	char *path = boot_path(dir, boot, old);
	struct buf part = { 0 };
	int r;

	if (path == NULL)
		return err_nomem(err);
	r = file_read(path, LOG_READ_MAX, &part, err);
	free(path);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		buf_add(out, buf_str(&part), part.len);
	buf_finish(&part);
	return r;
}

/* boot: as console_log_read() takes it; *out: the number. */
static int find_boot(const char *dir, int64_t boot, unsigned *out, struct err *err)
{
	unsigned *boots = NULL;
	size_t n = 0;
	int r = list_boots(dir, &boots, &n, NULL);

	if (r == -ENOENT || (r == 0 && n == 0))
		r = err_set(err, -ENOENT, "there is no console log yet");
	else if (r < 0)
		r = err_errno(err, r, "read the folder %s", quote(dir));
	if (r < 0) {
		free(boots);
		return r;
	}
	r = -ENOENT;
	for (size_t i = 0; i < n && r < 0; i++) {
		if (boot > 0 ? boots[i] == boot : (int64_t)i == -boot) {
			*out = boots[i];
			r = 0;
		}
	}
	if (r < 0)
		err_set(err, r, "there is no console log of boot %lld: there are %u to %u",
			(long long)boot, boots[n - 1], boots[0]);
	free(boots);
	return r;
}

int console_log_read(
	const char *log_dir, int64_t boot, struct buf *out, unsigned *boot_out, struct err *err)
{
	struct buf text = { 0 };
	unsigned number = 0;
	int r = find_boot(log_dir, boot, &number, err);

	if (r < 0)
		return r;
	r = read_part(log_dir, number, true, &text, err);
	if (r == 0)
		r = read_part(log_dir, number, false, &text, err);
	if (r == 0 && text.bad)
		r = err_nomem(err);
	if (r < 0) {
		buf_finish(&text);
		return r;
	}
	*out = text;
	if (boot_out != NULL)
		*boot_out = number;
	return 0;
}

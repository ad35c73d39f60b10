#include "oci/cache-log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/str.h"
#include "oci/digest.h"

#define BLOCK   ((size_t)64 << 10)
#define LONGEST ((size_t)16 << 10) /* a longer one is passed over */

static double rate(uint64_t all, uint64_t given, uint64_t fetched)
{
	/* The cache may fetch more than it is asked for: once more after a fetch that broke off. */
	return all == 0 ? -1 : (double)(given - MIN(given, fetched)) / (double)all;
}

double cache_hit_rate(const struct cache_count *c)
{
	return rate(c->asked, c->served, c->fetched);
}

double cache_byte_hit_rate(const struct cache_count *c)
{
	return rate(c->served_bytes, c->served_bytes, c->fetched_bytes);
}

/* ---- lines ---- */

/* "/v2/NAME/blobs/DIGEST", len bytes, perhaps with a query behind. */
static bool is_blob(const char *path, size_t len)
{
	char *copy = strndup(path, len), *p, *digest = NULL;
	bool blob;

	if (copy == NULL)
		return false;
	copy[strcspn(copy, "?")] = '\0';
	for (p = copy; (p = strstr(p, "/blobs/")) != NULL;)
		digest = p += strlen("/blobs/");
	blob = str_starts(copy, "/v2/") && digest != NULL && digest_valid(digest);
	free(copy);
	return blob;
}

/*
 * The combined log format (gorilla/handlers, CombinedLoggingHandler):
 * 127.0.0.1 - - [21/Nov/2026:10:00:00 +0000] "GET /v2/x/blobs/sha256:... HTTP/1.1" 200 3000 "" "curl"
 */
static void count_access(const char *line, struct cache_count *c)
{
	const char *request = strstr(line, "] \"GET "), *end;
	unsigned long long bytes;
	int status;

	if (request == NULL)
		return;
	request += strlen("] \"GET ");
	end = strchr(request, ' ');
	if (end == NULL || !is_blob(request, (size_t)(end - request)) ||
		sscanf(end, " HTTP/%*[0-9.]\" %d %llu", &status, &bytes) != 2)
		return;
	c->asked++;
	if (status != 200 && status != 206)
		return;
	c->served++;
	c->served_bytes += bytes;
}

void cache_log_line(const char *line, struct cache_count *c)
{
	unsigned long long bytes;
	int path = 0;

	if (sscanf(line, "fetched %llu %n", &bytes, &path) != 1 || path == 0) {
		count_access(line, c);
	} else if (is_blob(line + path, strlen(line + path))) {
		c->fetched++;
		c->fetched_bytes += bytes;
	}
}

void cache_log_fetched(int fd, const char *path, uint64_t bytes)
{
	char *line = str_printf(
		"fetched %llu %.*s\n", (unsigned long long)bytes, (int)strcspn(path, "?"), path);

	/* In one piece: other threads write there too. */
	if (line != NULL && write(fd, line, strlen(line)) < 0)
		fprintf(stderr, "warning the log cannot be written: %s\n", strerror(errno));
	free(line);
}

/* ---- files ---- */

void cache_log_end(const char *path, struct cache_log_at *at)
{
	struct stat st;

	*at = (struct cache_log_at){ 0 };
	if (stat(path, &st) == 0)
		*at = (struct cache_log_at){ st.st_ino, (uint64_t)st.st_size };
}

/* Takes the whole lines off text. */
static void take_lines(struct buf *text, struct cache_log_at *at, struct cache_count *c)
{
	char *line = text->data, *end;

	while (line != NULL &&
		(end = memchr(line, '\n', text->len - (size_t)(line - text->data)))) {
		*end = '\0';
		cache_log_line(line, c);
		line = end + 1;
	}
	if (line == NULL)
		return;
	at->offset += (uint64_t)(line - text->data);
	buf_drop(text, (size_t)(line - text->data));
	if (text->len < LONGEST)
		return;
	at->offset += text->len;
	buf_clear(text);
}

static int count(int fd, struct cache_log_at *at, struct cache_count *c, struct err *err)
{
	struct buf text = { 0 };
	char *block = malloc(BLOCK);
	ssize_t n = block == NULL ? -1 : 0;

	while (block != NULL && (n = pread(fd, block, BLOCK, (off_t)(at->offset + text.len))) > 0 &&
		!text.bad) {
		buf_add(&text, block, (size_t)n);
		take_lines(&text, at, c);
	}
	free(block);
	if (block == NULL || text.bad)
		n = err_nomem(err);
	else if (n < 0)
		n = err_errno(err, -errno, "read");
	buf_finish(&text);
	return (int)MIN(n, 0);
}

static int copy(int from, const char *path, struct err *err)
{
	char *old = str_printf("%s.1", path);
	int to = old != NULL ? open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640) : -1;
	int r = old == NULL ? err_nomem(err) : to < 0 ? err_errno(err, -errno, "%s", old) : 0;
	loff_t at = 0;
	ssize_t n = 1;

	while (r == 0 && n > 0) {
		n = copy_file_range(from, &at, to, NULL, (size_t)1 << 20, 0);
		if (n < 0)
			r = err_errno(err, -errno, "write %s", quote(old));
	}
	if (to >= 0)
		close(to);
	free(old);
	return r;
}

int cache_log_follow(const char *path, uint64_t max, struct cache_log_at *at, struct cache_count *c,
	struct err *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), r;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "open %s", quote(path));
	if (fstat(fd, &st) < 0) {
		r = err_errno(err, -errno, "stat");
	} else {
		if (st.st_ino != at->inode || (uint64_t)st.st_size < at->offset)
			*at = (struct cache_log_at){ .inode = st.st_ino };
		r = count(fd, at, c, err);
	}
	if (r == 0 && at->offset > max && (r = copy(fd, path, err)) == 0 &&
		(r = count(fd, at, c, err)) == 0) {
		if (ftruncate(fd, 0) < 0)
			r = err_errno(err, -errno, "empty");
		else
			at->offset = 0;
	}
	close(fd);
	return r < 0 ? err_wrap(err, "count what is in %s", quote(path)) : 0;
}

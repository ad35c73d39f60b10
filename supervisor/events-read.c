#include "supervisor/events-read.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/json.h"

#define CHUNK 65536

/* "seq" is the first member of each line; 0 for what is no event's line. */
static uint64_t line_seq(const char *line, size_t len)
{
	static const char head[] = "{\"seq\":";
	uint64_t seq = 0;
	size_t i = sizeof(head) - 1;

	if (len <= i || memcmp(line, head, i) != 0)
		return 0;
	for (; i < len && line[i] >= '0' && line[i] <= '9'; i++)
		seq = seq * 10 + (uint64_t)(line[i] - '0');
	return i < len && line[i] == ',' ? seq : 0;
}

/* Like pread(), but goes on after a short read. */
static ssize_t read_at(int fd, char *buf, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Start of the last line that ends before `end`, which is just behind a newline. */
static int line_start(int fd, uint64_t end, char *chunk, uint64_t *start)
{
	uint64_t upto = end - 1; /* without that newline */

	while (upto > 0) {
		size_t n = (size_t)MIN(upto, (uint64_t)CHUNK);
		ssize_t got = read_at(fd, chunk, n, upto - n);
		const char *nl = got == (ssize_t)n ? memrchr(chunk, '\n', n) : NULL;

		if (got != (ssize_t)n)
			return got < 0 ? (int)got : -EIO;
		if (nl != NULL) {
			*start = upto - n + (size_t)(nl - chunk) + 1;
			return 0;
		}
		upto -= n;
	}
	*start = 0;
	return 0;
}

static bool whole_line(int fd, uint64_t start, size_t len, uint64_t *seq)
{
	char *line = malloc(len);
	json_t *v = NULL;
	bool ok = line != NULL && read_at(fd, line, len, start) == (ssize_t)len &&
		  json_parse(line, len, &v, NULL) == 0;

	*seq = ok ? line_seq(line, len) : 0;
	json_decref(v);
	free(line);
	return *seq > 0;
}

int events_find_end(int fd, uint64_t size, uint64_t *end, uint64_t *seq)
{
	char *chunk = malloc(CHUNK);
	uint64_t start = 0;
	int ret = chunk != NULL ? 0 : -ENOMEM;

	*seq = 0;
	*end = size;
	/* line_start() looks before a newline; here there may be none at the end. */
	if (ret == 0 && size > 0)
		ret = line_start(fd, size + 1, chunk, end);
	while (ret == 0 && *end > 0) {
		ret = line_start(fd, *end, chunk, &start);
		if (ret == 0 && whole_line(fd, start, (size_t)(*end - start - 1), seq))
			break;
		if (ret == 0)
			*end = start;
	}
	free(chunk);
	return ret;
}

size_t events_read_lines(const char *data, size_t len, uint64_t since, events_fn *fn, void *arg)
{
	size_t done = 0;
	const char *nl;

	while ((nl = memchr(data + done, '\n', len - done)) != NULL) {
		size_t n = (size_t)(nl - data) - done;
		uint64_t seq = line_seq(data + done, n);

		if (seq > since)
			fn(arg, seq, data + done, n);
		done += n + 1;
	}
	return done;
}

/*
 * An offset from where on the events above since are found, by bisection: `lo` is always the
 * start of a line whose number is at most since (or 0). Lines longer than a chunk end the search.
 */
static uint64_t replay_from(int fd, uint64_t size, uint64_t since, char *chunk)
{
	uint64_t lo = 0, hi = size;

	while (hi - lo > CHUNK) {
		uint64_t mid = lo + (hi - lo) / 2;
		ssize_t n = read_at(fd, chunk, CHUNK, mid);
		const char *nl = n > 0 ? memchr(chunk, '\n', (size_t)n) : NULL;
		size_t at = nl != NULL ? (size_t)(nl - chunk) + 1 : 0;
		uint64_t seq = at > 0 ? line_seq(chunk + at, (size_t)n - at) : 0;

		if (seq == 0 || mid + at >= hi)
			break;
		if (seq <= since)
			lo = mid + at;
		else
			hi = mid;
	}
	return lo;
}

int events_read_file(int fd, uint64_t size, uint64_t since, events_fn *fn, void *arg)
{
	char *chunk = malloc(CHUNK);
	struct buf text = { 0 };
	uint64_t at;
	ssize_t n = 0;

	if (chunk == NULL)
		return -ENOMEM;
	for (at = replay_from(fd, size, since, chunk); at < size; at += (uint64_t)n) {
		n = read_at(fd, chunk, (size_t)MIN((uint64_t)CHUNK, size - at), at);
		if (n <= 0)
			break;
		buf_add(&text, chunk, (size_t)n);
		if (text.bad)
			n = -ENOMEM;
		if (n < 0)
			break;
		buf_drop(&text, events_read_lines(text.data, text.len, since, fn, arg));
	}
	buf_finish(&text);
	free(chunk);
	return n < 0 ? (int)n : 0;
}

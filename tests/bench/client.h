/*
 * tests/bench/client.h - the HTTP client of the benchmarks' clocks. Small, and no code of drover's,
 * so that nothing of it is inside what is measured but droverd itself. Times in ms.
 */
#ifndef DROVER_TESTS_BENCH_CLIENT_H
#define DROVER_TESTS_BENCH_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS   120000
#define REPLY_MAX (1 << 20)

struct call {
	int fd;
	char reply[REPLY_MAX];
	size_t len;
	bool done;
};

static inline void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static inline int connect_to(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		die(path);
	return fd;
}

static inline void send_request(int fd, const char *method, const char *path)
{
	char text[1024];
	int n = snprintf(text, sizeof text,
		"%s %s HTTP/1.1\r\nHost: drover\r\nContent-Length: 0\r\n\r\n", method, path);

	if (write(fd, text, (size_t)n) != n)
		die("write");
}

/* Whether the whole answer is there: head and as many bytes as it announces. */
static inline bool complete(const struct call *c)
{
	const char *body = strstr(c->reply, "\r\n\r\n");
	const char *length = strcasestr(c->reply, "\r\nContent-Length:");

	if (!body || !length || length > body)
		return false;
	return c->len >= (size_t)(body + 4 - c->reply) + strtoul(length + 17, NULL, 10);
}

static inline void take_input(struct call *c)
{
	ssize_t n = read(c->fd, c->reply + c->len, sizeof c->reply - 1 - c->len);

	if (n < 0)
		die("read");
	c->len += (size_t)n;
	c->reply[c->len] = '\0';
	c->done = n == 0 || complete(c);
	if (c->done && strncmp(c->reply, "HTTP/1.1 2", 10) != 0) {
		fprintf(stderr, "bench: %s\n", c->len ? c->reply : "the connection was closed");
		exit(1);
	}
}

/* Requests that are under way together. */
struct calls {
	struct call *v;
	struct pollfd *p;
	size_t n, done;
};

static inline void send_all(
	struct calls *c, const char *socket_path, const char *method, char **paths, size_t n)
{
	*c = (struct calls){ calloc(n, sizeof *c->v), calloc(n, sizeof *c->p), n, 0 };
	if (!c->v || !c->p)
		die("memory");
	for (size_t i = 0; i < n; i++) {
		c->v[i].fd = connect_to(socket_path);
		send_request(c->v[i].fd, method, paths[i]);
		c->p[i] = (struct pollfd){ .fd = c->v[i].fd, .events = POLLIN };
	}
}

/* Takes the answers that have come by then; false when the time was over before any came. */
static inline bool take_answers(struct calls *c, int timeout_ms)
{
	if (poll(c->p, c->n, timeout_ms) <= 0)
		return false;
	for (size_t i = 0; i < c->n; i++) {
		if (!c->p[i].revents)
			continue;
		take_input(&c->v[i]);
		if (c->v[i].done) {
			c->p[i].fd = -1;
			c->done++;
		}
	}
	return true;
}

static inline void finish_all(struct calls *c)
{
	while (c->done < c->n)
		if (!take_answers(c, WAIT_MS))
			die("no answer");
	for (size_t i = 0; i < c->n; i++)
		close(c->v[i].fd);
	free(c->v);
	free(c->p);
}

/* What the stream replays is old news: wait until it says nothing for a while. */
static inline void settle(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char old[REPLY_MAX];

	if (poll(&p, 1, WAIT_MS) != 1)
		die("no event stream");
	while (poll(&p, 1, 200) == 1)
		if (read(fd, old, sizeof old) <= 0)
			die("event stream");
}

/* The next line of an event stream, without its newline; line has room for REPLY_MAX. */
static inline void next_line(struct call *c, char *line)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	char *end;
	ssize_t n;

	while ((end = memchr(c->reply, '\n', c->len)) == NULL) {
		if (poll(&p, 1, WAIT_MS) < 1)
			die("no event came");
		n = read(c->fd, c->reply + c->len, sizeof c->reply - 1 - c->len);
		if (n <= 0)
			die("event stream");
		c->len += (size_t)n;
	}
	*end++ = '\0';
	memcpy(line, c->reply, (size_t)(end - c->reply));
	c->len -= (size_t)(end - c->reply);
	memmove(c->reply, end, c->len);
}

static inline struct call *follow(const char *socket_path, const char *query)
{
	struct call *c = calloc(1, sizeof *c);
	char path[300];

	if (!c)
		die("memory");
	snprintf(path, sizeof path, "/events?follow=1&since=-1%s", query);
	c->fd = connect_to(socket_path);
	send_request(c->fd, "GET", path);
	settle(c->fd);
	return c;
}

#endif

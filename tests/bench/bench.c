/*
 * tests/bench/bench.c - the clock of the benchmarks: asks droverd for something over its Unix
 * socket and times the answer. A small HTTP client of its own, so that nothing of drover's is
 * inside what is measured but droverd itself.
 *
 *   bench call SOCKET METHOD PATH...   sends all requests at once, each on its own connection;
 *                                      prints the time to the last answer
 *   bench kill SOCKET NAME PID WORD    kill -9 of PID; prints the time until a line with WORD
 *                                      comes on the event stream of machine NAME
 *   bench exec COMMAND...              prints the time that the command took
 *
 * Times are milliseconds. Exit 1, and the answer on stderr, when a request fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS   120000
#define REPLY_MAX 65536

struct call {
	int fd;
	char reply[REPLY_MAX];
	size_t len;
	bool done;
};

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int connect_to(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		die(path);
	return fd;
}

static void send_request(int fd, const char *method, const char *path)
{
	char text[1024];
	int n = snprintf(text, sizeof text,
		"%s %s HTTP/1.1\r\nHost: drover\r\nContent-Length: 0\r\n\r\n", method, path);

	if (write(fd, text, (size_t)n) != n)
		die("write");
}

/* Whether the whole answer is there: head and as many bytes as it announces. */
static bool complete(const struct call *c)
{
	const char *body = strstr(c->reply, "\r\n\r\n");
	const char *length = strcasestr(c->reply, "\r\nContent-Length:");

	if (!body || !length || length > body)
		return false;
	return c->len >= (size_t)(body + 4 - c->reply) + strtoul(length + 17, NULL, 10);
}

static void take_input(struct call *c)
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

static double call_all(const char *socket_path, const char *method, char **paths, size_t n)
{
	struct call *all = calloc(n, sizeof *all);
	struct pollfd *p = calloc(n, sizeof *p);
	size_t done = 0;
	double begin;

	if (!all || !p)
		die("memory");
	begin = now_ms();
	for (size_t i = 0; i < n; i++) {
		all[i].fd = connect_to(socket_path);
		send_request(all[i].fd, method, paths[i]);
		p[i] = (struct pollfd){ .fd = all[i].fd, .events = POLLIN };
	}
	while (done < n) {
		if (poll(p, n, WAIT_MS) <= 0)
			die("no answer");
		for (size_t i = 0; i < n; i++) {
			if (!p[i].revents)
				continue;
			take_input(&all[i]);
			if (all[i].done) {
				p[i].fd = -1;
				done++;
			}
		}
	}
	return now_ms() - begin;
}

/* What the stream replays is old news: wait until it says nothing for a while. */
static void settle(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char old[REPLY_MAX];

	if (poll(&p, 1, WAIT_MS) != 1)
		die("no event stream");
	while (poll(&p, 1, 200) == 1)
		if (read(fd, old, sizeof old) <= 0)
			die("event stream");
}

static double kill_and_hear(const char *socket_path, const char *name, pid_t pid, const char *word)
{
	struct call c = { .fd = connect_to(socket_path) };
	char path[256];
	double begin;

	snprintf(path, sizeof path, "/events?follow=1&vm=%s", name);
	send_request(c.fd, "GET", path);
	settle(c.fd);
	begin = now_ms();
	if (kill(pid, SIGKILL) < 0)
		die("kill");
	while (!strstr(c.reply, word)) {
		struct pollfd p = { .fd = c.fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, WAIT_MS) != 1)
			die("no event came");
		n = read(c.fd, c.reply + c.len, sizeof c.reply - 1 - c.len);
		if (n <= 0)
			die("event stream");
		c.len += (size_t)n;
		c.reply[c.len] = '\0';
	}
	return now_ms() - begin;
}

static double run(char **argv)
{
	double begin = now_ms();
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die(argv[0]);
	if (status != 0) {
		fprintf(stderr, "bench: %s failed\n", argv[0]);
		exit(1);
	}
	return now_ms() - begin;
}

int main(int argc, char **argv)
{
	double ms;

	if (argc >= 5 && strcmp(argv[1], "call") == 0) {
		ms = call_all(argv[2], argv[3], argv + 4, (size_t)argc - 4);
	} else if (argc == 6 && strcmp(argv[1], "kill") == 0) {
		ms = kill_and_hear(argv[2], argv[3], (pid_t)atoi(argv[4]), argv[5]);
	} else if (argc >= 3 && strcmp(argv[1], "exec") == 0) {
		ms = run(argv + 2);
	} else {
		fprintf(stderr, "usage: bench call SOCKET METHOD PATH... | "
				"bench kill SOCKET NAME PID WORD | bench exec COMMAND...\n");
		return 2;
	}
	printf("%.3f\n", ms);
	return 0;
}

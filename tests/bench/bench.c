/*
 * tests/bench/bench.c - the clock of the benchmarks: asks droverd for something over its Unix
 * socket and times the answer. A small HTTP client of its own, so that nothing of drover's is
 * inside what is measured but droverd itself.
 *
 *   bench call SOCKET METHOD PATH...   sends all requests at once, each on its own connection;
 *                                      prints the time to the last answer
 *   bench kill SOCKET NAME PID WORD    kill -9 of PID; prints the time until a line with WORD
 *                                      comes on the event stream of machine NAME
 *   bench storm SOCKET WORD PATH... -- NAME PID...
 *                                      POSTs to all PATHs at once and, for as long as one of them
 *                                      is not answered, does the same as `kill` to one NAME after
 *                                      the other; a line for each, and in it after a blank when
 *                                      whoever just waits for the process saw its end
 *   bench boot SOCKET COUNT FILE COMMAND...
 *                                      becomes droverd by COMMAND; writes the time from there
 *                                      until the API lists COUNT machines that run into FILE
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
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS   120000
#define REPLY_MAX (1 << 20)
#define PAUSE_MS  10 /* between two kills of a storm */

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

/* Requests that are under way together. */
struct calls {
	struct call *v;
	struct pollfd *p;
	size_t n, done;
};

static void send_all(
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
static bool take_answers(struct calls *c, int timeout_ms)
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

static void finish_all(struct calls *c)
{
	while (c->done < c->n)
		if (!take_answers(c, WAIT_MS))
			die("no answer");
	for (size_t i = 0; i < c->n; i++)
		close(c->v[i].fd);
	free(c->v);
	free(c->p);
}

static double call_all(const char *socket_path, const char *method, char **paths, size_t n)
{
	double begin = now_ms();
	struct calls c;

	send_all(&c, socket_path, method, paths, n);
	finish_all(&c);
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

/*
 * Reads lines until one has both words. Meanwhile *gone (may be NULL) gets the time at which the
 * process was seen to be dead by whoever just waits for it.
 */
static void hear(struct call *c, const char *name, const char *word, int pidfd, double *gone)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN },
			{ .fd = gone && *gone == 0 ? pidfd : -1, .events = POLLIN } };
		char *line = c->reply, *end;
		ssize_t n;

		for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
			*end = '\0';
			if (strstr(line, name) && strstr(line, word))
				break;
		}
		c->len -= (size_t)((end ? end + 1 : line) - c->reply);
		memmove(c->reply, end ? end + 1 : line, c->len + 1);
		if (end)
			return;
		if (poll(p, 2, WAIT_MS) < 1)
			die("no event came");
		if (p[1].revents)
			*gone = now_ms();
		if (!p[0].revents)
			continue;
		n = read(c->fd, c->reply + c->len, sizeof c->reply - 1 - c->len);
		if (n <= 0)
			die("event stream");
		c->len += (size_t)n;
		c->reply[c->len] = '\0';
	}
}

/* floor (may be NULL): until its death shows on a pidfd. */
static double kill_and_hear(
	struct call *c, const char *name, pid_t pid, const char *word, double *floor)
{
	int pidfd = floor ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	double begin = now_ms(), end, gone = 0;
	char member[300];

	snprintf(member, sizeof member, "\"name\":\"%s\"", name);
	if (kill(pid, SIGKILL) < 0)
		die("kill");
	hear(c, member, word, pidfd, floor ? &gone : NULL);
	end = now_ms();
	if (floor) {
		*floor = (gone > 0 ? gone : end) - begin;
		close(pidfd);
	}
	return end - begin;
}

static struct call *follow(const char *socket_path, const char *query)
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

static double one_kill(const char *socket_path, const char *name, pid_t pid, const char *word)
{
	char query[256];

	snprintf(query, sizeof query, "&vm=%s", name);
	return kill_and_hear(follow(socket_path, query), name, pid, word, NULL);
}

static void storm(const char *socket_path, const char *word, char **args)
{
	struct call *events = follow(socket_path, "");
	struct calls starts;
	size_t n = 0;

	while (args[n] && strcmp(args[n], "--") != 0)
		n++;
	send_all(&starts, socket_path, "POST", args, n);
	for (char **a = args + n + 1; args[n] && a[0] && a[1] && starts.done < n; a += 2) {
		double floor, ms = kill_and_hear(events, a[0], (pid_t)atoi(a[1]), word, &floor);

		printf("%.3f %.3f\n", ms, floor);
		for (double end = now_ms() + PAUSE_MS; now_ms() < end && starts.done < n;)
			take_answers(&starts, 1);
	}
	finish_all(&starts);
}

/* How many machines of a list are running or paused; 0 when there is no API to ask yet. */
static size_t count_running(const char *socket_path)
{
	static const char *const states[] = { "\"state\":\"running\"", "\"state\":\"paused\"" };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct call *c = calloc(1, sizeof *c);
	size_t count = 0;

	if (!c)
		die("memory");
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(at.sun_path, sizeof at.sun_path, "%s", socket_path);
	if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&at, sizeof at) == 0) {
		send_request(c->fd, "GET", "/vms");
		while (!c->done)
			take_input(c);
		for (size_t s = 0; s < sizeof states / sizeof *states; s++)
			for (char *p = c->reply; (p = strstr(p, states[s])) != NULL; p++)
				count++;
	}
	close(c->fd);
	free(c);
	return count;
}

static void write_ms(const char *path, double ms)
{
	FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%.3f\n", ms) < 0 || fclose(f) != 0)
		die(path);
}

static void boot(const char *socket_path, size_t count, const char *file, char **argv)
{
	double begin = now_ms();

	/* Whoever waits must not be a child of the daemon: hence the fork in the fork. */
	if (fork() == 0) {
		if (fork() != 0)
			_exit(0);
		while (count_running(socket_path) < count) {
			struct timespec nap = { 0, 200000 };

			if (now_ms() - begin > WAIT_MS)
				die("the machines were not adopted");
			nanosleep(&nap, NULL);
		}
		write_ms(file, now_ms() - begin);
		_exit(0);
	}
	wait(NULL);
	execvp(argv[0], argv);
	die(argv[0]);
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
		ms = one_kill(argv[2], argv[3], (pid_t)atoi(argv[4]), argv[5]);
	} else if (argc >= 7 && strcmp(argv[1], "storm") == 0) {
		storm(argv[2], argv[3], argv + 4);
		return 0;
	} else if (argc >= 6 && strcmp(argv[1], "boot") == 0) {
		boot(argv[2], (size_t)atol(argv[3]), argv[4], argv + 5);
		return 1;
	} else if (argc >= 3 && strcmp(argv[1], "exec") == 0) {
		ms = run(argv + 2);
	} else {
		fprintf(stderr,
			"usage: bench call SOCKET METHOD PATH... | bench kill SOCKET NAME PID WORD |\n"
			"       bench storm SOCKET WORD PATH... -- NAME PID... |\n"
			"       bench boot SOCKET COUNT FILE COMMAND... | bench exec COMMAND...\n");
		return 2;
	}
	printf("%.3f\n", ms);
	return 0;
}

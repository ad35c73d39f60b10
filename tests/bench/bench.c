/*
 * tests/bench/bench.c - the clock of the benchmarks: asks droverd for something over its Unix
 * socket and times the answer. A small HTTP client of its own, so that nothing of drover's is
 * inside what is measured but droverd itself.
 *
 *   bench call SOCKET METHOD PATH...   sends all requests at once, each on its own connection;
 *                                      prints the time to the last answer
 *   bench kill SOCKET NAME PID WORD    kill -9 of PID; prints the time until a line with WORD
 *                                      comes on the event stream of machine NAME
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

#include "tests/bench/client.h"

static double call_all(const char *socket_path, const char *method, char **paths, size_t n)
{
	double begin = now_ms();
	struct calls c;

	send_all(&c, socket_path, method, paths, n);
	finish_all(&c);
	return now_ms() - begin;
}

/* Reads lines until one has both words. */
static void hear(struct call *c, const char *name, const char *word)
{
	char line[REPLY_MAX];

	do
		next_line(c, line);
	while (!strstr(line, name) || !strstr(line, word));
}

static double one_kill(const char *socket_path, const char *name, pid_t pid, const char *word)
{
	char query[256], member[300];
	struct call *events;
	double begin;

	snprintf(query, sizeof query, "&vm=%s", name);
	snprintf(member, sizeof member, "\"name\":\"%s\"", name);
	events = follow(socket_path, query);
	begin = now_ms();
	if (kill(pid, SIGKILL) < 0)
		die("kill");
	hear(events, member, word);
	return now_ms() - begin;
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
	} else if (argc >= 6 && strcmp(argv[1], "boot") == 0) {
		boot(argv[2], (size_t)atol(argv[3]), argv[4], argv + 5);
		return 1;
	} else if (argc >= 3 && strcmp(argv[1], "exec") == 0) {
		ms = run(argv + 2);
	} else {
		fprintf(stderr,
			"usage: bench call SOCKET METHOD PATH... | bench kill SOCKET NAME PID WORD |\n"
			"       bench boot SOCKET COUNT FILE COMMAND... | bench exec COMMAND...\n");
		return 2;
	}
	printf("%.3f\n", ms);
	return 0;
}

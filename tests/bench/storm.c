/*
 * tests/bench/storm.c - how soon the death of a hypervisor is known while others start.
 *
 *   storm SOCKET WORD NICE PATH... -- NAME PID...
 *
 * POSTs to all PATHs at once and, for as long as one of them is not answered, kills one PID after
 * the other with SIGKILL. Watchers, a process each, wait for that: two that have nothing but the
 * pidfds, and two clients of the API's event stream, which look for a line with NAME and WORD; one
 * of each kind runs at nice 0 and one at NICE. A line for each kill, milliseconds from it until
 *
 *   the client at 0   the pidfd at 0   the client at NICE   the pidfd at NICE   the event's own time
 *
 * The last is the daemon's part alone, without any wake-up of a client. An event's time is cut to
 * whole ms: one is added, so that the figure is never too small.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/bench/client.h"

#define PAUSE_MS    10 /* between two kills */
#define VICTIMS_MAX 256

enum watcher {
	CLIENT,
	BARE,
	CLIENT_NICE,
	BARE_NICE,
	WATCHERS
};

struct victim {
	const char *name;
	pid_t pid;
	int pidfd;
};

/* Between the processes. */
struct seen {
	double at[WATCHERS];
	double event; /* realtime */
};

static struct victim victims[VICTIMS_MAX];
static size_t nvictims;
static struct seen *seen;
static int told[2]; /* a byte for each thing that was seen */

static double realtime_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void saw(size_t victim, enum watcher who, double at)
{
	seen[victim].at[who] = at;
	if (write(told[1], "", 1) != 1)
		die("pipe");
}

static void watch_pidfds(enum watcher who)
{
	struct pollfd p[VICTIMS_MAX];

	for (size_t i = 0; i < nvictims; i++)
		p[i] = (struct pollfd){ .fd = victims[i].pidfd, .events = POLLIN };
	for (;;) {
		double at;

		if (poll(p, nvictims, -1) < 0)
			die("poll");
		at = now_ms();
		for (size_t i = 0; i < nvictims; i++) {
			if (!p[i].revents)
				continue;
			p[i].fd = -1;
			saw(i, who, at);
		}
	}
}

static double event_time(const char *line)
{
	const char *p = strstr(line, "\"time\":\"");
	struct tm tm = { 0 };
	const char *rest = p ? strptime(p + 8, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

	if (!rest || *rest != '.') {
		errno = EPROTO;
		die("time of an event");
	}
	return (double)timegm(&tm) * 1e3 + atof(rest) * 1e3;
}

static void watch_events(const char *socket_path, const char *word, enum watcher who)
{
	struct call *events = follow(socket_path, "");
	char line[REPLY_MAX], member[300];

	saw(0, who, 0);
	for (;;) {
		double at;

		next_line(events, line);
		at = now_ms();
		if (!strstr(line, word))
			continue;
		for (size_t i = 0; i < nvictims; i++) {
			snprintf(member, sizeof member, "\"name\":\"%s\"", victims[i].name);
			if (seen[i].at[who] != 0 || !strstr(line, member))
				continue;
			if (who == CLIENT)
				seen[i].event = event_time(line);
			saw(i, who, at);
		}
	}
}

static void spawn_watcher(const char *socket_path, const char *word, enum watcher who, int priority)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setpriority(PRIO_PROCESS, 0, priority) < 0)
		die("setpriority");
	if (who == CLIENT || who == CLIENT_NICE)
		watch_events(socket_path, word, who);
	else
		watch_pidfds(who);
}

static void await(size_t n)
{
	struct pollfd p = { .fd = told[0], .events = POLLIN };
	char bytes[WATCHERS];

	while (n > 0) {
		ssize_t got = poll(&p, 1, WAIT_MS) == 1 ? read(told[0], bytes, n) : 0;

		if (got <= 0)
			die("a death was not seen");
		n -= (size_t)got;
	}
}

static void kill_one(size_t i)
{
	double real = realtime_ms(), begin = now_ms();

	if (kill(victims[i].pid, SIGKILL) < 0)
		die("kill");
	await(WATCHERS);
	for (int who = 0; who < WATCHERS; who++)
		printf("%.3f ", seen[i].at[who] - begin);
	printf("%.3f\n", seen[i].event + 1 - real);
}

int main(int argc, char **argv)
{
	size_t n = 0;
	struct calls starts;
	char **paths = argv + 4;
	int priority;

	while (argc > 4 && paths[n] && strcmp(paths[n], "--") != 0)
		n++;
	if (n == 0 || !paths[n]) {
		fprintf(stderr, "usage: storm SOCKET WORD NICE PATH... -- NAME PID...\n");
		return 2;
	}
	priority = atoi(argv[3]);
	for (char **a = paths + n + 1; a[0] && a[1] && nvictims < VICTIMS_MAX; a += 2) {
		struct victim *v = &victims[nvictims++];

		*v = (struct victim){ a[0], (pid_t)atoi(a[1]), -1 };
		v->pidfd = (int)syscall(SYS_pidfd_open, v->pid, 0);
		if (v->pidfd < 0)
			die("pidfd_open");
	}
	seen = mmap(NULL, sizeof(*seen) * VICTIMS_MAX, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED || pipe(told) < 0)
		die("pipe");
	for (int who = 0; who < WATCHERS; who++)
		spawn_watcher(argv[1], argv[2], (enum watcher)who,
			who == CLIENT || who == BARE ? 0 : priority);
	await(2); /* the clients follow */
	send_all(&starts, argv[1], "POST", paths, n);
	for (size_t i = 0; i < nvictims && starts.done < n; i++) {
		kill_one(i);
		for (double end = now_ms() + PAUSE_MS; now_ms() < end && starts.done < n;)
			take_answers(&starts, 1);
	}
	finish_all(&starts);
	return 0;
}

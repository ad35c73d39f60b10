/*
 * one-each - watches for two hypervisors of one machine that run at once.
 *
 *   one-each [INTERVAL_MS]
 *
 * Looks through /proc until it is told to end (SIGTERM), and prints a line for each pair that it
 * sees: "NAME PID PID". At the end it says how many times it has looked, and at how many
 * hypervisors at most, so that a test sees that it was awake. The name of a machine is the guest=
 * of QEMU's -name, which the fake is started with too.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SEEN_MAX = 4096
};

struct hypervisor {
	int pid;
	char name[80];
};

static struct hypervisor seen[SEEN_MAX];
static volatile sig_atomic_t ending;

static void on_term(int sig)
{
	ending = 1;
}

static bool is_program(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base != NULL ? base + 1 : path;
	return strncmp(base, "qemu-system-", 12) == 0 || strcmp(base, "fake-qemu") == 0;
}

/*
 * False for what is no hypervisor, or none any more: one that has exited has no command line. A
 * drover-jail has the same one behind its own, and so has the fork of it that is about to exec.
 */
static bool look_at(int pid, char *name, size_t cap)
{
	char path[64], line[8192];
	const char *end, *arg;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return false;
	line[n] = '\0';
	end = line + n;
	if (!is_program(line))
		return false;
	for (arg = line; arg < end; arg += strlen(arg) + 1) {
		if (strncmp(arg, "guest=", 6) == 0) {
			snprintf(name, cap, "%.*s", (int)strcspn(arg + 6, ","), arg + 6);
			return true;
		}
	}
	return false;
}

static bool still(const struct hypervisor *h)
{
	char name[80];

	return look_at(h->pid, name, sizeof(name)) && strcmp(name, h->name) == 0;
}

/* The first may have ended before the second came: it did not if it is there after that. */
static void compare(const struct hypervisor *h, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(seen[i].name, h->name) == 0 && still(&seen[i]) && still(h)) {
			printf("%s %d %d\n", h->name, seen[i].pid, h->pid);
			fflush(stdout);
		}
	}
}

static size_t look(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	size_t n = 0;

	while (dir != NULL && n < SEEN_MAX && (e = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		seen[n].pid = atoi(e->d_name);
		if (!look_at(seen[n].pid, seen[n].name, sizeof(seen[n].name)))
			continue;
		compare(&seen[n], n);
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	long ms = argc > 1 ? atol(argv[1]) : 20;
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
	unsigned long looks = 0;
	size_t most = 0;

	signal(SIGTERM, on_term);
	while (!ending) {
		size_t n = look();

		most = n > most ? n : most;
		looks++;
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "%lu looks, %zu hypervisors at most\n", looks, most);
	return 0;
}

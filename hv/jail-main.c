/*
 * drover-jail - the small parent of one hypervisor.
 *
 *   drover-jail --run-dir DIR --status-fd N -- PROGRAM ARGUMENT...
 *   drover-jail --read-only DIR -- PROGRAM ARGUMENT...
 *
 * The second becomes PROGRAM, for which DIR and all that is mounted below it cannot be written to.
 *
 * Starts PROGRAM with every descriptor that it got itself but N, writes "PID STARTTIME\n" or
 * "error: ...\n" to descriptor N, waits, writes how PROGRAM ended to DIR/exit (a temporary file
 * and a rename, so that it is there whole or not at all), and ends in the same way itself. It
 * outlives droverd: a droverd that adopts the machine finds the exit status in that file.
 *
 * One of these runs beside every machine: it allocates nothing and links nothing but libc. It may
 * block.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <config.h>

/* What must not end us: our life is the hypervisor's. */
static const int survived[] = { SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2 };

#define N_SURVIVED (sizeof(survived) / sizeof(survived[0]))

struct jail {
	const char *run_dir;
	int status_fd;
	char **argv;
	pid_t pid;
	unsigned long long starttime;
};

static void say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(int fd, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	/* Nobody may be left to read it; the machine is there all the same. */
	if (n > 0 && write(fd, line, (size_t)n) < 0)
		return;
}

static int usage(int fd, int status)
{
	say(fd, "usage: drover-jail --run-dir DIR --status-fd N -- PROGRAM ARGUMENT...\n"
		"       drover-jail --read-only DIR -- PROGRAM ARGUMENT...\n");
	return status;
}

/*
 * In mounts of our own; mount_setattr(2), which reaches what is mounted below, is of Linux 5.12. Only
 * returns when it fails.
 */
static int become_reader(const char *dir, char **argv)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	const char *what = NULL;

	if (unshare(CLONE_NEWNS) < 0)
		what = "mounts of its own";
	else if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		what = "/";
	else if (mount(dir, dir, NULL, MS_BIND | MS_REC, NULL) < 0)
		what = dir;
	else if (syscall(SYS_mount_setattr, AT_FDCWD, dir, AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		what = dir;
	if (what != NULL) {
		say(2, "drover-jail: read-only: %s: %s\n", what, strerror(errno));
		return 126;
	}
	execv(argv[0], argv);
	say(2, "drover-jail: cannot execute %s: %s\n", argv[0], strerror(errno));
	return 127;
}

static int parse(struct jail *j, int argc, char **argv)
{
	int i;

	j->status_fd = -1;
	for (i = 1; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
		if (strcmp(argv[i], "--run-dir") == 0)
			j->run_dir = argv[i + 1];
		else if (strcmp(argv[i], "--status-fd") == 0)
			j->status_fd = atoi(argv[i + 1]);
		else
			return -1;
	}
	j->argv = argv + i + 1;
	return i + 1 < argc && strcmp(argv[i], "--") == 0 && j->run_dir != NULL && j->status_fd > 2
		       ? 0
		       : -1;
}

/* Field 22 of /proc/PID/stat; 0 if it cannot be read. The command may hold spaces and brackets. */
static unsigned long long read_starttime(pid_t pid)
{
	char path[64], line[1024], *p;
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	p = strrchr(line, ')');
	if (p == NULL)
		return 0;
	/* p is at the end of field 2; each blank begins the next one. */
	for (int field = 2; field < 22; field++) {
		p = strchr(p + 1, ' ');
		if (p == NULL)
			return 0;
	}
	sscanf(p, " %llu", &start);
	return start;
}

/*
 * Whatever our parent ignores or blocks (nohup, a shell's background, a language's runtime) is no
 * business of the hypervisor, and an ignored SIGCHLD would take its exit status from us. libc's two
 * own signals (32 and 33) are left ignored by its posix_spawn() (glibc before 2.38); only the
 * kernel's own call reaches them.
 */
static void reset_signals(void)
{
	static const unsigned long dfl[8]; /* the kernel's struct sigaction, all zero: SIG_DFL */
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL,
			(NSIG - 1) / 8); /* fails for KILL and STOP */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Starts the program; errno of the exec that failed, or 0. */
static int start(struct jail *j)
{
	volatile int failure = 0;

	for (size_t i = 0; i < N_SURVIVED; i++)
		signal(survived[i], SIG_IGN);
	fcntl(j->status_fd, F_SETFD, FD_CLOEXEC);
	/* vfork: we stand still until the exec, so its error is known without another pipe. */
	j->pid = vfork();
	if (j->pid < 0)
		return errno;
	if (j->pid == 0) {
		for (size_t i = 0; i < N_SURVIVED; i++)
			signal(survived[i], SIG_DFL);
		execv(j->argv[0], j->argv);
		failure = errno;
		_exit(127);
	}
	return failure;
}

/* What was meant for the hypervisor must not stay open here: its end would not be seen. */
static void let_go_of_descriptors(void)
{
	int null;

	syscall(SYS_close_range, 3, ~0U, 0);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void write_exit(const struct jail *j, int status)
{
	char tmp[4096], path[4096];
	struct timespec now;
	int fd;

	if (snprintf(tmp, sizeof(tmp), "%s/.exit.tmp", j->run_dir) >= (int)sizeof(tmp))
		return;
	snprintf(path, sizeof(path), "%s/exit", j->run_dir);
	clock_gettime(CLOCK_REALTIME, &now);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	say(fd, "{\"pid\":%d,\"starttime\":%llu,\"%s\":%d,\"time\":%lld}\n", (int)j->pid,
		j->starttime, WIFSIGNALED(status) ? "signal" : "status",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
		(long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
	close(fd);
	rename(tmp, path);
}

/* Our parent, if it is still there, sees what it would see of the hypervisor. */
static int end_like(int status)
{
	struct rlimit no_core = { 0, 0 };

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct jail j = { 0 };
	int failure, status = 0;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(1, 0);
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		say(1, "drover-jail %s\n", PACKAGE_VERSION);
		return 0;
	}
	if (argc > 4 && strcmp(argv[1], "--read-only") == 0 && strcmp(argv[3], "--") == 0)
		return become_reader(argv[2], argv + 4);
	if (parse(&j, argc, argv) < 0)
		return usage(2, 2);
	reset_signals();
	setsid(); /* fails when we lead a session already */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		say(j.status_fd, "error: no_new_privs: %s\n", strerror(errno));
		return 127;
	}
	failure = start(&j);
	if (failure != 0) {
		say(j.status_fd, "error: cannot execute %s: %s\n", j.argv[0], strerror(failure));
		return 127;
	}
	j.starttime = read_starttime(j.pid);
	say(j.status_fd, "%d %llu\n", (int)j.pid, j.starttime);
	let_go_of_descriptors();
	while (waitpid(j.pid, &status, 0) < 0)
		if (errno != EINTR)
			return 127;
	write_exit(&j, status);
	return end_like(status);
}

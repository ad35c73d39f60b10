/*
 * tests/bench/floor.c - the floor of the benchmarks: what starting, quitting and killing a QEMU
 * costs when nobody supervises it. Shares no code with drover on purpose.
 *
 *   floor start FILE...   forks and execs every command line at once and speaks QMP until each has
 *                         answered qmp_capabilities; prints the time to the last answer, then the
 *                         time from `quit` to the last one reaped
 *   floor kill FILE       prints the time from kill -9 to the pidfd's becoming readable
 *   floor save FILE COUNT prints COUNT times, a line each: how long `stop` and `cont` took, and the
 *                         commands that write the guest's memory into a file, from `stop` to `cont`,
 *                         with an fsync of it
 *   floor restore FILE    prints the time from `quit` of a guest that was saved so to `cont` of the
 *                         QEMU that was started then, and has read the file
 *
 * FILE holds a command line as /proc/PID/cmdline does. Descriptors named in it ("fd=7") are made
 * here: listening Unix sockets for chardevs, TAPs of our own for netdevs. Times are milliseconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX 512
#define FDS_MAX  16
#define WAIT_MS  60000

struct given_fd {
	int ours, theirs;
};

struct machine {
	char *text;
	char *argv[ARGS_MAX + 1];
	struct given_fd fds[FDS_MAX];
	size_t nfds;
	struct sockaddr_un sockets[FDS_MAX];
	size_t nsockets, monitor; /* index of the control monitor's */
	bool has_monitor;
	pid_t pid;
	int qmp, pidfd;
	int answers; /* lines with "return" that have come */
	bool greeted, reaped, saved;
	char line[65536];
	size_t len;
};

static char dir[] = "/tmp/floor.XXXXXX";

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void read_command(struct machine *m, const char *path)
{
	FILE *f = fopen(path, "re");
	size_t len, n = 0;

	m->text = calloc(1, 1 << 20);
	if (!f || !m->text)
		die(path);
	len = fread(m->text, 1, (1 << 20) - 1, f);
	fclose(f);
	for (char *p = m->text; p < m->text + len && n < ARGS_MAX; p += strlen(p) + 1)
		m->argv[n++] = p;
	if (n == 0) {
		errno = EINVAL;
		die(path);
	}
}

/* The value of key in a comma-separated option; false when it is not there. */
static bool option(const char *arg, const char *key, char *value, size_t cap)
{
	size_t klen = strlen(key);

	for (const char *p = arg; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, key, klen) == 0 && p[klen] == '=') {
			snprintf(value, cap, "%.*s", (int)strcspn(p + klen + 1, ","), p + klen + 1);
			return true;
		}
	}
	return false;
}

static int listen_on(struct sockaddr_un *at)
{
	static unsigned made;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at->sun_family = AF_UNIX;
	snprintf(at->sun_path, sizeof at->sun_path, "%s/%u", dir, ++made);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof *at) < 0 || listen(fd, 1) < 0)
		die("socket");
	return fd;
}

static int connect_to(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at) < 0)
		die("connect");
	return fd;
}

static int open_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		die("/dev/net/tun");
	return fd;
}

/* Whether the chardev of this id is the one of the control monitor. */
static bool is_monitor(const struct machine *m, const char *id)
{
	char value[64];

	for (char *const *a = m->argv; *a; a++)
		if (option(*a, "chardev", value, sizeof value) && strcmp(value, id) == 0 &&
			strstr(*a, "control"))
			return true;
	return false;
}

/* Makes every descriptor that the command line names. */
static void make_fds(struct machine *m)
{
	for (char **a = m->argv; *a && m->nfds < FDS_MAX; a++) {
		char number[16], id[64] = "";
		struct given_fd *fd = &m->fds[m->nfds];

		if (!option(*a, "fd", number, sizeof number))
			continue;
		fd->theirs = atoi(number);
		if (strncmp(*a, "tap,", 4) == 0) {
			fd->ours = open_tap();
		} else if (strncmp(*a, "socket,", 7) == 0) {
			option(*a, "id", id, sizeof id);
			if (is_monitor(m, id)) {
				m->monitor = m->nsockets;
				m->has_monitor = true;
			}
			fd->ours = listen_on(&m->sockets[m->nsockets++]);
		} else {
			continue;
		}
		/* Out of the way of the numbers that the child wants. */
		fd->ours = fcntl(fd->ours, F_DUPFD_CLOEXEC, 100);
		m->nfds++;
	}
	if (!m->has_monitor) {
		errno = EINVAL;
		die("no monitor socket in the command line");
	}
}

static void launch(struct machine *m)
{
	m->pid = fork();
	if (m->pid < 0)
		die("fork");
	if (m->pid == 0) {
		int null = open("/dev/null", O_RDWR);

		for (int fd = 0; fd < 3; fd++)
			if (!(fd == 2 && getenv("FLOOR_VERBOSE")))
				dup2(null, fd);
		for (size_t i = 0; i < m->nfds; i++)
			dup2(m->fds[i].ours, m->fds[i].theirs);
		execv(m->argv[0], m->argv);
		execvp(m->argv[0], m->argv);
		_exit(127);
	}
	/* All of them: a chardev may wait for its client before anything else happens. */
	for (size_t i = 0; i < m->nsockets; i++) {
		int fd = connect_to(&m->sockets[i]);

		if (i == m->monitor)
			m->qmp = fd;
	}
	/* Ours would keep connects succeeding after the child's death. */
	for (size_t i = 0; i < m->nfds; i++)
		close(m->fds[i].ours);
	m->pidfd = (int)syscall(SYS_pidfd_open, m->pid, 0);
	if (m->pidfd < 0)
		die("pidfd_open");
}

static void say(struct machine *m, const char *text)
{
	if (write(m->qmp, text, strlen(text)) < 0)
		die("QMP write");
}

static void take_line(struct machine *m, char *line)
{
	if (!m->greeted && strstr(line, "\"QMP\"")) {
		m->greeted = true;
		say(m, "{\"execute\":\"qmp_capabilities\"}\n");
	} else if (strstr(line, "\"return\"")) {
		m->answers++;
	} else if (strstr(line, "\"MIGRATION\"") && strstr(line, "\"completed\"")) {
		m->saved = true;
	} else if (strstr(line, "\"error\"")) {
		fprintf(stderr, "floor: %s\n", line);
		exit(1);
	}
}

static void take_input(struct machine *m)
{
	ssize_t n = read(m->qmp, m->line + m->len, sizeof m->line - 1 - m->len);
	char *end;

	if (n <= 0) {
		errno = n ? errno : ECONNRESET;
		die("QMP: QEMU ended (FLOOR_VERBOSE=1 shows what it says)");
	}
	m->len += (size_t)n;
	m->line[m->len] = '\0';
	while ((end = strchr(m->line, '\n')) != NULL) {
		*end = '\0';
		take_line(m, m->line);
		m->len -= (size_t)(end + 1 - m->line);
		memmove(m->line, end + 1, m->len + 1);
	}
}

static void await_ready(struct machine *all, size_t n)
{
	struct pollfd *p = calloc(n, sizeof *p);
	size_t ready = 0;

	if (!p)
		die("memory");
	for (size_t i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = all[i].qmp, .events = POLLIN };
	while (ready < n) {
		if (poll(p, n, WAIT_MS) <= 0)
			die("no answer over QMP");
		for (size_t i = 0; i < n; i++) {
			if (!p[i].revents)
				continue;
			take_input(&all[i]);
			if (all[i].answers > 0) {
				p[i].fd = -1;
				ready++;
			}
		}
	}
	free(p);
}

static double start_all(struct machine *all, size_t n)
{
	double begin = now_ms();

	for (size_t i = 0; i < n; i++)
		launch(&all[i]);
	await_ready(all, n);
	return now_ms() - begin;
}

static double quit_all(struct machine *all, size_t n)
{
	double begin = now_ms();

	for (size_t i = 0; i < n; i++)
		say(&all[i], "{\"execute\":\"quit\"}\n");
	for (size_t i = 0; i < n; i++)
		if (waitpid(all[i].pid, NULL, 0) < 0)
			die("waitpid");
	return now_ms() - begin;
}

static double kill_one(struct machine *m)
{
	struct pollfd p = { .fd = m->pidfd, .events = POLLIN };
	double begin = now_ms(), ms;

	kill(m->pid, SIGKILL);
	if (poll(&p, 1, WAIT_MS) != 1)
		die("pidfd");
	ms = now_ms() - begin;
	waitpid(m->pid, NULL, 0);
	return ms;
}

/* One command and its answer; fd (-1: none) goes with it. */
static double command(struct machine *m, const char *text, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	double begin = now_ms();
	int before = m->answers;

	if (fd >= 0) {
		msg.msg_control = space;
		msg.msg_controllen = sizeof space;
		*CMSG_FIRSTHDR(
			&msg) = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof fd);
	}
	if (sendmsg(m->qmp, &msg, 0) < 0)
		die("QMP write");
	while (m->answers == before)
		take_input(m);
	return now_ms() - begin;
}

static void set_up_migration(struct machine *m)
{
	command(m,
		"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		"[{\"capability\":\"events\",\"state\":true}]}}\n",
		-1);
	command(m,
		"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":"
		"1099511627776}}\n",
		-1);
}

/* The file goes to and comes from here. */
static void move_memory(struct machine *m, const char *command_text, int fd)
{
	m->saved = false;
	command(m, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"f\"}}\n", fd);
	command(m, command_text, -1);
	while (!m->saved)
		take_input(m);
}

static const char migrate[] = "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:f\"}}\n";
static const char incoming[] =
	"{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:f\"}}\n";

static void save_once(struct machine *m)
{
	char path[64];
	double begin, stop, save, cont;
	int fd;

	snprintf(path, sizeof path, "%s/memory", dir);
	begin = now_ms();
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	stop = command(m, "{\"execute\":\"stop\"}\n", -1);
	move_memory(m, migrate, fd);
	if (fsync(fd) < 0)
		die("fsync");
	cont = command(m, "{\"execute\":\"cont\"}\n", -1);
	save = now_ms() - begin;
	close(fd);
	unlink(path);
	/* The same without a save between them. */
	stop = command(m, "{\"execute\":\"stop\"}\n", -1);
	cont = command(m, "{\"execute\":\"cont\"}\n", -1);
	printf("%.3f %.3f %.3f\n", stop, cont, save);
}

static void save_all(struct machine *m, int count)
{
	start_all(m, 1);
	set_up_migration(m);
	command(m, "{\"execute\":\"cont\"}\n", -1);
	for (int i = 0; i < count; i++)
		save_once(m);
	quit_all(m, 1);
}

/* m has read its command; then gets the same. */
static double restore(struct machine *m, struct machine *then)
{
	char path[64];
	double begin, ms;
	size_t n = 0;
	int fd;

	snprintf(path, sizeof path, "%s/memory", dir);
	start_all(m, 1);
	set_up_migration(m);
	command(m, "{\"execute\":\"cont\"}\n", -1);
	command(m, "{\"execute\":\"stop\"}\n", -1);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	move_memory(m, migrate, fd);
	while (then->argv[n])
		n++;
	if (n + 3 > ARGS_MAX || lseek(fd, 0, SEEK_SET) < 0)
		die("the command line");
	then->argv[n] = "-S";
	then->argv[n + 1] = "-incoming";
	then->argv[n + 2] = "defer";
	begin = now_ms();
	quit_all(m, 1);
	start_all(then, 1);
	set_up_migration(then);
	move_memory(then, incoming, fd);
	command(then, "{\"execute\":\"cont\"}\n", -1);
	ms = now_ms() - begin;
	quit_all(then, 1);
	close(fd);
	unlink(path);
	return ms;
}

int main(int argc, char **argv)
{
	size_t n = argc > 2 ? (size_t)argc - 2 : 0;
	struct machine *all = calloc(n + 2, sizeof *all);
	bool start = n > 0 && strcmp(argv[1], "start") == 0;
	bool save = n == 2 && strcmp(argv[1], "save") == 0;
	bool back = n == 1 && strcmp(argv[1], "restore") == 0;

	if (save)
		n = 1;
	if (!all || n == 0 ||
		(!start && !save && !back && (strcmp(argv[1], "kill") != 0 || n != 1))) {
		fprintf(stderr, "usage: floor start FILE... | kill FILE | save FILE COUNT | "
				"restore FILE\n");
		return 2;
	}
	if (!mkdtemp(dir))
		die(dir);
	/* Of a restore there are two, alike. */
	n += back;
	for (size_t i = 0; i < n; i++) {
		read_command(&all[i], argv[back ? 2 : i + 2]);
		make_fds(&all[i]);
	}
	if (start) {
		double ready = start_all(all, n);

		printf("%.3f %.3f\n", ready, quit_all(all, n));
	} else if (save) {
		save_all(all, atoi(argv[3]));
	} else if (back) {
		printf("%.3f\n", restore(&all[0], &all[1]));
	} else {
		start_all(all, 1);
		printf("%.3f\n", kill_one(all));
	}
	for (size_t i = 0; i < n; i++)
		for (size_t s = 0; s < all[i].nsockets; s++)
			unlink(all[i].sockets[s].sun_path);
	rmdir(dir);
	return 0;
}

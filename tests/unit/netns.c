#include "tests/unit/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>
#include "lib/clock.h"

#define AWAIT_MS 20000

static void enter_too(uv_work_t *work)
{
	int *fd = work->data;

	if (setns(*fd, CLONE_NEWNET) < 0)
		*fd = -1;
}

static void entered(uv_work_t *work, int status)
{
}

/* The thread of libuv's pool, one alone here, is still in the namespace of the test before. */
static void take_pool_along(void)
{
	int ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), fd = ours;
	uv_work_t work = { .data = &fd };
	uv_loop_t loop;

	setenv("UV_THREADPOOL_SIZE", "1", 1);
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_queue_work(&loop, &work, enter_too, entered), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_true(fd >= 0);
	close(ours);
}

void netns_enter(void)
{
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("# no network namespace of our own: %s\n", strerror(errno));
		skip();
	}
	take_pool_along();
	sh("ip link set lo up");
}

pid_t netns_peer(void)
{
	int ready[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0)
			_exit(1);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

void netns_peer_finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int run(const char *cmd)
{
	int status = system(cmd);

	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void format(char *cmd, size_t cap, const char *fmt, va_list ap)
{
	int n = vsnprintf(cmd, cap, fmt, ap);

	assert_true(n >= 0 && (size_t)n < cap);
}

void sh(const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;

	va_start(ap, fmt);
	format(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (run(cmd) != 0)
		fail_msg("failed: %s", cmd);
}

int sh_status(const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;

	va_start(ap, fmt);
	format(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return run(cmd);
}

const char *sh_output(const char *fmt, ...)
{
	static char out[65536];
	char cmd[4096];
	va_list ap;
	size_t n;
	FILE *f;

	va_start(ap, fmt);
	format(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	f = popen(cmd, "r");
	assert_non_null(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	pclose(f);
	return out;
}

void sh_await(const char *fmt, ...)
{
	struct timespec pause_time = { .tv_nsec = 20 * 1000 * 1000 };
	uint64_t end = clock_mono_ms() + AWAIT_MS;
	char cmd[4096];
	va_list ap;

	va_start(ap, fmt);
	format(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	while (run(cmd) != 0) {
		if (clock_mono_ms() > end)
			fail_msg("never succeeded: %s", cmd);
		nanosleep(&pause_time, NULL);
	}
}

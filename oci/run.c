#include "oci/run.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/str.h"

#define OUTPUT_MAX 4096

static int spawn(const char *program, char *const argv[], pid_t *pid, int *out_fd, struct err *err)
{
	static char *const env[] = { "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t fa;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, fds[1], 1);
	posix_spawn_file_actions_adddup2(&fa, fds[1], 2);
	r = -posix_spawn(pid, program, &fa, NULL, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	close(fds[1]);
	if (r < 0) {
		close(fds[0]);
		return err_errno(err, r, "start %s", quote(program));
	}
	*out_fd = fds[0];
	return 0;
}

/* Takes its output until it ends, or kills it when it is late. */
static int await(pid_t pid, int fd, unsigned timeout_ms, struct buf *out, int *status)
{
	uint64_t end = clock_mono_ms() + timeout_ms, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char chunk[1024];
	bool late = false;
	ssize_t n;

	while (!late) {
		now = clock_mono_ms();
		late = now >= end;
		if (late || poll(&p, 1, end - now) <= 0)
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		if (n > 0 && out->len < OUTPUT_MAX)
			buf_add(out, chunk, n);
	}
	if (late)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return late ? -ETIMEDOUT : 0;
}

static const char *last_line(struct buf *out)
{
	char *s = out->len > 0 ? str_trim(out->data) : NULL, *nl = s ? strrchr(s, '\n') : NULL;

	return s == NULL || *s == '\0' ? "no message" : quote(nl ? nl + 1 : s);
}

int run_program(char *const argv[], unsigned timeout_ms, int ok_status, struct err *err)
{
	char *program = find_program(argv[0]);
	struct buf out = { 0 };
	int fd = -1, status = 0, r;
	pid_t pid;

	if (program == NULL)
		return err_set(err, -ENOENT, "the program %s is not installed", argv[0]);
	r = spawn(program, argv, &pid, &fd, err);
	free(program);
	if (r < 0)
		return r;
	r = await(pid, fd, timeout_ms, &out, &status);
	close(fd);
	if (r < 0)
		err_set(err, r, "%s took more than %u seconds", argv[0], timeout_ms / 1000);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) > ok_status)
		r = err_set(err, -EIO, "%s failed: %s", argv[0], last_line(&out));
	buf_finish(&out);
	return r;
}

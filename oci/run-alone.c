#include "oci/run-alone.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/file.h"

#define KEPT_MAX ((size_t)1 << 20)

/* ---- in the process ---- */

_Noreturn static void fail_alone(const struct err *err)
{
	dprintf(STDERR_FILENO, "%s\n", err->msg);
	_exit(127);
}

_Noreturn static void become(
	const struct run_alone *s, const char *program, pid_t parent, int out, int errors)
{
	/* One arena: address space is counted. */
	static char *const env[] = { "LC_ALL=C", "PATH=/usr/bin:/bin", "MALLOC_ARENA_MAX=1", NULL };
	struct sandbox_spec spec = { .alone = true,
		.paths = s->paths,
		.n = s->n,
		.memory_bytes = s->limits->memory_bytes,
		.cpu_seconds = 2 * (s->limits->time_ms / 1000 + 1),
		.file_bytes = s->file_bytes };
	struct sandbox_state state;
	struct err err = { 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || null < 0)
		_exit(127);
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(errors, 2) < 0)
		_exit(127);
	syscall(SYS_close_range, 3, ~0u, 0);
	signal(SIGPIPE, SIG_DFL);
	/* Past its limit a file is not written, which it can tell of. */
	signal(SIGXFSZ, SIG_IGN);
	if (sandbox_enter(&spec, &state, &err) < 0)
		fail_alone(&err);
	execve(program, s->argv, env);
	err_errno(&err, -errno, "start %s", s->argv[0]);
	fail_alone(&err);
}

/* ---- in ours ---- */

struct running {
	const struct run_alone *spec;
	struct buf *out, errors;
	int fds[2]; /* of its output and its errors; -1 once they have ended */
};

static void take_output(struct running *w, int i)
{
	char piece[4096];
	ssize_t n = read(w->fds[i], piece, sizeof(piece));
	struct buf *to = i == 0 ? w->out : &w->errors;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(w->fds[i]);
		w->fds[i] = -1;
	} else if (i == 0 && w->spec->said != NULL) {
		w->spec->said(w->spec->arg, piece, (size_t)n);
	} else if (to != NULL && to->len < KEPT_MAX) {
		buf_add(to, piece, (size_t)n);
	}
}

static int watch(struct running *w, uint64_t end_ms)
{
	while (w->fds[0] >= 0 || w->fds[1] >= 0) {
		struct pollfd p[2] = { { w->fds[0], POLLIN, 0 }, { w->fds[1], POLLIN, 0 } };
		uint64_t now = clock_mono_ms();

		if (now >= end_ms)
			return -ETIMEDOUT;
		if (poll(p, 2, (int)MIN(end_ms - now, (uint64_t)60000)) <= 0)
			continue;
		for (int i = 0; i < 2; i++) {
			if (p[i].revents != 0)
				take_output(w, i);
		}
	}
	return 0;
}

/* It may close both and stay. */
static int await_end(pid_t pid, uint64_t end_ms, int *status)
{
	unsigned pause_us = 500;
	pid_t r;

	while ((r = waitpid(pid, status, WNOHANG)) <= 0) {
		if (r < 0 && errno != EINTR)
			return 0;
		if (clock_mono_ms() >= end_ms)
			return -ETIMEDOUT;
		usleep(pause_us);
		pause_us = MIN(pause_us * 2, 50000u);
	}
	return 0;
}

static const char *last_words(struct buf *errors)
{
	char *s = errors->len > 0 ? str_trim(errors->data) : NULL, *nl;

	if (s == NULL || *s == '\0')
		return "no message";
	nl = strrchr(s, '\n');
	s = nl != NULL ? nl + 1 : s;
	/* "qemu-img: Could not open 'json:{...}': why": the chain is nothing for people. */
	nl = strstr(s, "}': ");
	return quote(nl != NULL ? nl + 4 : s);
}

static int judge_end(struct running *w, int r, int status, struct err *err)
{
	const char *name = w->spec->argv[0];

	if (r == -ETIMEDOUT || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU))
		return err_set(err, -ETIMEDOUT, "%s took more than %s", name,
			format_duration(w->spec->limits->time_ms / 1000));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return err_set(err, -EIO,
			"%s was stopped: it made a system call that it has no use for", name);
	if (WIFSIGNALED(status))
		return err_set(err, -EIO, "%s was ended by signal %d (%s)", name, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	/* It has no other word for it. */
	if (WEXITSTATUS(status) != 0 && w->errors.len > 0 &&
		strstr(buf_str(&w->errors), strerror(ENOSPC)) != NULL)
		return err_set(err, -ENOSPC, "%s failed: %s", name, last_words(&w->errors));
	if (WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "%s failed: %s", name, last_words(&w->errors));
	return w->out != NULL && w->out->bad ? err_nomem(err) : 0;
}

static int start_alone(
	const struct run_alone *s, const char *program, int fds[2], pid_t *pid, struct err *err)
{
	int out[2], errors[2];
	pid_t parent = getpid();

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	if (pipe2(errors, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return err_errno(err, -errno, "pipe");
	}
	*pid = fork();
	if (*pid == 0)
		become(s, program, parent, out[1], errors[1]);
	close(out[1]);
	close(errors[1]);
	fds[0] = out[0];
	fds[1] = errors[0];
	if (*pid > 0)
		return 0;
	close(out[0]);
	close(errors[0]);
	return err_errno(err, -errno, "start %s", s->argv[0]);
}

int run_alone(const struct run_alone *spec, struct buf *out, struct err *err)
{
	char *program = find_program(spec->argv[0]);
	struct running w = { .spec = spec, .out = out };
	uint64_t end_ms;
	int status = 0, r;
	pid_t pid = -1;

	if (program == NULL)
		return err_set(err, -ENOENT, "the program %s is not installed", spec->argv[0]);
	r = start_alone(spec, program, w.fds, &pid, err);
	free(program);
	if (r < 0)
		return r;
	end_ms = clock_mono_ms() + spec->limits->time_ms;
	r = watch(&w, end_ms);
	if (r == 0)
		r = await_end(pid, end_ms, &status);
	if (r < 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	for (int i = 0; i < 2; i++) {
		if (w.fds[i] >= 0)
			close(w.fds[i]);
	}
	r = judge_end(&w, r, status, err);
	buf_finish(&w.errors);
	return r;
}

#include "oci/unpack-private.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/str.h"
#include "oci/sandbox.h"

/* ---- in the process ---- */

static void tell(int fd, const struct unpack_message *m)
{
	const char *p = (const char *)m;
	size_t len = sizeof(*m);

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(1);
		p += n;
		len -= (size_t)n;
	}
}

static void tell_progress(void *arg, uint64_t done, uint64_t total)
{
	static uint64_t last_ms;
	struct unpack_job *j = arg;
	struct unpack_message m = { .kind = MSG_PROGRESS, .done = done, .total = total };
	uint64_t now = clock_mono_ms();

	if (done < total && now - last_ms < 50)
		return;
	/* Nobody reads as long as layers are still fetched, and the pipe must not fill up. */
	for (size_t i = 0; i < j->nlayers; i++) {
		if (j->layers[i].feed != NULL && !feed_whole(j->layers[i].feed))
			return;
	}
	last_ms = now;
	tell(j->pipe, &m);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* All but the job's and the pipe; standard error stays, for a sanitizer's last words. */
void unpack_close_others(struct unpack_job *j)
{
	int from = 0;

	j->fds[j->n++] = j->pipe;
	j->fds[j->n++] = STDERR_FILENO;
	qsort(j->fds, j->n, sizeof(j->fds[0]), by_number);
	for (size_t i = 0; i < j->n; i++) {
		if (j->fds[i] > from)
			syscall(SYS_close_range, from, j->fds[i] - 1, 0);
		from = MAX(from, j->fds[i] + 1);
	}
	syscall(SYS_close_range, from, ~0u, 0);
}

_Noreturn void unpack_child(struct unpack_job *j, pid_t parent)
{
	struct sandbox_spec spec = { .closed = true,
		.memory_bytes = j->limits->memory_bytes,
		/* Two threads work: twice the time is never too short. */
		.cpu_seconds = 2 * (j->limits->time_ms / 1000 + 1) };
	struct unpack_message m = { .kind = MSG_RESULT };
	struct sandbox_state state;
	struct err err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	unpack_close_others(j);
	m.code = sandbox_enter(&spec, &state, &err);
	if (m.code == 0)
		m.code = j->run(j, &m, &err);
	snprintf(m.text, sizeof(m.text), "%s", m.code < 0 ? err.msg : "");
	tell(j->pipe, &m);
	_exit(0);
}

/* ---- in ours ---- */

/* 1: a message; 0: no more; -ETIMEDOUT. */
static int take(int fd, uint64_t end_ms, struct unpack_message *m)
{
	size_t have = 0;

	while (have < sizeof(*m)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		ssize_t n;

		if (now >= end_ms)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)MIN(end_ms - now, (uint64_t)60000)) <= 0)
			continue;
		n = read(fd, (char *)m + have, sizeof(*m) - have);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return 0;
		have += (size_t)n;
	}
	return 1;
}

static int died(int status, struct err *err)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return err_set(err, -EIO,
			"unpacking was stopped: it made a system call that it has no use for");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		return err_set(err, -ETIMEDOUT, "unpacking took more time than it may");
	if (WIFSIGNALED(status))
		return err_set(err, -EIO, "unpacking was ended by signal %d (%s)", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	return err_set(err, -EIO, "unpacking ended without a result");
}

int unpack_follow(struct unpack_job *j, pid_t pid, struct unpack_message *m, struct err *err)
{
	uint64_t end = clock_mono_ms() + j->limits->time_ms;
	int status = 0, r;

	do {
		r = take(j->pipe, end, m);
		if (r > 0 && m->kind == MSG_PROGRESS && j->progress != NULL)
			j->progress(j->arg, MIN(m->done, m->total), m->total);
	} while (r > 0 && m->kind == MSG_PROGRESS);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ETIMEDOUT)
		return err_set(err, r, "unpacking took more than %s",
			format_duration(j->limits->time_ms / 1000));
	if (r == 0)
		return died(status, err);
	m->text[sizeof(m->text) - 1] = '\0';
	if (m->code < 0 && m->code > -4096)
		return err_set(err, m->code, "%s", m->text);
	return m->code == 0 ? 0 : died(0, err);
}

static int run(struct unpack_job *j, struct unpack_message *m, struct err *err)
{
	pid_t parent = getpid(), pid;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	pid = fork();
	if (pid < 0) {
		r = err_errno(err, -errno, "start the unpacking part");
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0) {
		j->pipe = fds[1];
		unpack_child(j, parent);
	}
	close(fds[1]);
	j->pipe = fds[0];
	r = unpack_follow(j, pid, m, err);
	close(fds[0]);
	return r;
}

static void close_layers(struct unpack_job *j)
{
	for (size_t i = 0; i < j->nlayers; i++) {
		if (j->layers[i].fd >= 0)
			close(j->layers[i].fd);
	}
	free(j->layers);
}

/* The layers by descriptors. */
static int open_layers(
	struct unpack_job *j, const struct layer_src *layers, size_t n, struct err *err)
{
	if (n > UNPACK_FDS_MAX - 8)
		return err_set(err, -EINVAL, "it has %zu layers", n);
	j->layers = calloc(n + 1, sizeof(*j->layers));
	if (j->layers == NULL)
		return err_nomem(err);
	for (; j->nlayers < n; j->nlayers++) {
		struct layer_src *l = &j->layers[j->nlayers];

		*l = layers[j->nlayers];
		l->fd = l->path != NULL ? open(l->path, O_RDONLY | O_CLOEXEC)
					: fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
		if (l->fd < 0)
			return err_errno(err, -errno, "open %s",
				l->path != NULL ? quote(l->path) : "a layer");
		l->path = NULL;
		j->fds[j->n++] = l->fd;
	}
	return 0;
}

int unpack_run_disk(struct unpack_job *j, struct unpack_message *m, struct err *err)
{
	j->disk.progress = tell_progress;
	j->disk.arg = j;
	return layers_build_disk(j->layers, j->nlayers, &j->disk, j->out[0], &m->result.disk, err);
}

int unpack_disk(const struct layer_src *layers, size_t n, const struct disk_opts *opts,
	const struct unpack_limits *limits, int out_fd, struct disk_result *out, struct err *err)
{
	struct unpack_job j = { .limits = limits,
		.run = unpack_run_disk,
		.progress = opts->progress,
		.arg = opts->arg,
		.disk = *opts,
		.out = { out_fd } };
	struct unpack_message m;
	int r = open_layers(&j, layers, n, err);

	j.fds[j.n++] = out_fd;
	if (r == 0)
		r = run(&j, &m, err);
	if (r == 0) {
		*out = m.result.disk;
		out->warning[sizeof(out->warning) - 1] = '\0';
	}
	close_layers(&j);
	return r;
}

static int run_kernel(struct unpack_job *j, struct unpack_message *m, struct err *err)
{
	return extract_kernel_to(j->layers, j->nlayers, j->out[0], j->out[1], tell_progress, j,
		&m->result.kernel, err);
}

int unpack_kernel(const struct layer_src *layers, size_t n, const struct unpack_limits *limits,
	int kernel_fd, int initrd_fd, layers_progress_fn *progress, void *arg,
	struct kernel_files *out, struct err *err)
{
	struct unpack_job j = { .limits = limits,
		.run = run_kernel,
		.progress = progress,
		.arg = arg,
		.out = { kernel_fd, initrd_fd } };
	struct unpack_message m;
	int r = open_layers(&j, layers, n, err);

	j.fds[j.n++] = kernel_fd;
	j.fds[j.n++] = initrd_fd;
	if (r == 0)
		r = run(&j, &m, err);
	if (r == 0) {
		*out = m.result.kernel;
		out->kernel[sizeof(out->kernel) - 1] = '\0';
		out->initrd[sizeof(out->initrd) - 1] = '\0';
	}
	close_layers(&j);
	return r;
}

static int run_look(struct unpack_job *j, struct unpack_message *m, struct err *err)
{
	return look_at(j->layers, j->nlayers, &m->result.look, err);
}

int unpack_look(const struct layer_src *layers, size_t n, const struct unpack_limits *limits,
	struct look *out, struct err *err)
{
	struct unpack_job j = { .limits = limits, .run = run_look };
	struct unpack_message m;
	int r = open_layers(&j, layers, n, err);

	if (r == 0)
		r = run(&j, &m, err);
	if (r == 0) {
		*out = m.result.look;
		out->kernel[sizeof(out->kernel) - 1] = '\0';
		out->initrd[sizeof(out->initrd) - 1] = '\0';
		out->disk[sizeof(out->disk) - 1] = '\0';
	}
	close_layers(&j);
	return r;
}

static int run_fn(struct unpack_job *j, struct unpack_message *m, struct err *err)
{
	return j->fn(j->fn_arg, err);
}

int unpack_run(const struct unpack_limits *limits, const int *fds, size_t n, unpack_fn *fn,
	void *arg, struct err *err)
{
	struct unpack_job j = { .limits = limits, .run = run_fn, .fn = fn, .fn_arg = arg, .n = n };
	struct unpack_message m;

	if (n > 0)
		memcpy(j.fds, fds, n * sizeof(fds[0]));
	return run(&j, &m, err);
}

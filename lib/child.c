#include "lib/child-private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/deadline.h"
#include "lib/file.h"
#include "lib/spawn.h"

#define STOP_STEPS_MAX 8

struct child {
	uv_poll_t poll;
	struct deadline stop;
	pid_t pid;
	uint64_t starttime;
	int pidfd;
	bool alive, released;
	unsigned closing; /* handles whose close callback is still to come */
	struct child_stop_step steps[STOP_STEPS_MAX];
	size_t nsteps, step;
	child_exit_fn *exited;
	void *arg;
};

static const struct child_stop_step default_steps[] = { { SIGTERM, 5000 } };

/* State letter and start time; false when the process is not there. */
static bool read_stat(pid_t pid, char *state, uint64_t *starttime)
{
	char path[64], line[1024], *p;
	unsigned long long start;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read_line(path, line, sizeof(line), NULL) < 0)
		return false;
	/* The command may hold spaces and brackets: fields are counted from the last bracket. */
	p = strrchr(line, ')');
	if (p == NULL ||
		sscanf(p + 1,
			" %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			state, &start) != 2)
		return false;
	*starttime = start;
	return true;
}

uint64_t proc_starttime(pid_t pid)
{
	uint64_t start;
	char state;

	if (!read_stat(pid, &state, &start) || state == 'Z' || state == 'X')
		return 0;
	return start;
}

char proc_state(pid_t pid)
{
	uint64_t start;
	char state;

	return read_stat(pid, &state, &start) ? state : '\0';
}

pid_t proc_parent(pid_t pid)
{
	char path[64], line[1024], *p;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read_line(path, line, sizeof(line), NULL) < 0)
		return 0;
	p = strrchr(line, ')');
	return p != NULL && sscanf(p + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

const char *child_status_text(const struct child_status *s)
{
	static char bufs[4][64];
	static unsigned next;
	char *out = bufs[next++ % 4];
	const char *name;

	if (!s->known)
		return "exited (status unknown)";
	if (!s->signaled) {
		snprintf(out, sizeof(bufs[0]), "exited with status %d", s->code);
		return out;
	}
	name = sigabbrev_np(s->code);
	if (name != NULL)
		snprintf(out, sizeof(bufs[0]), "was killed by SIG%s", name);
	else
		snprintf(out, sizeof(bufs[0]), "was killed by signal %d", s->code);
	return out;
}

/* Takes the status of a process that has exited; unknown when it is not our child. */
static void reap(int pidfd, struct child_status *st)
{
	siginfo_t info = { 0 };

	*st = (struct child_status){ 0 };
	if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 ||
		info.si_pid == 0)
		return;
	st->known = true;
	st->signaled = info.si_code != CLD_EXITED;
	st->code = info.si_status;
}

static void child_ready(uv_poll_t *poll, int status, int events)
{
	struct child *c = container_of(poll, struct child, poll);
	struct child_status st;

	uv_poll_stop(poll);
	deadline_cancel(&c->stop);
	reap(c->pidfd, &st);
	c->alive = false;
	c->exited(c->arg, &st);
}

static void stop_next(void *arg)
{
	struct child *c = arg;

	if (!c->alive)
		return;
	if (c->step >= c->nsteps) {
		child_signal(c, SIGKILL);
		return;
	}
	if (c->steps[c->step].sig != 0)
		child_signal(c, c->steps[c->step].sig);
	deadline_set(&c->stop, c->steps[c->step].timeout_ms);
	c->step++;
}

/* Takes pidfd over, also when it fails. */
static int child_watch(struct child **out, uv_loop_t *loop, pid_t pid, int pidfd,
	uint64_t starttime, child_exit_fn *exited, void *arg, struct err *err)
{
	struct child *c = calloc(1, sizeof(*c));
	int r = c == NULL ? -ENOMEM : 0;

	if (r == 0)
		r = uv_poll_init(loop, &c->poll, pidfd);
	if (r < 0) {
		free(c);
		close(pidfd);
		return err_errno(err, r, "watch process %d", (int)pid);
	}
	deadline_init(&c->stop, loop, stop_next, c);
	c->pid = pid;
	c->pidfd = pidfd;
	c->starttime = starttime;
	c->alive = true;
	c->exited = exited;
	c->arg = arg;
	uv_poll_start(&c->poll, UV_READABLE, child_ready);
	*out = c;
	return 0;
}

int child_take(struct child **out, uv_loop_t *loop, pid_t pid, int pidfd, child_exit_fn *exited,
	void *arg, struct err *err)
{
	uint64_t start = 0;
	siginfo_t info;
	char state;
	int r;

	/* It may be a zombie already; its start time stays readable until it is reaped. */
	read_stat(pid, &state, &start);
	r = child_watch(out, loop, pid, pidfd, start, exited, arg, err);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitid(P_PID, (id_t)pid, &info, WEXITED);
	}
	return r;
}

int child_spawn(struct child **out, uv_loop_t *loop, const struct child_spec *spec,
	child_exit_fn *exited, void *arg, struct err *err)
{
	pid_t pid;
	int pidfd, r = spawn_process(spec, &pid, &pidfd, err);

	return r < 0 ? r : child_take(out, loop, pid, pidfd, exited, arg, err);
}

int child_adopt(struct child **out, uv_loop_t *loop, pid_t pid, uint64_t starttime,
	child_exit_fn *exited, void *arg, struct err *err)
{
	siginfo_t info = { 0 };
	uint64_t start;
	char state;
	int pidfd;

	pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (pidfd < 0)
		return err_set(err, -ESRCH, "process %d is gone", (int)pid);
	/* Asked after the pidfd was opened: from here on the pid cannot become another's unseen. */
	if (!read_stat(pid, &state, &start) || start != starttime) {
		close(pidfd);
		return err_set(err, -ESRCH,
			"process %d is gone (its number belongs to another one)", (int)pid);
	}
	/* A zombie still tells its status if it is ours, as after a re-exec; else it is gone. */
	if ((state == 'Z' || state == 'X') &&
		waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		close(pidfd);
		return err_set(err, -ESRCH, "process %d has exited", (int)pid);
	}
	return child_watch(out, loop, pid, pidfd, starttime, exited, arg, err);
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

uint64_t child_starttime(const struct child *c)
{
	return c->starttime;
}

bool child_alive(const struct child *c)
{
	return c->alive;
}

int child_signal(struct child *c, int sig)
{
	if (!c->alive)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

void child_stop(struct child *c, const struct child_stop_step *steps, size_t n)
{
	if (!c->alive)
		return;
	if (n == 0) {
		steps = default_steps;
		n = ARRAY_LEN(default_steps);
	}
	c->nsteps = MIN(n, (size_t)STOP_STEPS_MAX);
	memcpy(c->steps, steps, c->nsteps * sizeof(*steps));
	c->step = 0;
	stop_next(c);
}

static void handle_closed(struct child *c)
{
	if (--c->closing == 0)
		free(c);
}

static void poll_closed(uv_handle_t *handle)
{
	handle_closed(container_of((uv_poll_t *)handle, struct child, poll));
}

static void timer_closed(void *arg)
{
	handle_closed(arg);
}

void child_release(struct child *c)
{
	if (c == NULL || c->released)
		return;
	c->released = true;
	c->alive = false;
	c->closing = 2;
	uv_poll_stop(&c->poll);
	close(c->pidfd);
	uv_close((uv_handle_t *)&c->poll, poll_closed);
	deadline_close(&c->stop, timer_closed);
}

static void discarded_exited(void *arg, const struct child_status *status)
{
	child_release(arg);
}

void child_discard(struct child *c)
{
	if (c == NULL || c->released)
		return;
	if (!c->alive) {
		child_release(c);
		return;
	}
	c->exited = discarded_exited;
	c->arg = c;
	deadline_cancel(&c->stop);
	child_signal(c, SIGKILL);
}

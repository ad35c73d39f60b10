#include "hv/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/jail.h"
#include "lib/deadline.h"
#include "lib/log.h"

/* How long a jail may take: to tell the pid, and to leave after its hypervisor. */
#define JAIL_TELL_MS 10000
#define JAIL_EXIT_MS 1000

enum state {
	PROCESS_SPAWNING, /* by a thread */
	PROCESS_SPAWNED,  /* `spawned` has not fired */
	PROCESS_FAILING, /* nor will it: the jail said so or says nothing; it is to be reaped yet */
	PROCESS_RUNNING,
	PROCESS_GONE, /* the hypervisor is; the jail may have its status still */
	PROCESS_ENDED /* the last callback has fired */
};

struct process {
	uv_poll_t pipe; /* the jail's line */
	struct deadline timer;
	uv_loop_t *loop;
	struct process_callbacks cb;
	enum state state;
	struct hv_process id;
	struct child_spawning *spawning;
	struct child *hypervisor, *jail;
	struct child_status status, jail_status;
	int pipe_fd;
	char line[600];
	size_t line_len;
	bool kill_wanted, jail_killed;
	char *run_dir;
	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static void handle_closed(struct process *p)
{
	void (*closed)(void *arg) = p->closed;
	void *arg = p->closed_arg;

	if (--p->handles > 0)
		return;
	free(p->run_dir);
	free(p);
	if (closed != NULL)
		closed(arg);
}

static void pipe_closed(uv_handle_t *handle)
{
	handle_closed(container_of((uv_poll_t *)handle, struct process, pipe));
}

static void timer_closed(void *arg)
{
	handle_closed(arg);
}

static void close_pipe(struct process *p)
{
	if (p->pipe_fd < 0)
		return;
	uv_poll_stop(&p->pipe);
	uv_close((uv_handle_t *)&p->pipe, pipe_closed);
	close(p->pipe_fd);
	p->pipe_fd = -1;
}

static void release_children(struct process *p)
{
	child_release(p->hypervisor);
	child_release(p->jail);
	p->hypervisor = p->jail = NULL;
}

/* The ends */

static void finish(struct process *p)
{
	p->state = PROCESS_ENDED;
	deadline_cancel(&p->timer);
	close_pipe(p);
	release_children(p);
	p->cb.exited(p->cb.arg, &p->status);
}

/* Says why nothing was started, once the jail is reaped. */
static void fail(struct process *p)
{
	const struct child_status *st = &p->jail_status;
	struct err err;
	pid_t pid;
	uint64_t start;

	if (p->jail_killed)
		err_set(&err, -ETIMEDOUT, "drover-jail does not answer");
	else if (p->line_len == 0)
		err_set(&err, -EIO, "drover-jail %s", child_status_text(st));
	else
		jail_parse_line(p->line, &pid, &start, &err);
	p->state = PROCESS_ENDED;
	deadline_cancel(&p->timer);
	close_pipe(p);
	release_children(p);
	p->cb.failed(p->cb.arg, &err);
}

static void start_failing(struct process *p)
{
	close_pipe(p);
	p->state = PROCESS_FAILING;
	if (child_alive(p->jail))
		deadline_set(&p->timer, JAIL_EXIT_MS);
	else
		fail(p);
}

/* Its group, which is the hypervisor's too if there is one that we were not told of. */
static void kill_jail(struct process *p)
{
	p->jail_killed = true;
	if (p->state == PROCESS_FAILING)
		kill(-child_pid(p->jail), SIGKILL);
	else
		child_signal(p->jail, SIGKILL);
	deadline_set(&p->timer, JAIL_EXIT_MS);
}

static void tell_spawned(struct process *p)
{
	p->state = PROCESS_RUNNING;
	deadline_cancel(&p->timer);
	if (p->kill_wanted)
		process_signal(p, SIGKILL);
	p->cb.spawned(p->cb.arg, &p->id);
}

/* The jail has exited or is too slow: what it left is all that there will be. */
static void take_status(struct process *p)
{
	struct child_status st;

	if (!p->status.known && p->id.jail_pid != 0) {
		if (jail_read_exit(p->run_dir, p->id.pid, p->id.starttime, &st, NULL) == 0)
			p->status = st;
		else if (p->jail_status.known && !p->jail_status.signaled)
			/* It ends like its hypervisor; its own signal could be another one's. */
			p->status = p->jail_status;
	}
	finish(p);
}

static void hypervisor_gone(struct process *p)
{
	p->state = PROCESS_GONE;
	if (p->jail == NULL || !child_alive(p->jail))
		take_status(p);
	else
		deadline_set(&p->timer, JAIL_EXIT_MS);
}

static void hypervisor_exited(void *arg, const struct child_status *status)
{
	struct process *p = arg;

	p->status = *status;
	hypervisor_gone(p);
}

static void jail_exited(void *arg, const struct child_status *status)
{
	struct process *p = arg;

	p->jail_status = *status;
	if (p->state == PROCESS_GONE)
		take_status(p);
	else if (p->state == PROCESS_FAILING)
		fail(p);
	/* Else the hypervisor lives on without it, or the pipe still holds the line. */
}

static void timer_fired(void *arg)
{
	struct process *p = arg;

	if (p->state == PROCESS_SPAWNED) {
		close_pipe(p);
		p->state = PROCESS_FAILING;
		kill_jail(p);
	} else if (p->state == PROCESS_FAILING || p->state == PROCESS_GONE) {
		if (!p->jail_killed)
			kill_jail(p);
		else if (p->state == PROCESS_GONE)
			take_status(p);
		else
			fail(p);
	}
}

/* The jail's line */

static void jail_spoke(struct process *p)
{
	if (jail_parse_line(p->line, &p->id.pid, &p->id.starttime, NULL) < 0) {
		start_failing(p);
		return;
	}
	close_pipe(p);
	if (child_adopt(&p->hypervisor, p->loop, p->id.pid, p->id.starttime, hypervisor_exited, p,
		    NULL) < 0)
		p->hypervisor = NULL;
	tell_spawned(p);
	/* It died before we could look: the jail knows how. */
	if (p->state == PROCESS_RUNNING && p->hypervisor == NULL)
		hypervisor_gone(p);
}

static void pipe_ready(uv_poll_t *poll, int status, int events)
{
	struct process *p = container_of(poll, struct process, pipe);
	ssize_t n = read(p->pipe_fd, p->line + p->line_len, sizeof(p->line) - 1 - p->line_len);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		p->line_len += (size_t)n;
	p->line[p->line_len] = '\0';
	end = strchr(p->line, '\n');
	if (end != NULL) {
		*end = '\0';
		jail_spoke(p);
		return;
	}
	if (n <= 0 || p->line_len == sizeof(p->line) - 1)
		start_failing(p);
}

static int watch_pipe(struct process *p, int fd, struct err *err)
{
	int r = uv_poll_init(p->loop, &p->pipe, fd);

	if (r < 0) {
		close(fd);
		return err_errno(err, r, "watch a pipe");
	}
	p->pipe_fd = fd;
	p->handles++;
	return 0;
}

/* Starting */

static struct process *process_new(
	uv_loop_t *loop, const char *run_dir, const struct process_callbacks *cb)
{
	struct process *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->run_dir = strdup(run_dir);
	if (p->run_dir == NULL || deadline_init(&p->timer, loop, timer_fired, p) < 0) {
		free(p->run_dir);
		free(p);
		return NULL;
	}
	p->handles = 1;
	p->loop = loop;
	p->cb = *cb;
	p->pipe_fd = -1;
	return p;
}

/* The descriptors of the command, the log, and `extra` under the number of *extra_number. */
static size_t child_fds(const struct process_spec *spec, struct child_fd *fds, int extra)
{
	size_t n = 0;

	if (spec->log_fd >= 0) {
		fds[n++] = (struct child_fd){ spec->log_fd, 1 };
		fds[n++] = (struct child_fd){ spec->log_fd, 2 };
	}
	for (size_t i = 0; i < spec->command->nfds; i++)
		fds[n++] = spec->command->fds[i];
	if (extra >= 0) {
		int number = 3;

		for (size_t i = 0; i < n; i++)
			number = MAX(number, fds[i].child_fd + 1);
		fds[n++] = (struct child_fd){ extra, number };
	}
	return n;
}

static void nothing_spawned(struct process *p, const struct err *err)
{
	p->state = PROCESS_ENDED;
	close_pipe(p);
	p->cb.failed(p->cb.arg, err);
}

static void plain_spawned(void *arg, struct child *c, const struct err *err)
{
	struct process *p = arg;

	p->spawning = NULL;
	if (err != NULL) {
		nothing_spawned(p, err);
		return;
	}
	p->hypervisor = c;
	p->id.pid = child_pid(c);
	p->id.starttime = child_starttime(c);
	tell_spawned(p);
}

static int spawn_plain(struct process *p, const struct process_spec *spec, struct err *err)
{
	struct child_fd fds[HV_FDS_MAX + 3];
	struct child_spec cs = { .file = spec->command->argv.v[0],
		.argv = spec->command->argv.v,
		.fds = fds,
		.nfds = child_fds(spec, fds, -1),
		.env = spec->env,
		.cwd = spec->cwd,
		.cgroup = spec->cgroup,
		.new_session = true };

	return child_spawn_async(
		&p->spawning, p->loop, &cs, hypervisor_exited, plain_spawned, p, err);
}

static void jail_spawned(void *arg, struct child *c, const struct err *err)
{
	struct process *p = arg;

	p->spawning = NULL;
	if (err != NULL) {
		nothing_spawned(p, err);
		return;
	}
	p->state = PROCESS_SPAWNED;
	p->jail = c;
	p->id.jail_pid = child_pid(c);
	p->id.jail_starttime = child_starttime(c);
	deadline_set(&p->timer, JAIL_TELL_MS);
	uv_poll_start(&p->pipe, UV_READABLE, pipe_ready);
}

static int spawn_jailed(struct process *p, const struct process_spec *spec, struct err *err)
{
	struct child_fd fds[HV_FDS_MAX + 3];
	struct child_spec cs = { .file = spec->jail,
		.fds = fds,
		.env = spec->env,
		.cwd = spec->cwd,
		.cgroup = spec->cgroup,
		.new_session = true };
	struct strv argv = { 0 };
	int pipefd[2], r;

	if (pipe2(pipefd, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, -errno, "pipe");
	r = watch_pipe(p, pipefd[0], err);
	if (r < 0) {
		close(pipefd[1]);
		return r;
	}
	cs.nfds = child_fds(spec, fds, pipefd[1]);
	r = jail_arguments(
		spec->jail, spec->run_dir, fds[cs.nfds - 1].child_fd, spec->command, &argv, err);
	if (r == 0) {
		cs.argv = argv.v;
		jail_remove_exit(spec->run_dir);
		r = child_spawn_async(
			&p->spawning, p->loop, &cs, jail_exited, jail_spawned, p, err);
	}
	strv_finish(&argv);
	close(pipefd[1]);
	return r;
}

int process_spawn(struct process **out, uv_loop_t *loop, const struct process_spec *spec,
	const struct process_callbacks *cb, struct err *err)
{
	struct process *p = process_new(loop, spec->run_dir, cb);
	int r;

	if (p == NULL)
		return err_nomem(err);
	r = spec->jail != NULL ? spawn_jailed(p, spec, err) : spawn_plain(p, spec, err);
	if (r < 0) {
		process_release(p, NULL, NULL);
		return r;
	}
	*out = p;
	return 0;
}

int process_adopt(struct process **out, uv_loop_t *loop, const char *run_dir,
	const struct hv_process *id, struct child_status *status,
	const struct process_callbacks *cb, struct err *err)
{
	struct process *p = process_new(loop, run_dir, cb);
	siginfo_t info;
	int r;

	if (p == NULL)
		return err_nomem(err);
	p->id = *id;
	p->state = PROCESS_RUNNING;
	r = child_adopt(&p->hypervisor, loop, id->pid, id->starttime, hypervisor_exited, p, err);
	/* Without its jail the machine is as good; only its exit status will be unknown. */
	if (id->jail_pid != 0)
		child_adopt(&p->jail, loop, id->jail_pid, id->jail_starttime, jail_exited, p, NULL);
	*status = (struct child_status){ 0 };
	if (r < 0)
		jail_read_exit(run_dir, id->pid, id->starttime, status, NULL);
	if (r < 0 && (r != -ESRCH || p->jail == NULL || status->known)) {
		/* After a re-exec it is our child, maybe a zombie. */
		if (p->jail != NULL)
			waitid(P_PID, (id_t)id->jail_pid, &info, WEXITED | WNOHANG);
		process_release(p, NULL, NULL);
		return r;
	}
	/* It has just died: its jail is about to say how. */
	if (r < 0)
		hypervisor_gone(p);
	*out = p;
	return 0;
}

int process_signal(struct process *p, int sig)
{
	if (p->state == PROCESS_SPAWNING ||
		((p->state == PROCESS_SPAWNED || p->state == PROCESS_FAILING) && p->jail != NULL)) {
		if (sig != SIGKILL)
			return -EAGAIN;
		p->kill_wanted = true;
		return 0;
	}
	if (p->hypervisor == NULL || p->state > PROCESS_RUNNING)
		return -ESRCH;
	return child_signal(p->hypervisor, sig);
}

void process_release(struct process *p, void (*closed)(void *arg), void *arg)
{
	if (p == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	p->state = PROCESS_ENDED;
	p->closed = closed;
	p->closed_arg = arg;
	close_pipe(p);
	child_spawn_abandon(p->spawning);
	p->spawning = NULL;
	release_children(p);
	deadline_close(&p->timer, timer_closed);
}

#include "lib/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"

/*
 * The child runs on our memory until it execs (CLONE_VM | CLONE_VFORK), so what it costs does not
 * grow with our size, and it must not allocate, log, or return. Where it failed it says through
 * `error` and `what`.
 */
struct job {
	const struct child_spec *spec;
	char *const *envp;
	int devnull;
	int cgroup_fd; /* of cgroup.procs; -1: none */
	int lift;      /* a number above every target */
	sigset_t mask;
	volatile int error;
	const char *volatile what;
};

extern char **environ;

#define NO_SANITIZE __attribute__((no_sanitize("address", "undefined")))

NO_SANITIZE static void fail(struct job *job, const char *what)
{
	job->error = errno;
	job->what = what;
	_exit(127);
}

NO_SANITIZE static void reset_signals(void)
{
	/* All zero is SIG_DFL. Not by libc's sigaction(): it refuses its own signals 32 and 33, which
	 * who started us may have set to be ignored. Fails for KILL and STOP. */
	static const char dfl[64];

	for (int sig = 1; sig < NSIG; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL, (NSIG - 1) / 8);
}

NO_SANITIZE static void map_fds(struct job *job)
{
	const struct child_spec *s = job->spec;
	int lifted[s->nfds + 1];
	bool std[3] = { false, false, false };

	/* Nothing of ours leaks, even where a library forgot O_CLOEXEC. */
	syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
	for (size_t i = 0; i < s->nfds; i++) {
		lifted[i] = fcntl(s->fds[i].fd, F_DUPFD_CLOEXEC, job->lift);
		if (lifted[i] < 0)
			fail(job, "duplicate a descriptor");
	}
	for (size_t i = 0; i < s->nfds; i++) {
		if (dup2(lifted[i], s->fds[i].child_fd) < 0)
			fail(job, "duplicate a descriptor");
		if (s->fds[i].child_fd < 3)
			std[s->fds[i].child_fd] = true;
	}
	for (int fd = 0; fd < 3; fd++) {
		if (!std[fd] && dup2(job->devnull, fd) < 0)
			fail(job, "open /dev/null");
	}
}

NO_SANITIZE static void set_limit(struct job *job, __rlimit_resource_t what, uint64_t value)
{
	struct rlimit lim = { value, value };

	if (value != 0 && setrlimit(what, &lim) < 0)
		fail(job, "set a resource limit");
}

NO_SANITIZE static void enter_cgroup(struct job *job)
{
	char text[16], *at = text + sizeof(text);
	pid_t pid = getpid();

	*--at = '\n';
	do
		*--at = (char)('0' + pid % 10);
	while ((pid /= 10) != 0);
	if (job->cgroup_fd >= 0 &&
		write(job->cgroup_fd, at, (size_t)(text + sizeof(text) - at)) < 0)
		errno = 0;
}

NO_SANITIZE static int child_main(void *arg)
{
	struct job *job = arg;
	const struct child_spec *s = job->spec;

	reset_signals();
	if (s->new_session ? setsid() < 0 : setpgid(0, 0) < 0)
		fail(job, "make a process group");
	enter_cgroup(job);
	map_fds(job);
	if (chdir(s->cwd != NULL ? s->cwd : "/") < 0)
		fail(job, "change the working folder");
	set_limit(job, RLIMIT_AS, s->rlimit_as);
	set_limit(job, RLIMIT_FSIZE, s->rlimit_fsize);
	if (s->gid != 0 && (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0))
		fail(job, "change the group");
	if (s->uid != 0 && setresuid(s->uid, s->uid, s->uid) < 0)
		fail(job, "change the user");
	/* After the change of user, which clears it. */
	if (s->die_with_us && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail(job, "set the parent death signal");
	sigprocmask(SIG_SETMASK, &job->mask, NULL);
	execve(s->file, s->argv, job->envp);
	fail(job, NULL);
	return 127;
}

/* The environment with one variable added or replaced; its strings are borrowed. */
static char **add_variable(char *const *from, const char *variable)
{
	size_t name = strcspn(variable, "=") + 1, n = 0, at = 0;
	char **envp;

	while (from[n] != NULL)
		n++;
	envp = calloc(n + 2, sizeof(*envp));
	if (envp == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(from[i], variable, name) != 0)
			envp[at++] = from[i];
	}
	envp[at] = (char *)(uintptr_t)variable;
	return envp;
}

static int open_cgroup(const char *dir)
{
	char *path = path_join(dir, "cgroup.procs");
	int fd = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;

	free(path);
	return fd;
}

static void close_job(const struct job *job)
{
	close(job->devnull);
	if (job->cgroup_fd >= 0)
		close(job->cgroup_fd);
}

#define STACK_SIZE (64 * 1024)

int spawn_process(const struct child_spec *spec, pid_t *pid, int *pidfd, struct err *err)
{
	char *const *base = spec->envp != NULL ? spec->envp : environ;
	struct job job = { .spec = spec, .envp = base, .cgroup_fd = -1, .lift = 10 };
	char **with = NULL;
	sigset_t all, old;
	pid_t child;
	int fd = -1;
	char *stack;

	for (size_t i = 0; i < spec->nfds; i++)
		job.lift = MAX(job.lift, spec->fds[i].child_fd + 1);
	sigemptyset(&job.mask);
	job.devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (job.devnull < 0)
		return err_errno(err, -errno, "open /dev/null");
	if (spec->cgroup != NULL)
		job.cgroup_fd = open_cgroup(spec->cgroup);
	if (spec->env != NULL)
		job.envp = with = add_variable(base, spec->env);
	stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED || job.envp == NULL) {
		if (stack != MAP_FAILED)
			munmap(stack, STACK_SIZE);
		free(with);
		close_job(&job);
		return err_nomem(err);
	}
	/* No handler of ours may run in the child, which shares our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	child = clone(child_main, stack + STACK_SIZE,
		CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &job, &fd);
	if (child < 0)
		job.error = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, STACK_SIZE);
	free(with);
	close_job(&job);
	if (child < 0)
		return err_errno(err, -job.error, "start %s", quote(spec->file));
	if (job.error != 0) {
		siginfo_t info;

		/* It is already dead: this does not wait. */
		waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED);
		close(fd);
		if (job.what == NULL)
			return err_errno(err, -job.error, "start %s", quote(spec->file));
		return err_errno(err, -job.error, "start %s: %s", quote(spec->file), job.what);
	}
	*pid = child;
	*pidfd = fd;
	return 0;
}

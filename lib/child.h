/*
 * lib/child.h - child processes, and processes that another drover started. Loop thread.
 *
 * One reaping path for both: a pidfd in the loop. A child is reaped with waitid(P_PIDFD); an
 * adopted process, which is not our child, is known by pid and start time, and its exit status is
 * unknown here. Spawning is vfork-like, so its cost does not grow with the size of the parent.
 */
#ifndef DROVER_LIB_CHILD_H
#define DROVER_LIB_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/str.h"

struct child;

struct child_fd {
	int fd;       /* ours; stays open here */
	int child_fd; /* its number in the child, without CLOEXEC there */
};

struct child_spec {
	const char *file;           /* absolute path */
	char *const *argv;          /* NULL-terminated */
	char *const *envp;          /* NULL: ours */
	const char *env;            /* one more variable, "NAME=value"; NULL: none */
	const char *cwd;            /* NULL: "/" */
	const struct child_fd *fds; /* 0, 1, 2 not named here become /dev/null */
	size_t nfds;
	/*
	 * Folder of a cgroup that it enters before its exec; NULL: ours. It runs even if it could
	 * not: whoever needs to know looks.
	 */
	const char *cgroup;
	bool new_session; /* setsid(): it shall outlive us and our terminal */
	bool die_with_us; /* PR_SET_PDEATHSIG(SIGKILL): helpers that must not outlive us */
	/* Limits; 0: as ours. */
	uint64_t rlimit_as, rlimit_fsize;
	uid_t uid; /* 0: as ours */
	gid_t gid;
};

struct child_status {
	bool known;    /* false for an adopted process */
	bool signaled; /* then code is the signal */
	int code;      /* exit status or signal */
};

/* Fires exactly once, when the process has exited, never from within a call of this module. */
typedef void child_exit_fn(void *arg, const struct child_status *status);

int child_spawn(struct child **out, uv_loop_t *loop, const struct child_spec *spec,
	child_exit_fn *exited, void *arg, struct err *err);
/*
 * The same by a thread of the pool: the spawning thread stands still until the new process has had
 * its turn and executed its program, which on a busy host takes many ms. spec is copied, its
 * descriptors too. done fires exactly once, never before this returns; c is NULL with err. With
 * die_with_us it dies with the thread, and those of the pool live as long as we do.
 */
struct child_spawning;
typedef void child_spawned_fn(void *arg, struct child *c, const struct err *err);
int child_spawn_async(struct child_spawning **out, uv_loop_t *loop, const struct child_spec *spec,
	child_exit_fn *exited, child_spawned_fn *done, void *arg, struct err *err);
/* Before done: it does not fire, and what is started is killed and reaped. Takes NULL. */
void child_spawn_abandon(struct child_spawning *s);
/*
 * Watches a process that is not our child, if pid is still the process that started at starttime
 * (field 22 of /proc/PID/stat, in clock ticks since boot). -ESRCH: gone, or another one's pid.
 */
int child_adopt(struct child **out, uv_loop_t *loop, pid_t pid, uint64_t starttime,
	child_exit_fn *exited, void *arg, struct err *err);

pid_t child_pid(const struct child *c);
uint64_t child_starttime(const struct child *c);
bool child_alive(const struct child *c); /* exited has not fired */
/* Through the pidfd. -ESRCH when it has exited. */
int child_signal(struct child *c, int sig);

/* "exited with status 1", "was killed by SIGKILL", "exited (status unknown)". Static buffers. */
const char *child_status_text(const struct child_status *s);

struct child_stop_step {
	int sig;             /* 0: only wait */
	uint64_t timeout_ms; /* until the next step; the last step is always SIGKILL */
};
/* SIGTERM, 5 s, SIGKILL unless steps are given (copied). exited fires as always. */
void child_stop(struct child *c, const struct child_stop_step *steps, size_t n);

/* Stops watching; a living process lives on (exited will not fire). Takes NULL. */
void child_release(struct child *c);

/* SIGKILL, and no more is heard of it: it is reaped when it is dead. Takes NULL. */
void child_discard(struct child *c);

/* Start time of a process, for the state files; 0 if there is no such process or it is a zombie. */
uint64_t proc_starttime(pid_t pid);
/* The letter of proc(5), "T" when it was stopped; 0: it is not there. */
char proc_state(pid_t pid);
/* 0: it is not there. */
pid_t proc_parent(pid_t pid);

/*
 * A short-lived child whose output is captured, with a deadline (SIGKILL) and a bound on the
 * output (what is beyond is dropped). done fires exactly once; err != NULL when it could not be
 * started, timed out (-ETIMEDOUT), was cancelled (-ECANCELED) or did not exit with 0 (-EIO; the
 * message has its last stderr line).
 */
struct child_result {
	struct child_status status;
	const char *out, *errout; /* NUL-terminated, borrowed */
	size_t out_len, errout_len;
};
typedef void child_done_fn(void *arg, const struct child_result *res, const struct err *err);
/* A whole line of standard output as it comes (without its newline), before done. */
typedef void child_line_fn(void *arg, const char *line);

struct child_run_opts {
	const char *input; /* for its stdin, copied; NULL: /dev/null */
	size_t input_len;
	uint64_t timeout_ms; /* 0: none */
	size_t max_output;   /* 0: 1 MiB */
	child_line_fn *line; /* may be NULL; with it res->out stays empty */
	bool async;          /* spawned as by child_spawn_async(): what fails there, done tells */
};

struct child_run;
/* Returns -errno only if nothing was started; then done does not fire. out may be NULL. */
int child_run(struct child_run **out, uv_loop_t *loop, const struct child_spec *spec,
	const struct child_run_opts *opts, child_done_fn *done, void *arg, struct err *err);
/* Kills it; done fires with -ECANCELED. */
void child_run_cancel(struct child_run *run);

#endif

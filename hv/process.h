/*
 * hv/process.h - the process of a hypervisor, with or without a drover-jail around it: start,
 * adoption, signals, its end. Loop thread.
 */
#ifndef DROVER_HV_PROCESS_H
#define DROVER_HV_PROCESS_H

#include "hv/hv.h"

struct process;

/* All come from the loop, never from within a call; each may call process_release(). */
struct process_callbacks {
	/* pid and start time are known. Not for an adopted process. */
	void (*spawned)(void *arg, const struct hv_process *p);
	/* Nothing runs, although process_spawn() succeeded: it could not be started. */
	void (*failed)(void *arg, const struct err *err);
	/* It has exited and its status, where anybody has it, is known. After spawned; the last. */
	void (*exited)(void *arg, const struct child_status *status);
	void *arg;
};

struct process_spec {
	const struct hv_command *command;
	const char *run_dir;
	const char *jail;   /* NULL: none */
	const char *cgroup; /* child_spec.cgroup; NULL: none */
	const char *env;    /* "NAME=value" for it and its jail; NULL: none */
	const char *cwd;    /* NULL: "/" */
	int log_fd;         /* its stdout and stderr; -1: /dev/null */
};

int process_spawn(struct process **out, uv_loop_t *loop, const struct process_spec *spec,
	const struct process_callbacks *cb, struct err *err);
/* -ESRCH when it is gone; then *status (see hv_adopt()) is what the jail left. */
int process_adopt(struct process **out, uv_loop_t *loop, const char *run_dir,
	const struct hv_process *id, struct child_status *status,
	const struct process_callbacks *cb, struct err *err);

/*
 * Signals the hypervisor. Before its pid is known, SIGKILL is kept for that moment and any other
 * signal is -EAGAIN. -ESRCH when it is gone.
 */
int process_signal(struct process *p, int sig);
/* A living process lives on; one that is just being spawned is killed. closed (may be NULL) as everywhere. Takes NULL. */
void process_release(struct process *p, void (*closed)(void *arg), void *arg);

#endif

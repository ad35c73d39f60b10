/*
 * supervisor/inherit.h - descriptors that this process was given: the API's socket by systemd
 * (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS), or socket and locks by the droverd that it was before
 * it re-executed itself (DROVER_REEXEC, which holds pid, numbers and path). Before any thread is
 * made.
 */
#ifndef DROVER_SUPERVISOR_INHERIT_H
#define DROVER_SUPERVISOR_INHERIT_H

#include <stdbool.h>
#include "lib/err.h"

struct inherited {
	int listen_fd;     /* a listening Unix stream socket; -1: none */
	int lock_fd;       /* of run_dir/droverd.lock, locked; -1: none */
	int state_lock_fd; /* of state_dir/droverd.lock, likewise */
	bool activated;    /* the socket's path is systemd's, who made it, and not ours to remove */
	bool reexec;       /* by ourselves */
	char *path;        /* with reexec: of the program that was asked for; malloc'd */
};

/* Takes them, with close-on-exec, out of the environment; closes what is of no use to us. */
void inherit_take(struct inherited *out);
/*
 * The lock of run_dir: what we held before a re-exec, unless run_dir has changed since, else taken
 * now. -EBUSY when another droverd has it.
 */
int inherit_lock(struct inherited *in, const char *run_dir, struct err *err);
/* That of state_dir: a daemon with another run_dir must not start the same machines again. */
int inherit_state_lock(struct inherited *in, const char *state_dir, struct err *err);
/* The socket that we were given, where that is the one to listen at; else one of our own. */
int inherit_listen(struct inherited *in, const char *path, struct err *err);
/* Makes them outlive the exec that follows. -errno; nothing is closed. */
int inherit_pass(const struct inherited *in, const char *path);

#endif

/*
 * supervisor/daemon.h - droverd as a whole: what main() has, between the files that assemble it
 * (daemon-open.c), start it (daemon-boot.c), open its API (daemon-api.c), answer its signals (daemon-signals.c) and take it down
 * (daemon-leave.c). Loop thread.
 */
#ifndef DROVER_SUPERVISOR_DAEMON_H
#define DROVER_SUPERVISOR_DAEMON_H

#include <stdbool.h>
#include <uv.h>
#include "lib/child.h"
#include "lib/list.h"
#include "lib/str.h"
#include "supervisor/args.h"
#include "supervisor/drover.h"
#include "supervisor/inherit.h"
#include "supervisor/turns.h"

struct loaded; /* a machine and the process that its state file names */

struct daemon {
	struct drover d;
	struct args args;
	struct server *server;
	struct server *old_server; /* whose socket was removed, for those who are connected */
	uv_loop_t loop;
	uv_signal_t signals[5];
	struct turns turns;
	unsigned adopting; /* machines whose adoption is under way, and one for the start itself */
	struct inherited given; /* the API's socket and the locks, once we have them our own */
	struct loaded *loaded;  /* until their adoption begins */
	size_t nloaded;
	struct strv leftovers; /* owners in the ledger, at start */
	size_t leftover;       /* the next one */
	bool on_exit_stop, leaving, reexec;
	bool early;                /* leaving before there was a server */
	bool ready, reload_wanted; /* a SIGHUP before we are ready waits */
	char *api_path;            /* of the socket that we listen at */
	char *self;                /* what USR2 executes: the path that we were started by */
	char **argv;
	struct child_run *check; /* of what USR2 is to execute; NULL: none runs */
};

static inline struct daemon *daemon_of(struct drover *d)
{
	return container_of(d, struct daemon, d);
}

/* Folders, locks, log, loop, and the parts that everything else needs; takes c over. */
int daemon_open(struct daemon *dm, struct config *c, struct err *err);
/* Once the loop has ended. */
void daemon_finish(struct daemon *dm);

/* Opens the API. */
int daemon_listen(struct daemon *dm, struct err *err);
/* d->look_after */
void daemon_look_after(struct drover *d);

/* From the state files to the first plan and the API. */
void daemon_start(struct daemon *dm);

/* Starts what handles them. */
void daemon_signals(struct daemon *dm);
/* As SIGHUP asks. */
void daemon_reload(struct drover *d);

/* Stops every machine, then leaves. */
void daemon_stop_all(struct daemon *dm);
/* The machines run on. The loop ends once everything is closed. */
void daemon_leave(struct daemon *dm);
/* Leaving before there was a server: the second half, from the loop. */
void daemon_leave_early(struct daemon *dm);
void daemon_close_api(struct daemon *dm);

#endif

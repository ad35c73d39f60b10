/*
 * supervisor/service.h - a supervised helper process: a dnsmasq, the registry, its relay. Loop
 * thread.
 *
 * It is started, watched, started again when it dies (0.2 s, doubled up to 30 s; a life of 10 s
 * starts the count anew), found again by the next daemon through the ledger, and stopped. Its
 * output goes to an O_APPEND file (a pipe whose reader is gone kills docker-registry, FACTS).
 */
#ifndef DROVER_SUPERVISOR_SERVICE_H
#define DROVER_SUPERVISOR_SERVICE_H

#include "lib/child.h"
#include "supervisor/drover.h"

struct service;

struct service_spec {
	const char *kind;  /* of its events: "network", "registry" */
	const char *name;  /* "dnsmasq-tap0123456789ab", unique; in the ledger and the log */
	const char *owner; /* in the ledger: "vm/web-1" */
	const char *log_path;
};

struct service_callbacks {
	/*
	 * It has died by itself. Returning false keeps it down (the owner starts it in its own
	 * way); true starts it again after the backoff. May be NULL: true.
	 */
	bool (*died)(void *arg, const struct child_status *status);
	/*
	 * True: it was to end like this, so that nothing is told and nothing started again. May be
	 * NULL: false.
	 */
	bool (*ended)(void *arg, const struct child_status *status);
	void *arg;
};

/* Copies spec. */
int service_create(struct service **out, struct drover *d, const struct service_spec *spec,
	const struct service_callbacks *cb, struct err *err);
/* From now on its processes get fd (which stays the caller's and open) as child_fd; -1: none. */
void service_set_fd(struct service *s, int fd, int child_fd);
/* Takes argv over (argv[0] is the absolute path) and keeps it for later starts. */
int service_start(struct service *s, struct strv *argv, struct err *err);
/*
 * Finds the process that the ledger names, if it still runs, and watches it; argv (taken over) is
 * for later starts. -ESRCH when there is none.
 */
int service_adopt(struct service *s, struct strv *argv, struct err *err);
/* Takes argv over, for later starts: service_restart() among them. */
void service_set_command(struct service *s, struct strv *argv);
/* Ends it and starts it again at once, without a word of its death; one that is down starts now. */
void service_restart(struct service *s);
bool service_up(const struct service *s);
bool service_waits(const struct service *s); /* it is down, and going to be started again */
pid_t service_pid(const struct service *s);  /* 0 when it is down */
/*
 * SIGTERM, 2 s, SIGKILL; then crosses it out of the ledger; done exactly once, not before this
 * returns. Afterwards only service_destroy().
 */
void service_stop(struct service *s, void (*done)(void *arg), void *arg);
/* A process that still runs lives on (and stays in the ledger). Takes NULL. */
void service_destroy(struct service *s);

/*
 * Stops a process that only the ledger still knows: entry of owner, of an earlier daemon. done as
 * above.
 */
void service_stop_orphan(struct drover *d, const char *owner, const struct object *o,
	void (*done)(void *arg), void *arg);

#endif

/*
 * supervisor/registry-relay.h - the relay between a docker-registry and its upstream
 * (`drover-image relay`, oci/relay.h), which makes it fetch each blob once. Supervised. Loop
 * thread.
 *
 * droverd binds its socket, on a port of the loopback that the kernel chooses, and keeps it: a
 * relay that dies is started again at the same port, and who connects meanwhile waits. The next
 * daemon has no such socket; it finds the relay by its pid, and binds the port anew if it dies.
 */
#ifndef DROVER_SUPERVISOR_REGISTRY_RELAY_H
#define DROVER_SUPERVISOR_REGISTRY_RELAY_H

#include "supervisor/drover.h"

struct registry_relay;

struct registry_relay_spec {
	const char *registry; /* its name */
	const char *owner;    /* in the ledger */
	const char *upstream;
	const char *spool; /* folder, there when the relay is started */
	/* It has died and its port is another's: it is down, and has to be started elsewhere. */
	void (*lost)(void *arg);
	void *arg;
};

/* Copies spec. */
int registry_relay_create(struct registry_relay **out, struct drover *d,
	const struct registry_relay_spec *spec, struct err *err);
/* port 0: any, or the one that it has. Nothing to do if it runs already. */
int registry_relay_start(struct registry_relay *rr, uint16_t port, struct err *err);
/* Finds the one of an earlier daemon, which listens at port; -ESRCH when it is gone. */
int registry_relay_adopt(struct registry_relay *rr, uint16_t port, struct err *err);
/* Runs, or will again after a pause. */
bool registry_relay_up(const struct registry_relay *rr);
uint16_t registry_relay_port(const struct registry_relay *rr);
/* done exactly once, not before this returns (service_stop()). */
void registry_relay_stop(struct registry_relay *rr, void (*done)(void *arg), void *arg);
/* A process that still runs lives on. Takes NULL. */
void registry_relay_destroy(struct registry_relay *rr);

#endif

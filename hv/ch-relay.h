/*
 * hv/ch-relay.h - the way of a guest from one cloud-hypervisor to another, through the two daemons:
 * on each side one of these between its hypervisor, which knows no sockets but those with a path,
 * and the connection to the other host. It reads along (hv/ch-wire.h), and lets Complete through only
 * when it is told to. Loop thread.
 */
#ifndef DROVER_HV_CH_RELAY_H
#define DROVER_HV_CH_RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

struct ch_relay;

/* None comes from within a call. */
struct ch_relay_opts {
	int fd;             /* connected with the other host; taken over if all goes well */
	const char *path;   /* the sender connects there, the receiver listens there */
	bool receiving;     /* the hypervisor here is the receiver */
	uint64_t max_bytes; /* a second; 0: no limit */
	/*
	 * The receiver's: what is to come in place of the sender's Config. malloc'd; NULL with err. May
	 * be NULL.
	 */
	char *(*config)(void *arg, const char *text, size_t len, struct err *err);
	/* total: of all the guest's memory; what it changes meanwhile comes on top. May be NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	/* Complete is here, and all before it was answered well. */
	void (*held)(void *arg);
	/*
	 * Once; then nothing goes through any more. NULL: after ch_relay_release() Complete has gone on,
	 * at the receiver also that the hypervisor has obeyed it.
	 */
	void (*done)(void *arg, const struct err *err);
	void *arg;
};

int ch_relay_create(
	struct ch_relay **out, uv_loop_t *loop, const struct ch_relay_opts *opts, struct err *err);
/* Lets Complete through, once `held` has come. */
void ch_relay_release(struct ch_relay *r);
/* Closes both connections; both hypervisors see the end of the stream. Takes NULL. */
void ch_relay_destroy(struct ch_relay *r, void (*closed)(void *arg), void *arg);

#endif

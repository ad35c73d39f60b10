/*
 * supervisor/wire.h - the connection over which a guest migrates: the receiver listens, the sender
 * connects and says the migration's id, which nobody else knows, before the hypervisors have it.
 * Loop thread.
 *
 * Addresses: "unix:PATH", "tcp:ADDRESS:PORT" with numbers ("tcp:[fd00::1]:4444"); the receiver's port
 * may be 0, for one that is free.
 */
#ifndef DROVER_SUPERVISOR_WIRE_H
#define DROVER_SUPERVISOR_WIRE_H

#include <uv.h>
#include "lib/err.h"

struct wire;

/* fd is the caller's from then on. Fires once, never from within a call; wire is gone then. */
typedef void wire_done_fn(void *arg, int fd, const struct err *err);

int wire_check(const char *address, struct err *err);
/*
 * actual gets the address with the port that was taken, malloc'd. Whoever connects without the id is
 * sent away; there is no end to the waiting but wire_destroy().
 */
int wire_listen(struct wire **out, uv_loop_t *loop, const char *address, const char *id,
	char **actual, wire_done_fn *done, void *arg, struct err *err);
/*
 * More connections, of those who say this id, which has the same length: any number, before and after
 * that one, which does not end the listening then. wire_destroy() does.
 */
typedef void wire_more_fn(void *arg, int fd);
void wire_more(struct wire *w, const char *id, wire_more_fn *more);
int wire_connect(struct wire **out, uv_loop_t *loop, const char *address, const char *id,
	uint64_t timeout_ms, wire_done_fn *done, void *arg, struct err *err);
/* done does not fire any more. Takes NULL. */
void wire_destroy(struct wire *w);

#endif

/*
 * hv/serial.h - the guest's serial console on a connected Unix socket: always drained, written
 * through a bounded queue. Loop thread.
 */
#ifndef DROVER_HV_SERIAL_H
#define DROVER_HV_SERIAL_H

#include <stddef.h>
#include <uv.h>
#include "lib/err.h"

#define SERIAL_QUEUE_MAX (64u << 10)

struct serial;

/* From the loop; each may call serial_destroy(). */
struct serial_callbacks {
	void (*data)(void *arg, const char *data, size_t len);
	void (*lost)(void *arg); /* EOF; the last callback */
	void *arg;
};

/* Takes over fd, a non-blocking stream socket, also when it fails. */
int serial_create(struct serial **out, uv_loop_t *loop, int fd, const struct serial_callbacks *cb,
	struct err *err);
/* -EAGAIN when it does not fit the queue: nothing of it was taken. -ENOTCONN after EOF. */
int serial_write(struct serial *c, const char *data, size_t len);
/* Reads what has come so far, for the last words of a guest that is gone. */
void serial_drain(struct serial *c);
/* closed (may be NULL) fires when the memory is gone. Takes NULL, then closed fires at once. */
void serial_destroy(struct serial *c, void (*closed)(void *arg), void *arg);

#endif

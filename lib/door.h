/*
 * lib/door.h - a listening socket in the loop, embedded in its owner: who connects is let in, one in
 * a turn. When no descriptor is left for that, those who wait are left waiting for a while instead of
 * having the loop turn without end. Loop thread.
 */
#ifndef DROVER_LIB_DOOR_H
#define DROVER_LIB_DOOR_H

#include "lib/deadline.h"

/* fd is the owner's: non-blocking, close-on-exec. */
typedef void door_fn(void *arg, int fd);

struct door {
	uv_poll_t poll;
	struct deadline again;
	int fd; /* the handle has it until it is closed: libuv takes the number out of epoll then */
	door_fn *came;
	void *arg;
	void (*closed)(void *arg);
	unsigned handles;
	bool open, told;
};

/* fd, which must be non-blocking, is taken over, unless this fails: -errno. */
int door_open(struct door *d, uv_loop_t *loop, int fd, door_fn *came, void *arg);
/* Nobody is let in until door_let_in(); who connects meanwhile waits. */
void door_hold(struct door *d);
void door_let_in(struct door *d);
/* Nobody is let in any more, and who connects or waits is sent away. door_close() is still to come. */
void door_shut(struct door *d);
/*
 * The owner's memory may go back only when closed (which may be NULL) fires, on a later turn of the
 * loop; it fires at once where door_open() was not called or has failed.
 */
void door_close(struct door *d, void (*closed)(void *arg), void *arg);

#endif

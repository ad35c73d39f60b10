/*
 * lib/deadline.h - one timer that is armed, moved and cancelled freely; embedded in its owner.
 * Loop thread. Times in ms.
 */
#ifndef DROVER_LIB_DEADLINE_H
#define DROVER_LIB_DEADLINE_H

#include <stdbool.h>
#include <uv.h>

typedef void deadline_fn(void *arg);

struct deadline {
	uv_timer_t timer;
	deadline_fn *fn;
	void *arg;
	void (*closed)(void *arg);
	bool open;
};

/* fn fires on expiry, once for each deadline_set(). */
int deadline_init(struct deadline *d, uv_loop_t *loop, deadline_fn *fn, void *arg);
/* Arms, or moves an armed one. */
void deadline_set(struct deadline *d, uint64_t timeout_ms);
void deadline_cancel(struct deadline *d);
bool deadline_armed(const struct deadline *d);
/*
 * The owner's memory may go back only when closed fires (on a later turn of the loop); closed may
 * be NULL if the owner lives on for another reason. Without deadline_init() closed fires at once.
 */
void deadline_close(struct deadline *d, void (*closed)(void *arg));

#endif

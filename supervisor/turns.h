/*
 * supervisor/turns.h - how long the loop's turns take: nothing else is looked after meanwhile. Loop
 * thread. Only measured when somebody has asked, as it costs a turn some system calls.
 */
#ifndef DROVER_SUPERVISOR_TURNS_H
#define DROVER_SUPERVISOR_TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct turns {
	uv_prepare_t prepare;
	bool measuring;
	uint64_t last, idle;     /* uv_hrtime(), and of it asleep, when the turn before it ended */
	uint64_t count, longest; /* ns, since the last report */
};

void turns_init(struct turns *t, uv_loop_t *loop);
/* Logs the longest turn since the last report; the first one begins. */
void turns_report(struct turns *t);
void turns_close(struct turns *t);

#endif

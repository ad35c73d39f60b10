/*
 * supervisor/pulse.h - notices hypervisors that stand still (SIGSTOP, a debugger, storage that
 * hangs) though nobody asks anything of them. Loop thread. Times in ms.
 *
 * One timer for all machines, every probe_interval, looks at their processes' states, which costs
 * them nothing; only those that look stuck are sent a question. If its deadline passes, hv says
 * HV_EVENT_UNRESPONSIVE, and HV_EVENT_RESPONSIVE when the answer comes after all. With no machine
 * up there is no timer.
 */
#ifndef DROVER_SUPERVISOR_PULSE_H
#define DROVER_SUPERVISOR_PULSE_H

#include "supervisor/drover.h"

struct pulse;

int pulse_create(struct pulse **out, struct drover *d, struct err *err);
/* Takes NULL. */
void pulse_destroy(struct pulse *p);
/* A machine has come up. Takes NULL. */
void pulse_wake(struct pulse *p);
/* The configuration was read again. Takes NULL. */
void pulse_rearm(struct pulse *p);

#endif

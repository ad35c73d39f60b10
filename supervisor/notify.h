/*
 * supervisor/notify.h - what systemd is told (sd_notify(3): NOTIFY_SOCKET, WATCHDOG_USEC); without
 * those nothing is done and no timer runs. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NOTIFY_H
#define DROVER_SUPERVISOR_NOTIFY_H

#include "supervisor/drover.h"

/* Takes the variables out of the environment: what concerns us is none of our children's. */
void notify_take(void);
/* Puts them back, for an exec. */
void notify_pass(void);
/* The watchdog's pings begin, and STATUS follows the machines. d->events is open. */
void notify_open(struct drover *d);
/* Its handles are closed at the next turn of the loop; not to be opened again before. */
void notify_close(void);

void notify_ready(struct drover *d); /* READY=1 and the status */
void notify_reloading(void);
void notify_stopping(void);

/* "3 machines: 2 running, 1 failed". Pure. */
void notify_status_text(const struct drover *d, char *out, size_t cap);

#endif

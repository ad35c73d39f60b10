/* supervisor/notify.h - what systemd is told (sd_notify(3), NOTIFY_SOCKET); nothing without it. */
#ifndef DROVER_SUPERVISOR_NOTIFY_H
#define DROVER_SUPERVISOR_NOTIFY_H

#include "supervisor/drover.h"

void notify_ready(struct drover *d); /* READY=1 and a status text */
void notify_reloading(void);
void notify_stopping(void);

#endif

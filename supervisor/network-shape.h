/*
 * supervisor/network-shape.h - `rate` of a [network] and of a nic on it, while the nic's TAP is there
 * (netcfg/shape.h). Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_SHAPE_H
#define DROVER_SUPERVISOR_NETWORK_SHAPE_H

#include "supervisor/machine.h"

/* On a TAP that is there, new or not; its ifb is written down before. */
int network_shape_set(struct machine *m, const struct nic *nic, struct err *err);
/* What of it is not as it was set, as text; false: nothing. */
bool network_shape_differs(const struct machine *m, const struct nic *nic, struct buf *text);

#endif

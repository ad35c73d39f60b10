/*
 * supervisor/network-foreign.h - what in the firewalls of others blocks the links of the networks that are
 * configured (netcfg/foreign.h). Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_FOREIGN_H
#define DROVER_SUPERVISOR_NETWORK_FOREIGN_H

#include "netcfg/foreign.h"
#include "supervisor/drover.h"

/* As foreign_check(). */
int network_ask_foreign(struct drover *d, foreign_done_fn *done, void *arg, struct err *err);

#endif

/*
 * supervisor/network-foreign.h - what in the firewalls of others blocks the links of the networks that are
 * configured (netcfg/foreign.h). Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_FOREIGN_H
#define DROVER_SUPERVISOR_NETWORK_FOREIGN_H

#include "netcfg/foreign.h"
#include "supervisor/config.h"

/* For foreign_check(): TAPs of p2p machines, and the bridges. c NULL: those of any configuration. */
void network_foreign_links(const struct config *c, struct strv *out);

#endif

/*
 * supervisor/network-preflight.h - what keeps a network with a bridge from working, found before
 * anything of it is made: programs, ports of the host, links. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_PREFLIGHT_H
#define DROVER_SUPERVISOR_NETWORK_PREFLIGHT_H

#include "supervisor/network-bridge-private.h"

/* Says nothing of a network that is there, or in part. */
int bridge_preflight(const struct bridge_net *b, struct err *err);

#endif

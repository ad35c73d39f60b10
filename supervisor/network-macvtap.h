/*
 * supervisor/network-macvtap.h - networks of kind macvtap: each nic is a link of its own that shares
 * one of the host's, and the hypervisor has its descriptor. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_MACVTAP_H
#define DROVER_SUPERVISOR_NETWORK_MACVTAP_H

#include "supervisor/drover.h"
#include "supervisor/machine.h"

struct buf;
struct network_config;

/* What keeps the network from working, as text; false: nothing. */
bool macvtap_problem(struct drover *d, const struct network_config *n, struct buf *text);

#endif

/*
 * supervisor/network-watch.h - what others do to the links and addresses of networks with a bridge,
 * as it happens. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_WATCH_H
#define DROVER_SUPERVISOR_NETWORK_WATCH_H

#include "netcfg/monitor.h"
#include "supervisor/network-bridge.h"

/* Whether the reconciler has something to put back. What is not ours to undo is told. */
bool network_watch(struct drover *d, const struct net_event *e);
/* Who else has addresses of b's network now, as text; false: nobody. */
bool network_conflict(const struct bridge_net *b, char *who, size_t cap);

#endif

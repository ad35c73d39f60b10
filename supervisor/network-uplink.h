/*
 * supervisor/network-uplink.h - the link by which networks reach the world, when it becomes another
 * one: told, and what depends on it is put right. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_UPLINK_H
#define DROVER_SUPERVISOR_NETWORK_UPLINK_H

#include "netcfg/monitor.h"
#include "supervisor/drover.h"

/* What it is now is what a change is from. Without memory nothing is told. */
void network_uplink_start(struct drover *d);
void network_uplink_release(struct drover *d);
void network_uplink_event(struct drover *d, const struct net_event *e);

#endif

/*
 * netcfg/monitor.h - what happens to the host's links, addresses and default routes, as it happens:
 * an rtnetlink socket in the loop, no polling. Loop thread.
 *
 * An event tells what was when the kernel sent it; what matters is read again before acting.
 */
#ifndef DROVER_NETCFG_MONITOR_H
#define DROVER_NETCFG_MONITOR_H

#include <stdbool.h>
#include <uv.h>
#include "netcfg/alloc.h"

enum net_event_kind {
	NET_LINK_NEW,     /* made, or moved into this network namespace */
	NET_LINK_CHANGED, /* flags, master, MAC, name, MTU, ... */
	NET_LINK_GONE,
	NET_ADDRESS_NEW, /* also when only its lifetime was renewed */
	NET_ADDRESS_GONE,
	NET_UPLINK,     /* a default route came or went; index is its link's, or 0 */
	NET_EVENTS_LOST /* too many at once: look at everything again; nothing else is set */
};

struct net_event {
	enum net_event_kind kind;
	int index;
	const char *ifname; /* borrowed; "" when it cannot be known any more */
	/* Of links: */
	bool up;      /* administratively */
	bool carrier; /* of a TAP: a hypervisor has it open */
	int master;   /* index of the bridge that it is a port of; 0: none */
	/* Of addresses: address and length, as "172.16.0.1/30"; len 0: one of IPv6. */
	struct ip4_prefix address;
};

typedef void net_event_fn(void *arg, const struct net_event *event);

struct net_monitor;
/* Events from now on. fn fires from the loop only; it may destroy the monitor. */
int net_monitor_create(
	struct net_monitor **out, uv_loop_t *loop, net_event_fn *fn, void *arg, struct err *err);
/* No event fires any more. closed (may be NULL) fires on a later turn of the loop, when the memory
 * is gone. Takes NULL (closed fires at once). */
void net_monitor_destroy(struct net_monitor *m, void (*closed)(void *arg), void *arg);

#endif

/*
 * netcfg/uplink.h - by which link of the host what is for nobody near leaves: its default routes of
 * the main table. Loop thread.
 */
#ifndef DROVER_NETCFG_UPLINK_H
#define DROVER_NETCFG_UPLINK_H

#include <stdbool.h>
#include "netcfg/link.h"

struct uplink {
	int index;     /* 0: there is no default route */
	char name[16]; /* "": none, or it is gone by now */
};

/* Of AF_INET or AF_INET6; of several the one that the kernel prefers, by its metric. */
int uplink_get(struct netlink *nl, int family, struct uplink *out, struct err *err);

#endif

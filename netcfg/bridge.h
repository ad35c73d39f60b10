/*
 * netcfg/bridge.h - bridges of the host and their ports over rtnetlink, as netcfg/link.h. Loop thread.
 */
#ifndef DROVER_NETCFG_BRIDGE_H
#define DROVER_NETCFG_BRIDGE_H

#include "netcfg/link.h"

struct bridge_info {
	int index, master;
	bool is_bridge, up;
	unsigned mtu;
	char alias[256]; /* "": none */
};
/* -ENODEV: there is no link of this name. */
int bridge_get(struct netlink *nl, const char *name, struct bridge_info *out);

/* A new bridge without STP, which forwards at once. -EEXIST: the name is taken. */
int bridge_make(struct netlink *nl, const char *name, struct err *err);
/* Makes the link a port of the bridge; one that is so already is no error. bridge NULL: of none. */
int bridge_enslave(struct netlink *nl, const char *port, const char *bridge, struct err *err);
/* Isolated ports reach only those that are not. */
int bridge_isolate(struct netlink *nl, const char *port, bool isolated, struct err *err);
int link_down(struct netlink *nl, const char *name, struct err *err);
int link_set_mtu(struct netlink *nl, const char *name, unsigned mtu, struct err *err);

#endif

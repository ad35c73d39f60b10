/*
 * netcfg/bridge.h - bridges of the host and their ports over rtnetlink, as netcfg/link.h. Loop thread.
 */
#ifndef DROVER_NETCFG_BRIDGE_H
#define DROVER_NETCFG_BRIDGE_H

#include "netcfg/link.h"

struct bridge_info {
	int index, master;
	bool is_bridge, up;
	bool learns; /* it is a port, which learns addresses */
	unsigned mtu;
	char alias[256]; /* "": none */
};
/* -ENODEV: there is no link of this name. */
int bridge_get(struct netlink *nl, const char *name, struct bridge_info *out);

/* A new bridge without STP, which forwards at once. -EEXIST: the name is taken. */
int bridge_make(struct netlink *nl, const char *name, struct err *err);
/* Makes the link a port of the bridge; one that is so already is no error. bridge NULL: of none. */
int bridge_enslave(struct netlink *nl, const char *port, const char *bridge, struct err *err);
/*
 * The port of a machine. Isolated ports reach only those that are not. mac: the one MAC address that
 * is behind it, which from then on no frame can lead elsewhere, while the bridge learns no other one
 * there: frames to 01:80:c2:... teach it before any rule sees them (br_handle_frame()), so rules alone
 * would let a machine take what is meant for others. NULL: unknown yet, it learns. Frames for a MAC
 * address that nobody knows come to it with flood alone.
 */
struct bridge_port {
	bool isolated, flood;
	const char *mac;
};
int bridge_set_port(
	struct netlink *nl, const char *port, const struct bridge_port *as, struct err *err);
int link_down(struct netlink *nl, const char *name, struct err *err);
int link_set_mtu(struct netlink *nl, const char *name, unsigned mtu, struct err *err);

#endif

/*
 * netcfg/vlan.h - links that are one 802.1Q VLAN of another link, over rtnetlink, as netcfg/link.h.
 * Loop thread.
 */
#ifndef DROVER_NETCFG_VLAN_H
#define DROVER_NETCFG_VLAN_H

#include "netcfg/link.h"

#define VLAN_ID_MAX 4094 /* IEEE 802.1Q, 9.6: 0 and 4095 are no VLANs */

struct vlan_info {
	int parent; /* index of the link that it is of */
	unsigned id;
};
/* -ENODEV: there is no link of this name; -EMEDIUMTYPE: it is no VLAN. */
int vlan_get(struct netlink *nl, const char *name, struct vlan_info *out);
/* -EEXIST: the name is taken; -EOPNOTSUPP: this kernel has no VLANs. */
int vlan_make(
	struct netlink *nl, const char *name, const char *parent, unsigned id, struct err *err);

#endif

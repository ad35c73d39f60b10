/*
 * netcfg/macvtap.h - links that share a link of the host and whose other end is a hypervisor's
 * descriptor (drivers/net/macvtap.c), over rtnetlink as netcfg/link.h. Loop thread.
 *
 * To the rest of netcfg such a link is a TAP: survey, deletion and alias are the same. But its
 * descriptor dies with it and cannot be attached to another (drivers/net/tap.c, tap_del_queues).
 */
#ifndef DROVER_NETCFG_MACVTAP_H
#define DROVER_NETCFG_MACVTAP_H

#include "netcfg/link.h"

/* Whom of those that share the link, or of what is behind it, one reaches: IFLA_MACVLAN_MODE. */
enum macvtap_mode {
	MACVTAP_BRIDGE,  /* the others directly */
	MACVTAP_VEPA,    /* the others by way of a switch that sends back what came from there */
	MACVTAP_PRIVATE, /* none of the others */
	MACVTAP_MODES
};

struct macvtap_info {
	int index;
	int parent; /* index of the link that it shares */
	enum macvtap_mode mode;
};

/* -ENODEV: there is no link of this name; -EMEDIUMTYPE: it is no macvtap of one of these modes. */
int macvtap_get(struct netlink *nl, const char *name, struct macvtap_info *out);
/* Makes it, down; the one that is there already is taken if parent and mode are the same. */
int macvtap_make(struct netlink *nl, const char *name, const char *parent, const char *mac,
	enum macvtap_mode mode, struct err *err);
/*
 * What a hypervisor gets; the link must be up, and its parent. The device node is that of /dev, or,
 * where there is none or one of another network namespace, one made in dir for the moment.
 */
int macvtap_open(
	struct netlink *nl, const char *name, const char *dir, int *out_fd, struct err *err);

#endif

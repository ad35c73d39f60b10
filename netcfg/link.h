/*
 * netcfg/link.h - links, addresses and routes of the host over rtnetlink (libnl-3), and TAPs. Calls
 * are short kernel round trips (tens of microseconds) and are made on the loop thread.
 */
#ifndef DROVER_NETCFG_LINK_H
#define DROVER_NETCFG_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/err.h"
#include "netcfg/alloc.h"

struct netlink;

int netlink_create(struct netlink **out, struct err *err);
void netlink_destroy(struct netlink *nl);

/*
 * A persistent TAP (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) with owner set, made or, if one of this
 * name is there already, opened again. The returned descriptor is what a hypervisor gets; closing
 * it leaves the TAP. -ENODEV: no /dev/net/tun (the message says what to do); -EBUSY: the name is
 * taken by a link that is no TAP or whose queue is in use.
 */
int tap_open(const char *name, uid_t owner, int *out_fd, struct err *err);
/*
 * For fd, a process's descriptor of a TAP that was deleted since: makes the TAP again (or takes one
 * of this name, as tap_open()) with fd as its queue. vnet_hdr_len: what that process expects.
 * -EEXIST: fd is a queue still, of a TAP that was moved or renamed.
 */
int tap_attach(int fd, const char *name, uid_t owner, int vnet_hdr_len, struct err *err);
/* Takes the persistence away and deletes the link; a missing one is no error. */
int tap_delete(struct netlink *nl, const char *name, struct err *err);

bool link_exists(const char *name);
int link_index(struct netlink *nl, const char *name, int *out, struct err *err);
int link_up(struct netlink *nl, const char *name, struct err *err);
/* Adds addr/len; -EEXIST is success when it is the same. peer NULL: none. */
int link_add_address(struct netlink *nl, const char *name, struct ip4_prefix addr, struct err *err);
/* An address or a link that is not there is no error. */
int link_drop_address(
	struct netlink *nl, const char *name, struct ip4_prefix addr, struct err *err);
int link_set_mac(struct netlink *nl, const char *name, const char *mac, struct err *err);
/* The number by which rules tell the links of one network from others'; 0 is what links have. */
int link_set_group(struct netlink *nl, const char *name, unsigned group, struct err *err);
/* A text of at most 255 bytes that stays with the link: whose it is. */
int link_set_alias(struct netlink *nl, const char *name, const char *alias, struct err *err);

/*
 * All IPv4 addresses (as their networks) and routes of the host but default routes, loopback and
 * those on links whose name passes skip (may be NULL). *out is malloc'd.
 */
int host_prefixes(struct netlink *nl, bool (*skip)(void *arg, const char *ifname), void *arg,
	struct ip4_prefix **out, size_t *n, struct err *err);
/* Names the link or route of the host that overlaps p, for a message; false: none does. */
bool host_overlap(struct netlink *nl, struct ip4_prefix p,
	bool (*skip)(void *arg, const char *ifname), void *arg, char *who, size_t cap);

#endif

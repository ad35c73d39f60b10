/*
 * netcfg/route6.h - routes of ours to IPv6 prefixes behind neighbours, over rtnetlink. Loop thread.
 */
#ifndef DROVER_NETCFG_ROUTE6_H
#define DROVER_NETCFG_ROUTE6_H

#include "netcfg/ip6.h"
#include "netcfg/link.h"

/* rtm_protocol of ours (free in /etc/iproute2/rt_protos), so that nobody takes them for his. */
#define ROUTE_PROTO 154

/* Makes it, or changes where it leads. */
int route6_set(struct netlink *nl, const struct ip6_prefix *to, const struct in6_addr *via,
	const char *link, struct err *err);
/* Of ours only; a missing one is no error. */
int route6_delete(struct netlink *nl, const struct ip6_prefix *to, struct err *err);
/* Whether it is there. index: of the link. */
int route6_has(struct netlink *nl, const struct ip6_prefix *to, const struct in6_addr *via,
	int index, bool *out);

/*
 * The link-local address by which the host knows the neighbour with this MAC on the link; of several
 * the one that is made of the MAC. false: none.
 */
bool neighbour6_local(struct netlink *nl, int index, const char *mac, struct in6_addr *out);

#endif

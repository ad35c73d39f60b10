/*
 * netcfg/link6.h - IPv6 addresses and routes of the host, as netcfg/link.h. Loop thread.
 */
#ifndef DROVER_NETCFG_LINK6_H
#define DROVER_NETCFG_LINK6_H

#include "netcfg/ip6.h"
#include "netcfg/link.h"

/*
 * Readies a link of ours for IPv6, before it is up: no router tells the host its way there, no
 * address is made up by the kernel, and none waits for others to object. The link's own settings,
 * which go with it.
 */
int link6_ready(const char *name, struct err *err);
/* One that is there already is no error. It can be used at once, without a carrier even. */
int link6_add_address(struct netlink *nl, const char *name, const struct in6_addr *addr,
	uint8_t len, struct err *err);
/* An address or a link that is not there is no error. */
int link6_drop_address(struct netlink *nl, const char *name, const struct in6_addr *addr,
	uint8_t len, struct err *err);
/* The host's link-local address on links of ours: guests that know it know it again. */
struct in6_addr link6_local(void);

/* From /proc/net/if_inet6. */
bool link6_has_address(int index, const struct in6_addr *addr, uint8_t len);
/* Names a link of the host but `but` with an address in p, for a message; false: none has. */
bool host6_overlap(const struct ip6_prefix *p, bool (*skip)(void *arg, const char *ifname),
	void *arg, char *who, size_t cap);

/*
 * Links whose default route came by router advertisement: a host that forwards takes none any more
 * unless their accept_ra is 2 (Documentation/networking/ip-sysctl.rst). One after the other into
 * out, at most n; returns how many.
 */
size_t host6_uplinks(char (*out)[16], size_t n);

#endif

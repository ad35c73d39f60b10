/*
 * supervisor/network6-values.h - what the keys of a [network] about IPv6 say, as values. Pure.
 */
#ifndef DROVER_SUPERVISOR_NETWORK6_VALUES_H
#define DROVER_SUPERVISOR_NETWORK6_VALUES_H

#include "netcfg/alloc.h"
#include "netcfg/ip6.h"
#include "supervisor/config.h"

struct network6 {
	struct ip6_prefix net; /* len 0: there is no IPv6; of p2p its range */
	/* Of all but p2p. */
	struct in6_addr gateway, first, last;
	bool dhcp;       /* addresses are given */
	bool other;      /* else the rest is */
	bool autonomous; /* addresses are made up */
	/* kea serves DHCPv6 and radvd advertises, since dnsmasq cannot say what is to be said. */
	bool kea;
	struct ip6_prefix pool; /* of delegated prefixes; len 0: there is none */
	uint8_t delegated;      /* the length of one */
};

/* *key gets the key that is wrong. */
int network6_values(
	const struct network_config *n, struct network6 *out, const char **key, struct err *err);
/* The nth prefix of the pool, and how many there are, at most UINT64_MAX. */
struct ip6_prefix network6_delegated(const struct network6 *v6, uint64_t n);
uint64_t network6_ndelegated(const struct network6 *v6);
bool network6_has(const struct network6 *v6, const struct in6_addr *address); /* a machine may */

/*
 * The prefix of the machine whose subnet of the range n->cidr is net: the one that stands in the same
 * place. The host has its first address (of a /127) or network + 1, the machine the next.
 */
struct ip6_prefix network6_p2p(
	const struct network_config *n, const struct network6 *v6, struct ip4_prefix net);
struct in6_addr network6_p2p_host(const struct ip6_prefix *p);
struct in6_addr network6_p2p_guest(const struct ip6_prefix *p);

/* Whether dns6 = none. */
bool network6_without_dns(const struct network_config *n);

#endif

/*
 * netcfg/dnsmasq6.h - what a dnsmasq is told for IPv6 on its link: router advertisements, DHCPv6; and
 * its leases. Pure. Times in seconds.
 *
 * dnsmasq derives the flags of its advertisements from its ranges (radv.c, add_prefixes()): M and O
 * where addresses are given, O alone with "ra-stateless", A with "slaac" or "ra-only". It tells the
 * MAC of who asks by DHCPv6 from the neighbour table, so that reservations by MAC hold for clones,
 * which have one DUID (rfc3315.c, get_client_mac()).
 */
#ifndef DROVER_NETCFG_DNSMASQ6_H
#define DROVER_NETCFG_DNSMASQ6_H

#include "lib/str.h"
#include "netcfg/ip6.h"

struct dnsmasq6_spec {
	const char *link;
	struct ip6_prefix net;
	bool dhcp;       /* addresses are given, to those that are reserved only */
	bool other;      /* else all but addresses is */
	bool autonomous; /* machines make addresses up */
	bool on_link;
	uint64_t lifetime, interval, router_lifetime, refresh; /* refresh 0: not told */
	unsigned mtu;                                          /* 0: not told */
	const char *const *dns, *const *search;                /* NULL-terminated, may be NULL */
};
void dnsmasq6_args(const struct dnsmasq6_spec *spec, struct strv *v);

/* One line of a lease file that is of an address by DHCPv6. */
struct dnsmasq6_lease {
	uint64_t expires; /* unix seconds; 0: never */
	uint32_t iaid;
	struct in6_addr address;
	char duid[400]; /* "00:01:.." */
};
bool dnsmasq6_lease_parse(const char *line, struct dnsmasq6_lease *out);
/* The line with the server's own: "duid 00:01:.."; NULL: another. */
const char *dnsmasq6_server_duid(const char *line);

#endif

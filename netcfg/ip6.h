/*
 * netcfg/ip6.h - IPv6 addresses and networks as values. Pure.
 */
#ifndef DROVER_NETCFG_IP6_H
#define DROVER_NETCFG_IP6_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

struct ip6_prefix {
	struct in6_addr addr;
	uint8_t len; /* 0: there is none */
};
#define IP6_TEXT 46 /* room for an address as text */

/* "fd00:1::/64"; host bits must be zero, and the length 1 to 128. */
int ip6_prefix_parse(const char *s, struct ip6_prefix *out, struct err *err);
bool ip6_parse(const char *s, struct in6_addr *out);
void ip6_format(const struct in6_addr *addr, char out[IP6_TEXT]);
void ip6_prefix_format(const struct ip6_prefix *p, char out[IP6_TEXT + 4]);
/* As a number without leading zeros, "0x20010db8...": nft has no other text for raw payload. */
void ip6_format_hex(const struct in6_addr *addr, char out[40]);

bool ip6_equal(const struct in6_addr *a, const struct in6_addr *b);
bool ip6_is_zero(const struct in6_addr *a);
int ip6_compare(const struct in6_addr *a, const struct in6_addr *b);
bool ip6_in(const struct ip6_prefix *p, const struct in6_addr *a);
bool ip6_overlap(const struct ip6_prefix *a, const struct ip6_prefix *b);
/* a + n << shift, within 128 bits. */
struct in6_addr ip6_add(const struct in6_addr *a, uint64_t n, unsigned shift);
/* last - first, at most UINT64_MAX. */
uint64_t ip6_distance(const struct in6_addr *first, const struct in6_addr *last);
struct in6_addr ip6_last(const struct ip6_prefix *p);
/* The link-local address that is made of a MAC (RFC 4291, appendix A); false: it is none. */
bool ip6_local_of(const char *mac, struct in6_addr *out);

#endif

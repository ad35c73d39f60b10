/*
 * netcfg/kea6.h - what a kea-dhcp6 (2.2 and later) is told of its link, and the leases that it writes
 * down. Pure. Times in seconds.
 *
 * It serves the links that want more of DHCPv6 than dnsmasq has: prefixes, T1 and T2, a preferred
 * lifetime. Kea tells MAC addresses from link-local addresses only where they are of a manufacturer
 * (Pkt::getMACFromIPv6 wants the universal bit), which those of machines never are; so each machine
 * is a class of its own by the link-local address that its MAC makes, or, where it has made another
 * one up, by a DUID that ends in its MAC; and each class has pools with what is kept for it.
 */
#ifndef DROVER_NETCFG_KEA6_H
#define DROVER_NETCFG_KEA6_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/str.h"
#include "netcfg/ip6.h"

struct kea6_guest {
	const char *name; /* of its class: its TAP's */
	const char *mac;
	struct in6_addr address;  /* zero: none */
	struct ip6_prefix prefix; /* len 0: none */
};

struct kea6_spec {
	const char *link;
	const char *mac; /* which its own DUID is made of */
	struct ip6_prefix net;
	uint64_t lifetime;
	uint64_t preferred, renew, rebind, refresh; /* 0: kea's own choice; not told */
	const char *const *dns, *const *search;     /* NULL-terminated, may be NULL */
	const char *lease_file;
	const struct kea6_guest *guests;
	size_t nguests;
};
/* JSON; -ENOMEM. */
int kea6_config_text(const struct kea6_spec *spec, struct buf *out, struct err *err);

/* "00:03:00:01:" and the MAC (RFC 8415, 11.4): the server's own, whatever becomes of its files. */
void kea6_server_duid(const char *mac, char out[32]);

/* One line of its lease file (CSV); of those of one address the last one counts. */
struct kea6_lease {
	struct ip6_prefix what; /* len 128 if it is an address */
	bool prefix;
	bool gone;        /* given back, or its time was over */
	uint64_t expires; /* unix seconds */
	uint32_t iaid;
	char duid[400]; /* "00:01:.." */
};
bool kea6_lease_parse(const char *line, struct kea6_lease *out);

#endif

/*
 * netcfg/dnsmasq-dns.h - the part of a dnsmasq's command line that serves names. Pure.
 *
 * dnsmasq passes on what it is asked of a name in another family than the one it knows (2.90: with
 * --host-record=a.test,10.0.0.5 an AAAA of a.test is asked of the upstream), and a guest that prefers
 * IPv6 would go past what it was to be told. So each record's name is ours alone, while the names
 * below it stay what they are.
 */
#ifndef DROVER_NETCFG_DNSMASQ_DNS_H
#define DROVER_NETCFG_DNSMASQ_DNS_H

#include "lib/str.h"
#include "netcfg/alloc.h"

struct dnsmasq_record {
	const char *name, *address; /* of IPv4 or IPv6 */
};

struct dnsmasq_dns {
	const char *const *servers; /* asked for the rest; NULL-terminated, may be NULL */
	bool host_dns;              /* without servers: those that the host asks */
	const char *domain;         /* of the machines; may be NULL */
	const char *names_dir;      /* files of names, watched; NULL: none */
	struct ip4_prefix net;      /* whose addresses are nobody else's; len 0: none */
	const struct dnsmasq_record *records;
	size_t nrecords;
	bool log; /* each query, to where the rest goes */
};

void dnsmasq_dns_args(struct strv *v, const struct dnsmasq_dns *s);

#endif

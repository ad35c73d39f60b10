/*
 * supervisor/network-dns.h - what a [network] says of its DNS, for netcfg/dnsmasq-dns.h. Pure.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_DNS_H
#define DROVER_SUPERVISOR_NETWORK_DNS_H

#include "netcfg/dnsmasq-dns.h"
#include "supervisor/network-names.h"

struct network_dns {
	struct dnsmasq_dns spec; /* its owner fills in what is not in the section */
	struct dnsmasq_record *records;
	struct record_spec *parsed;
	struct strv servers;
};
/* domain, dns, record and dns_log of n, which is borrowed. Finish it in any case. */
int network_dns_read(struct network_dns *out, const struct network_config *n, struct err *err);
void network_dns_finish(struct network_dns *dns);

#endif

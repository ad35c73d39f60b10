/*
 * netcfg/dnsmasq-bridge.h - the command line of the one dnsmasq of a network with a bridge, and the
 * files by which it learns of machines while it runs. Pure.
 *
 * dnsmasq watches its folders by inotify: what is renamed into them it reads at once. What is
 * removed from the folder of reservations it knows until a SIGHUP (dnsmasq(8), --dhcp-hostsdir).
 */
#ifndef DROVER_NETCFG_DNSMASQ_BRIDGE_H
#define DROVER_NETCFG_DNSMASQ_BRIDGE_H

#include "lib/str.h"
#include "netcfg/alloc.h"
#include "netcfg/dnsmasq-dns.h"
#include "netcfg/dnsmasq6.h"

struct dnsmasq_bridge_spec {
	const char *binary, *bridge;
	struct ip4_prefix net;
	uint32_t gateway;
	bool router;                   /* it is offered as the way out */
	const struct dnsmasq_dns *dns; /* NULL: no names are served */
	unsigned mtu;                  /* 0: nothing is said */
	const char *dhcp_dir, *lease_file;
	const struct dnsmasq6_spec *v6; /* may be NULL */
};
/* argv for exec; argv[0] is the binary. */
int dnsmasq_bridge_args(const struct dnsmasq_bridge_spec *spec, struct strv *out, struct err *err);

/*
 * The lines of one nic's files in dhcp_dir and names_dir; nothing for a name that is none in DNS.
 * address6: may be NULL.
 */
void dnsmasq_reservation(struct buf *out, const char *mac, uint32_t address,
	const struct in6_addr *address6, const char *name);
void dnsmasq_names(struct buf *out, uint32_t address, const struct in6_addr *address6,
	const char *name, const char *domain);

/* One line of a lease file; false: it is none of IPv4. */
struct dnsmasq_lease {
	uint64_t expires; /* unix seconds; 0: never */
	char mac[18];
	uint32_t address;
	char name[64]; /* "": none */
};
bool dnsmasq_lease_parse(const char *line, struct dnsmasq_lease *out);

#endif

/*
 * netcfg/dhcp6-release.h - gives an address by DHCPv6 back in its holder's place, as dnsmasq's own
 * dhcp_release6 does: for a machine that begins anew under another DUID and else would have to wait
 * until its former self's lease has ended. Loop thread.
 */
#ifndef DROVER_NETCFG_DHCP6_RELEASE_H
#define DROVER_NETCFG_DHCP6_RELEASE_H

#include "lib/str.h"
#include "netcfg/dnsmasq6.h"

/* The message (RFC 8415, 18.2.7), with DUIDs as text; false: they are none. Pure. */
bool dhcp6_release_message(
	struct buf *out, const struct dnsmasq6_lease *lease, const char *server_duid);
/* The same of an address or a prefix. */
struct dhcp6_held {
	uint32_t iaid;
	struct ip6_prefix what;
	bool prefix;
	const char *duid; /* "00:01:.." */
};
bool dhcp6_release_held(struct buf *out, const struct dhcp6_held *held, const char *server_duid);
/* Sends it from the host itself to the server on link. */
int dhcp6_release_send(const char *link, const struct buf *message, struct err *err);

#endif

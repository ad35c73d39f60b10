/*
 * supervisor/network-seen.h - what addresses guests have that we have not given: on bridges with
 * somebody else's DHCP or RA, on links that are shared, and nics with address=none. Learned from the
 * ARP and the neighbour discovery that they send, and from the guest agent. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_SEEN_H
#define DROVER_SUPERVISOR_NETWORK_SEEN_H

#include "netcfg/ip6.h"
#include "supervisor/machine.h"

/* A nic was attached or taken up: on a later turn all of them are looked at. */
void network_seen_refresh(struct drover *d);
void network_seen_release(struct drover *d);
/* The IPv6 address that a nic has, given by us or seen; false: none is known. */
bool network_known_address6(const struct nic *nic, char out[IP6_TEXT]);

/*
 * Pure: of guest-network-get-interfaces' answer (QEMU, qga/qapi-schema.json) the first addresses of
 * the interface with this MAC that are not of its link alone; 0 and :: where there is none.
 */
void network_agent_addresses(
	const json_t *reply, const char *mac, uint32_t *address, struct in6_addr *address6);

#endif

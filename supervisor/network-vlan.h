/*
 * supervisor/network-vlan.h - ports of a bridge that are one VLAN of a link of the host: a link
 * PORT.ID of ours in the place of PORT. In the ledger it is a port, whose data has {of, up}. Loop
 * thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_VLAN_H
#define DROVER_SUPERVISOR_NETWORK_VLAN_H

#include "supervisor/network-bridge-private.h"

/* "eth0.10", or the port itself where the network has no VLAN. */
void network_port_name(const struct network_config *n, const char *port, char out[16]);
/* Makes it a link that is there and up, written down before; one that is so already is no error. */
int bridge_make_vlan(struct bridge_net *b, const char *port, struct err *err);
/* The link under it is what it was before, if no other VLAN of ours needs it. */
void bridge_released_vlan(
	struct drover *d, const char *owner, const char *name, const json_t *data);

#endif

/*
 * supervisor/network-address.h - addresses that droverd gives to a bridge which is the host's
 * own: written down before, and taken back when the network goes, if they were not there already.
 * Those of a bridge that droverd has made go with it. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_ADDRESS_H
#define DROVER_SUPERVISOR_NETWORK_ADDRESS_H

#include "supervisor/network-bridge-private.h"

int bridge_give_address(struct bridge_net *b, struct ip4_prefix address, struct err *err);
int bridge_give_address6(struct bridge_net *b, const struct ip6_prefix *address, struct err *err);
/* address: "10.0.0.1/24", of either family; data: {link}. */
int bridge_take_address(struct drover *d, const char *address, const json_t *data, struct err *err);

#endif

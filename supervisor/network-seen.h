/*
 * supervisor/network-seen.h - what addresses guests have that we have not given: on bridges with
 * somebody else's DHCP, and nics with address=none. Learned from the ARP that they send. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_SEEN_H
#define DROVER_SUPERVISOR_NETWORK_SEEN_H

#include "supervisor/machine.h"

/* A nic was attached or taken up: on a later turn all of them are looked at. */
void network_seen_refresh(struct drover *d);
void network_seen_release(struct drover *d);

#endif

/*
 * supervisor/network-p2p-names.h - names on networks of kind = p2p, where every machine has a dnsmasq
 * of its own: those that serve names read one folder, in which each machine has a file while it has
 * its nic. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_P2P_NAMES_H
#define DROVER_SUPERVISOR_NETWORK_P2P_NAMES_H

#include "supervisor/network-dns.h"
#include "supervisor/network.h"

/* What the dnsmasq of a nic is told; *dir is freed by the caller. Only if network_p2p_serves(n). */
int p2p_names_read(struct drover *d, const struct network_config *n, const struct nic *nic,
	struct network_dns *out, char **dir, struct err *err);
/* The folder and the nic's file in it; nothing for a network that serves none. */
int p2p_names_write(
	struct machine *m, const struct nic *nic, const struct network_config *n, struct err *err);

#endif

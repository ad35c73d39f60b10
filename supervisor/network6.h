/*
 * supervisor/network6.h - the IPv6 of networks while droverd runs: what network-bridge-steps.c,
 * network-nic.c and network-p2p.c do for IPv4. Each of these does nothing where a network has no
 * cidr6. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK6_H
#define DROVER_SUPERVISOR_NETWORK6_H

#include "netcfg/dnsmasq6.h"
#include "supervisor/machine.h"
#include "supervisor/network-values.h"

struct attach;
struct bridge_net;

/* ---- the host ---- */
/* Forwarding, for as long as droverd has networks; uplinks go on taking their routes by RA. */
int network6_forward(struct drover *d, struct err *err);

/* ---- networks with a bridge ---- */
int network6_check(struct bridge_net *b, struct err *err);
int network6_ready(struct bridge_net *b, struct err *err);       /* the link, before it is up */
int network6_set_address(struct bridge_net *b, struct err *err); /* a step */
bool network6_differs(const struct bridge_net *b, struct buf *text);
/* What its elements in the firewall have beside those of IPv4. */
void network6_link_elements(const struct bridge_net *b, json_t *elements);

/* What its dnsmasq is told; the lists are borrowed from `lists`, freed by network6_told_finish(). */
struct network6_told {
	struct dnsmasq6_spec spec;
	struct strv dns, search;
};
const struct dnsmasq6_spec *network6_tell(struct network6_told *told,
	const struct network_config *n, const char *link, const struct ip6_prefix *net,
	const struct in6_addr *gateway, struct err *err); /* NULL with err */
void network6_told_finish(struct network6_told *told);

/* ---- nics ---- */
int network6_choose(struct attach *a, struct nic *nic, struct err *err);
/* NULL: it has none that is given to it. */
const struct in6_addr *network6_address(const struct nic *nic);
bool network6_guest_address(const struct nic *nic, char out[IP6_TEXT]);
/* network6-prefix.c: the prefix that is kept for it, whether it has asked for it or not. */
int network6_choose_prefix(
	struct drover *d, const struct network6 *v6, struct nic *nic, struct err *err);
bool network6_guest_prefix(const struct nic *nic, char out[IP6_TEXT + 4]);
void network6_guest_elements(const struct bridge_net *b, const struct nic *nic, json_t *elements);
/*
 * A machine that begins anew may call itself by another DUID, and an address that is leased to one is
 * not given to another: so what its former self held is given back.
 */
void network6_forget_lease(struct bridge_net *b, const struct nic *nic);
void network6_nic_save(const struct nic *nic, json_t *j);
void network6_nic_load(struct nic *nic, const json_t *j);

/* ---- p2p ---- */
void network6_p2p_choose(const struct network_config *n, struct nic *nic);
int network6_p2p_link(struct machine *m, const struct nic *nic, struct err *err);
bool network6_p2p_differs(const struct nic *nic, int index, struct buf *text);
/* The prefix that it sends from, and whether that leaves under the host's address. */
void network6_p2p_elements(const struct network_config *n, const struct nic *nic, json_t *elements);

#endif

/*
 * supervisor/network6-serve.h - the kea-dhcp6 and the radvd of a network with a bridge that wants more
 * of IPv6 than dnsmasq has (struct network6, kea); and the prefixes that are delegated there: a route
 * and an element of the firewall for each while it is leased. Loop thread.
 *
 * Leases are followed in kea's lease file, which is there whoever of droverd and kea was away. A
 * route is in the ledger under the network's owner before it is made.
 */
#ifndef DROVER_SUPERVISOR_NETWORK6_SERVE_H
#define DROVER_SUPERVISOR_NETWORK6_SERVE_H

#include "netcfg/kea6.h"
#include "supervisor/network-bridge-private.h"

/* ---- the servers (network6-serve.c) ---- */
/* A step: both as they are to be, or none. */
int network6_serve(struct bridge_net *b, struct err *err);
/* A machine has been given another address or prefix: kea hears of it. */
void network6_guests_changed(struct bridge_net *b);
struct service **network6_service(struct bridge_net *b, const char *name); /* NULL: not its */
/* Which of them should run and does not; NULL: none. waits: also one that is about to. */
const char *network6_server_down(const struct bridge_net *b, bool waits);
void network6_servers_destroy(struct bridge_net *b);

/* ---- leases (network6-delegate.c) ---- */
/* Calls fn for each lease that holds, of which the file tells; next: when the first of them ends. */
typedef void network6_lease_fn(struct bridge_net *b, const struct kea6_lease *lease);
int network6_read_leases(struct bridge_net *b, network6_lease_fn *fn, uint64_t *next);
bool network6_is_lease_file(const struct bridge_net *b, const char *filename);
/* Makes routes and elements for the prefixes that b->leases has, and removes the others. */
void network6_delegate(struct bridge_net *b);
/* They are the ledger's from now on: the network goes, or droverd does. */
void network6_forget_routes(struct bridge_net *b);
bool network6_routes_differ(const struct bridge_net *b, struct buf *text);
/* Gives back what a machine held that begins anew. */
void network6_release_leases(struct bridge_net *b, const struct nic *nic);
/* Of a route in the ledger; data: {to}. */
int network6_release_route(struct drover *d, const json_t *data, struct err *err);

#endif

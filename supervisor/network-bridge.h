/*
 * supervisor/network-bridge.h - networks with a bridge (every kind but p2p) while droverd runs: each
 * has its bridge, the host's address on it, one dnsmasq, and its elements in the firewall. Loop
 * thread.
 *
 * What belongs to a network is in the ledger under "net/NAME". It is made by one row of steps, each
 * of which takes what is there already for done: so the same row makes a network, adopts it from an
 * earlier daemon, and puts back what somebody has taken away. A network that is no longer configured
 * goes with its last machine.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_BRIDGE_H
#define DROVER_SUPERVISOR_NETWORK_BRIDGE_H

#include "supervisor/drover.h"
#include "supervisor/machine.h"
#include "supervisor/network-values.h"

struct bridge_net;
struct survey;

/*
 * Makes, changes and removes networks until they are as configured. Does nothing before
 * d->bridges_due is set.
 */
void bridges_converge(struct drover *d);
/* Lets go; what there is stays. */
void bridges_release(struct drover *d);
/* Releases all of them; done exactly once, not before this returns. */
void bridges_stop(struct drover *d, void (*done)(void *arg), void *arg);
/* "net/NAME": whether it is configured, or a machine that runs uses it. */
bool bridge_in_use(struct drover *d, const char *owner);

struct bridge_net *bridge_find(const struct drover *d, const char *network); /* NULL: none */
struct bridge_net *bridge_next(
	const struct drover *d, const struct bridge_net *b); /* NULL: first */
const char *bridge_network(const struct bridge_net *b);      /* its name */
const char *bridge_owner(const struct bridge_net *b);
const char *bridge_name(const struct bridge_net *b); /* of its link */
const struct network_config *bridge_config(const struct bridge_net *b);
const struct network_values *bridge_values(const struct bridge_net *b);
bool bridge_is_foreign(const struct bridge_net *b); /* of the host's own */
bool bridge_ready(const struct bridge_net *b);      /* machines can have it */
/* Whether its dnsmasq should be there and is not, or it could not be made. */
bool bridge_service_down(const struct bridge_net *b);
/* The one that is called so in the ledger; NULL: it has none. */
struct service **bridge_service(struct drover *d, const char *network, const char *service);
/* Of all networks, p2p too, as supervisor/routes.h has them; of one, NULL: there is none. */
json_t *networks_json(struct drover *d);
json_t *network_json(struct drover *d, const char *name);

/* Embedded by who waits until a network can be used. */
struct bridge_wait {
	struct list entry;
	void (*ready)(void *arg, const struct err *err);
	void *arg;
};
/* false: nothing to wait for, ready does not fire. Else it fires on a later turn. */
bool bridge_wait(struct drover *d, const char *network, struct bridge_wait *wait);
void bridge_unwait(struct bridge_wait *wait);

/* What of it is not as it was made, as text; false: nothing, or it is being made. */
bool bridge_differs(const struct bridge_net *b, const struct survey *s, struct buf *text);
/* Runs the steps again. done exactly once, on a later turn. */
void bridge_mend(struct bridge_net *b, struct bridge_wait *wait);

/* ---- nics: files by which its dnsmasq knows them ---- */
/* In its folders; the files' names are the TAP's. Written down under owner before. */
int bridge_reserve(struct bridge_net *b, const char *owner, const struct nic *nic, const char *name,
	struct err *err);
/* Removes such a file, and has the dnsmasq forget it. */
int bridge_forget(struct drover *d, const char *path, const char *network, struct err *err);
/* The link is what it was before it became a port, if no other bridge has it; data: the ledger's. */
int bridge_release_port(struct drover *d, const char *port, const json_t *data, struct err *err);

/* ---- what of the configuration is in the firewall (netcfg/firewall-set.h); new ones ---- */
json_t *network_link_elements(
	const struct network_config *n, const char *bridge, const json_t *mirrors);
json_t *network_forwards(const struct vm_config *vm, uint32_t to);

/* ---- leases (network-lease.c) ---- */
struct lease {
	struct list entry;
	uint64_t expires; /* unix seconds; 0: never */
	uint32_t address; /* 0: it is of address6 */
	struct in6_addr address6;
	uint8_t prefix_len; /* not 0: a prefix, which begins with address6 */
	char mac[18];
	char *vm; /* whose nic has this MAC; NULL: nobody's */
	bool seen;
};
void lease_address(const struct lease *l, char out[IP6_TEXT + 4]);
const struct list *bridge_leases(const struct bridge_net *b);

#endif

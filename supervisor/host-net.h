/*
 * supervisor/host-net.h - the host's settings and the nft table while any machine needs them, and
 * the release of whatever the ledger holds. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_HOST_NET_H
#define DROVER_SUPERVISOR_HOST_NET_H

#include "supervisor/drover.h"

#define HOST_OWNER   "host"
#define INET_TABLE   "inet drover"
#define BRIDGE_TABLE "bridge drover"

/*
 * Forwarding on, rp_filter of `all` off if rp_filter_all, the table inet drover there: written in
 * the ledger with the values to put back. Does nothing when it was done before. The table is
 * queued: what is given to the firewall afterwards finds it.
 */
int host_net_acquire(struct drover *d, bool rp_filter_all, struct err *err);

/* Forwarding alone. */
int host_net_forward(struct drover *d, struct err *err);
int host_net_forward6(struct drover *d, struct err *err);
/* One of the host's settings; what was found is put back when the last network has gone. */
int host_net_change(struct drover *d, const char *key, const char *want, struct err *err);
/*
 * Writes down that there are both tables, of which the next host_net_rebuild() makes what is
 * missing.
 */
int host_net_bridges(struct drover *d, struct err *err);
bool host_net_has_bridges(struct drover *d); /* the second one is to be there */
/* What the ledger says is in their sets beside TAPs: an array for firewall_same(), a new one. */
json_t *host_net_elements(struct drover *d);

/* Whether anything in the ledger needs them. */
bool host_net_needed(struct drover *d);
/* The first setting that is not as acquired, as text "net.ipv4.ip_forward is 0"; false: none. */
bool host_net_setting_differs(const struct drover *d, bool rp_filter_all, struct buf *text);
/* Sets them again. */
int host_net_set_again(struct drover *d, bool rp_filter_all, struct err *err);

/* What the ledger says is in the table; *out is malloc'd, its strings are the ledger's. */
int host_net_taps(struct drover *d, struct firewall_tap **out, size_t *n, struct err *err);
/*
 * The whole table with all that the ledger says, in one transaction. done exactly once, on a
 * later turn of the loop.
 */
void host_net_rebuild(struct drover *d, void (*done)(void *arg, const struct err *err), void *arg);

#endif

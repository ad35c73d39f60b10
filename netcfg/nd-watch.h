/*
 * netcfg/nd-watch.h - the IPv6 addresses that guests say are theirs, by their neighbour discovery
 * (RFC 4861), as netcfg/arp-watch.h does for IPv4. Loop thread.
 */
#ifndef DROVER_NETCFG_ND_WATCH_H
#define DROVER_NETCFG_ND_WATCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

#define ND_WATCH_MAX 750 /* what the kernel's filter has room for (BPF_MAXINSNS is 4096) */

struct nd_watch;
/* mac: as "52:54:00:12:34:56"; never of a link alone (fe80::/10). May fire for one that is known. */
typedef void nd_seen_fn(void *arg, const char *mac, const struct in6_addr *address);

/* Watches nothing yet. */
int nd_watch_create(
	struct nd_watch **out, uv_loop_t *loop, nd_seen_fn *fn, void *arg, struct err *err);
/* In place of those before; more than ND_WATCH_MAX are not watched. None: no socket is open. */
int nd_watch_set(struct nd_watch *w, const uint8_t (*macs)[6], size_t n, struct err *err);
/* fn does not fire any more; the memory goes on a later turn of the loop. Takes NULL. */
void nd_watch_destroy(struct nd_watch *w);

/*
 * Pure: the address that the sender of an IPv6 packet says is its own; false: it says nothing of the
 * kind, or the address is one of the link alone.
 */
bool nd_claimed(const uint8_t *packet, size_t len, struct in6_addr *out);

#endif

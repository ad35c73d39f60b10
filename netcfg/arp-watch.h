/*
 * netcfg/arp-watch.h - the addresses that guests say are theirs, by the ARP that they send (RFC 826),
 * for networks where somebody else gives them out. The kernel passes on only what is from the given
 * MACs. Loop thread.
 */
#ifndef DROVER_NETCFG_ARP_WATCH_H
#define DROVER_NETCFG_ARP_WATCH_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

#define ARP_WATCH_MAX 1000 /* what the kernel's filter has room for (BPF_MAXINSNS is 4096) */

struct arp_watch;
/* mac: as "52:54:00:12:34:56"; address is never 0. May fire for one that is known. */
typedef void arp_seen_fn(void *arg, const char *mac, uint32_t address);

/* Watches nothing yet. */
int arp_watch_create(
	struct arp_watch **out, uv_loop_t *loop, arp_seen_fn *fn, void *arg, struct err *err);
/* In place of those before; more than ARP_WATCH_MAX are not watched. None: no socket is open. */
int arp_watch_set(struct arp_watch *w, const uint8_t (*macs)[6], size_t n, struct err *err);
/* fn does not fire any more; the memory goes on a later turn of the loop. Takes NULL. */
void arp_watch_destroy(struct arp_watch *w);

#endif

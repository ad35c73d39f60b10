/*
 * netcfg/nft-monitor.h - tells when the table `inet drover` was touched: flushed, deleted, its
 * rules changed, by whomever, us included. An nfnetlink socket in the loop, no polling. Loop
 * thread.
 *
 * Elements come and go with every machine and are not told: what is missing among them a
 * comparison finds (firewall_compare()).
 */
#ifndef DROVER_NETCFG_NFT_MONITOR_H
#define DROVER_NETCFG_NFT_MONITOR_H

#include <uv.h>
#include "lib/err.h"

struct nft_monitor;
/* Several changes may be told as one. */
typedef void nft_touched_fn(void *arg);

int nft_monitor_create(
	struct nft_monitor **out, uv_loop_t *loop, nft_touched_fn *fn, void *arg, struct err *err);
/* closed as everywhere. Takes NULL. */
void nft_monitor_destroy(struct nft_monitor *m, void (*closed)(void *arg), void *arg);

#endif

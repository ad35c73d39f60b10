/*
 * netcfg/foreign.h - what in the rules of others blocks guests, and the line that would open it: Docker's
 * FORWARD policy drop, firewalld, ufw, any base chain at forward or input that drops by its policy or its
 * last rule and has no rule for our links. Loop thread.
 *
 * Links are written as iptables does, "tap+" for all TAPs, "vm-br0" for one bridge; NULL ends them.
 */
#ifndef DROVER_NETCFG_FOREIGN_H
#define DROVER_NETCFG_FOREIGN_H

#include "netcfg/firewall.h"

#define FOREIGN_LINKS_MAX 32 /* more are passed over */

/* As firewall_check_foreign(). links is copied. */
int foreign_check(uv_loop_t *loop, const char *const *links, foreign_done_fn *done, void *arg,
	struct err *err);
/*
 * Its pure parts, over `nft -j list ruleset` and `iptables-legacy -S`: one sentence for each chain that
 * blocks, "...: open it with `LINE`", joined by "; ", is appended. false: nothing blocks.
 */
bool foreign_text(const char *nft_json, size_t len, const char *const *links, struct buf *out);
bool foreign_legacy_text(const char *rules, const char *const *links, struct buf *out);

#endif

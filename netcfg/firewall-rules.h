/*
 * netcfg/firewall-rules.h - the rules of firewall_table_text() and firewall_bridge_text() as nft shows
 * them in JSON, in the order of each chain (nft 1.0.6).
 */
#ifndef DROVER_NETCFG_FIREWALL_RULES_H
#define DROVER_NETCFG_FIREWALL_RULES_H

#include <stddef.h>

struct firewall_rule {
	const char *chain, *expr;
};
struct firewall_chain {
	const char *name, *type, *hook; /* the last two NULL: no base chain */
	int prio;
};
struct firewall_shape {
	const struct firewall_rule *rules;
	const struct firewall_chain *chains;
	size_t nrules, nchains;
};
extern const struct firewall_shape firewall_shapes[]; /* by enum firewall_table */

#endif

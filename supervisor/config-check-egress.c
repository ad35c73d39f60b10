/* What is wrong with a network's list of what its machines may reach, and how fast. */
#include "netcfg/egress.h"
#include "supervisor/config-priv.h"
#include "supervisor/network-values.h"

void check_egress(struct load *l, const struct network_config *n)
{
	struct egress_entry e;
	struct shape rate;
	struct err err;

	if (n->rate != NULL && shape_parse(n->rate, &rate, &err) < 0)
		check_key_error(l, &n->s, "rate", "%s", err.msg);
	if (n->egress.n == 0)
		return;
	if (n->kind == NETWORK_P2P || n->kind == NETWORK_ISOLATED)
		check_key_error(l, &n->s, "egress", "kind = %s has no use for it",
			n->kind == NETWORK_P2P ? "p2p" : "isolated");
	else if (n->cidr == NULL)
		check_key_error(l, &n->s, "egress", "it needs a cidr");
	else if (n->port.n > 0)
		check_key_error(l, &n->s, "egress",
			"machines reach what is behind port without passing the host");
	for (size_t i = 0; i < n->egress.n; i++) {
		if (egress_parse(n->egress.v[i], &e, &err) < 0)
			check_key_error(l, &n->s, "egress", "%s", err.msg);
		else if (e.family == 0 && network_without_dns(n))
			check_key_error(l, &n->s, "egress",
				"%s is a name, and with dns = none no machine could ask for it",
				quote(e.host));
	}
}

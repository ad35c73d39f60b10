/* What is wrong with networks of kind macvtap, and with machines on them. */
#include "supervisor/config-priv.h"
#include "supervisor/network-values.h"

void check_network_macvtap(struct load *l, const struct network_config *n)
{
	static const char *const unused[] = { "cidr", "gateway", "range", "domain", "bridge",
		"vlan", "uplink", "peers", "open", "egress", "rate", "dns", "record", "dns_log",
		"mirror", "cidr6", "rp_filter" };

	for (size_t i = 0; i < ARRAY_LEN(unused); i++)
		if (config_is_chosen(&n->s, unused[i]))
			check_key_error(l, &n->s, unused[i],
				"kind = macvtap is a part of the network behind its port and has no use for it");
	if (n->port.n == 0)
		check_section_error(
			l, &n->s, "kind = macvtap needs 'port', the link that is shared");
	if (n->port.n > 1)
		check_key_error(
			l, &n->s, "port", "kind = macvtap shares one link, not %zu", n->port.n);
	for (size_t i = 0; i < n->port.n; i++)
		if (!config_is_link_name(n->port.v[i]))
			check_key_error(l, &n->s, "port",
				"%s cannot be the name of a link (1 to 15 characters)",
				quote(n->port.v[i]));
	if (n->mtu != 0 && n->mtu < 576)
		check_key_error(l, &n->s, "mtu", "%llu is less than 576, which IPv4 needs",
			(unsigned long long)n->mtu);
}

void check_nic_macvtap(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n)
{
	if (s->address != 0 || !ip6_is_zero(&s->address6))
		check_key_error(l, &vm->s, "network",
			"address= cannot be given on %s, whose machines have theirs from the network behind its port",
			n->s.name);
	if (s->rated)
		check_key_error(l, &vm->s, "network",
			"rate= needs a TAP of the host's own, which %s has not", n->s.name);
}

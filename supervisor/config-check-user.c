/* What is wrong with networks of kind user, and with machines on them. */
#include "supervisor/config-priv.h"
#include "supervisor/network-values.h"

void check_network_user(struct load *l, const struct network_config *n)
{
	static const char *const unused[] = { "bridge", "peers", "open", "egress", "rate", "dns",
		"record", "dns_log", "mirror", "cidr6", "rp_filter" };
	struct network4 v;
	const char *key;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(unused); i++)
		if (config_is_chosen(&n->s, unused[i]))
			check_key_error(l, &n->s, unused[i],
				"kind = user is inside of the hypervisor and has no use for it");
	/* libslirp's own frames end there (libslirp, if_mtu). */
	if (n->mtu != 0 && (n->mtu < 576 || n->mtu > 1500))
		check_key_error(l, &n->s, "mtu", "%llu is not from 576 to 1500",
			(unsigned long long)n->mtu);
	if (n->domain != NULL && !config_is_hostname(n->domain))
		check_key_error(l, &n->s, "domain", "%s is not a domain's name", quote(n->domain));
	if (network4_values(n, &v, &key, &err) < 0)
		check_key_error(l, &n->s, key, "%s", err.msg);
	else if (n->cidr != NULL && v.net.len > 29)
		check_key_error(l, &n->s, "cidr",
			"%s has no room for a gateway, a DNS server and a machine", quote(n->cidr));
}

void check_nic_user(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n)
{
	struct network4 v;
	const char *key;

	if (str_eq(vm->hypervisor, "cloud-hypervisor"))
		check_key_error(l, &vm->s, "network",
			"%s is of kind = user, and cloud-hypervisor has no network of its own",
			n->s.name);
	if (s->rated)
		check_key_error(
			l, &vm->s, "network", "rate= needs a TAP, which %s has not", n->s.name);
	if (s->address == 0)
		return;
	if (n->cidr == NULL)
		check_key_error(
			l, &vm->s, "network", "address= needs a cidr in [network %s]", n->s.name);
	else if (network4_values(n, &v, &key, NULL) == 0 && !network4_has(&v, s->address))
		check_key_error(l, &vm->s, "network",
			"the address cannot be a machine's on %s, whose cidr is %s", n->s.name,
			n->cidr);
}

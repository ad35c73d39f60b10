/* What is wrong with networks as to IPv6. */
#include <stddef.h>
#include <stdlib.h>

#include "supervisor/config-priv.h"
#include "supervisor/network-values.h"

static void check_lists(struct load *l, const struct network_config *n)
{
	struct in6_addr addr;

	for (size_t i = 0; i < n->v6.dns.n && !network6_without_dns(n); i++)
		if (!ip6_parse(n->v6.dns.v[i], &addr))
			check_key_error(l, &n->s, "dns6",
				"%s is not an IPv6 address (one in each line)",
				quote(n->v6.dns.v[i]));
	for (size_t i = 0; i < n->v6.search.n; i++)
		if (!config_is_hostname(n->v6.search.v[i]))
			check_key_error(l, &n->s, "search",
				"%s is not a domain's name (one in each line)",
				quote(n->v6.search.v[i]));
}

/* What says nothing without cidr6, or on this kind, is a mistake. */
static void check_of_use(struct load *l, const struct network_config *n)
{
	static const char *const all[] = { "gateway6", "range6", "length6", "dhcp6", "ra_managed",
		"ra_other", "ra_autonomous", "ra_onlink", "ra_interval", "ra_lifetime", "lifetime6",
		"refresh6", "dns6", "search", "nat6", "preferred6", "renew6", "rebind6", "delegate",
		"delegate_length" };
	static const char *const bridged[] = { "gateway6", "range6", "preferred6", "renew6",
		"rebind6", "delegate", "delegate_length" };

	for (size_t i = 0; n->v6.cidr == NULL && i < ARRAY_LEN(all); i++)
		if (config_is_chosen(&n->s, all[i]))
			check_key_error(l, &n->s, all[i], "it needs a cidr6");
	for (size_t i = 0; n->v6.cidr != NULL && i < ARRAY_LEN(bridged); i++)
		if (n->kind == NETWORK_P2P && config_is_chosen(&n->s, bridged[i]))
			check_key_error(
				l, &n->s, bridged[i], "kind = p2p has no bridge and no use for it");
	if (n->v6.cidr != NULL && n->kind != NETWORK_P2P && config_is_chosen(&n->s, "length6"))
		check_key_error(
			l, &n->s, "length6", "only kind = p2p has a prefix for each machine");
	if (n->v6.cidr != NULL && n->kind != NETWORK_P2P && n->kind != NETWORK_NAT &&
		config_is_chosen(&n->s, "nat6"))
		check_key_error(l, &n->s, "nat6", "only kind = p2p and kind = nat have it");
	if (n->v6.delegate == NULL && n->v6.cidr != NULL && n->kind != NETWORK_P2P &&
		config_is_chosen(&n->s, "delegate_length"))
		check_key_error(l, &n->s, "delegate_length", "it needs a delegate");
	if (n->v6.cidr != NULL && n->cidr == NULL)
		check_key_error(l, &n->s, "cidr6", "it needs a cidr beside it");
}

void check_network6(struct load *l, const struct network_config *n)
{
	struct network6 v;
	const char *key;
	struct err err;

	check_of_use(l, n);
	check_lists(l, n);
	if (network6_values(n, &v, &key, &err) < 0)
		check_key_error(l, &n->s, key, "%s", err.msg);
	if (n->v6.cidr != NULL && n->mtu != 0 && n->mtu < 1280)
		check_key_error(l, &n->s, "mtu", "%llu is less than 1280, which IPv6 needs",
			(unsigned long long)n->mtu);
}

/* cidr6 and delegate, as they are written. */
static const struct {
	const char *key;
	size_t offset;
} ranges[] = {
	{ "cidr6", offsetof(struct network_config, v6.cidr) },
	{ "delegate", offsetof(struct network_config, v6.delegate) },
};

static const char *range_of(const struct network_config *n, size_t k, struct ip6_prefix *out)
{
	const char *text = *(char *const *)((const char *)n + ranges[k].offset);

	return text != NULL && ip6_prefix_parse(text, out, NULL) == 0 ? text : NULL;
}

static void check_against(struct load *l, const struct network_config *n, size_t k,
	const struct network_config *m, size_t mk)
{
	struct ip6_prefix x, y;
	const char *a = range_of(n, k, &x), *b = range_of(m, mk, &y);
	struct config_pos at;

	if (a == NULL || b == NULL || !ip6_overlap(&x, &y))
		return;
	at = config_key_pos(&m->s, ranges[mk].key);
	check_key_error(l, &n->s, ranges[k].key, "%s overlaps %s of [network %s], %s:%u", a, b,
		m->s.name, at.file, at.line);
}

/* There are few networks with IPv6, so each is held against each. */
void check_networks6(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_NETWORK];

	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *n = (const void *)a->v[i];

		for (size_t j = 0; n->v6.cidr != NULL && j < i; j++)
			for (size_t k = 0; k < 2 * ARRAY_LEN(ranges); k++)
				check_against(l, n, k / 2, (const void *)a->v[j], k % 2);
	}
}

void check_nic_address6(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n)
{
	char text[IP6_TEXT];
	struct network6 v;
	const char *key;

	ip6_format(&s->address6, text);
	if (n->kind == NETWORK_P2P)
		check_key_error(l, &vm->s, "network",
			"address6=%s cannot be chosen on %s, which is of kind = p2p", text,
			n->s.name);
	else if (n->v6.cidr == NULL)
		check_key_error(l, &vm->s, "network",
			"address6=%s cannot be given on %s, which has no cidr6", text, n->s.name);
	else if (network6_values(n, &v, &key, NULL) == 0 && !network6_has(&v, &s->address6))
		check_key_error(l, &vm->s, "network",
			"address6=%s cannot be a machine's on %s, whose cidr6 is %s", text,
			n->s.name, n->v6.cidr);
	else if (network6_values(n, &v, &key, NULL) == 0 && !v.dhcp)
		check_key_error(l, &vm->s, "network",
			"address6=%s cannot be given on %s, where machines make up theirs (dhcp6 = yes)",
			text, n->s.name);
}

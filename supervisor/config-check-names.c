/* What is wrong with the names and mirrors of networks. */
#include <arpa/inet.h>
#include <string.h>

#include "supervisor/config-priv.h"
#include "supervisor/network-names.h"
#include "supervisor/network-values.h"

static void check_dns(struct load *l, const struct network_config *n)
{
	unsigned char in[16];

	if (network_without_dns(n))
		return;
	for (size_t i = 0; i < n->dns.n; i++)
		if (inet_pton(AF_INET, n->dns.v[i], in) != 1 &&
			inet_pton(AF_INET6, n->dns.v[i], in) != 1)
			check_key_error(l, &n->s, "dns",
				"%s is not an IPv4 or IPv6 address (one in each line)",
				quote(n->dns.v[i]));
}

/* Without DNS nobody would ever be told. */
static void check_useless(struct load *l, const struct network_config *n, const char *key)
{
	if (network_without_dns(n))
		check_key_error(l, &n->s, key, "with dns = none no machine is told of it");
	else if (n->cidr == NULL && n->kind == NETWORK_BRIDGE)
		check_key_error(l, &n->s, key, "it needs a cidr");
}

static void check_records(struct load *l, const struct network_config *n)
{
	struct record_spec a, b;
	struct err err;

	if (n->record.n > 0)
		check_useless(l, n, "record");
	for (size_t i = 0; i < n->record.n; i++) {
		if (record_spec_parse(n->record.v[i], &a, &err) < 0) {
			check_key_error(l, &n->s, "record", "%s", err.msg);
			continue;
		}
		for (size_t k = 0; k < i; k++)
			if (record_spec_parse(n->record.v[k], &b, NULL) == 0 &&
				strcmp(a.name, b.name) == 0 && a.family == b.family)
				check_key_error(l, &n->s, "record", "%s is %s already, not %s",
					a.name, b.address, a.address);
	}
}

/* ---- mirrors ---- */

static const struct registry_config *registry_of(struct load *l, const struct mirror_spec *s)
{
	return (const void *)config_find(&l->c->pub, SECTION_REGISTRY, s->registry);
}

static void check_mirror_address(
	struct load *l, const struct network_config *n, const struct mirror_spec *s)
{
	struct network_values v;
	char text[16];
	const char *key;

	ip4_format(s->address, text);
	if (s->address != 0 && n->cidr != NULL && network_values(n, &v, &key, NULL) == 0 &&
		!network4_has(&v.v4, s->address))
		check_key_error(l, &n->s, "mirror",
			"address=%s cannot be a mirror's on %s, whose cidr is %s", text, n->s.name,
			n->cidr);
}

/* What two mirrors of a network cannot both have. */
static void check_pair(struct load *l, const struct network_config *n, const struct mirror_spec *a,
	const struct mirror_spec *b)
{
	const struct registry_config *x = registry_of(l, a), *y = registry_of(l, b);
	struct strv names = { 0 }, others = { 0 };
	char text[16];

	ip4_format(a->address, text);
	if (strcmp(a->registry, b->registry) == 0)
		check_key_error(l, &n->s, "mirror", "%s is there twice", a->registry);
	else if (a->address != 0 && a->address == b->address)
		check_key_error(l, &n->s, "mirror", "%s and %s cannot both have %s", b->registry,
			a->registry, text);
	else if (x != NULL && y != NULL && x->upstream != NULL && y->upstream != NULL &&
		 registry_redirected(x, &names) == 0 && registry_redirected(y, &others) == 0) {
		size_t i = 0;

		while (i < names.n && !strv_has(&others, names.v[i]))
			i++;
		if (i < names.n)
			check_key_error(l, &n->s, "mirror", "%s and %s both stand in for %s",
				b->registry, a->registry, names.v[i]);
	}
	strv_finish(&names);
	strv_finish(&others);
}

static void check_stands_in(
	struct load *l, const struct network_config *n, const struct mirror_spec *s)
{
	const struct registry_config *r = registry_of(l, s);
	struct strv names = { 0 };
	struct record_spec record;

	if (r == NULL || r->upstream == NULL || registry_redirected(r, &names) < 0)
		return;
	if (names.n == 0)
		check_key_error(l, &n->s, "mirror",
			"no host of [registry %s] is a name without a port, as it must be to lead machines there",
			s->registry);
	for (size_t i = 0; i < n->record.n; i++)
		if (record_spec_parse(n->record.v[i], &record, NULL) == 0 &&
			strv_has(&names, record.name))
			check_key_error(l, &n->s, "record", "%s is where the mirror %s leads",
				record.name, s->registry);
	strv_finish(&names);
}

static void check_mirrors(struct load *l, const struct network_config *n)
{
	struct mirror_spec a, b;
	struct err err;

	if (n->mirror.n > 0 && n->kind == NETWORK_P2P)
		check_key_error(l, &n->s, "mirror", "kind = p2p has no bridge and no use for it");
	else if (n->mirror.n > 0)
		check_useless(l, n, "mirror");
	for (size_t i = 0; i < n->mirror.n; i++) {
		if (mirror_spec_parse(n->mirror.v[i], &a, &err) < 0) {
			check_key_error(l, &n->s, "mirror", "%s", err.msg);
			continue;
		}
		check_mirror_address(l, n, &a);
		check_stands_in(l, n, &a);
		for (size_t k = 0; k < i; k++)
			if (mirror_spec_parse(n->mirror.v[k], &b, NULL) == 0)
				check_pair(l, n, &a, &b);
	}
}

void check_network_names(struct load *l, const struct network_config *n)
{
	check_dns(l, n);
	check_records(l, n);
	check_mirrors(l, n);
	if (n->dns_log)
		check_useless(l, n, "dns_log");
}

/* ---- mirrors and machines ---- */

static void check_machine(struct load *l, const struct vm_config *vm)
{
	const struct network_config *n;
	struct mirror_spec mirror;
	struct nic_spec nic;
	char text[16];

	for (size_t i = 0; i < vm->networks.n; i++) {
		if (nic_spec_parse(vm->networks.v[i], &nic, NULL) < 0 || nic.address == 0)
			continue;
		n = config_network(&l->c->pub, nic.network);
		ip4_format(nic.address, text);
		for (size_t k = 0; n != NULL && k < n->mirror.n; k++)
			if (mirror_spec_parse(n->mirror.v[k], &mirror, NULL) == 0 &&
				mirror.address == nic.address)
				check_key_error(l, &vm->s, "network",
					"address=%s is the mirror %s's on %s", text,
					mirror.registry, n->s.name);
	}
}

void check_mirror_machines(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_VM];

	for (size_t i = 0; i < a->n; i++)
		check_machine(l, (const void *)a->v[i]);
}

/* What is wrong with networks, and with machines' nics on them. */
#include <stdio.h>
#include <stdlib.h>

#include "netcfg/alloc.h"
#include "supervisor/config-priv.h"
#include "supervisor/network-names.h"
#include "supervisor/network-values.h"

/* ---- one network ---- */

bool config_is_chosen(const struct config_section *s, const char *name)
{
	const struct config_key *k = config_key_find(s->kind, name);
	struct buf text = { 0 };
	bool chosen;

	if (s->key_pos[k - config_keys].line == 0)
		return false;
	config_value_text(s, k, &text);
	chosen = k->def == NULL || strcmp(buf_str(&text), k->def) != 0;
	buf_finish(&text);
	return chosen;
}

/* What a kind has no use for is a mistake about the kind. */
static void check_kind(struct load *l, const struct network_config *n)
{
	static const char *const bridged[] = { "gateway", "range", "bridge", "mtu", "open" };
	static const char *const ported[] = { "port", "uplink", "vlan" };

	for (size_t i = 0; n->kind == NETWORK_P2P && i < ARRAY_LEN(bridged); i++)
		if (config_is_chosen(&n->s, bridged[i]))
			check_key_error(
				l, &n->s, bridged[i], "kind = p2p has no bridge and no use for it");
	for (size_t i = 0;
		n->kind != NETWORK_BRIDGE && n->kind != NETWORK_MACVTAP && i < ARRAY_LEN(ported);
		i++)
		if (config_is_chosen(&n->s, ported[i]))
			check_key_error(
				l, &n->s, ported[i], "only a network of kind = bridge has ports");
	if (n->kind != NETWORK_MACVTAP && config_is_chosen(&n->s, "mode"))
		check_key_error(l, &n->s, "mode", "only a network of kind = macvtap has one");
	if (n->kind == NETWORK_NAT && !n->nat)
		check_key_error(l, &n->s, "nat", "kind = nat without it is kind = routed");
}

bool config_is_link_name(const char *s)
{
	size_t len = strlen(s);

	return len > 0 && len <= 15 && strcspn(s, "/: \t%\"\\*,") == len && strcmp(s, ".") != 0 &&
	       strcmp(s, "..") != 0;
}

/* The link of the host's default route; /proc/net/route: name, destination, gateway, flags, ... */
static bool has_default_route(const char *link)
{
	FILE *f = fopen("/proc/net/route", "re");
	unsigned destination, gateway, mask;
	char line[256], name[32];
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
		found = sscanf(line, "%31s %x %x %*x %*d %*d %*d %x", name, &destination, &gateway,
				&mask) == 4 &&
			destination == 0 && mask == 0 && strcmp(name, link) == 0;
	if (f != NULL)
		fclose(f);
	return found;
}

static void check_links(struct load *l, const struct network_config *n)
{
	if (n->bridge != NULL && !config_is_link_name(n->bridge))
		check_key_error(l, &n->s, "bridge",
			"%s cannot be the name of a link (1 to 15 characters)", quote(n->bridge));
	if (n->vlan != 0 && n->port.n == 0)
		check_key_error(l, &n->s, "vlan", "there is no port that it could be of");
	for (size_t i = 0; i < n->port.n; i++) {
		if (n->vlan != 0 && strlen(n->port.v[i]) > 10)
			check_key_error(l, &n->s, "port",
				"%s.%u is too long for the name of a link (15 characters)",
				quote(n->port.v[i]), (unsigned)n->vlan);
		if (!config_is_link_name(n->port.v[i]))
			check_key_error(l, &n->s, "port",
				"%s cannot be the name of a link (1 to 15 characters)",
				quote(n->port.v[i]));
		else if (n->kind == NETWORK_BRIDGE && !n->uplink && n->vlan == 0 &&
			 has_default_route(n->port.v[i]))
			check_key_error(l, &n->s, "port",
				"%s carries the host's default route, and as a port it loses its "
				"addresses; uplink = yes says that this is meant",
				n->port.v[i]);
	}
	if (n->mtu != 0 && n->mtu < 576)
		check_key_error(l, &n->s, "mtu", "%llu is less than 576, which IPv4 needs",
			(unsigned long long)n->mtu);
}

static void check_values(struct load *l, const struct network_config *n)
{
	struct network4 v;
	struct port_spec port;
	const char *key;
	struct err err;

	if (network4_values(n, &v, &key, &err) < 0)
		check_key_error(l, &n->s, key, "%s", err.msg);
	if (n->cidr == NULL) {
		static const char *const needs[] = { "gateway", "range", "domain", "open" };

		for (size_t i = 0; i < ARRAY_LEN(needs); i++)
			if (config_is_chosen(&n->s, needs[i]))
				check_key_error(l, &n->s, needs[i], "it needs a cidr");
	}
	for (size_t i = 0; i < n->open.n; i++)
		if (port_spec_parse(n->open.v[i], &port, &err) < 0)
			check_key_error(l, &n->s, "open", "%s", err.msg);
}

void check_network(struct load *l, const struct network_config *n, bool misnamed)
{
	struct ip4_prefix prefix;
	bool bad = n->s.key_pos[config_key_find(SECTION_NETWORK, "cidr") - config_keys].line != 0;

	if (n->cidr == NULL && n->kind != NETWORK_BRIDGE && n->kind != NETWORK_USER &&
		n->kind != NETWORK_MACVTAP && !misnamed && !bad)
		check_section_error(l, &n->s, "needs 'cidr'");
	if (n->domain != NULL && !config_is_hostname(n->domain))
		check_key_error(l, &n->s, "domain", "%s is not a domain's name", quote(n->domain));
	check_network_names(l, n);
	check_kind(l, n);
	if (n->kind == NETWORK_USER) {
		check_network_user(l, n);
		return;
	}
	if (n->kind == NETWORK_MACVTAP) {
		check_network_macvtap(l, n);
		return;
	}
	check_egress(l, n);
	if (n->kind != NETWORK_P2P) {
		check_links(l, n);
		check_values(l, n);
	} else if (n->cidr != NULL && ip4_prefix_parse(n->cidr, false, &prefix, NULL) == 0 &&
		   prefix.len > 30) {
		check_key_error(l, &n->s, "cidr", "%s has no room for a /30", quote(n->cidr));
	}
	check_network6(l, n);
}

/* ---- networks among one another ---- */

struct range {
	const struct network_config *n;
	struct ip4_prefix prefix;
};

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	if (x->prefix.addr != y->prefix.addr)
		return x->prefix.addr < y->prefix.addr ? -1 : 1;
	return (x->prefix.len > y->prefix.len) - (x->prefix.len < y->prefix.len);
}

static unsigned source_index(const struct load *l, const char *file)
{
	unsigned i = 0;

	while (i < l->nsources && l->sources[i].name != file)
		i++;
	return i;
}

static bool comes_after(
	const struct load *l, const struct config_section *a, const struct config_section *b)
{
	return a->pos.file == b->pos.file
		       ? a->pos.line > b->pos.line
		       : source_index(l, a->pos.file) > source_index(l, b->pos.file);
}

static void overlap_error(
	struct load *l, const struct network_config *a, const struct network_config *b)
{
	const struct network_config *swap = a;
	struct config_pos at;

	if (comes_after(l, &a->s, &b->s)) {
		a = b;
		b = swap;
	}
	at = config_key_pos(&a->s, "cidr");
	check_key_error(l, &b->s, "cidr", "%s overlaps %s of [network %s], %s:%u", b->cidr, a->cidr,
		a->s.name, at.file, at.line);
}

/* Sorted by address, two overlap only if one overlaps the widest so far. */
static void check_overlaps(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_NETWORK];
	struct range *v = calloc(a->n + 1, sizeof(*v));
	size_t i, n = 0, last = 0;

	if (v == NULL) {
		l->nomem = true;
		return;
	}
	for (i = 0; i < a->n; i++) {
		v[n].n = (const void *)a->v[i];
		if (v[n].n->cidr != NULL &&
			ip4_prefix_parse(v[n].n->cidr, false, &v[n].prefix, NULL) == 0)
			n++;
	}
	qsort(v, n, sizeof(*v), compare_ranges);
	for (i = 1; i < n; i++) {
		if (ip4_overlap(v[last].prefix, v[i].prefix))
			overlap_error(l, v[last].n, v[i].n);
		else
			last = i;
	}
	free(v);
}

/* There are few networks with a bridge, so each is held against each. */
static void check_bridges(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_NETWORK];

	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *x = (const void *)a->v[i];

		for (size_t j = 0; x->bridge != NULL && j < i; j++) {
			const struct network_config *y = (const void *)a->v[j];

			if (y->bridge != NULL && strcmp(x->bridge, y->bridge) == 0)
				check_key_error(l, &x->s, "bridge",
					"%s is the bridge of [network %s], %s:%u", quote(x->bridge),
					y->s.name, y->s.pos.file, y->s.pos.line);
		}
	}
}

/* ---- nics ---- */

/* What must be one nic's alone. */
struct claim {
	char what[96]; /* "mac 52:..", "address 10.0.0.5 of lab", "port tcp/8080" */
	const char *key;
	const struct vm_config *vm;
	size_t order;
};
struct claims {
	struct claim *v;
	size_t n, cap;
	bool nomem;
};

static struct claim *claim(struct claims *c, const struct vm_config *vm, const char *key)
{
	if (c->n == c->cap) {
		size_t cap = c->cap == 0 ? 64 : c->cap * 2;
		struct claim *v = reallocarray(c->v, cap, sizeof(*v));

		if (v == NULL) {
			c->nomem = true;
			return NULL;
		}
		c->v = v;
		c->cap = cap;
	}
	c->v[c->n] = (struct claim){ .vm = vm, .key = key, .order = c->n };
	return &c->v[c->n++];
}

static int compare_claims(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int r = strcmp(x->what, y->what);

	return r != 0 ? r : (x->order > y->order) - (x->order < y->order);
}

static void check_claims(struct load *l, struct claims *c)
{
	if (c->n > 1)
		qsort(c->v, c->n, sizeof(*c->v), compare_claims);
	for (size_t i = 1; i < c->n; i++) {
		const struct claim *x = &c->v[i - 1], *y = &c->v[i];
		struct config_pos at;

		if (strcmp(x->what, y->what) != 0)
			continue;
		at = config_key_pos(&x->vm->s, x->key);
		check_key_error(l, &y->vm->s, y->key, "%s is given to [vm %s], too, %s:%u", y->what,
			x->vm->s.name, at.file, at.line);
	}
	free(c->v);
	l->nomem = l->nomem || c->nomem;
}

static void check_address(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n, struct claims *claims)
{
	struct network4 v;
	char text[16];
	const char *key;
	struct claim *c;

	ip4_format(s->address, text);
	if (n->kind == NETWORK_P2P) {
		check_key_error(l, &vm->s, "network",
			"address=%s cannot be chosen on %s, which is of kind = p2p", text,
			n->s.name);
		return;
	}
	if (n->cidr != NULL && network4_values(n, &v, &key, NULL) == 0 &&
		!network4_has(&v, s->address))
		check_key_error(l, &vm->s, "network",
			"address=%s cannot be a machine's on %s, whose cidr is %s", text, n->s.name,
			n->cidr);
	c = claim(claims, vm, "network");
	if (c != NULL)
		snprintf(c->what, sizeof(c->what), "address %s", text);
}

static void check_address6(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n, struct claims *claims)
{
	char text[IP6_TEXT];
	struct claim *c;

	ip6_format(&s->address6, text);
	check_nic_address6(l, vm, s, n);
	c = claim(claims, vm, "network");
	if (c != NULL)
		snprintf(c->what, sizeof(c->what), "address %s", text);
}

static void check_forwards(struct load *l, const struct vm_config *vm, struct claims *claims)
{
	const struct network_config *n = NULL;
	struct forward_spec f;
	struct nic_spec s;
	struct claim *c;
	struct err err;

	if (vm->networks.n > 0 && nic_spec_parse(vm->networks.v[0], &s, NULL) == 0)
		n = config_network(&l->c->pub, s.network);
	if (vm->forwards.n > 0 &&
		(n == NULL || n->kind == NETWORK_P2P || n->kind == NETWORK_ISOLATED ||
			(n->cidr == NULL && n->kind != NETWORK_USER)))
		check_key_error(l, &vm->s, "forward",
			"the machine's first network must be nat, routed, user or a bridge with a cidr");
	for (size_t i = 0; i < vm->forwards.n; i++) {
		if (forward_spec_parse(vm->forwards.v[i], &f, &err) < 0) {
			check_key_error(l, &vm->s, "forward", "%s", err.msg);
			continue;
		}
		c = claim(claims, vm, "forward");
		if (c != NULL)
			snprintf(c->what, sizeof(c->what), "port %s/%u of the host",
				proto_name(f.proto), f.port);
	}
}

/* The nic that is one too many on its network, counted in the order of the file. */
static void check_room(
	struct load *l, const struct vm_config *vm, const struct network_config *n, uint64_t *count)
{
	struct network4 v;
	const char *key;
	uint64_t room;

	if (!network_has_bridge(n) || n->cidr == NULL || network4_values(n, &v, &key, NULL) < 0)
		return;
	room = (uint64_t)v.last - v.first + 1;
	room -= v.gateway >= v.first && v.gateway <= v.last;
	room -= MIN(room, network_mirrors_in(n, v.first, v.last));
	if (++*count == room + 1)
		check_key_error(l, &vm->s, "network",
			"%s has %llu addresses, and this nic is one too many", n->s.name,
			(unsigned long long)room);
}

static void check_bare(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n)
{
	struct nic_spec first;

	if (s->address != 0 || !ip6_is_zero(&s->address6))
		check_key_error(l, &vm->s, "network", "address=none, and an address beside it");
	if (vm->forwards.n > 0 && nic_spec_parse(vm->networks.v[0], &first, NULL) == 0 &&
		first.none && strcmp(first.network, n->s.name) == 0)
		check_key_error(l, &vm->s, "forward",
			"the machine's first nic has address=none, to which nothing can be forwarded");
}

static void check_nic(struct load *l, const struct vm_config *vm, const char *text,
	uint64_t *counts, struct claims *claims)
{
	const struct network_config *n;
	struct nic_spec s;
	struct claim *c;
	struct err err;
	ssize_t at;

	if (nic_spec_parse(text, &s, &err) < 0) {
		check_key_error(l, &vm->s, "network", "%s", err.msg);
		return;
	}
	at = config_find_at(l->c, SECTION_NETWORK, s.network);
	if (at < 0)
		return;
	n = (const void *)l->c->pub.by_kind[SECTION_NETWORK].v[at];
	if (s.none && !network_has_bridge(n))
		check_key_error(l, &vm->s, "network",
			"address=none is for networks with a bridge, which %s is not", n->s.name);
	else if (s.none)
		check_bare(l, vm, &s, n);
	else if (n->kind == NETWORK_USER)
		check_nic_user(l, vm, &s, n);
	else if (n->kind == NETWORK_MACVTAP)
		check_nic_macvtap(l, vm, &s, n);
	else if (s.address != 0)
		check_address(l, vm, &s, n, claims);
	/* A fixed address may lie outside of the range. */
	else if (counts != NULL)
		check_room(l, vm, n, &counts[at]);
	if (!ip6_is_zero(&s.address6))
		check_address6(l, vm, &s, n, claims);
	c = s.mac[0] != '\0' ? claim(claims, vm, "network") : NULL;
	if (c != NULL)
		snprintf(c->what, sizeof(c->what), "MAC %s", s.mac);
}

static void check_nics(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_VM];
	uint64_t *counts = calloc(l->c->pub.by_kind[SECTION_NETWORK].n + 1, sizeof(*counts));
	struct claims claims = { 0 };

	l->nomem = l->nomem || counts == NULL;
	for (size_t i = 0; i < a->n; i++) {
		const struct vm_config *vm = (const void *)a->v[i];

		for (size_t k = 0; k < vm->networks.n; k++)
			check_nic(l, vm, vm->networks.v[k], counts, &claims);
		check_forwards(l, vm, &claims);
	}
	free(counts);
	check_claims(l, &claims);
}

void check_networks(struct load *l)
{
	check_overlaps(l);
	check_networks6(l);
	check_bridges(l);
	check_nics(l);
	check_mirror_machines(l);
}

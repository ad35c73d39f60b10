/* Leases of kea's, and what goes with delegated prefixes: supervisor/network6-serve.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/dhcp6-release.h"
#include "netcfg/firewall-set.h"
#include "netcfg/route6.h"
#include "supervisor/network6-serve-private.h"
#include "supervisor/network.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)
#define RETRY_S        5

/* ---- the lease file ---- */

/*
 * Kea appends to its file; now and then a child of it (kea-lfc) makes one of those that came before.
 * In this order a later line is of a later time (Memfile_LeaseMgr::loadLeasesFromFiles). The newest is
 * read first, too: kea may give it another name between our readings.
 */
static const char *const parts[] = { "", ".completed", ".2", ".1", "" };

struct held {
	struct kea6_lease *v;
	size_t n, cap;
};

static struct kea6_lease *held_find(const struct held *h, const struct kea6_lease *l)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->v[i].what.len == l->what.len && h->v[i].prefix == l->prefix &&
			ip6_equal(&h->v[i].what.addr, &l->what.addr))
			return &h->v[i];
	}
	return NULL;
}

static void hold(struct held *h, const struct kea6_lease *l)
{
	struct kea6_lease *at = held_find(h, l);

	if (at == NULL && h->n == h->cap) {
		size_t cap = h->cap == 0 ? 16 : 2 * h->cap;
		struct kea6_lease *v = reallocarray(h->v, cap, sizeof(*v));

		if (v == NULL)
			return;
		h->v = v;
		h->cap = cap;
	}
	if (at == NULL)
		at = &h->v[h->n++];
	*at = *l;
}

static int read_part(const char *path, struct held *h)
{
	struct buf text = { 0 };
	struct kea6_lease one;
	char *line, *save = NULL;
	int r = file_read(path, FILE_MAX_BYTES, &text, NULL);

	if (r == 0 && text.len > 0) {
		for (line = strtok_r(text.data, "\n", &save); line != NULL;
			line = strtok_r(NULL, "\n", &save))
			if (kea6_lease_parse(line, &one))
				hold(h, &one);
	}
	buf_finish(&text);
	return r == -ENOENT ? 0 : r;
}

/* A part that cannot be read is no empty one: what it holds is in force. */
static int read_all(const struct servers6 *s, struct held *h)
{
	int r = 0;

	*h = (struct held){ 0 };
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++) {
		char *path = str_printf("%s%s", s->lease_file, parts[i]);

		r = path != NULL ? read_part(path, h) : -ENOMEM;
		free(path);
	}
	if (r < 0) {
		free(h->v);
		*h = (struct held){ 0 };
	}
	return r;
}

/* What has expired has done so whether a kea is there to say it or not. */
static bool holds(const struct kea6_lease *l, uint64_t now)
{
	return !l->gone && l->expires > now;
}

int network6_read_leases(struct bridge_net *b, network6_lease_fn *fn, uint64_t *next)
{
	uint64_t now = (uint64_t)time(NULL);
	struct held h;

	*next = 0;
	if (b->six == NULL || !b->v.v6.kea)
		return 0;
	if (read_all(b->six, &h) < 0) {
		*next = now + RETRY_S;
		return -EAGAIN;
	}
	for (size_t i = 0; i < h.n; i++) {
		if (!holds(&h.v[i], now))
			continue;
		if (*next == 0 || h.v[i].expires < *next)
			*next = h.v[i].expires;
		fn(b, &h.v[i]);
	}
	free(h.v);
	return 0;
}

bool network6_is_lease_file(const struct bridge_net *b, const char *filename)
{
	const char *name = b->six != NULL ? strrchr(b->six->lease_file, '/') : NULL;

	return name != NULL && str_starts(filename, name + 1);
}

/* ---- leases given back in their holder's place ---- */

static bool is_of(const struct kea6_lease *l, const struct nic *nic)
{
	return l->prefix ? l->what.len == nic->prefix6.len &&
				   ip6_equal(&l->what.addr, &nic->prefix6.addr)
			 : ip6_equal(&l->what.addr, &nic->address6);
}

void network6_release_leases(struct bridge_net *b, const struct nic *nic)
{
	char mac[18], server[32];
	struct held h;
	struct err err;

	if (b->six == NULL)
		return;
	bridge_mac(b, mac);
	kea6_server_duid(mac, server);
	read_all(b->six, &h);
	for (size_t i = 0; i < h.n; i++) {
		const struct kea6_lease *l = &h.v[i];
		struct dhcp6_held held = { l->iaid, l->what, l->prefix, l->duid };
		struct buf message = { 0 };

		if (holds(l, (uint64_t)time(NULL)) && is_of(l, nic) &&
			dhcp6_release_held(&message, &held, server) &&
			dhcp6_release_send(b->bridge, &message, &err) < 0)
			log_warn("network %s: %s (ignoring)", b->name, err.msg);
		buf_finish(&message);
	}
	free(h.v);
}

/* ---- routes and elements ---- */

void delegated_free(struct delegated *g)
{
	list_remove(&g->entry);
	free(g);
}

/* No name of another object ends in it. */
static void object_name(const struct ip6_prefix *to, char out[IP6_TEXT + 16])
{
	char text[IP6_TEXT + 4];

	ip6_prefix_format(to, text);
	snprintf(out, IP6_TEXT + 16, "delegated %s", text);
}

static struct delegated *find(struct servers6 *s, const struct ip6_prefix *to)
{
	struct delegated *g;

	list_for_each_entry (g, &s->routes, entry) {
		if (g->to.len == to->len && ip6_equal(&g->to.addr, &to->addr))
			return g;
	}
	return NULL;
}

static struct delegated *add(struct servers6 *s, const struct ip6_prefix *to)
{
	struct delegated *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->to = *to;
	list_append(&s->routes, &g->entry);
	return g;
}

/* Those of an earlier daemon. */
static void know(struct servers6 *s)
{
	struct ledger_owner *owner;
	struct object *o;

	s->known = true;
	list_for_each_entry (owner, ledger_owners(s->b->d->ledger), entry) {
		if (strcmp(owner->name, s->b->owner) != 0)
			continue;
		list_for_each_entry (o, &owner->objects, entry) {
			const char *to = json_str(o->data, "to"), *via = json_str(o->data, "via");
			const char *tap = json_str(o->data, "tap");
			struct ip6_prefix p;
			struct delegated *g;

			if (o->kind != OBJECT_ROUTE || to == NULL || via == NULL || tap == NULL ||
				ip6_prefix_parse(to, &p, NULL) < 0 || find(s, &p) != NULL)
				continue;
			g = add(s, &p);
			if (g == NULL)
				return;
			ip6_parse(via, &g->via);
			snprintf(g->tap, sizeof(g->tap), "%s", tap);
		}
	}
}

static json_t *elements(const struct bridge_net *b, const struct delegated *g)
{
	json_t *j = json_object();
	char text[IP6_TEXT + 4];

	ip6_prefix_format(&g->to, text);
	firewall_put(j, "prefixes6", "%s . %s", g->tap, text);
	if (b->cfg->kind != NETWORK_ISOLATED)
		firewall_put(j, "delegated6", "%s", text);
	return j;
}

static void element_there(void *arg, const struct err *err)
{
	/* Without its table all of it is made again, from the ledger. */
	if (err != NULL && err->code != -ENOENT && err->code != -ECANCELED)
		log_error("firewall: %s", err->msg);
}

static int allow(struct bridge_net *b, const struct delegated *g, struct err *err)
{
	json_t *data = elements(b, g);
	struct buf text = { 0 };
	char name[IP6_TEXT + 16];
	int r;

	object_name(&g->to, name);
	firewall_elements_add_text(&text, data);
	r = ledger_add(b->d->ledger, b->owner, OBJECT_NFT_ELEMENTS, name, data, err);
	if (r == 0 &&
		(text.bad || firewall_apply(b->d->firewall, text.data, element_there, NULL) < 0))
		r = err_nomem(err);
	buf_finish(&text);
	return r;
}

static int set_route(struct bridge_net *b, const struct delegated *g, struct err *err)
{
	char name[IP6_TEXT + 16], to[IP6_TEXT + 4], via[IP6_TEXT];
	json_t *data = json_object();
	bool there = false;
	int r;

	object_name(&g->to, name);
	ip6_prefix_format(&g->to, to);
	ip6_format(&g->via, via);
	json_put_str(data, "to", to);
	json_put_str(data, "via", via);
	json_put_str(data, "tap", g->tap);
	r = ledger_add(b->d->ledger, b->owner, OBJECT_ROUTE, name, data, err);
	if (r == 0 && route6_has(b->d->nl, &g->to, &g->via, b->index, &there) == 0 && there)
		return 0;
	return r == 0 ? route6_set(b->d->nl, &g->to, &g->via, b->bridge, err) : r;
}

/* By whom the prefix was asked for: the host has just answered to that address. */
static void next_hop(struct bridge_net *b, struct delegated *g, const char *mac)
{
	struct in6_addr via;

	if (neighbour6_local(b->d->nl, b->index, mac, &via) ||
		(ip6_is_zero(&g->via) && ip6_local_of(mac, &via)))
		g->via = via;
}

static const struct nic *nic_with(struct bridge_net *b, const struct ip6_prefix *prefix)
{
	struct machine *m;

	list_for_each_entry (m, &b->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			const struct nic *nic = &m->nics[i];

			if (str_eq(nic->network, b->name) && nic->prefix6.len == prefix->len &&
				ip6_equal(&nic->prefix6.addr, &prefix->addr))
				return nic;
		}
	}
	return NULL;
}

static void install(struct bridge_net *b, const struct lease *l)
{
	const struct ip6_prefix to = { l->address6, l->prefix_len };
	const struct nic *nic = nic_with(b, &to);
	struct delegated *g = find(b->six, &to);
	bool fresh = g == NULL;
	struct err err;
	int r = 0;

	/* Once it is gone it is looked at again. */
	if (nic == NULL || (g != NULL && (g->going || strcmp(g->tap, nic->tap) != 0)))
		return;
	if (fresh)
		g = add(b->six, &to);
	if (g == NULL)
		return;
	g->seen = true;
	snprintf(g->tap, sizeof(g->tap), "%s", nic->tap);
	next_hop(b, g, nic->mac);
	if (fresh)
		r = allow(b, g, &err);
	if (r == 0)
		r = set_route(b, g, &err);
	if (r < 0)
		log_error("network %s: %s", b->name, err.msg);
}

/* What is asked once its objects are gone: whose it was may not be there any more. */
struct going {
	struct drover *d;
	struct ip6_prefix to;
	char network[NAME_LEN_MAX + 1];
};

static void gone(void *arg)
{
	struct going *w = arg;
	struct bridge_net *b = bridge_find(w->d, w->network);
	struct delegated *g = b != NULL && b->six != NULL ? find(b->six, &w->to) : NULL;

	if (g != NULL && g->going) {
		delegated_free(g);
		network6_delegate(b);
	}
	free(w);
}

static void withdraw(struct bridge_net *b, struct delegated *g)
{
	struct going *w = calloc(1, sizeof(*w));
	char name[IP6_TEXT + 16];

	if (w == NULL)
		return;
	*w = (struct going){ .d = b->d, .to = g->to };
	snprintf(w->network, sizeof(w->network), "%s", b->name);
	g->going = true;
	object_name(&g->to, name);
	objects_release_tap(b->d, b->owner, name, gone, w);
}

void network6_delegate(struct bridge_net *b)
{
	struct delegated *g, *tmp;
	const struct lease *l;

	if (b->six == NULL || b->state != BRIDGE_UP || b->d->leaving)
		return;
	if (!b->six->known)
		know(b->six);
	list_for_each_entry (g, &b->six->routes, entry)
		g->seen = false;
	list_for_each_entry (l, &b->leases, entry)
		if (l->prefix_len != 0)
			install(b, l);
	list_for_each_entry_safe (g, tmp, &b->six->routes, entry)
		if (!g->seen && !g->going)
			withdraw(b, g);
}

void network6_forget_routes(struct bridge_net *b)
{
	struct delegated *g, *tmp;

	if (b->six == NULL)
		return;
	b->six->known = false;
	list_for_each_entry_safe (g, tmp, &b->six->routes, entry)
		delegated_free(g);
}

bool network6_routes_differ(const struct bridge_net *b, struct buf *text)
{
	const struct delegated *g;
	char to[IP6_TEXT + 4];
	bool there;

	if (b->six == NULL)
		return false;
	list_for_each_entry (g, &b->six->routes, entry) {
		there = true;
		if (g->going || route6_has(b->d->nl, &g->to, &g->via, b->index, &there) < 0 ||
			there)
			continue;
		ip6_prefix_format(&g->to, to);
		buf_printf(text, "the route to %s on bridge %s is missing", to, b->bridge);
		return true;
	}
	return false;
}

int network6_release_route(struct drover *d, const json_t *data, struct err *err)
{
	const char *to = json_str(data, "to");
	struct ip6_prefix p;

	return to != NULL && ip6_prefix_parse(to, &p, NULL) == 0 ? route6_delete(d->nl, &p, err)
								 : 0;
}

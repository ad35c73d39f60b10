#include "supervisor/network6.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "netcfg/firewall-set.h"
#include "netcfg/link6.h"
#include "netcfg/sysctl.h"
#include "supervisor/host-net.h"
#include "supervisor/network-address.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-names.h"
#include "supervisor/network-private.h"

#define MS_IN_S 1000

/* ---- the host ---- */

#define UPLINKS_MAX 16

int network6_forward(struct drover *d, struct err *err)
{
	char links[UPLINKS_MAX][16], key[64], now[16];
	size_t n = host6_uplinks(links, UPLINKS_MAX);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (network_is_our_tap(NULL, links[i]))
			continue;
		snprintf(key, sizeof(key), "net/ipv6/conf/%s/accept_ra", links[i]);
		/* Not where another program than the kernel takes them. */
		if (sysctl_get(key, now, sizeof(now), NULL) == 0 && strcmp(now, "1") == 0)
			r = host_net_change(d, key, "2", err);
	}
	return r == 0 ? host_net_forward6(d, err) : r;
}

/* ---- networks with a bridge ---- */

static bool is_ours(void *arg, const char *ifname)
{
	const struct bridge_net *b = arg;

	return network_is_our_tap(NULL, ifname) || strcmp(ifname, b->bridge) == 0;
}

int network6_check(struct bridge_net *b, struct err *err)
{
	char who[128], net[IP6_TEXT + 4];

	if (b->v.v6.net.len == 0)
		return 0;
	if (b->foreign)
		return err_set(err, -EEXIST,
			"bridge %s is the host's own, whose IPv6 is the host's affair: leave out cidr6, or name another bridge",
			b->bridge);
	ip6_prefix_format(&b->v.v6.net, net);
	if (host6_overlap(&b->v.v6.net, is_ours, b, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"%s is in use on this host: %s; choose another cidr6", net, who);
	if (b->v.v6.pool.len == 0)
		return 0;
	ip6_prefix_format(&b->v.v6.pool, net);
	if (host6_overlap(&b->v.v6.pool, is_ours, b, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"%s is in use on this host: %s; choose another delegate", net, who);
	return 0;
}

int network6_ready(struct bridge_net *b, struct err *err)
{
	return b->v.v6.net.len != 0 ? link6_ready(b->bridge, err) : 0;
}

int network6_set_address(struct bridge_net *b, struct err *err)
{
	struct ip6_prefix address = { b->v.v6.gateway, b->v.v6.net.len };
	struct in6_addr local = link6_local();
	int r;

	if (b->v.v6.net.len == 0)
		return 0;
	/* While its link has no address of its network dnsmasq stops advertising, for good (radv.c,
	 * periodic_ra()). */
	if (b->dnsmasq != NULL && service_up(b->dnsmasq) &&
		!link6_has_address(b->index, &b->v.v6.gateway, b->v.v6.net.len))
		b->changed = true;
	/* On a link of the host's own another router may be called so. */
	r = b->foreign ? 0 : link6_add_address(b->d->nl, b->bridge, &local, 64, err);
	return r == 0 ? bridge_give_address6(b, &address, err) : r;
}

bool network6_differs(const struct bridge_net *b, struct buf *text)
{
	struct ip6_prefix gateway = { b->v.v6.gateway, b->v.v6.net.len };
	struct in6_addr local = link6_local();
	char name[IP6_TEXT + 4];

	if (gateway.len == 0 || (link6_has_address(b->index, &gateway.addr, gateway.len) &&
					link6_has_address(b->index, &local, 64)))
		return false;
	ip6_prefix_format(&gateway, name);
	buf_printf(text, "address %s or fe80::1 of bridge %s is missing", name, b->bridge);
	return true;
}

void network6_link_elements(const struct bridge_net *b, json_t *elements)
{
	const struct network6 *v = &b->v.v6;
	char text[IP6_TEXT];

	if (v->net.len == 0)
		return;
	if (v->dhcp || v->other)
		firewall_put(elements, "open", "%s . udp . 547", b->bridge);
	if (b->cfg->kind == NETWORK_NAT && b->cfg->v6.nat)
		firewall_put(elements, "nat6_links", "%s", b->bridge);
	ip6_format(&v->gateway, text);
	firewall_put(elements, "routers6", "%s", text);
	ip6_format_hex(&v->gateway, text);
	firewall_put(elements, "router_targets6", "%s", text);
}

/* ---- what a dnsmasq is told ---- */

static void add_all(struct strv *out, const struct strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		strv_add(out, from->v[i]);
}

const struct dnsmasq6_spec *network6_tell(struct network6_told *told,
	const struct network_config *n, const char *link, const struct ip6_prefix *net,
	const struct in6_addr *gateway, struct err *err)
{
	bool own = (n->kind != NETWORK_P2P || network_p2p_serves(n)) && !network_without_dns(n);
	char text[IP6_TEXT];
	struct network6 v;
	const char *key;

	*told = (struct network6_told){ 0 };
	if (network6_values(n, &v, &key, err) < 0)
		return NULL;
	ip6_format(gateway, text);
	if (n->v6.dns.n > 0 && !network6_without_dns(n))
		add_all(&told->dns, &n->v6.dns);
	else if (own && !network6_without_dns(n))
		strv_add(&told->dns, text);
	if (n->v6.search.n > 0)
		add_all(&told->search, &n->v6.search);
	else if (n->domain != NULL)
		strv_add(&told->search, n->domain);
	told->spec = (struct dnsmasq6_spec){ .link = link,
		.net = *net,
		.dhcp = v.dhcp,
		.other = v.other,
		.autonomous = v.autonomous,
		.on_link = n->v6.on_link,
		.lifetime = n->v6.lifetime / MS_IN_S,
		.interval = n->v6.interval / MS_IN_S,
		.router_lifetime = n->kind == NETWORK_ISOLATED ? 0
							       : n->v6.router_lifetime / MS_IN_S,
		.refresh = n->v6.refresh / MS_IN_S,
		.mtu = (unsigned)n->mtu,
		.dns = (const char *const *)told->dns.v,
		.search = (const char *const *)told->search.v };
	if (!told->dns.bad && !told->search.bad)
		return &told->spec;
	network6_told_finish(told);
	err_nomem(err);
	return NULL;
}

void network6_told_finish(struct network6_told *told)
{
	strv_finish(&told->dns);
	strv_finish(&told->search);
}

#include "supervisor/network-uplink.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/sysctl.h"
#include "netcfg/uplink.h"
#include "supervisor/config.h"
#include "supervisor/host-net.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network-private.h"

/* A program that changes its default route takes the old one away first. */
#define SETTLE_MS 300

struct network_uplink {
	struct drover *d;
	struct deadline soon;
	struct uplink now[2]; /* of IPv4, of IPv6 */
};

static const int families[] = { AF_INET, AF_INET6 };
static const char *const names[] = { "IPv4", "IPv6" };

/* Whether what its machines send leaves by it. */
static bool is_concerned(const struct network_config *n, size_t family)
{
	bool leaves = n->kind == NETWORK_NAT || n->kind == NETWORK_ROUTED || n->kind == NETWORK_P2P;

	return leaves && (family == 0 ? n->cidr != NULL : n->v6.cidr != NULL);
}

static void tell_network(struct drover *d, const struct network_config *n, size_t family,
	const struct uplink *from, const struct uplink *to, const char *reason)
{
	json_t *more = json_object();

	json_put_str(more, "family", names[family]);
	json_put_str(more, "from", from->name[0] != '\0' ? from->name : NULL);
	json_put_str(more, "to", to->name[0] != '\0' ? to->name : NULL);
	json_put_str(more, "reason", reason);
	events_emit(d->events, "network", n->s.name, "uplink", more);
}

static void tell(
	struct drover *d, size_t family, const struct uplink *from, const struct uplink *to)
{
	const struct config_array *a = &drover_config(d)->by_kind[SECTION_NETWORK];
	struct buf reason = { 0 };
	bool any = false;

	if (to->index == 0)
		buf_printf(&reason,
			"%s reaches the world no more: the host has lost its default route by %s",
			names[family], from->name);
	else if (from->index == 0)
		buf_printf(&reason, "%s reaches the world by %s now", names[family], to->name);
	else
		buf_printf(&reason,
			"%s reaches the world by %s now, and not by %s: connections under the host's old address end",
			names[family], to->name, from->name);
	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *n = (const void *)a->v[i];

		if (!is_concerned(n, family))
			continue;
		any = true;
		tell_network(d, n, family, from, to, buf_str(&reason));
	}
	if (any)
		log_info("the host's uplink is another: %s", buf_str(&reason));
	buf_finish(&reason);
}

static bool is_ours(const struct drover *d, const char *ifname)
{
	const struct bridge_net *b;

	for (b = bridge_next(d, NULL); b != NULL; b = bridge_next(d, b))
		if (strcmp(bridge_name(b), ifname) == 0)
			return true;
	return network_is_our_tap(NULL, ifname) || strcmp(ifname, "lo") == 0;
}

/*
 * Since the host forwards IPv6, a link takes its routes by RA only with accept_ra = 2 (kernel,
 * ip-sysctl.rst). Where it is we who turned that on, a link that comes up later does as it would have
 * done without us.
 */
static void put_right(struct drover *d)
{
	struct if_nameindex *links;
	char key[64], now[16];
	struct err err;

	if (!d->host_forwards6 || ledger_find(d->ledger, HOST_OWNER, OBJECT_SYSCTL,
					  "net.ipv6.conf.all.forwarding") == NULL)
		return;
	links = if_nameindex();
	for (size_t i = 0; links != NULL && links[i].if_index != 0; i++) {
		snprintf(key, sizeof(key), "net/ipv6/conf/%s/accept_ra", links[i].if_name);
		if (is_ours(d, links[i].if_name) || sysctl_get(key, now, sizeof(now), NULL) < 0 ||
			strcmp(now, "1") != 0)
			continue;
		if (host_net_change(d, key, "2", &err) < 0)
			log_warn("uplink: %s (ignoring)", err.msg);
	}
	if_freenameindex(links);
}

static void look(void *arg)
{
	struct network_uplink *u = arg;
	struct uplink now;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		struct uplink old = u->now[i];

		if (uplink_get(u->d->nl, families[i], &now, &err) < 0) {
			log_warn("uplink: %s (ignoring)", err.msg);
			continue;
		}
		u->now[i] = now;
		/* A link that was made anew is the same to a person. */
		if (now.index != old.index && strcmp(now.name, old.name) != 0)
			tell(u->d, i, &old, &now);
	}
	put_right(u->d);
}

void network_uplink_event(struct drover *d, const struct net_event *e)
{
	struct network_uplink *u = d->uplink;
	bool ours = e->kind == NET_UPLINK || e->kind == NET_EVENTS_LOST;

	/* One that could become it. */
	if ((e->kind == NET_LINK_NEW || e->kind == NET_LINK_CHANGED) && e->up && e->master == 0)
		ours = d->host_forwards6 && !is_ours(d, e->ifname);
	if (u == NULL || d->leaving)
		return;
	/* With its link goes an IPv4 route without a word (net/ipv4/fib_semantics.c,
	 * fib_sync_down_dev()). */
	for (size_t i = 0; i < ARRAY_LEN(u->now); i++)
		ours = ours || ((e->kind == NET_LINK_GONE || e->kind == NET_LINK_CHANGED) &&
				       e->index == u->now[i].index && !e->up);
	if (ours)
		deadline_set(&u->soon, SETTLE_MS);
}

void network_uplink_start(struct drover *d)
{
	struct network_uplink *u = calloc(1, sizeof(*u));
	struct err err;

	if (u == NULL)
		return;
	u->d = d;
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		if (uplink_get(d->nl, families[i], &u->now[i], &err) < 0)
			log_warn("uplink: %s (ignoring)", err.msg);
	deadline_init(&u->soon, d->loop, look, u);
	d->uplink = u;
}

static void closed(void *arg)
{
	free(arg);
}

void network_uplink_release(struct drover *d)
{
	struct network_uplink *u = d->uplink;

	if (u == NULL)
		return;
	d->uplink = NULL;
	deadline_close(&u->soon, closed);
}

#include "supervisor/network-watch.h"

#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-private.h"
#include "supervisor/network-uplink.h"
#include "supervisor/network-vlan.h"
#include "supervisor/reconcile-private.h"

static bool is_ours(void *arg, const char *ifname)
{
	const struct drover *d = arg;
	const struct bridge_net *b;

	for (b = bridge_next(d, NULL); b != NULL; b = bridge_next(d, b))
		if (strcmp(b->bridge, ifname) == 0)
			return true;
	return network_is_our_tap(NULL, ifname);
}

/* ---- links: ports that are none any more, bridges that somebody has made again ---- */

static bool is_lost_port(const struct bridge_net *b, const struct net_event *e)
{
	char port[16];

	if (strcmp(e->ifname, b->bridge) == 0)
		return e->index != b->index;
	for (size_t i = 0; e->master != b->index && i < b->cfg->port.n; i++) {
		network_port_name(b->cfg, b->cfg->port.v[i], port);
		if (strcmp(e->ifname, port) == 0)
			return true;
	}
	return false;
}

static bool is_lost_tap(struct drover *d, const struct net_event *e)
{
	const struct machine *m;

	if (!network_is_our_tap(NULL, e->ifname))
		return false;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			const struct nic *nic = &m->nics[i];
			const struct bridge_net *b;

			if (nic->bridge[0] == '\0' || strcmp(nic->tap, e->ifname) != 0)
				continue;
			b = bridge_find(d, nic->network);
			return b != NULL && b->state == BRIDGE_UP && reconcile_settled(m) &&
			       !nic->lost && e->master != b->index;
		}
	}
	return false;
}

static bool watch_link(struct drover *d, const struct net_event *e)
{
	const struct bridge_net *b;

	for (b = bridge_next(d, NULL); b != NULL; b = bridge_next(d, b))
		if (b->state == BRIDGE_UP && is_lost_port(b, e))
			return true;
	return is_lost_tap(d, e);
}

/* ---- addresses that are of our networks, on links of others ---- */

bool network_conflict(const struct bridge_net *b, char *who, size_t cap)
{
	/* On a bridge of the host's own its address is the host's affair. */
	return b->state == BRIDGE_UP && !b->foreign && b->v.v4.net.len != 0 &&
	       host_overlap(b->d->nl, b->v.v4.net, is_ours, b->d, who, cap);
}

static void tell(struct bridge_net *b, bool conflict, const char *who)
{
	json_t *more = json_object();
	char net[19];

	ip4_prefix_format(b->v.v4.net, net);
	b->conflict = conflict;
	if (conflict) {
		json_put_str(more, "by", who);
		log_warn(
			"network %s: %s is in use by another on this host, too: %s; guests may be cut off",
			b->name, net, who);
	}
	events_emit(
		b->d->events, "network", b->name, conflict ? "conflict" : "conflict-gone", more);
}

static void watch_address(struct drover *d, const struct net_event *e)
{
	struct bridge_net *b;
	char who[256] = "";
	bool conflict;

	/* A machine's TAP that comes and goes costs nothing here. */
	if (is_ours(d, e->ifname))
		return;
	for (b = bridge_next(d, NULL); b != NULL; b = bridge_next(d, b)) {
		if (b->v.v4.net.len == 0 || !ip4_overlap(b->v.v4.net, e->address))
			continue;
		conflict = network_conflict(b, who, sizeof(who));
		if (conflict != b->conflict)
			tell(b, conflict, who);
	}
}

bool network_watch(struct drover *d, const struct net_event *e)
{
	network_uplink_event(d, e);
	switch (e->kind) {
	case NET_LINK_NEW:
	case NET_LINK_CHANGED:
		return watch_link(d, e);
	case NET_ADDRESS_NEW:
	case NET_ADDRESS_GONE:
		watch_address(d, e);
		return false;
	default:
		return false;
	}
}

/* What a network with a bridge needs, looked at before anything of it is made: network-preflight.h. */
#include "supervisor/network-preflight.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/file.h"
#include "netcfg/bridge.h"
#include "netcfg/dnsmasq.h"
#include "netcfg/vlan.h"

static int check_program(const char *name, const char *package, struct err *err)
{
	char *path = find_program(name);
	bool found = path != NULL;

	free(path);
	return found ? 0
		     : err_set(err, -ENOENT, "%s is not installed (Debian package %s)", name,
			       package);
}

static int check_programs(const struct bridge_net *b, struct err *err)
{
	int r = check_program("nft", "nftables", err);

	if (r == 0 && b->v.v4.net.len != 0)
		r = check_program("dnsmasq", "dnsmasq-base", err);
	if (r == 0 && b->v.v6.kea)
		r = check_program("kea-dhcp6", "kea-dhcp6-server", err);
	if (r == 0 && b->v.v6.kea)
		r = check_program("radvd", "radvd", err);
	return r;
}

static int check_port(const struct bridge_net *b, const char *port, struct err *err)
{
	struct bridge_info info, bridge;
	int r = bridge_get(b->d->nl, port, &info);

	if (r < 0)
		return err_errno(err, r, "port %s", port);
	if (info.is_bridge && b->cfg->vlan == 0)
		return err_set(
			err, -EINVAL, "port %s is a bridge itself, which can be no port", port);
	if (info.master == 0 ||
		(bridge_get(b->d->nl, b->bridge, &bridge) == 0 && bridge.index == info.master))
		return 0;
	return err_set(err, -EBUSY, "%s is a port of another bridge", port);
}

int bridge_preflight(const struct bridge_net *b, struct err *err)
{
	char who[256];
	int r;

	/* Of an earlier daemon, or before: what could be in the way may be our own. */
	if (ledger_has(b->d->ledger, b->owner))
		return 0;
	r = check_programs(b, err);
	for (size_t i = 0; r == 0 && i < b->cfg->port.n; i++)
		r = check_port(b, b->cfg->port.v[i], err);
	if (r == 0 && b->v.v4.net.len != 0 && !network_without_dns(b->cfg) &&
		dns_port_taken(b->v.v4.gateway, who, sizeof(who)))
		r = err_set(err, -EADDRINUSE,
			"UDP port 53 is taken by %s: stop it, keep it from binding all links, or say `dns = none`",
			who);
	if (r == 0 && (b->v.v6.dhcp || b->v.v6.other) && dhcp6_port_taken(who, sizeof(who)))
		r = err_set(err, -EADDRINUSE,
			"UDP port 547 is taken by %s: machines could get no IPv6 address; stop it or keep it from binding all links",
			who);
	return r;
}

/* How a network with a bridge is made: supervisor/network-bridge.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/bridge.h"
#include "netcfg/dnsmasq-bridge.h"
#include "netcfg/dnsmasq.h"
#include "netcfg/firewall-set.h"
#include "netcfg/sysctl.h"
#include "supervisor/faults.h"
#include "supervisor/host-net.h"
#include "supervisor/network-address.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-dns.h"
#include "supervisor/network-egress.h"
#include "supervisor/network-mirror.h"
#include "supervisor/network-preflight.h"
#include "supervisor/network-private.h"
#include "supervisor/network-vlan.h"
#include "supervisor/network6.h"
#include "supervisor/network6-serve.h"

/* ---- what could be in the way ---- */

static bool is_ours(void *arg, const char *ifname)
{
	const struct bridge_net *b = arg;

	return network_is_our_tap(NULL, ifname) || strcmp(ifname, b->bridge) == 0;
}

static int check_link(struct bridge_net *b, struct err *err)
{
	char *alias = network_alias(b->d, b->owner);
	struct bridge_info info;
	int r = bridge_get(b->d->nl, b->bridge, &info);
	bool ours = r == 0 && alias != NULL && strcmp(info.alias, alias) == 0;

	free(alias);
	b->foreign = r == 0 && !ours;
	if (alias == NULL)
		return err_nomem(err);
	if (r == -ENODEV || ours)
		return 0;
	if (r < 0)
		return err_errno(err, r, "link %s", b->bridge);
	/* Made, and not marked yet, when an earlier daemon was killed. */
	if (ledger_find(b->d->ledger, b->owner, OBJECT_BRIDGE, b->bridge) != NULL &&
		info.is_bridge && info.alias[0] == '\0') {
		b->foreign = false;
		return 0;
	}
	if (b->cfg->kind == NETWORK_BRIDGE && info.is_bridge && b->cfg->egress.n > 0)
		return err_set(err, -EINVAL,
			"egress cannot hold on %s, a bridge of the host's own: machines reach its ports without passing the host",
			b->bridge);
	if (b->cfg->kind == NETWORK_BRIDGE && info.is_bridge)
		return 0;
	return err_set(err, -EEXIST,
		"there is %s %s already, which is not ours; choose another name with `bridge`",
		info.is_bridge ? "a bridge" : "a link", b->bridge);
}

static int check(struct bridge_net *b, struct err *err)
{
	char who[256], net[19];
	int r = check_link(b, err);

	if (r == 0)
		r = bridge_preflight(b, err);
	if (r < 0 || b->v.v4.net.len == 0)
		return r;
	ip4_prefix_format(b->v.v4.net, net);
	/* The address of a bridge of the host's own is in its network. Of one that is there already
	 * network-watch.c tells. */
	if (!b->foreign && ledger_find(b->d->ledger, b->owner, OBJECT_BRIDGE, b->bridge) == NULL &&
		host_overlap(b->d->nl, b->v.v4.net, is_ours, b, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"%s is in use on this host: %s; choose another cidr", net, who);
	if (dhcp_port_taken(NULL, 0, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"UDP port 67 is taken by %s: machines could get no address; stop it or keep it from binding all links",
			who);
	return network6_check(b, err);
}

static int ready_host(struct bridge_net *b, struct err *err)
{
	bool forwards = b->cfg->kind == NETWORK_NAT || b->cfg->kind == NETWORK_ROUTED;
	int r = forwards ? host_net_forward(b->d, err) : 0;

	if (r == 0 && b->v.v6.net.len != 0 && b->cfg->kind != NETWORK_ISOLATED)
		r = network6_forward(b->d, err);
	return r == 0 ? host_net_bridges(b->d, err) : r;
}

/* ---- the bridge ---- */

static int record(struct bridge_net *b, struct err *err)
{
	if (b->foreign)
		return 0;
	return ledger_add(b->d->ledger, b->owner, OBJECT_BRIDGE, b->bridge, NULL, err);
}

/* A MAC of its own from its name, or it would have the lowest of its ports', another one now and
 * then. 02: no guest of ours has such a one. */
void bridge_mac(const struct bridge_net *b, char out[18])
{
	alloc_mac(drover_config(b->d)->drover->run_id, b->bridge, 0, out);
	memcpy(out, "02", 2);
}

static int mark(struct bridge_net *b, struct err *err)
{
	char *alias = network_alias(b->d, b->owner), mac[18];
	int r = alias == NULL ? err_nomem(err) : link_set_alias(b->d->nl, b->bridge, alias, err);

	free(alias);
	bridge_mac(b, mac);
	return r == 0 ? link_set_mac(b->d->nl, b->bridge, mac, err) : r;
}

static int set_own(struct bridge_net *b, const char *family, const char *key, const char *value,
	struct err *err)
{
	char path[96], old[16];
	bool changed;

	snprintf(path, sizeof(path), "net/%s/conf/%s/%s", family, b->bridge, key);
	return sysctl_change(path, value, old, sizeof(old), &changed, err);
}

static int make_bridge(struct bridge_net *b, struct err *err)
{
	struct bridge_info info;
	struct err ignored;
	int r = 0;

	if (bridge_get(b->d->nl, b->bridge, &info) == -ENODEV) {
		r = bridge_make(b->d->nl, b->bridge, err);
		/* The sockets of its dnsmasq are bound to the link that is gone. */
		if (r == 0 && b->dnsmasq != NULL && service_up(b->dnsmasq))
			b->changed = true;
	}
	if (r == 0 && !b->foreign)
		r = mark(b, err);
	/* The link's own settings, which go with it. Without IPv6 on the host there are none to set.
	 * No guest tells the host its way. */
	if (r == 0 && !b->foreign) {
		if (b->v.v6.net.len == 0)
			set_own(b, "ipv6", "disable_ipv6", "1", &ignored);
		set_own(b, "ipv6", "accept_ra", "0", &ignored);
		r = set_own(b, "ipv4", "accept_redirects", "0", err);
	}
	if (r == 0 && !b->foreign && b->cfg->mtu != 0)
		r = link_set_mtu(b->d->nl, b->bridge, (unsigned)b->cfg->mtu, err);
	if (r == 0)
		r = network6_ready(b, err);
	if (r == 0)
		r = link_index(b->d->nl, b->bridge, &b->index, err);
	return r;
}

static int add_ports(struct bridge_net *b, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->cfg->port.n; i++) {
		char port[16];
		struct bridge_info info;
		json_t *data;

		network_port_name(b->cfg, b->cfg->port.v[i], port);
		if (b->cfg->vlan != 0)
			r = bridge_make_vlan(b, b->cfg->port.v[i], err);
		if (r < 0)
			return r;
		r = bridge_get(b->d->nl, port, &info);
		if (r < 0)
			return err_errno(err, r, "port %s", port);
		if (info.master == b->index)
			continue;
		if (info.master != 0)
			return err_set(err, -EBUSY, "%s is a port of another bridge", port);
		/* What an earlier daemon found is what is put back. */
		if (ledger_find(b->d->ledger, b->owner, OBJECT_PORT, port) == NULL) {
			data = json_object();
			json_put_str(data, "bridge", b->bridge);
			json_put_bool(data, "up", info.up);
			r = ledger_add(b->d->ledger, b->owner, OBJECT_PORT, port, data, err);
		}
		if (r == 0)
			r = bridge_enslave(b->d->nl, port, b->bridge, err);
		if (r == 0)
			r = link_up(b->d->nl, port, err);
	}
	return r;
}

static int set_address(struct bridge_net *b, struct err *err)
{
	struct ip4_prefix address = { b->v.v4.gateway, b->v.v4.net.len };
	int r = 0;

	if (b->v.v4.net.len != 0)
		r = bridge_give_address(b, address, err);
	return r == 0 && !b->foreign ? link_up(b->d->nl, b->bridge, err) : r;
}

/* ---- its dnsmasq ---- */

/* It reads them without our rights, so that all may; the names of machines are no secret. */
static int make_folders(struct bridge_net *b, struct err *err)
{
	char *leases = path_join(b->d->state_dir, "net");
	int r;

	if (b->v.v4.net.len == 0) {
		free(leases);
		return 0;
	}
	r = leases == NULL ? err_nomem(err) : mkdir_p(leases, 0750, err);
	free(leases);
	if (r == 0)
		r = ledger_add(b->d->ledger, b->owner, OBJECT_DIR, b->dir, NULL, err);
	if (r == 0)
		r = mkdir_p(b->dir, 0755, err);
	if (r == 0)
		r = mkdir_p(b->dhcp_dir, 0755, err);
	if (r == 0)
		r = mkdir_p(b->names_dir, 0755, err);
	return r;
}

/* Of machines that run, in the domain as it is now; those that start bring theirs along. */
static int write_names(struct bridge_net *b, struct err *err)
{
	struct machine *m;
	int r = 0;

	if (b->v.v4.net.len == 0)
		return 0;
	list_for_each_entry (m, &b->d->machines, entry) {
		for (unsigned i = 0; r == 0 && machine_active(m) && i < m->nnics; i++) {
			const struct nic *nic = &m->nics[i];
			char *path = path_join(b->dhcp_dir, nic->tap);

			if (path != NULL && str_eq(nic->network, b->name) &&
				ledger_find(b->d->ledger, m->owner, OBJECT_RESERVATION, path) !=
					NULL)
				r = bridge_reserve(b, m->owner, nic, m->name, err);
			free(path);
		}
	}
	return r;
}

static int dnsmasq_argv(struct bridge_net *b, struct strv *argv, struct err *err)
{
	const struct network_config *n = b->cfg;
	char *program = find_program("dnsmasq");
	struct network_dns dns = { .spec = { .host_dns = n->kind != NETWORK_ISOLATED,
					   .names_dir = b->names_dir,
					   .net = b->v.v4.net } };
	struct dnsmasq_bridge_spec spec = { .binary = program,
		.bridge = b->bridge,
		.net = b->v.v4.net,
		.gateway = b->v.v4.gateway,
		.router = n->kind != NETWORK_ISOLATED,
		.dns = network_without_dns(n) ? NULL : &dns.spec,
		.mtu = (unsigned)n->mtu,
		.dhcp_dir = b->dhcp_dir,
		.lease_file = b->lease_file };
	struct network6_told told = { 0 };
	int r = 0;

	if (program == NULL)
		return err_set(
			err, -ENOENT, "dnsmasq is not installed (Debian package dnsmasq-base)");
	r = network_dns_read(&dns, n, err);
	if (r == 0 && mirrors_records(b, &dns.records, &dns.spec.nrecords) < 0)
		r = err_nomem(err);
	dns.spec.records = dns.records;
	if (r == 0 && b->v.v6.net.len != 0 && !b->v.v6.kea) {
		spec.v6 = network6_tell(&told, n, b->bridge, &b->v.v6.net, &b->v.v6.gateway, err);
		r = spec.v6 == NULL ? err->code : 0;
	}
	if (r == 0)
		r = dnsmasq_bridge_args(&spec, argv, err);
	if (r == 0)
		r = network_egress_args(b, argv, err);
	network6_told_finish(&told);
	network_dns_finish(&dns);
	free(program);
	return r;
}

/* What the running one was started with is in its folder. */
static bool same_command(struct bridge_net *b, const struct strv *argv, struct buf *text)
{
	char *path = path_join(b->dir, "command");
	struct buf old = { 0 };
	bool same;

	for (size_t i = 0; i < argv->n; i++)
		buf_printf(text, "%s\n", argv->v[i]);
	same = path != NULL && file_read(path, 65536, &old, NULL) == 0 &&
	       strcmp(buf_str(&old), buf_str(text)) == 0;
	buf_finish(&old);
	free(path);
	return same;
}

static int save_command(struct bridge_net *b, const struct buf *text, struct err *err)
{
	char *path = path_join(b->dir, "command");
	int r = path == NULL || text->bad
			? err_nomem(err)
			: file_write_atomic(path, text->data, text->len, 0600, false, err);

	free(path);
	return r;
}

static int run_dnsmasq(struct bridge_net *b, struct strv *argv, bool same, struct err *err)
{
	struct service_spec spec = {
		.kind = "network", .name = b->name, .owner = b->owner, .log_path = b->log_path
	};
	bool adopted = false;
	char who[256];
	int r = 0;

	if (b->dnsmasq == NULL) {
		struct strv copy = { 0 };

		r = service_create(&b->dnsmasq, b->d, &spec, NULL, err);
		if (r == 0)
			r = strv_copy(&copy, argv) < 0 ? err_nomem(err) : 0;
		if (r == 0)
			adopted = service_adopt(b->dnsmasq, &copy, err) == 0;
		strv_finish(&copy);
	}
	if (r < 0 || service_up(b->dnsmasq)) {
		if (r == 0 && (!same || (b->changed && !adopted))) {
			service_set_command(b->dnsmasq, argv);
			service_restart(b->dnsmasq);
		}
		return r;
	}
	if (!network_without_dns(b->cfg) && dns_port_taken(b->v.v4.gateway, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"UDP port 53 is taken by %s: stop it, keep it from binding all links, or say `dns = none`",
			who);
	return service_start(b->dnsmasq, argv, err);
}

static int start_dnsmasq(struct bridge_net *b, struct err *err)
{
	struct strv argv = { 0 };
	struct buf text = { 0 };
	bool same;
	int r;

	if (b->v.v4.net.len == 0)
		return 0;
	r = dnsmasq_argv(b, &argv, err);
	if (r == 0) {
		same = same_command(b, &argv, &text);
		r = same ? 0 : save_command(b, &text, err);
		if (r == 0)
			r = run_dnsmasq(b, &argv, same, err);
	}
	if (r == 0) {
		b->changed = false;
		bridge_watch_leases(b);
	}
	strv_finish(&argv);
	buf_finish(&text);
	return r;
}

/* ---- the firewall ---- */

static json_t *opened(const struct network_config *n, bool *ping)
{
	json_t *array = json_array();
	struct port_spec port;
	char text[32];

	*ping = false;
	for (size_t i = 0; i < n->open.n; i++) {
		if (port_spec_parse(n->open.v[i], &port, NULL) < 0)
			continue;
		*ping = *ping || port.proto == 0;
		snprintf(text, sizeof(text), "%s . %u", proto_name(port.proto), port.port);
		if (port.proto != 0)
			json_array_append_new(array, json_string(text));
	}
	return array;
}

json_t *network_link_elements(
	const struct network_config *n, const char *bridge, const json_t *mirrors)
{
	struct firewall_link link = { .name = bridge,
		.peers = n->peers,
		.out = n->kind != NETWORK_ISOLATED,
		.in = n->kind == NETWORK_ROUTED || n->kind == NETWORK_BRIDGE,
		.nat = n->kind == NETWORK_NAT,
		.dhcp = true,
		.dns = !network_without_dns(n) };
	json_t *open = opened(n, &link.ping), *data;

	link.open = open;
	link.mirrors = mirrors;
	data = firewall_link_elements(&link);
	json_decref(open);
	return data;
}

/* What no machine says of itself, wherever it may have which address it likes. */
static void put_routers(const struct bridge_net *b, const json_t *mirrors, json_t *elements)
{
	char address[16];
	const json_t *e;
	size_t i;

	if (b->v.v4.net.len == 0)
		return;
	ip4_format(b->v.v4.gateway, address);
	firewall_put(elements, "routers", "%s", address);
	json_array_foreach (mirrors, i, e) {
		const char *text = json_string_value(e);

		firewall_put(elements, "routers", "%.*s", (int)strcspn(text, " "), text);
	}
}

static int open_firewall(struct bridge_net *b, struct err *err)
{
	json_t *data, *mirrors = mirrors_ports(b);
	int r;

	/* A bridge of the host's own is the host's affair, and so is one without an address of ours that
	 * has ports: who comes by it is not of our machines alone. */
	data = b->v.v4.net.len != 0 && !b->foreign
		       ? network_link_elements(b->cfg, b->bridge, mirrors)
		       : json_object();
	if (b->v.v4.net.len == 0 && !b->foreign && b->cfg->port.n == 0)
		firewall_put(data, "links", "%s", b->bridge);
	put_routers(b, mirrors, data);
	json_decref(mirrors);
	network6_link_elements(b, data);
	r = ledger_add(b->d->ledger, b->owner, OBJECT_NFT_ELEMENTS, b->bridge, data, err);
	if (r == 0)
		r = network_egress_record(b, err);
	if (r < 0)
		return r;
	b->d->host_ready = true;
	/* Whatever was there of it before, and of an earlier daemon's tables, in one transaction. */
	b->rebuilding = true;
	host_net_rebuild(b->d, bridge_made, b);
	return 1;
}

/* In this order; the last one completes later. */
const struct bridge_step bridge_steps[] = {
	{ "check", check },
	{ "host", ready_host },
	{ "record", record },
	{ "bridge", make_bridge },
	{ "ports", add_ports },
	{ "address6", network6_set_address },
	{ "address", set_address },
	{ "mirror-addresses", mirrors_addresses },
	{ "folders", make_folders },
	{ "names", write_names },
	{ "mirrors", mirrors_serve },
	{ "servers6", network6_serve },
	{ "dnsmasq", start_dnsmasq },
	{ "firewall", open_firewall },
};
const size_t bridge_nsteps = ARRAY_LEN(bridge_steps);

static const char *network_point(size_t i)
{
	return i < bridge_nsteps ? bridge_steps[i].name : NULL;
}
const struct fault_table network_faults = { "network", network_point, FAULT_ALL };

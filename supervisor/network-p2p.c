/* Nics of networks of kind p2p: a /30 and a dnsmasq for each (supervisor/network-private.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/dnsmasq.h"
#include "netcfg/firewall-set.h"
#include "netcfg/sysctl.h"
#include "supervisor/faults.h"
#include "supervisor/host-net.h"
#include "supervisor/network-p2p-names.h"
#include "supervisor/network-private.h"
#include "supervisor/network-shape.h"
#include "supervisor/network-values.h"
#include "supervisor/network6.h"
#include "supervisor/service.h"

/* ---- the subnet ---- */

static int used_subnets(struct drover *d, const struct nic *but, struct ip4_prefix **out, size_t *n)
{
	struct machine *m;
	size_t count = 0;

	list_for_each_entry (m, &d->machines, entry)
		count += m->nnics;
	*out = calloc(count + 1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	*n = 0;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (&m->nics[i] != but && m->nics[i].net.len != 0)
				(*out)[(*n)++] = m->nics[i].net;
		}
	}
	return 0;
}

static bool inside(struct ip4_prefix range, struct ip4_prefix net)
{
	return net.len == 30 && net.len >= range.len && ip4_overlap(range, net);
}

static int choose_subnet(struct attach *a, struct nic *nic, struct err *err)
{
	const struct network_config *net = network_of_nic(a->m, nic);
	struct machine *m = a->m;
	const char *run_id = m->run_box->config->drover->run_id;
	struct ip4_prefix range, *used = NULL, *host = NULL;
	size_t nused = 0, nhost = 0;
	char who[256], key[NAME_LEN_MAX + 16];
	int r = ip4_prefix_parse(net->cidr, false, &range, err);

	nic->bridge[0] = '\0';
	nic->address = 0;

	if (r == 0)
		r = host_prefixes(m->d->nl, network_is_our_tap, NULL, &host, &nhost, err);
	if (r < 0)
		return r;
	/* What it was given before it keeps, unless the host has taken it meanwhile. */
	if (inside(range, nic->net) &&
		!host_overlap(m->d->nl, nic->net, network_is_our_tap, NULL, who, sizeof(who))) {
		free(host);
		return 0;
	}
	r = used_subnets(m->d, nic, &used, &nused);
	if (r < 0)
		r = err_nomem(err);
	/* A second nic on the same network must start from another place. */
	snprintf(key, sizeof(key), "%s%s%u", m->name, nic == m->nics ? "" : "/",
		(unsigned)(nic - m->nics));
	if (nic == m->nics)
		snprintf(key, sizeof(key), "%s", m->name);
	if (r == 0)
		r = alloc_p2p(range, run_id, key, used, nused, host, nhost, &nic->net, NULL, err);
	if (r == -EADDRNOTAVAIL &&
		host_overlap(m->d->nl, range, network_is_our_tap, NULL, who, sizeof(who)))
		r = err_set(
			err, r, "no /30 of %s is free: %s; choose another cidr", net->cidr, who);
	free(used);
	free(host);
	return r;
}

static int choose_subnets(struct attach *a, struct nic *nic, struct err *err)
{
	int r = choose_subnet(a, nic, err);

	if (r == 0)
		network6_p2p_choose(network_of_nic(a->m, nic), nic);
	return r;
}

/* ---- the link ---- */

static struct ip4_prefix host_address(const struct nic *nic)
{
	return (struct ip4_prefix){ nic->net.addr + 1, 30 };
}

static int set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	struct drover *d = m->d;
	char key[64], old[16];
	struct err ignored;
	bool changed;
	int r;

	/* The guest's answers come by other ways than they went: this link's own setting, which goes
	 * with it. The kernel takes the larger of this and all's. */
	snprintf(key, sizeof(key), "net/ipv4/conf/%s/rp_filter", nic->tap);
	r = sysctl_change(key, "0", old, sizeof(old), &changed, err);
	/* Where no IPv6 is ours the host has none: a guest could make itself its router. */
	if (r == 0 && nic->net6.len == 0) {
		snprintf(key, sizeof(key), "net/ipv6/conf/%s/disable_ipv6", nic->tap);
		sysctl_change(key, "1", old, sizeof(old), &changed, &ignored);
	}
	if (r == 0)
		r = link_set_group(d->nl, nic->tap,
			network_group(drover_config(d)->drover->run_id, nic->network), err);
	if (r == 0)
		r = link_add_address(d->nl, nic->tap, host_address(nic), err);
	if (r == 0)
		r = network6_p2p_link(m, nic, err);
	if (r == 0)
		r = network_shape_set(m, nic, err);
	if (r == 0)
		r = link_up(d->nl, nic->tap, err);
	return r;
}

static int set_address(struct attach *a, struct nic *nic, struct err *err)
{
	return set_link(a->m, nic, err);
}

/* ---- dnsmasq ---- */

static int dnsmasq_argv(struct machine *m, struct nic *nic, struct strv *argv, struct err *err)
{
	const struct network_config *net = network_of_nic(m, nic);
	static const char *const none[] = { NULL };
	bool offers = net != NULL && net->dns.n > 0 && !network_without_dns(net);
	struct network_dns dns = { 0 };
	char *program = find_program("dnsmasq"), *dir = NULL;
	struct dnsmasq_p2p_spec spec = { .binary = program,
		.tap = nic->tap,
		.mac = nic->mac,
		.host_name = m->name,
		.net = nic->net,
		.dns = offers ? (const char *const *)net->dns.v : none };
	struct in6_addr host = network6_p2p_host(&nic->net6);
	struct network6_told told = { 0 };
	int r = 0;

	if (program == NULL)
		return err_set(
			err, -ENOENT, "dnsmasq is not installed (Debian package dnsmasq-base)");
	if (net != NULL && net->v6.cidr != NULL && nic->net6.len != 0) {
		spec.v6 = network6_tell(&told, net, nic->tap, &nic->net6, &host, err);
		spec.address6 = nic->address6;
		r = spec.v6 == NULL ? err->code : 0;
	}
	if (r == 0 && net != NULL && network_p2p_serves(net)) {
		spec.own_dns = &dns.spec;
		r = p2p_names_read(m->d, net, nic, &dns, &dir, err);
	}
	if (r == 0)
		r = dnsmasq_p2p_args(&spec, argv, err);
	network6_told_finish(&told);
	network_dns_finish(&dns);
	free(dir);
	free(program);
	return r;
}

static int dnsmasq_create(struct machine *m, struct nic *nic, struct err *err)
{
	char name[64];
	char *log = str_printf("%s/dnsmasq.log", m->log_dir);
	struct service_spec spec = {
		.kind = "network", .name = name, .owner = m->owner, .log_path = log
	};
	int r;

	snprintf(name, sizeof(name), "dnsmasq-%s", nic->tap);
	r = log == NULL ? err_nomem(err) : service_create(&nic->dnsmasq, m->d, &spec, NULL, err);
	free(log);
	return r;
}

static int start_dnsmasq(struct attach *a, struct nic *nic, struct err *err)
{
	struct machine *m = a->m;
	const struct network_config *net = network_of_nic(m, nic);
	struct strv argv = { 0 };
	char who[256];
	int r;

	if (dhcp_port_taken(NULL, 0, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"UDP port 67 is taken by %s: guests could get no address; stop it or keep it from binding all links",
			who);
	if (net != NULL && network_p2p_serves(net) &&
		dns_port_taken(nic->net.addr + 1, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"UDP port 53 is taken by %s: stop it or keep it from binding all links, or take domain, record and dns_log from the network",
			who);
	r = net != NULL ? p2p_names_write(m, nic, net, err) : 0;
	if (r == 0)
		r = dnsmasq_create(m, nic, err);
	if (r == 0)
		r = dnsmasq_argv(m, nic, &argv, err);
	if (r == 0)
		r = service_start(nic->dnsmasq, &argv, err);
	strv_finish(&argv);
	return r;
}

/* ---- attaching ---- */

/* Its addresses, and whom of its network it reaches. */
static int open_guest(struct machine *m, const struct nic *nic, struct buf *text, struct err *err)
{
	const char *run_id = drover_config(m->d)->drover->run_id;
	unsigned peers = network_of_nic(m, nic)->peers ? network_group(run_id, nic->network) : 0;
	json_t *data = firewall_p2p_elements(nic->tap, nic->net.addr + 2, peers);

	network6_p2p_elements(network_of_nic(m, nic), nic, data);
	firewall_elements_add_text(text, data);
	return ledger_add(m->d->ledger, m->owner, OBJECT_NFT_ELEMENTS, nic->tap, data, err);
}

static int open_firewall(struct attach *a, struct nic *nic, struct err *err)
{
	bool nat = network_of_nic(a->m, nic)->nat;
	struct machine *m = a->m;
	json_t *data = json_object();
	struct buf text = { 0 };
	char net[19];
	int r;

	ip4_prefix_format(nic->net, net);
	json_put_str(data, "net", net);
	json_put_bool(data, "nat", nat);
	r = ledger_add(m->d->ledger, m->owner, OBJECT_NFT_TAP, nic->tap, data, err);
	firewall_tap_add_text(&text, nic->tap, nic->net, nat);
	if (r == 0)
		r = open_guest(m, nic, &text, err);
	if (r == 0 && (text.bad || attach_firewall(a, text.data) < 0))
		r = err_nomem(err);
	buf_finish(&text);
	return r < 0 ? r : 1;
}

static int ready_host(struct attach *a, struct nic *nic, struct err *err)
{
	const struct network_config *net = network_of_nic(a->m, nic);
	int r = host_net_acquire(a->m->d, net->rp_filter == RP_FILTER_ALL, err);

	return r == 0 && nic->net6.len != 0 ? network6_forward(a->m->d, err) : r;
}

static const struct attach_step steps[] = {
	{ "subnet", choose_subnets },
	{ "save", attach_save },
	{ "host", ready_host },
	{ "record-tap", attach_record_tap },
	{ "tap", attach_make_tap },
	{ "address", set_address },
	{ "dnsmasq", start_dnsmasq },
	{ "firewall", open_firewall },
};

static const char *attach_point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table attach_faults = { "attach", attach_point, FAULT_ALL };

/* A teardown that could not end the dnsmasq of the last run has left it to us. */
static void old_dnsmasq_gone(void *arg)
{
	struct attach *a = arg;
	struct nic *nic = &a->m->nics[a->i];

	service_destroy(nic->dnsmasq);
	nic->dnsmasq = NULL;
	attach_resume(a, NULL);
}

static bool await_old_dnsmasq(struct attach *a, struct nic *nic)
{
	if (nic->dnsmasq == NULL)
		return false;
	service_stop(nic->dnsmasq, old_dnsmasq_gone, a);
	return true;
}

/* ---- a daemon later ---- */

static int adopt_nic(struct machine *m, struct nic *nic, struct err *err)
{
	struct strv argv = { 0 };
	int r;

	/* Of an attempt before; a process that it watches lives on. */
	service_destroy(nic->dnsmasq);
	nic->dnsmasq = NULL;
	r = dnsmasq_create(m, nic, err);
	if (r == 0)
		r = dnsmasq_argv(m, nic, &argv, err);
	if (r == 0)
		r = service_adopt(nic->dnsmasq, &argv, err);
	/* It died while nobody looked. */
	if (r == -ESRCH) {
		r = dnsmasq_argv(m, nic, &argv, err);
		if (r == 0)
			r = service_start(nic->dnsmasq, &argv, err);
	}
	strv_finish(&argv);
	return r;
}

static bool guest_address(const struct nic *nic, uint32_t *out)
{
	if (nic->net.len == 0)
		return false;
	*out = nic->net.addr + 2;
	return true;
}

static bool service_down(const struct drover *d, const struct nic *nic)
{
	return nic->net.len != 0 && (nic->dnsmasq == NULL || !service_up(nic->dnsmasq));
}

static bool differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *out)
{
	struct ip4_prefix address = host_address(nic);
	char text[19];

	if (survey_has_address(s, tap->index, address))
		return network6_p2p_differs(nic, tap->index, out) ||
		       network_shape_differs(m, nic, out);
	ip4_prefix_format(address, text);
	buf_printf(out, "its address %s is missing", text);
	return true;
}

const struct network_ops network_p2p = {
	.table = "attach",
	.steps = steps,
	.nsteps = ARRAY_LEN(steps),
	.wait = await_old_dnsmasq,
	.adopt = adopt_nic,
	.set_link = set_link,
	.guest_address = guest_address,
	.service_down = service_down,
	.differs = differs,
};

#include "supervisor/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/dnsmasq.h"
#include "netcfg/sysctl.h"
#include "supervisor/host-net.h"
#include "supervisor/network-tap.h"
#include "supervisor/service.h"
#include "supervisor/faults.h"

/* One nic being attached. */
struct attach {
	struct machine *m;
	unsigned i;
	network_done_fn *done;
	void *arg;
	unsigned step;
	struct deadline soon; /* done never comes from within the call */
	struct err err;
};

const struct network_config *network_of_nic(const struct machine *m, const struct nic *nic)
{
	const struct network_config *net = m->run_box != NULL ? config_network(m->run_box->config,
									nic->network)
							      : NULL;

	if (net == NULL && nic->stage != NIC_CONFIGURED)
		net = config_network(drover_config(m->d), nic->network);
	return net;
}

static void attach_free(void *arg)
{
	free(arg);
}

static void attach_finish(struct attach *a, const struct err *err)
{
	struct err mine;

	if (err != NULL) {
		mine = *err;
		err_wrap(&mine, "%s", a->m->nics[a->i].network);
		network_close_tap(&a->m->nics[a->i]);
	}
	a->done(a->arg, err != NULL ? &mine : NULL);
	deadline_close(&a->soon, attach_free);
}

static void attach_failed(void *arg)
{
	struct attach *a = arg;

	attach_finish(a, &a->err);
}

/* ---- the subnet ---- */

static bool is_our_tap(void *arg, const char *ifname)
{
	return str_starts(ifname, "tap") && strlen(ifname) == 15;
}

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

	if (r == 0)
		r = host_prefixes(m->d->nl, is_our_tap, NULL, &host, &nhost, err);
	if (r < 0)
		return r;
	/* What it was given before it keeps, unless the host has taken it meanwhile. */
	if (inside(range, nic->net) &&
		!host_overlap(m->d->nl, nic->net, is_our_tap, NULL, who, sizeof(who))) {
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
		host_overlap(m->d->nl, range, is_our_tap, NULL, who, sizeof(who)))
		r = err_set(
			err, r, "no /30 of %s is free: %s; choose another cidr", net->cidr, who);
	free(used);
	free(host);
	return r;
}

/* ---- TAP, address, settings ---- */

char *network_alias(struct drover *d, const char *owner)
{
	return str_printf("drover %s %s", d->run_dir, owner);
}

static int record_tap(struct attach *a, struct nic *nic, struct err *err)
{
	return ledger_add(a->m->d->ledger, a->m->owner, OBJECT_TAP, nic->tap, NULL, err);
}

/* From the hash that the name is: a guest that knows the host's end knows it again when it was made
 * anew. fe: no guest of ours has such a MAC, and a bridge never takes it for its own. */
static void host_mac(const struct nic *nic, char out[18])
{
	const char *h = nic->tap + strlen("tap") + 2;

	snprintf(out, 18, "fe:%.2s:%.2s:%.2s:%.2s:%.2s", h, h + 2, h + 4, h + 6, h + 8);
}

int network_mark_tap(struct machine *m, struct nic *nic, struct err *err)
{
	char *alias = network_alias(m->d, m->owner), mac[18];
	int r;

	if (alias == NULL)
		return err_nomem(err);
	/* Whose it is can be seen even if the ledger is lost. */
	r = link_set_alias(m->d->nl, nic->tap, alias, err);
	free(alias);
	if (r == 0 && is_our_tap(NULL, nic->tap)) {
		host_mac(nic, mac);
		r = link_set_mac(m->d->nl, nic->tap, mac, err);
	}
	if (r == 0)
		r = link_index(m->d->nl, nic->tap, &nic->ifindex, err);
	nic->lost = nic->lost_told = false;
	return r;
}

static int make_tap(struct attach *a, struct nic *nic, struct err *err)
{
	int r = tap_open(nic->tap, geteuid(), &nic->tap_fd, err);

	return r == 0 ? network_mark_tap(a->m, nic, err) : r;
}

struct ip4_prefix network_host_address(const struct nic *nic)
{
	return (struct ip4_prefix){ nic->net.addr + 1, 30 };
}

int network_set_address(struct drover *d, const struct nic *nic, struct err *err)
{
	char key[64], old[16];
	bool changed;
	int r;

	/* The guest's answers come by other ways than they went: this link's own setting, which goes
	 * with it. The kernel takes the larger of this and all's. */
	snprintf(key, sizeof(key), "net/ipv4/conf/%s/rp_filter", nic->tap);
	r = sysctl_change(key, "0", old, sizeof(old), &changed, err);
	if (r == 0)
		r = link_add_address(d->nl, nic->tap, network_host_address(nic), err);
	if (r == 0)
		r = link_up(d->nl, nic->tap, err);
	return r;
}

static int set_address(struct attach *a, struct nic *nic, struct err *err)
{
	return network_set_address(a->m->d, nic, err);
}

/* ---- dnsmasq ---- */

static int dnsmasq_argv(struct machine *m, struct nic *nic, struct strv *argv, struct err *err)
{
	const struct network_config *net = network_of_nic(m, nic);
	static const char *const none[] = { NULL };
	char *program = find_program("dnsmasq");
	struct dnsmasq_p2p_spec spec = { .binary = program,
		.tap = nic->tap,
		.mac = nic->mac,
		.host_name = m->name,
		.net = nic->net,
		.dns = net != NULL && net->dns.n > 0 ? (const char *const *)net->dns.v : none };
	int r;

	if (program == NULL)
		return err_set(
			err, -ENOENT, "dnsmasq is not installed (Debian package dnsmasq-base)");
	r = dnsmasq_p2p_args(&spec, argv, err);
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
	struct strv argv = { 0 };
	char who[256];
	int r;

	if (dhcp_port_taken(NULL, 0, who, sizeof(who)))
		return err_set(err, -EADDRINUSE,
			"UDP port 67 is taken by %s: guests could get no address; stop it or keep it from binding all links",
			who);
	r = dnsmasq_create(m, nic, err);
	if (r == 0)
		r = dnsmasq_argv(m, nic, &argv, err);
	if (r == 0)
		r = service_start(nic->dnsmasq, &argv, err);
	strv_finish(&argv);
	return r;
}

/* ---- attaching ---- */

static void firewall_rebuilt(void *arg, const struct err *err)
{
	attach_finish(arg, err);
}

static void firewall_open(void *arg, const struct err *err)
{
	struct attach *a = arg;

	/* Somebody flushed the ruleset: the table with all its elements, ours among them, again. */
	if (err != NULL && err->code == -ENOENT && !a->m->d->leaving) {
		log_warn("%s; making it again", err->msg);
		host_net_rebuild(a->m->d, firewall_rebuilt, a);
		return;
	}
	attach_finish(a, err);
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
	if (r == 0 && (text.bad || firewall_apply(m->d->firewall, text.data, firewall_open, a) < 0))
		r = err_nomem(err);
	buf_finish(&text);
	return r;
}

static int save_subnet(struct attach *a, struct nic *nic, struct err *err)
{
	return machine_save(a->m, err);
}

static int ready_host(struct attach *a, struct nic *nic, struct err *err)
{
	const struct network_config *net = network_of_nic(a->m, nic);

	return host_net_acquire(a->m->d, net->rp_filter == RP_FILTER_ALL, err);
}

/* In this order; the last one completes later. */
static const struct {
	const char *name;
	int (*fn)(struct attach *a, struct nic *nic, struct err *err);
} attach_steps[] = {
	{ "subnet", choose_subnet },
	{ "save", save_subnet },
	{ "host", ready_host },
	{ "record-tap", record_tap },
	{ "tap", make_tap },
	{ "address", set_address },
	{ "dnsmasq", start_dnsmasq },
	{ "firewall", open_firewall },
};

static const char *attach_point(size_t i)
{
	return i < ARRAY_LEN(attach_steps) ? attach_steps[i].name : NULL;
}
const struct fault_table attach_faults = { "attach", attach_point, FAULT_ALL };

#define STALL_MS 10

static void attach_stalled(void *arg);

static void attach_run(struct attach *a)
{
	struct nic *nic = &a->m->nics[a->i];
	int r = 0;

	while (r == 0 && a->step < ARRAY_LEN(attach_steps)) {
		const char *name = attach_steps[a->step].name;

		/* A slow step: what cancels the start does not end it. */
		if (fault_stalls("attach", name)) {
			a->soon.fn = attach_stalled;
			deadline_set(&a->soon, STALL_MS);
			return;
		}
		r = fault_at("attach", name, &a->err);
		if (r == 0)
			r = attach_steps[a->step++].fn(a, nic, &a->err);
	}
	if (r < 0)
		deadline_set(&a->soon, 0);
}

static void attach_stalled(void *arg)
{
	struct attach *a = arg;

	if (!a->m->cancelled && a->m->closing == 0) {
		deadline_set(&a->soon, STALL_MS);
		return;
	}
	a->soon.fn = attach_failed;
	attach_run(a);
}

/* A teardown that could not end the dnsmasq of the last run has left it to us. */
static void old_dnsmasq_gone(void *arg)
{
	struct attach *a = arg;
	struct nic *nic = &a->m->nics[a->i];

	service_destroy(nic->dnsmasq);
	nic->dnsmasq = NULL;
	attach_run(a);
}

void network_attach(struct machine *m, unsigned i, network_done_fn *done, void *arg)
{
	struct attach *a = calloc(1, sizeof(*a));
	struct err err;

	if (a == NULL) {
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	*a = (struct attach){ .m = m, .i = i, .done = done, .arg = arg };
	deadline_init(&a->soon, m->d->loop, attach_failed, a);
	if (network_of_nic(m, &m->nics[i]) != NULL) {
		if (m->nics[i].dnsmasq != NULL)
			service_stop(m->nics[i].dnsmasq, old_dnsmasq_gone, a);
		else
			attach_run(a);
		return;
	}
	err_set(&a->err, -ENOENT, "the network is not configured");
	deadline_set(&a->soon, 0);
}

void network_close_tap(struct nic *nic)
{
	if (nic->tap_fd >= 0)
		close(nic->tap_fd);
	nic->tap_fd = -1;
}

int network_adopt_nic(struct machine *m, struct nic *nic, struct err *err)
{
	struct strv argv = { 0 };
	int r = fault_at("adopt", "network", err);

	/* Of an attempt before; a process that it watches lives on. */
	service_destroy(nic->dnsmasq);
	nic->dnsmasq = NULL;
	if (r == 0)
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

void network_adopt(struct machine *m)
{
	struct err err;

	for (unsigned i = 0; i < m->nnics; i++) {
		struct nic *nic = &m->nics[i];

		/* Of one that was half there machine_nics_adopt() decides. */
		if (nic->net.len == 0 || nic->stage == NIC_ADDING || nic->stage == NIC_REMOVING)
			continue;
		m->d->host_ready = true;
		if (network_adopt_nic(m, nic, &err) < 0)
			log_msg(LOG_LVL_ERROR, m->name, "%s (the reconciler tries it again)",
				err.msg);
	}
}

void network_release(struct machine *m)
{
	for (unsigned i = 0; i < m->nnics; i++) {
		service_destroy(m->nics[i].dnsmasq);
		m->nics[i].dnsmasq = NULL;
		network_close_tap(&m->nics[i]);
		network_tap_forget(&m->nics[i]);
	}
}

/* ---- what blocks guests ---- */

static void foreign_checked(void *arg, const char *warning, const struct err *err)
{
	if (err != NULL)
		log_warn("the host's firewall cannot be looked at: %s (ignoring)", err->msg);
	else if (warning != NULL)
		log_warn("%s", warning);
}

void network_check_foreign(struct drover *d)
{
	struct err err;

	if (firewall_check_foreign(d->loop, foreign_checked, d, &err) < 0)
		log_warn("the host's firewall cannot be looked at: %s (ignoring)", err.msg);
}

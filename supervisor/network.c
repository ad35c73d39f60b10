#include "supervisor/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "supervisor/host-net.h"
#include "supervisor/network-private.h"
#include "supervisor/network-tap.h"
#include "supervisor/service.h"
#include "supervisor/faults.h"

const struct network_config *network_of_nic(const struct machine *m, const struct nic *nic)
{
	const struct network_config *net = m->run_box != NULL ? config_network(m->run_box->config,
									nic->network)
							      : NULL;

	if (net == NULL && nic->stage != NIC_CONFIGURED)
		net = config_network(drover_config(m->d), nic->network);
	return net;
}

unsigned network_mtu(const struct machine *m, const struct nic *nic)
{
	const struct network_config *net = network_of_nic(m, nic);

	return net != NULL ? (unsigned)net->mtu : 0;
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

/* ---- what is the same for every kind ---- */

bool network_is_our_tap(void *arg, const char *ifname)
{
	return str_starts(ifname, "tap") && strlen(ifname) == 15;
}

char *network_alias(struct drover *d, const char *owner)
{
	return str_printf("drover %s %s", d->run_dir, owner);
}

int attach_record_tap(struct attach *a, struct nic *nic, struct err *err)
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
	if (r == 0 && network_is_our_tap(NULL, nic->tap)) {
		host_mac(nic, mac);
		r = link_set_mac(m->d->nl, nic->tap, mac, err);
	}
	if (r == 0)
		r = link_index(m->d->nl, nic->tap, &nic->ifindex, err);
	nic->lost = nic->lost_told = false;
	return r;
}

int attach_make_tap(struct attach *a, struct nic *nic, struct err *err)
{
	int r = tap_open(nic->tap, geteuid(), &nic->tap_fd, err);

	return r == 0 ? network_mark_tap(a->m, nic, err) : r;
}

int attach_save(struct attach *a, struct nic *nic, struct err *err)
{
	return machine_save(a->m, err);
}

/* ---- kinds ---- */

static const struct network_ops *ops_of_config(const struct network_config *net)
{
	return net->kind == NETWORK_P2P       ? &network_p2p
	       : net->kind == NETWORK_USER    ? &network_user
	       : net->kind == NETWORK_MACVTAP ? &network_macvtap
					      : &network_bridged;
}

/* Of one that is attached: what it was made as, whatever the configuration says by now. */
static const struct network_ops *ops_of(const struct nic *nic)
{
	if (nic->user)
		return &network_user;
	if (nic->macvtap)
		return &network_macvtap;
	if (nic->bridge[0] != '\0')
		return &network_bridged;
	return nic->net.len != 0 ? &network_p2p : NULL;
}

bool network_attached(const struct nic *nic)
{
	return ops_of(nic) != NULL;
}

int network_adopt_nic(struct machine *m, struct nic *nic, struct err *err)
{
	int r = fault_at("adopt", "network", err);

	return r == 0 ? ops_of(nic)->adopt(m, nic, err) : r;
}

int network_set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	return ops_of(nic)->set_link(m, nic, err);
}

bool network_link_differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *text)
{
	return ops_of(nic)->differs(m, nic, s, tap, text);
}

bool network_guest_address(const struct nic *nic, uint32_t *out)
{
	const struct network_ops *ops = ops_of(nic);

	return ops != NULL && ops->guest_address(nic, out);
}

bool network_service_down(const struct drover *d, const struct nic *nic)
{
	const struct network_ops *ops = ops_of(nic);

	return ops != NULL && ops->service_down(d, nic);
}

/* ---- attaching ---- */

static void firewall_rebuilt(void *arg, const struct err *err)
{
	attach_resume(arg, err);
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
	attach_resume(a, err);
}

int attach_firewall(struct attach *a, const char *text)
{
	return firewall_apply(a->m->d->firewall, text, firewall_open, a);
}

#define STALL_MS 10

static void attach_stalled(void *arg);

static void attach_run(struct attach *a)
{
	struct nic *nic = &a->m->nics[a->i];
	int r = 0;

	while (r == 0 && a->step < a->ops->nsteps) {
		const char *name = a->ops->steps[a->step].name;

		/* A slow step: what cancels the start does not end it. */
		if (fault_stalls(a->ops->table, name)) {
			a->soon.fn = attach_stalled;
			deadline_set(&a->soon, STALL_MS);
			return;
		}
		r = fault_at(a->ops->table, name, &a->err);
		if (r == 0)
			r = a->ops->steps[a->step++].fn(a, nic, &a->err);
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

void attach_resume(struct attach *a, const struct err *err)
{
	if (err != NULL || a->step == a->ops->nsteps)
		attach_finish(a, err);
	else
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
		a->ops = ops_of_config(network_of_nic(m, &m->nics[i]));
		if (a->ops->wait == NULL || !a->ops->wait(a, &m->nics[i]))
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

void network_adopt(struct machine *m)
{
	struct err err;

	for (unsigned i = 0; i < m->nnics; i++) {
		struct nic *nic = &m->nics[i];

		/* Of one that was half there machine_nics_adopt() decides. */
		if (!network_attached(nic) || nic->stage == NIC_ADDING ||
			nic->stage == NIC_REMOVING || nic->user)
			continue;
		m->d->host_ready = m->d->host_ready || !nic->macvtap;
		m->d->host_forwards = m->d->host_forwards || nic->net.len != 0;
		m->d->host_forwards6 = m->d->host_forwards6 || nic->net6.len != 0;
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

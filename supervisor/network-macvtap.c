#include "supervisor/network-macvtap.h"

#include <errno.h>
#include <stdlib.h>

#include "netcfg/bridge.h"
#include "netcfg/macvtap.h"
#include "supervisor/faults.h"
#include "supervisor/network-private.h"
#include "supervisor/network-seen.h"

static int check_port(struct drover *d, const struct network_config *n, struct err *err)
{
	const char *port = n->port.v[0];
	struct bridge_info info;
	int r = bridge_get(d->nl, port, &info);

	if (r < 0)
		return err_errno(err, r, "port %s", port);
	if (info.master != 0)
		return err_set(err, -EBUSY,
			"port %s cannot be shared: it is a port of a bridge or of a bond", port);
	if (!info.up)
		return err_set(err, -ENETDOWN,
			"port %s is down, and with it all that share it: ip link set %s up", port,
			port);
	if (n->mtu > info.mtu)
		return err_set(err, -EINVAL, "mtu %u is more than the %u of port %s",
			(unsigned)n->mtu, info.mtu, port);
	return 0;
}

bool macvtap_problem(struct drover *d, const struct network_config *n, struct buf *text)
{
	struct err err;

	if (check_port(d, n, &err) == 0)
		return false;
	buf_adds(text, err.msg);
	return true;
}

/* ---- attaching ---- */

static int choose(struct attach *a, struct nic *nic, struct err *err)
{
	int r = check_port(a->m->d, network_of_nic(a->m, nic), err);

	if (r < 0)
		return r;
	nic->bridge[0] = '\0';
	nic->net = (struct ip4_prefix){ 0 };
	nic->address = 0;
	nic->macvtap = true;
	return 0;
}

static int make_link(struct attach *a, struct nic *nic, struct err *err)
{
	const struct network_config *n = network_of_nic(a->m, nic);

	return macvtap_make(
		a->m->d->nl, nic->tap, n->port.v[0], nic->mac, (enum macvtap_mode)n->mode, err);
}

static int mark(struct attach *a, struct nic *nic, struct err *err)
{
	struct drover *d = a->m->d;
	char *alias = network_alias(d, a->m->owner);
	int r = alias == NULL ? err_nomem(err) : link_set_alias(d->nl, nic->tap, alias, err);

	free(alias);
	if (r == 0)
		r = link_index(d->nl, nic->tap, &nic->ifindex, err);
	nic->lost = nic->lost_told = false;
	return r;
}

static int set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	const struct network_config *n = network_of_nic(m, nic);
	int r = 0;

	if (n != NULL && n->mtu != 0)
		r = link_set_mtu(m->d->nl, nic->tap, (unsigned)n->mtu, err);
	return r == 0 ? link_up(m->d->nl, nic->tap, err) : r;
}

static int bring_up(struct attach *a, struct nic *nic, struct err *err)
{
	return set_link(a->m, nic, err);
}

static int open_device(struct attach *a, struct nic *nic, struct err *err)
{
	return macvtap_open(a->m->d->nl, nic->tap, a->m->run_dir, &nic->tap_fd, err);
}

static void attached(void *arg)
{
	attach_resume(arg, NULL);
}

static int end(struct attach *a, struct nic *nic, struct err *err)
{
	network_seen_refresh(a->m->d);
	a->soon.fn = attached;
	deadline_set(&a->soon, 0);
	return 1;
}

static const struct attach_step steps[] = {
	{ "choose", choose },
	{ "save", attach_save },
	{ "record-link", attach_record_tap },
	{ "link", make_link },
	{ "mark", mark },
	{ "up", bring_up },
	{ "open", open_device },
	{ "end", end },
};

static const char *macvtap_point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table macvtap_faults = { "macvtap", macvtap_point, FAULT_ALL };

/* ---- what it is like ---- */

static int adopt(struct machine *m, struct nic *nic, struct err *err)
{
	/* The hypervisor holds its descriptor, and nothing of ours serves it. */
	network_seen_refresh(m->d);
	return 0;
}

static bool guest_address(const struct nic *nic, uint32_t *out)
{
	*out = nic->seen;
	return nic->seen != 0;
}

static bool service_down(const struct drover *d, const struct nic *nic)
{
	return false;
}

static bool differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *text)
{
	return false;
}

const struct network_ops network_macvtap = {
	.table = "macvtap",
	.steps = steps,
	.nsteps = ARRAY_LEN(steps),
	.adopt = adopt,
	.set_link = set_link,
	.guest_address = guest_address,
	.service_down = service_down,
	.differs = differs,
};

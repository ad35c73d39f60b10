/* Nics of networks with a bridge: a TAP that is a port of it (supervisor/network-private.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall-set.h"
#include "netcfg/sysctl.h"
#include "supervisor/address-book.h"
#include "supervisor/faults.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network-mirror.h"
#include "supervisor/network-private.h"
#include "supervisor/network-shape.h"
#include "supervisor/network6.h"
#include "supervisor/network-seen.h"
#include "supervisor/network6-serve.h"

/* ---- the address ---- */

/* From a place that the nic's name gives, so that the same machine has the same one on every host. */
static int first_free(struct drover *d, const struct bridge_net *b, const struct nic *nic,
	const struct network4 *v4, uint32_t *out)
{
	uint64_t size = (uint64_t)v4->last - v4->first + 1,
		 start = strtoull(nic->tap + 3, NULL, 16);

	for (uint64_t i = 0; i < size; i++) {
		uint32_t address = v4->first + (uint32_t)((start + i) % size);
		int r = address == v4->gateway ? 1 : address_is_taken(d, nic, address);

		if (r > 0 || mirrors_have(b, address))
			continue;
		if (r == 0)
			*out = address;
		return r;
	}
	return -EADDRNOTAVAIL;
}

/* What it was given before it keeps. */
static int give_address(
	struct drover *d, const struct bridge_net *b, struct nic *nic, const struct network4 *v4)
{
	int taken = 1, r = 0;

	if (nic->address >= v4->first && nic->address <= v4->last && nic->address != v4->gateway &&
		!mirrors_have(b, nic->address))
		taken = address_is_taken(d, nic, nic->address);
	if (taken < 0)
		return taken;
	if (taken > 0)
		r = first_free(d, b, nic, v4, &nic->address);
	/* Maybe somebody has left since the book was made. */
	if (r == -EADDRNOTAVAIL) {
		address_book_drop(d);
		r = first_free(d, b, nic, v4, &nic->address);
	}
	return r == 0 ? address_take(d, nic, nic->address) : r;
}

/* Who runs with the address that is this nic's by configuration: it was given it before. */
static const struct machine *holder_of(const struct drover *d, const struct nic *nic)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; machine_active(m) && i < m->nnics; i++) {
			if (&m->nics[i] != nic && m->nics[i].address == nic->fixed)
				return m;
		}
	}
	return NULL;
}

static int choose_address(struct attach *a, struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(a->m->d, nic->network);
	const struct machine *holder;
	const struct network4 *v4;
	char text[16];
	int r;

	if (b == NULL || !bridge_ready(b))
		return err_set(err, -ENOENT, "its bridge is not there");
	snprintf(nic->bridge, sizeof(nic->bridge), "%s", bridge_name(b));
	nic->net = (struct ip4_prefix){ 0 };
	v4 = &bridge_values(b)->v4;
	holder = nic->fixed != 0 ? holder_of(a->m->d, nic) : NULL;
	if (holder != NULL) {
		ip4_format(nic->fixed, text);
		return err_set(err, -EADDRINUSE, "address=%s is that of vm %s until it stops", text,
			holder->name);
	}
	if (nic->fixed != 0 || nic->bare || v4->net.len == 0) {
		nic->address = nic->bare ? 0 : nic->fixed;
		return 0;
	}
	r = give_address(a->m->d, b, nic, v4);
	if (r == -EADDRNOTAVAIL)
		return err_set(err, r, "all addresses of its range are given to machines");
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- the port ---- */

static int set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(m->d, nic->network);
	struct bridge_port as;
	char key[64], old[16];
	struct err ignored;
	bool changed;
	int r = 0;

	if (b == NULL)
		return err_set(err, -ENOENT, "network %s is gone", nic->network);
	/* A machine that is still received may be behind another port until it runs here. A bridge of
	 * the host's own may have VLANs, for which it needs to be known by what it floods. */
	as = (struct bridge_port){ .isolated = !bridge_config(b)->peers,
		.flood = m->receiving || bridge_is_foreign(b),
		.mac = m->receiving ? NULL : nic->mac };
	/* The host itself has nothing to say on a port. */
	snprintf(key, sizeof(key), "net/ipv6/conf/%s/disable_ipv6", nic->tap);
	sysctl_change(key, "1", old, sizeof(old), &changed, &ignored);
	if (bridge_config(b)->mtu != 0)
		r = link_set_mtu(m->d->nl, nic->tap, (unsigned)bridge_config(b)->mtu, err);
	if (r == 0)
		r = bridge_enslave(m->d->nl, nic->tap, nic->bridge, err);
	if (r == 0)
		r = bridge_set_port(m->d->nl, nic->tap, &as, err);
	if (r == 0)
		r = network_shape_set(m, nic, err);
	return r == 0 ? link_up(m->d->nl, nic->tap, err) : r;
}

/* ---- the guest ---- */

static int reserve(struct attach *a, struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(a->m->d, nic->network);

	if (b == NULL)
		return err_set(err, -ENOENT, "its bridge is not there");
	if (bridge_values(b)->v4.net.len == 0 || nic->address == 0)
		return 0;
	network6_forget_lease(b, nic);
	network6_guests_changed(b);
	return bridge_reserve(b, a->m->owner, nic, a->m->name, err);
}

json_t *network_forwards(const struct vm_config *vm, uint32_t to)
{
	json_t *array = json_array();
	char address[16], text[64];
	struct forward_spec f;

	ip4_format(to, address);
	for (size_t i = 0; i < vm->forwards.n; i++) {
		if (forward_spec_parse(vm->forwards.v[i], &f, NULL) < 0)
			continue;
		snprintf(text, sizeof(text), "%s . %u : %s . %u", proto_name(f.proto), f.port,
			address, f.to);
		json_array_append_new(array, json_string(text));
	}
	return array;
}

/* What it may send comes before its carrier. */
static int open_firewall(struct attach *a, struct nic *nic, struct err *err)
{
	struct machine *m = a->m;
	struct firewall_guest guest = { .tap = nic->tap, .mac = nic->mac, .address = nic->address };
	/* Of several nics the first one has them. */
	json_t *f = nic == m->nics ? network_forwards(m->run_cfg, nic->address) : NULL, *data;
	struct buf text = { 0 };
	int r;

	if (nic->address == 0 || ip6_is_zero(&nic->address6))
		network_seen_refresh(m->d);
	guest.forwards = f;
	data = firewall_guest_elements(&guest);
	json_decref(f);
	network6_guest_elements(bridge_find(m->d, nic->network), nic, data);
	firewall_elements_add_text(&text, data);
	r = ledger_add(m->d->ledger, m->owner, OBJECT_NFT_ELEMENTS, nic->tap, data, err);
	if (r == 0 && (text.bad || attach_firewall(a, text.data) < 0))
		r = err_nomem(err);
	buf_finish(&text);
	return r < 0 ? r : 1;
}

static int enslave(struct attach *a, struct nic *nic, struct err *err)
{
	return set_link(a->m, nic, err);
}

static const struct attach_step steps[] = {
	{ "address", choose_address },
	{ "address6", network6_choose },
	{ "save", attach_save },
	{ "record-tap", attach_record_tap },
	{ "tap", attach_make_tap },
	{ "port", enslave },
	{ "reserve", reserve },
	{ "firewall", open_firewall },
};

static const char *nic_point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table port_faults = { "port", nic_point, FAULT_ALL };

/* ---- waiting for the network ---- */

struct awaited {
	struct bridge_wait wait;
	struct attach *a;
};

static void network_there(void *arg, const struct err *err)
{
	struct awaited *w = arg;
	struct attach *a = w->a;

	free(w);
	attach_resume(a, err);
}

static bool await_network(struct attach *a, struct nic *nic)
{
	struct awaited *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return false;
	*w = (struct awaited){ .wait = { .ready = network_there, .arg = w }, .a = a };
	if (bridge_wait(a->m->d, nic->network, &w->wait))
		return true;
	free(w);
	return false;
}

/* ---- a daemon later ---- */

static int adopt(struct machine *m, struct nic *nic, struct err *err)
{
	if (nic->address == 0 || ip6_is_zero(&nic->address6))
		network_seen_refresh(m->d);
	return 0; /* nothing else is watched for it alone */
}

static bool guest_address(const struct nic *nic, uint32_t *out)
{
	*out = nic->address != 0 ? nic->address : nic->seen;
	return *out != 0;
}

static bool service_down(const struct drover *d, const struct nic *nic)
{
	const struct bridge_net *b = bridge_find(d, nic->network);

	return b != NULL && bridge_service_down(b);
}

static bool differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *text)
{
	struct bridge_info info, port = { .learns = false };

	bridge_get(m->d->nl, nic->tap, &port);
	if (bridge_get(m->d->nl, nic->bridge, &info) == 0 && tap->master != info.index)
		buf_printf(text, "it is no port of bridge %s", nic->bridge);
	else if (!m->receiving && port.learns)
		buf_printf(text, "bridge %s learns addresses from it", nic->bridge);
	return text->len > 0 || network_shape_differs(m, nic, text);
}

const struct network_ops network_bridged = {
	.table = "port",
	.steps = steps,
	.nsteps = ARRAY_LEN(steps),
	.wait = await_network,
	.adopt = adopt,
	.set_link = set_link,
	.guest_address = guest_address,
	.service_down = service_down,
	.differs = differs,
};

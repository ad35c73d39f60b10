/* Nics of networks with a bridge: a TAP that is a port of it (supervisor/network-private.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall-set.h"
#include "netcfg/sysctl.h"
#include "supervisor/faults.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network-private.h"
#include "supervisor/network-seen.h"

/* ---- the address ---- */

static int compare_addresses(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The addresses that others have, sorted: machines that do not run keep theirs. */
static int used_addresses(
	struct drover *d, const struct nic *but, uint32_t **out, size_t *n, struct err *err)
{
	struct machine *m;
	size_t count = 0;
	uint32_t *v;

	list_for_each_entry (m, &d->machines, entry)
		count += 2 * MAX((size_t)m->nnics, m->cfg != NULL ? m->cfg->networks.n : 0);
	v = calloc(count + 1, sizeof(*v));
	if (v == NULL)
		return err_nomem(err);
	count = 0;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (&m->nics[i] != but && m->nics[i].address != 0)
				v[count++] = m->nics[i].address;
		}
		/* And those that the configuration has given away. */
		for (size_t i = 0; m->cfg != NULL && i < m->cfg->networks.n; i++) {
			struct nic_spec s;

			if (nic_spec_parse(m->cfg->networks.v[i], &s, NULL) == 0 && s.address != 0)
				v[count++] = s.address;
		}
	}
	qsort(v, count, sizeof(*v), compare_addresses);
	*out = v;
	*n = count;
	return 0;
}

static bool is_used(uint32_t address, const uint32_t *v, size_t n)
{
	return bsearch(&address, v, n, sizeof(*v), compare_addresses) != NULL;
}

/* From a place that the nic's name gives, so that the same machine has the same one on every host. */
static uint32_t first_free(
	const struct network4 *v4, uint64_t start, const uint32_t *used, size_t nused)
{
	uint64_t size = (uint64_t)v4->last - v4->first + 1;

	for (uint64_t i = 0; i < size; i++) {
		uint32_t address = v4->first + (uint32_t)((start + i) % size);

		if (address != v4->gateway && !is_used(address, used, nused))
			return address;
	}
	return 0;
}

static int choose_address(struct attach *a, struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(a->m->d, nic->network);
	const struct network4 *v4;
	uint32_t *used = NULL;
	size_t n = 0;
	int r;

	if (b == NULL || !bridge_ready(b))
		return err_set(err, -ENOENT, "its bridge is not there");
	snprintf(nic->bridge, sizeof(nic->bridge), "%s", bridge_name(b));
	nic->net = (struct ip4_prefix){ 0 };
	v4 = &bridge_values(b)->v4;
	if (nic->fixed != 0 || nic->bare || v4->net.len == 0) {
		nic->address = nic->bare ? 0 : nic->fixed;
		return 0;
	}
	r = used_addresses(a->m->d, nic, &used, &n, err);
	if (r < 0)
		return r;
	/* What it was given before it keeps. */
	if (nic->address < v4->first || nic->address > v4->last || nic->address == v4->gateway ||
		is_used(nic->address, used, n))
		nic->address = first_free(v4, strtoull(nic->tap + 3, NULL, 16), used, n);
	free(used);
	if (nic->address == 0)
		return err_set(
			err, -EADDRNOTAVAIL, "all addresses of its range are given to machines");
	return 0;
}

/* ---- the port ---- */

static int set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(m->d, nic->network);
	char key[64], old[16];
	struct err ignored;
	bool changed;
	int r = 0;

	if (b == NULL)
		return err_set(err, -ENOENT, "network %s is gone", nic->network);
	/* The host itself has nothing to say on a port. */
	snprintf(key, sizeof(key), "net/ipv6/conf/%s/disable_ipv6", nic->tap);
	sysctl_change(key, "1", old, sizeof(old), &changed, &ignored);
	if (bridge_config(b)->mtu != 0)
		r = link_set_mtu(m->d->nl, nic->tap, (unsigned)bridge_config(b)->mtu, err);
	if (r == 0)
		r = bridge_enslave(m->d->nl, nic->tap, nic->bridge, err);
	if (r == 0)
		r = bridge_isolate(m->d->nl, nic->tap, !bridge_config(b)->peers, err);
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
	return bridge_reserve(b, a->m->owner, nic->tap, nic->mac, nic->address, a->m->name, err);
}

static json_t *forwards(const struct machine *m, const struct nic *nic)
{
	json_t *array = json_array();
	char address[16], text[64];
	struct forward_spec f;

	ip4_format(nic->address, address);
	for (size_t i = 0; nic == m->nics && i < m->run_cfg->forwards.n; i++) {
		if (forward_spec_parse(m->run_cfg->forwards.v[i], &f, NULL) < 0)
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
	json_t *f = forwards(m, nic), *data;
	struct buf text = { 0 };
	int r;

	if (nic->address == 0)
		network_seen_refresh(m->d);
	guest.forwards = f;
	data = firewall_guest_elements(&guest);
	json_decref(f);
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
	if (nic->address == 0)
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
	struct bridge_info info;

	if (bridge_get(m->d->nl, nic->bridge, &info) < 0 || tap->master == info.index)
		return false;
	buf_printf(text, "it is no port of bridge %s", nic->bridge);
	return true;
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

/* Networks as the API shows them: supervisor/network-bridge.h. */
#include <string.h>

#include "lib/json.h"
#include "netcfg/survey.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-macvtap.h"
#include "supervisor/network-mirror.h"
#include "supervisor/network-vlan.h"
#include "supervisor/network-watch.h"
#include "supervisor/network.h"
#include "supervisor/network-seen.h"
#include "supervisor/network6.h"
#include "supervisor/reconcile-private.h"
#include "supervisor/network6-serve.h"

static const char *kind_name(const struct network_config *n)
{
	static const char *const names[] = { "p2p", "nat", "isolated", "routed", "bridge", "user",
		"macvtap" };

	return names[n->kind];
}

static void put_address(json_t *j, const char *key, uint32_t address)
{
	char text[16];

	ip4_format(address, text);
	json_put_str(j, key, address != 0 ? text : NULL);
}

/* What keeps it from being as configured; NULL: nothing. */
static void put_problem(json_t *j, const struct bridge_net *b)
{
	struct survey s = { 0 };
	struct buf text = { 0 };
	char who[256];

	if (b != NULL && b->err.code < 0)
		buf_adds(&text, b->err.msg);
	else if (b != NULL && survey_take(b->d->nl, &s, NULL) == 0)
		bridge_differs(b, &s, &text);
	if (text.len == 0 && b != NULL && b->pending)
		buf_adds(&text, "its change waits until no machine uses it any more");
	if (text.len == 0 && b != NULL && network6_server_down(b, true) != NULL)
		buf_printf(&text, "its %s does not run", network6_server_down(b, true));
	if (text.len == 0 && b != NULL && bridge_service_down(b))
		buf_adds(&text, "its dnsmasq does not run");
	if (text.len == 0 && b != NULL && network_conflict(b, who, sizeof(who)))
		buf_printf(&text, "its cidr is in use by another on this host, too: %s", who);
	json_put_str(j, "problem", text.len > 0 ? text.data : NULL);
	survey_finish(&s);
	buf_finish(&text);
}

static void put_bridge(json_t *j, const struct bridge_net *b)
{
	static const char *const states[] = { "down", "making", "up", "going" };
	bool runs = b != NULL && b->dnsmasq != NULL && service_up(b->dnsmasq);

	json_put_str(j, "state", b != NULL ? states[b->state] : "up");
	json_put_str(j, "bridge", b != NULL ? b->bridge : NULL);
	put_address(j, "gateway", b != NULL ? b->v.v4.gateway : 0);
	json_object_set_new(j, "pid", runs ? json_integer(service_pid(b->dnsmasq)) : json_null());
	put_problem(j, b);
}

/* There is nothing of it on the host but its port. */
static void put_macvtap(json_t *j, struct drover *d, const struct network_config *n)
{
	struct buf text = { 0 };
	bool bad = macvtap_problem(d, n, &text);

	json_put_str(j, "state", bad ? "down" : "up");
	json_put_str(j, "problem", bad ? buf_str(&text) : NULL);
	buf_finish(&text);
}

/* What nics of machines that run lack, where the network itself lacks nothing: of every kind. */
static void put_nic_problem(json_t *j, struct drover *d, const char *network)
{
	const struct machine *m;
	struct buf text = { 0 };

	if (json_str(j, "problem") != NULL)
		return;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; machine_active(m) && i < m->nnics && text.len == 0; i++) {
			const struct nic *nic = &m->nics[i];

			if (!str_eq(nic->network, network) || !network_attached(nic))
				continue;
			if (nic->lost)
				buf_printf(&text, "the link of nic%u of vm %s was deleted", i,
					m->name);
			else if (reconcile_settled(m) && network_service_down(d, nic))
				buf_printf(&text, "the dnsmasq of nic%u of vm %s does not run", i,
					m->name);
		}
	}
	if (text.len > 0)
		json_put_str(j, "problem", text.data);
	buf_finish(&text);
}

static json_t *nics_json(struct drover *d, const char *network)
{
	json_t *array = json_array();
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			const struct nic *nic = &m->nics[i];
			char text6[IP6_TEXT + 4];
			uint32_t address = 0;
			json_t *j;

			if (!str_eq(nic->network, network))
				continue;
			j = json_object();
			json_put_str(j, "vm", m->name);
			json_put_int(j, "nic", i);
			json_put_str(j, "tap", nic->tap);
			json_put_str(j, "mac", nic->mac);
			put_address(
				j, "address", network_guest_address(nic, &address) ? address : 0);
			json_put_str(
				j, "address6", network_known_address6(nic, text6) ? text6 : NULL);
			json_put_str(
				j, "prefix6", network6_guest_prefix(nic, text6) ? text6 : NULL);
			json_put_bool(j, "running", machine_active(m));
			json_array_append_new(array, j);
		}
	}
	return array;
}

static json_t *leases_json(const struct bridge_net *b)
{
	json_t *array = json_array();
	const struct lease *l;

	if (b == NULL)
		return array;
	list_for_each_entry (l, &b->leases, entry) {
		json_t *j = json_object();
		char text[IP6_TEXT + 4];

		lease_address(l, text);
		json_put_str(j, "address", text);
		json_put_str(j, "mac", l->mac);
		json_put_str(j, "vm", l->vm);
		json_put_int(j, "expires", (int64_t)l->expires);
		json_array_append_new(array, j);
	}
	return array;
}

static json_t *ports_json(const struct network_config *n)
{
	json_t *array = json_array();
	char name[16];

	for (size_t i = 0; i < n->port.n; i++) {
		network_port_name(n, n->port.v[i], name);
		json_array_append_new(array, json_string(name));
	}
	return array;
}

static json_t *one_json(struct drover *d, const struct network_config *n)
{
	const struct bridge_net *b = bridge_find(d, n->s.name);
	json_t *j = json_object();

	json_put_str(j, "name", n->s.name);
	json_put_str(j, "kind", kind_name(n));
	json_put_str(j, "cidr", n->cidr);
	json_put_str(j, "cidr6", n->v6.cidr);
	json_put_str(j, "domain", n->domain);
	put_bridge(j, b);
	if (n->kind == NETWORK_MACVTAP)
		put_macvtap(j, d, n);
	put_nic_problem(j, d, n->s.name);
	json_object_set_new(j, "ports", ports_json(n));
	json_object_set_new(j, "nics", nics_json(d, n->s.name));
	json_object_set_new(j, "leases", leases_json(b));
	json_object_set_new(j, "mirrors", mirrors_json(b));
	return j;
}

json_t *networks_json(struct drover *d)
{
	const struct config_array *a = &drover_config(d)->by_kind[SECTION_NETWORK];
	json_t *array = json_array();

	for (size_t i = 0; i < a->n; i++)
		json_array_append_new(array, one_json(d, (const void *)a->v[i]));
	return array;
}

json_t *network_json(struct drover *d, const char *name)
{
	const struct network_config *n = config_network(drover_config(d), name);

	return n != NULL ? one_json(d, n) : NULL;
}

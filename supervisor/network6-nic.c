/* The IPv6 of machines' nics: supervisor/network6.h. */
#include <errno.h>
#include <stdlib.h>

#include "lib/json.h"
#include "netcfg/firewall-set.h"
#include "netcfg/link6.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-private.h"
#include "supervisor/network6.h"

/* ---- on a bridge ---- */

static int compare(const void *a, const void *b)
{
	return ip6_compare(a, b);
}

/* As used_addresses() of network-nic.c. */
static int used_addresses6(
	struct drover *d, const struct nic *but, struct in6_addr **out, size_t *n, struct err *err)
{
	struct machine *m;
	size_t count = 0;
	struct in6_addr *v;

	list_for_each_entry (m, &d->machines, entry)
		count += 2 * MAX((size_t)m->nnics, m->cfg != NULL ? m->cfg->networks.n : 0);
	v = calloc(count + 1, sizeof(*v));
	if (v == NULL)
		return err_nomem(err);
	count = 0;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (&m->nics[i] != but && !ip6_is_zero(&m->nics[i].address6))
				v[count++] = m->nics[i].address6;
		}
		for (size_t i = 0; m->cfg != NULL && i < m->cfg->networks.n; i++) {
			struct nic_spec s;

			if (nic_spec_parse(m->cfg->networks.v[i], &s, NULL) == 0 &&
				!ip6_is_zero(&s.address6))
				v[count++] = s.address6;
		}
	}
	qsort(v, count, sizeof(*v), compare);
	*out = v;
	*n = count;
	return 0;
}

static bool is_free(const struct network6 *v6, const struct in6_addr *a,
	const struct in6_addr *used, size_t nused)
{
	return ip6_compare(a, &v6->first) >= 0 && ip6_compare(a, &v6->last) <= 0 &&
	       network6_has(v6, a) && bsearch(a, used, nused, sizeof(*used), compare) == NULL;
}

/* Of nused + 2 addresses in a row one is free, if the range has so many. */
static struct in6_addr first_free6(
	const struct network6 *v6, uint64_t start, const struct in6_addr *used, size_t nused)
{
	uint64_t span = ip6_distance(&v6->first, &v6->last);
	struct in6_addr a = { 0 };

	start = span == UINT64_MAX ? start : start % (span + 1);
	for (uint64_t i = 0; i <= MIN(span, (uint64_t)nused + 2); i++) {
		uint64_t at = span == UINT64_MAX ? start + i : (start + i) % (span + 1);

		a = ip6_add(&v6->first, at, 0);
		if (is_free(v6, &a, used, nused))
			return a;
	}
	return (struct in6_addr){ 0 };
}

static int choose_address6(
	struct drover *d, const struct network6 *v6, struct nic *nic, struct err *err)
{
	struct in6_addr *used = NULL;
	size_t n = 0;
	int r;

	if (v6->net.len == 0 || nic->bare || !v6->dhcp || !ip6_is_zero(&nic->fixed6)) {
		nic->address6 = v6->net.len != 0 && !nic->bare ? nic->fixed6
							       : (struct in6_addr){ 0 };
		return 0;
	}
	r = used_addresses6(d, nic, &used, &n, err);
	if (r < 0)
		return r;
	/* What it was given before it keeps. */
	if (!is_free(v6, &nic->address6, used, n))
		nic->address6 = first_free6(
			v6, strtoull(nic->tap + 3, NULL, 16) & 0xffffffff, used, n);
	free(used);
	if (ip6_is_zero(&nic->address6))
		return err_set(
			err, -EADDRNOTAVAIL, "all addresses of its range6 are given to machines");
	return 0;
}

int network6_choose(struct attach *a, struct nic *nic, struct err *err)
{
	struct bridge_net *b = bridge_find(a->m->d, nic->network);
	int r;

	if (b == NULL)
		return err_set(err, -ENOENT, "its bridge is not there");
	nic->net6 = (struct ip6_prefix){ .len = 0 };
	r = choose_address6(a->m->d, &b->v.v6, nic, err);
	return r == 0 ? network6_choose_prefix(a->m->d, &b->v.v6, nic, err) : r;
}

const struct in6_addr *network6_address(const struct nic *nic)
{
	return ip6_is_zero(&nic->address6) ? NULL : &nic->address6;
}

bool network6_guest_address(const struct nic *nic, char out[IP6_TEXT])
{
	if (ip6_is_zero(&nic->address6))
		return false;
	ip6_format(&nic->address6, out);
	return true;
}

/* By its link-local address kea knows it, and packets to its prefix go there: it is its alone. */
static void own_local(const struct nic *nic, json_t *elements)
{
	struct in6_addr local;
	char text[IP6_TEXT], hex[40];

	if (!ip6_local_of(nic->mac, &local))
		return;
	ip6_format(&local, text);
	ip6_format_hex(&local, hex);
	firewall_put(elements, "locals6", "%s", text);
	firewall_put(elements, "guests6", "%s . %s", nic->tap, text);
	firewall_put(elements, "local_targets6", "%s", hex);
	firewall_put(elements, "targets6", "%s . %s", nic->tap, hex);
}

/* What it may send as, and say that it is. */
void network6_guest_elements(const struct bridge_net *b, const struct nic *nic, json_t *elements)
{
	const struct network6 *v6;
	char text[IP6_TEXT + 4];

	if (b == NULL)
		return;
	v6 = &bridge_values(b)->v6;
	if (v6->kea && !nic->bare)
		own_local(nic, elements);
	if (v6->net.len == 0) {
		firewall_put(elements, "any_address6", "%s", nic->tap);
	} else if (nic->bare) {
		/* Whatever it likes, but it is not the router. */
		firewall_put(elements, "prefixes6", "%s . ::/0", nic->tap);
	} else if (v6->autonomous) {
		ip6_prefix_format(&v6->net, text);
		firewall_put(elements, "prefixes6", "%s . %s", nic->tap, text);
	} else if (network6_guest_address(nic, text)) {
		firewall_put(elements, "exact6", "%s", nic->tap);
		firewall_put(elements, "guests6", "%s . %s", nic->tap, text);
		ip6_format_hex(&nic->address6, text);
		firewall_put(elements, "targets6", "%s . %s", nic->tap, text);
	}
}

void network6_nic_save(const struct nic *nic, json_t *j)
{
	char text[IP6_TEXT + 4];

	if (network6_guest_address(nic, text))
		json_put_str(j, "address6", text);
	if (network6_guest_prefix(nic, text))
		json_put_str(j, "prefix6", text);
	if (nic->net6.len == 0)
		return;
	ip6_prefix_format(&nic->net6, text);
	json_put_str(j, "subnet6", text);
}

void network6_nic_load(struct nic *nic, const json_t *j)
{
	const char *address = json_str(j, "address6"), *net = json_str(j, "subnet6");
	const char *prefix = json_str(j, "prefix6");

	if (address == NULL || !ip6_parse(address, &nic->address6))
		nic->address6 = (struct in6_addr){ 0 };
	if (prefix == NULL || ip6_prefix_parse(prefix, &nic->prefix6, NULL) < 0)
		nic->prefix6 = (struct ip6_prefix){ .len = 0 };
	if (net == NULL || ip6_prefix_parse(net, &nic->net6, NULL) < 0)
		nic->net6 = (struct ip6_prefix){ .len = 0 };
}

/* ---- p2p ---- */

void network6_p2p_choose(const struct network_config *n, struct nic *nic)
{
	struct network6 v;
	const char *key;

	nic->net6 = nic->prefix6 = (struct ip6_prefix){ .len = 0 };
	nic->address6 = (struct in6_addr){ 0 };
	if (n->v6.cidr == NULL || network6_values(n, &v, &key, NULL) < 0)
		return;
	nic->net6 = network6_p2p(n, &v, nic->net);
	if (v.dhcp)
		nic->address6 = network6_p2p_guest(&nic->net6);
}

int network6_p2p_link(struct machine *m, const struct nic *nic, struct err *err)
{
	struct in6_addr local = link6_local(), host = network6_p2p_host(&nic->net6);
	bool again;
	int r;

	if (nic->net6.len == 0)
		return 0;
	/* As network6_set_address(). */
	again = nic->dnsmasq != NULL && service_up(nic->dnsmasq) &&
		!link6_has_address(nic->ifindex, &host, nic->net6.len);
	r = link6_ready(nic->tap, err);
	if (r == 0)
		r = link6_add_address(m->d->nl, nic->tap, &local, 64, err);
	if (r == 0)
		r = link6_add_address(m->d->nl, nic->tap, &host, nic->net6.len, err);
	if (r == 0 && again)
		service_restart(nic->dnsmasq);
	return r;
}

bool network6_p2p_differs(const struct nic *nic, int index, struct buf *text)
{
	struct ip6_prefix host = { network6_p2p_host(&nic->net6), nic->net6.len };
	char name[IP6_TEXT + 4];

	if (host.len == 0 || link6_has_address(index, &host.addr, host.len))
		return false;
	ip6_prefix_format(&host, name);
	buf_printf(text, "its address %s is missing", name);
	return true;
}

void network6_p2p_elements(const struct network_config *n, const struct nic *nic, json_t *elements)
{
	char text[IP6_TEXT + 4];

	if (nic->net6.len == 0)
		return;
	ip6_prefix_format(&nic->net6, text);
	firewall_put(elements, "tap_guests6", "%s . %s", nic->tap, text);
	if (n->nat && n->v6.nat)
		firewall_put(elements, "nat6_links", "%s", nic->tap);
}

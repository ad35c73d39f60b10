#include "netcfg/firewall-set.h"

#include <stdlib.h>
#include <string.h>

/* clang-format off */
const struct firewall_set firewall_sets[] = {
	{ "taps", "ifname", FIREWALL_INET, 1, false },
	{ "nat_guests", "ipv4_addr", FIREWALL_INET, 0, false },
	{ "tap_guests", "ifname . ipv4_addr", FIREWALL_INET, 1, false },
	{ "tap_guests6", "ifname . ipv6_addr", FIREWALL_INET, 1, false },
	{ "tap_peers", "ifname . devgroup", FIREWALL_INET, 1, false },
	{ "links", "ifname", FIREWALL_INET, 1, false },
	{ "same_link", "ifname . ifname", FIREWALL_INET, 2, false },
	{ "way_out", "ifname", FIREWALL_INET, 1, false },
	{ "way_in", "ifname", FIREWALL_INET, 1, false },
	{ "nat_links", "ifname", FIREWALL_INET, 1, false },
	{ "nat6_links", "ifname", FIREWALL_INET, 1, false },
	{ "delegated6", "ipv6_addr", FIREWALL_INET, 0, false },
	{ "open", "ifname . inet_proto . inet_service", FIREWALL_INET, 1, false },
	{ "pings", "ifname", FIREWALL_INET, 1, false },
	{ "mirrors", "ifname . ipv4_addr . inet_service", FIREWALL_INET, 1, false },
	{ "forwards", "inet_proto . inet_service", FIREWALL_INET, 0, true },
	{ "guest_taps", "ifname", FIREWALL_BRIDGE, 1, false },
	{ "macs", "ifname . ether_addr", FIREWALL_BRIDGE, 1, false },
	{ "guests", "ifname . ether_addr . ipv4_addr", FIREWALL_BRIDGE, 1, false },
	{ "any_address", "ifname", FIREWALL_BRIDGE, 1, false },
	{ "routers", "ipv4_addr", FIREWALL_BRIDGE, 0, false },
	{ "any_address6", "ifname", FIREWALL_BRIDGE, 1, false },
	{ "guests6", "ifname . ipv6_addr", FIREWALL_BRIDGE, 1, false },
	{ "prefixes6", "ifname . ipv6_addr", FIREWALL_BRIDGE, 1, false },
	{ "exact6", "ifname", FIREWALL_BRIDGE, 1, false },
	{ "targets6", "ifname . integer", FIREWALL_BRIDGE, 1, false },
	{ "locals6", "ipv6_addr", FIREWALL_BRIDGE, 0, false },
	{ "local_targets6", "integer", FIREWALL_BRIDGE, 0, false },
	{ "routers6", "ipv6_addr", FIREWALL_BRIDGE, 0, false },
	{ "router_targets6", "integer", FIREWALL_BRIDGE, 0, false },
};
/* clang-format on */
const size_t firewall_nsets = ARRAY_LEN(firewall_sets);

/* ---- elements ---- */

static bool has(const json_t *array, const char *text)
{
	const json_t *e;
	size_t i;

	json_array_foreach (array, i, e) {
		if (str_eq(json_string_value(e), text))
			return true;
	}
	return false;
}

/* Without memory the element is missing, and the next comparison says so. */
void firewall_put(json_t *j, const char *set, const char *fmt, ...)
{
	json_t *array = json_object_get(j, set);
	struct buf text = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	if (array == NULL) {
		array = json_array();
		json_object_set_new(j, set, array);
	}
	/* Twice in one transaction it cannot be deleted. */
	if (!has(array, buf_str(&text)))
		json_array_append_new(array, json_string(buf_str(&text)));
	buf_finish(&text);
}

json_t *firewall_link_elements(const struct firewall_link *l)
{
	json_t *j = json_object();
	const json_t *e;
	size_t i;

	firewall_put(j, "links", "%s", l->name);
	if (l->peers)
		firewall_put(j, "same_link", "%s . %s", l->name, l->name);
	if (l->out)
		firewall_put(j, "way_out", "%s", l->name);
	if (l->in)
		firewall_put(j, "way_in", "%s", l->name);
	if (l->nat)
		firewall_put(j, "nat_links", "%s", l->name);
	if (l->dhcp)
		firewall_put(j, "open", "%s . udp . 67", l->name);
	if (l->dns) {
		firewall_put(j, "open", "%s . tcp . 53", l->name);
		firewall_put(j, "open", "%s . udp . 53", l->name);
	}
	json_array_foreach (l->open, i, e)
		firewall_put(j, "open", "%s . %s", l->name, json_string_value(e));
	json_array_foreach (l->mirrors, i, e)
		firewall_put(j, "mirrors", "%s . %s", l->name, json_string_value(e));
	if (l->ping)
		firewall_put(j, "pings", "%s", l->name);
	return j;
}

json_t *firewall_guest_elements(const struct firewall_guest *g)
{
	json_t *j = json_object();
	char address[16];

	firewall_put(j, "guest_taps", "%s", g->tap);
	firewall_put(j, "macs", "%s . %s", g->tap, g->mac);
	if (g->address != 0) {
		ip4_format(g->address, address);
		firewall_put(j, "guests", "%s . %s . %s", g->tap, g->mac, address);
	} else {
		firewall_put(j, "any_address", "%s", g->tap);
	}
	if (g->forwards != NULL && json_array_size(g->forwards) > 0)
		json_object_set_new(j, "forwards", json_deep_copy(g->forwards));
	return j;
}

json_t *firewall_p2p_elements(const char *tap, uint32_t guest, unsigned peers)
{
	json_t *j = json_object();
	char address[16];

	ip4_format(guest, address);
	firewall_put(j, "tap_guests", "%s . %s", tap, address);
	if (peers != 0)
		firewall_put(j, "tap_peers", "%s . %u", tap, peers);
	return j;
}

/* ---- text ---- */

static const struct firewall_set *find_set(const char *name)
{
	for (size_t i = 0; i < firewall_nsets; i++) {
		if (strcmp(firewall_sets[i].name, name) == 0)
			return &firewall_sets[i];
	}
	return NULL;
}

/* The names of links in quotes: an unquoted one may be a word of nft's language. */
static void put_element(struct buf *out, const struct firewall_set *set, const char *text)
{
	for (unsigned k = 0; k < set->quoted; k++) {
		const char *end = strstr(text, " . ");
		size_t n = end != NULL ? (size_t)(end - text) : strlen(text);

		buf_printf(out, "\"%.*s\"%s", (int)n, text, end != NULL ? " . " : "");
		text += n + (end != NULL ? 3 : 0);
	}
	buf_adds(out, text);
}

static void command(struct buf *out, const char *verb, const json_t *elements)
{
	const struct firewall_set *set;
	const char *name;
	json_t *array;
	const json_t *e;
	size_t i;

	json_object_foreach ((json_t *)(uintptr_t)elements, name, array) {
		set = find_set(name);
		json_array_foreach (set != NULL ? array : NULL, i, e) {
			buf_printf(out, "%s element %s drover %s { ", verb,
				set->table == FIREWALL_BRIDGE ? "bridge" : "inet", name);
			put_element(out, set, json_string_value(e));
			buf_adds(out, " }\n");
		}
	}
}

void firewall_elements_add_text(struct buf *out, const json_t *elements)
{
	command(out, "add", elements);
}

void firewall_elements_delete_text(struct buf *out, const json_t *elements)
{
	/* nft 1.0.6 has no "destroy": what was just added can be deleted, there or not before. */
	command(out, "add", elements);
	command(out, "delete", elements);
}

#include "netcfg/kea6.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"

static void put_int(json_t *j, const char *key, uint64_t value)
{
	json_put_int(j, key, (int64_t)value);
}

static json_t *interfaces(const struct kea6_spec *s)
{
	json_t *j = json_object(), *a = json_array();

	json_array_append_new(a, json_string(s->link));
	json_object_set_new(j, "interfaces", a);
	/* A bridge whose ports are all without a carrier is not running, and kea opens no socket
	 * until it is (IfaceMgr::openSockets6). */
	put_int(j, "service-sockets-max-retries", UINT32_MAX);
	put_int(j, "service-sockets-retry-wait-time", 500);
	return j;
}

static json_t *leases(const struct kea6_spec *s)
{
	json_t *j = json_object();

	json_put_str(j, "type", "memfile");
	json_put_str(j, "name", s->lease_file);
	json_put_bool(j, "persist", true);
	put_int(j, "lfc-interval", 300);
	return j;
}

static json_t *server_id(const struct kea6_spec *s)
{
	json_t *j = json_object();
	char hex[13] = "";
	size_t n = 0;

	for (const char *c = s->mac; *c != '\0' && n < 12; c++)
		if (*c != ':')
			hex[n++] = *c;
	hex[n] = '\0';
	json_put_str(j, "type", "LL");
	put_int(j, "htype", 1);
	json_put_str(j, "identifier", hex);
	json_put_bool(j, "persist", false);
	return j;
}

/* What has expired is said within a second. */
static json_t *expiry(void)
{
	json_t *j = json_object();

	put_int(j, "reclaim-timer-wait-time", 1);
	put_int(j, "hold-reclaimed-time", 0);
	put_int(j, "flush-reclaimed-timer-wait-time", 60);
	return j;
}

static void add_option(json_t *array, const char *name, const char *data)
{
	json_t *j = json_object();

	json_put_str(j, "name", name);
	json_put_str(j, "data", data);
	json_array_append_new(array, j);
}

static void add_list(json_t *array, const char *name, const char *const *values)
{
	struct buf text = { 0 };

	for (size_t i = 0; values != NULL && values[i] != NULL; i++)
		buf_printf(&text, "%s%s", i > 0 ? ", " : "", values[i]);
	if (text.len > 0)
		add_option(array, name, text.data);
	buf_finish(&text);
}

static json_t *options(const struct kea6_spec *s)
{
	json_t *a = json_array();
	char text[24];

	add_list(a, "dns-servers", s->dns);
	add_list(a, "domain-search", s->search);
	snprintf(text, sizeof(text), "%" PRIu64, s->refresh);
	if (s->refresh != 0)
		add_option(a, "information-refresh-time", text);
	return a;
}

/* ---- machines ---- */

static json_t *class_of(const struct kea6_guest *g)
{
	struct in6_addr local = { 0 };
	char address[IP6_TEXT], hex[13] = "";
	struct buf test = { 0 };
	json_t *j = json_object();
	size_t n = 0;

	for (const char *c = g->mac; *c != '\0' && n < 12; c++)
		if (*c != ':')
			hex[n++] = *c;
	hex[n] = '\0';
	ip6_local_of(g->mac, &local);
	ip6_format(&local, address);
	/* An address that says another MAC is another machine's, whatever the DUID says: clones of
	 * one disk have one DUID. */
	buf_printf(&test,
		"pkt.src == %s or (not (substring(pkt.src, 11, 2) == 0xfffe) and "
		"substring(option[1].hex, -6, 6) == 0x%s)",
		address, hex);
	json_put_str(j, "name", g->name);
	json_put_str(j, "test", buf_str(&test));
	buf_finish(&test);
	return j;
}

static json_t *pool_of(const struct kea6_guest *g)
{
	json_t *j = json_object();
	char address[IP6_TEXT], pool[2 * IP6_TEXT + 4];

	ip6_format(&g->address, address);
	snprintf(pool, sizeof(pool), "%s - %s", address, address);
	json_put_str(j, "pool", pool);
	json_put_str(j, "client-class", g->name);
	return j;
}

static json_t *prefix_of(const struct kea6_guest *g)
{
	json_t *j = json_object();
	char address[IP6_TEXT];

	ip6_format(&g->prefix.addr, address);
	json_put_str(j, "prefix", address);
	put_int(j, "prefix-len", g->prefix.len);
	put_int(j, "delegated-len", g->prefix.len);
	json_put_str(j, "client-class", g->name);
	return j;
}

static json_t *classes(const struct kea6_spec *s)
{
	json_t *a = json_array();

	for (size_t i = 0; i < s->nguests; i++)
		json_array_append_new(a, class_of(&s->guests[i]));
	return a;
}

static json_t *subnet(const struct kea6_spec *s)
{
	json_t *j = json_object(), *pools = json_array(), *prefixes = json_array();
	char net[IP6_TEXT + 4];

	ip6_prefix_format(&s->net, net);
	put_int(j, "id", 1);
	json_put_str(j, "subnet", net);
	json_put_str(j, "interface", s->link);
	for (size_t i = 0; i < s->nguests; i++) {
		if (!ip6_is_zero(&s->guests[i].address))
			json_array_append_new(pools, pool_of(&s->guests[i]));
		if (s->guests[i].prefix.len != 0)
			json_array_append_new(prefixes, prefix_of(&s->guests[i]));
	}
	json_object_set_new(j, "pools", pools);
	json_object_set_new(j, "pd-pools", prefixes);
	return j;
}

static json_t *logger(void)
{
	return json_pack("[{s:s, s:s, s:[{s:s, s:b}]}]", "name", "kea-dhcp6", "severity", "WARN",
		"output_options", "output", "stderr", "flush", 1);
}

int kea6_config_text(const struct kea6_spec *s, struct buf *out, struct err *err)
{
	json_t *all = json_object(), *j = json_object(), *subnets = json_array();
	char *text;

	json_object_set_new(j, "interfaces-config", interfaces(s));
	json_object_set_new(j, "lease-database", leases(s));
	json_object_set_new(j, "server-id", server_id(s));
	json_object_set_new(j, "expired-leases-processing", expiry());
	json_object_set_new(j, "mac-sources", json_pack("[s]", "duid"));
	json_object_set_new(j, "host-reservation-identifiers", json_pack("[s]", "duid"));
	put_int(j, "valid-lifetime", s->lifetime);
	put_int(j, "preferred-lifetime", s->preferred != 0 ? s->preferred : s->lifetime);
	if (s->renew != 0)
		put_int(j, "renew-timer", s->renew);
	if (s->rebind != 0)
		put_int(j, "rebind-timer", s->rebind);
	json_object_set_new(j, "option-data", options(s));
	/* An empty list is a syntax error there. */
	if (s->nguests > 0)
		json_object_set_new(j, "client-classes", classes(s));
	json_array_append_new(subnets, subnet(s));
	json_object_set_new(j, "subnet6", subnets);
	json_object_set_new(j, "loggers", logger());
	json_object_set_new(all, "Dhcp6", j);
	text = json_dumps(all, JSON_INDENT(1));
	json_decref(all);
	if (text == NULL)
		return err_nomem(err);
	buf_printf(out, "%s\n", text);
	free(text);
	return out->bad ? err_nomem(err) : 0;
}

void kea6_server_duid(const char *mac, char out[32])
{
	snprintf(out, 32, "00:03:00:01:%.17s", mac);
}

/* ---- leases ---- */

enum column {
	COLUMN_ADDRESS,
	COLUMN_DUID,
	COLUMN_VALID,
	COLUMN_EXPIRE,
	COLUMN_SUBNET,
	COLUMN_PREFERRED,
	COLUMN_TYPE,
	COLUMN_IAID,
	COLUMN_LEN,
	COLUMN_FQDN_FWD,
	COLUMN_FQDN_REV,
	COLUMN_HOSTNAME,
	COLUMN_HWADDR,
	COLUMN_STATE,
	COLUMNS
};

static bool number(const char *text, uint64_t *out)
{
	char *end;

	*out = strtoull(text, &end, 10);
	return isdigit((unsigned char)*text) && *end == '\0';
}

/*
 * The columns of 2.2 (CSVLeaseFile6::initColumns); later ones have more behind. Lease types are 0 for
 * addresses and 2 for prefixes; states 0 for what is held, 1 declined, 2 expired. What was released
 * has a lifetime of 0.
 */
bool kea6_lease_parse(const char *line, struct kea6_lease *out)
{
	char copy[1024], *field[COLUMNS] = { copy }, *c;
	struct kea6_lease l = { 0 };
	uint64_t valid, type, iaid, len, state;
	size_t n = 1;

	if (snprintf(copy, sizeof(copy), "%s", line) >= (int)sizeof(copy))
		return false;
	for (c = strchr(copy, ','); c != NULL && n < COLUMNS; c = strchr(c, ',')) {
		*c++ = '\0';
		field[n++] = c;
	}
	/* The line may be one that is being written. */
	if (n < COLUMNS || c == NULL)
		return false;
	*c = '\0';
	if (!ip6_parse(field[COLUMN_ADDRESS], &l.what.addr) ||
		!number(field[COLUMN_VALID], &valid) || !number(field[COLUMN_EXPIRE], &l.expires) ||
		!number(field[COLUMN_TYPE], &type) || !number(field[COLUMN_IAID], &iaid) ||
		!number(field[COLUMN_LEN], &len) || !number(field[COLUMN_STATE], &state) ||
		strlen(field[COLUMN_DUID]) >= sizeof(l.duid) || len == 0 || len > 128 ||
		iaid > UINT32_MAX)
		return false;
	l.what.len = (uint8_t)len;
	l.prefix = type == 2;
	l.gone = valid == 0 || state != 0;
	l.iaid = (uint32_t)iaid;
	snprintf(l.duid, sizeof(l.duid), "%s", field[COLUMN_DUID]);
	*out = l;
	return type == 0 || type == 2;
}

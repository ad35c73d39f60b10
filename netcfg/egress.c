#include "netcfg/egress.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/util.h"

/* ---- entries ---- */

static void mask(unsigned char *address, unsigned bytes, uint64_t len)
{
	for (unsigned i = 0; i < bytes; i++) {
		unsigned left = len > i * 8 ? (unsigned)(len - i * 8) : 0;

		address[i] &= left >= 8 ? 0xff : (unsigned char)(0xff00 >> left);
	}
}

/* An address or a prefix, written as nft lists it. */
static bool parse_net(const char *text, int family, struct egress_entry *e)
{
	const char *slash = strchr(text, '/');
	uint64_t max = family == AF_INET ? 32 : 128, len = max;
	char host[INET6_ADDRSTRLEN], plain[INET6_ADDRSTRLEN];
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned char address[16];

	if (n >= sizeof(host) || (slash != NULL && parse_u64(slash + 1, 0, max, &len, NULL) < 0))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (inet_pton(family, host, address) != 1)
		return false;
	mask(address, (unsigned)max / 8, len);
	inet_ntop(family, address, plain, sizeof(plain));
	snprintf(e->host, sizeof(e->host), "%s/%u", plain, (unsigned)len);
	if (len == max)
		snprintf(e->host, sizeof(e->host), "%s", plain);
	e->family = family;
	return true;
}

/* Of letters, digits and hyphens, and with something that no address has. */
static bool parse_name(const char *text, struct egress_entry *e)
{
	size_t n = strlen(text), label = 0;
	bool letters = false;

	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i <= n; i++) {
		char c = text[i];

		if (c == '.' || c == '\0') {
			if (label == 0 || label > 63 || text[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)c) && (c != '-' || label == 0))
			return false;
		letters = letters || isalpha((unsigned char)c);
		label++;
		e->host[i] = (char)tolower((unsigned char)c);
	}
	for (size_t i = 0; i < n; i++)
		if (text[i] == '.')
			e->host[i] = '.';
	e->host[n] = '\0';
	e->family = 0;
	return letters;
}

static bool parse_host(const char *host, struct egress_entry *e)
{
	return parse_net(host, AF_INET, e) || parse_net(host, AF_INET6, e) || parse_name(host, e);
}

/* Takes ":PORT" off the end of host; false: it is no port. */
static bool split_port(char *host, struct egress_entry *e)
{
	char *colon = strrchr(host, ':'), *end = strchr(host, ']');
	uint64_t port;

	if (host[0] == '[') {
		if (end == NULL || (end[1] != ':' && end[1] != '\0'))
			return false;
		colon = end[1] == ':' ? end + 1 : NULL;
		*end = '\0';
		memmove(host, host + 1, strlen(host));
	} else if (colon != NULL && strchr(host, ':') != colon) {
		return true; /* IPv6, and nothing else */
	}
	if (colon == NULL)
		return true;
	if (parse_u64(colon + 1, 1, 65535, &port, NULL) < 0)
		return false;
	e->port = (uint16_t)port;
	*colon = '\0';
	return true;
}

int egress_parse(const char *text, struct egress_entry *out, struct err *err)
{
	struct egress_entry e = { .family = 0 };
	const char *host = text;
	char copy[320];
	unsigned proto = 0;

	if (str_starts(text, "tcp/") || str_starts(text, "udp/")) {
		proto = text[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP;
		host += 4;
	}
	if (strlen(host) >= sizeof(copy))
		goto bad;
	strcpy(copy, host);
	if (!split_port(copy, &e) || !parse_host(copy, &e) || (proto != 0 && e.port == 0))
		goto bad;
	if (e.port != 0)
		e.proto = proto != 0 ? proto : IPPROTO_TCP;
	*out = e;
	return 0;
bad:
	return err_set(err, -EINVAL,
		"%s is not HOST, HOST:PORT or udp/HOST:PORT with an address, a prefix or a name",
		quote(text));
}

/* ---- the table ---- */

static void put_rule(
	struct buf *out, const struct egress_spec *s, const struct egress_entry *e, const char *to)
{
	buf_printf(out, "add rule inet %s egress %s", s->table, to);
	if (e->proto != 0)
		buf_printf(out, " %s dport %u", e->proto == IPPROTO_UDP ? "udp" : "tcp", e->port);
	buf_adds(out, " accept\n");
}

static void put_entry(struct buf *out, const struct egress_spec *s, size_t i)
{
	const struct egress_entry *e = &s->v[i];
	char to[320];

	if (e->family != 0) {
		snprintf(to, sizeof(to), "%s daddr %s", e->family == AF_INET ? "ip" : "ip6",
			e->host);
		put_rule(out, s, e, to);
		return;
	}
	snprintf(to, sizeof(to), "ip daddr @n%zu", i);
	put_rule(out, s, e, to);
	snprintf(to, sizeof(to), "ip6 daddr @m%zu", i);
	put_rule(out, s, e, to);
}

void egress_text(struct buf *out, const struct egress_spec *s, bool anew)
{
	if (anew)
		egress_delete_text(out, s->table);
	buf_printf(out, "add table inet %s\n", s->table);
	for (size_t i = 0; i < s->n; i++) {
		if (s->v[i].family != 0)
			continue;
		buf_printf(out, "add set inet %s n%zu { type ipv4_addr; }\n", s->table, i);
		buf_printf(out, "add set inet %s m%zu { type ipv6_addr; }\n", s->table, i);
	}
	/* Before the other table's chain: what that one drops need not be answered. */
	buf_printf(out,
		"add chain inet %s egress { type filter hook forward priority -5; policy accept; }\n"
		"flush chain inet %s egress\n",
		s->table, s->table);
	buf_printf(out, "add rule inet %s egress iifname != \"%s\" accept\n", s->table, s->link);
	buf_printf(out, "add rule inet %s egress oifname \"%s\" accept\n", s->table, s->link);
	buf_printf(out, "add rule inet %s egress ct state established,related accept\n", s->table);
	for (size_t i = 0; i < s->n; i++)
		put_entry(out, s, i);
	/* Guests learn at once, and not by waiting. */
	buf_printf(
		out, "add rule inet %s egress reject with icmpx type admin-prohibited\n", s->table);
}

void egress_delete_text(struct buf *out, const char *table)
{
	buf_printf(out, "table inet %s\ndelete table inet %s\n", table, table);
}

/* ---- dnsmasq ---- */

static bool is_below(const char *name, const char *parent)
{
	size_t n = strlen(name), p = strlen(parent);

	return n >= p && strcmp(name + n - p, parent) == 0 && (n == p || name[n - p - 1] == '.');
}

/*
 * Of all options that fit a name dnsmasq takes the longest alone, and of the same the last; so each name's
 * has all sets that the name belongs into.
 */
void egress_dnsmasq_args(struct strv *argv, const struct egress_spec *s)
{
	struct buf text = { 0 };
	bool names = false;

	for (size_t i = 0; i < s->n; i++) {
		if (s->v[i].family != 0)
			continue;
		buf_clear(&text);
		buf_printf(&text, "--nftset=/%s/", s->v[i].host);
		for (size_t k = 0, first = 1; k < s->n; k++) {
			if (s->v[k].family != 0 || !is_below(s->v[i].host, s->v[k].host))
				continue;
			buf_printf(&text, "%s4#inet#%s#n%zu,6#inet#%s#m%zu", first ? "" : ",",
				s->table, k, s->table, k);
			first = 0;
		}
		strv_add(argv, buf_str(&text));
		names = true;
	}
	/* An answer from its memory puts nothing into a set. */
	if (names)
		strv_add(argv, "--cache-size=0");
	buf_finish(&text);
}

#include "netcfg/dnsmasq-bridge.h"

#include <inttypes.h>
#include <net/if.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_label(const char *s)
{
	size_t len = strlen(s);

	return len > 0 && len <= 63 && s[0] != '-' && s[len - 1] != '-' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static void add_options(struct strv *v, const struct dnsmasq_bridge_spec *s)
{
	char gateway[16];

	ip4_format(s->gateway, gateway);
	/* Without a value an option is left out. */
	if (s->router)
		strv_addf(v, "--dhcp-option=option:router,%s", gateway);
	else
		strv_add(v, "--dhcp-option=option:router");
	if (s->dns != NULL)
		strv_addf(v, "--dhcp-option=option:dns-server,%s", gateway);
	else
		strv_add(v, "--dhcp-option=option:dns-server");
	if (s->mtu != 0)
		strv_addf(v, "--dhcp-option=option:mtu,%u", s->mtu);
}

int dnsmasq_bridge_args(const struct dnsmasq_bridge_spec *s, struct strv *out, struct err *err)
{
	char net[16], mask[16];
	struct strv v = { 0 };

	if (strlen(s->bridge) == 0 || strlen(s->bridge) >= IFNAMSIZ ||
		strpbrk(s->bridge, ",*/ ") != NULL)
		return err_set(err, -EINVAL, "dnsmasq: %s is no link", quote(s->bridge));
	ip4_format(s->net.addr, net);
	ip4_format((uint32_t) ~(0xffffffffull >> s->net.len), mask);
	strv_add(&v, s->binary);
	/* Nothing of the host's own dnsmasq: its configuration, its hosts, its leases. */
	strv_add(&v, "--conf-file=/dev/null");
	strv_add(&v, "--keep-in-foreground");
	strv_add(&v, "--log-facility=-");
	strv_add(&v, "--pid-file=");
	strv_add(&v, "--no-hosts");
	strv_addf(&v, "--interface=%s", s->bridge);
	strv_add(&v, "--except-interface=lo");
	strv_add(&v, "--bind-dynamic");
	strv_add(&v, "--no-ping");
	strv_add(&v, "--dhcp-authoritative");
	/* Clones of one image have one client id. */
	strv_add(&v, "--dhcp-ignore-clid");
	/* What a guest calls itself is no name for others to find it by. */
	strv_add(&v, "--dhcp-ignore-names");
	strv_addf(&v, "--dhcp-range=%s,static,%s,1h", net, mask);
	strv_addf(&v, "--dhcp-hostsdir=%s", s->dhcp_dir);
	strv_addf(&v, "--dhcp-leasefile=%s", s->lease_file);
	strv_add(&v, "--dhcp-lease-max=16777216");
	add_options(&v, s);
	if (s->dns != NULL)
		dnsmasq_dns_args(&v, s->dns);
	else
		strv_add(&v, "--port=0");
	if (s->v6 != NULL)
		dnsmasq6_args(s->v6, &v);
	if (v.bad) {
		strv_finish(&v);
		return err_nomem(err);
	}
	*out = v;
	return 0;
}

/* ---- files ---- */

/* What dnsmasq takes for something else in this place: "ignore", a time of lease. */
static bool is_keyword(const char *s)
{
	size_t digits = strspn(s, "0123456789");

	return strcmp(s, "ignore") == 0 || strcmp(s, "infinite") == 0 || s[digits] == '\0' ||
	       (digits > 0 && s[digits + 1] == '\0' && strchr("smhdw", s[digits]) != NULL);
}

void dnsmasq_reservation(struct buf *out, const char *mac, uint32_t address,
	const struct in6_addr *address6, const char *name)
{
	char text[IP6_TEXT];

	ip4_format(address, text);
	buf_printf(out, "%s,%s", mac, text);
	if (address6 != NULL) {
		ip6_format(address6, text);
		buf_printf(out, ",[%s]", text);
	}
	if (is_label(name) && !is_keyword(name))
		buf_printf(out, ",%s", name);
	buf_adds(out, "\n");
}

static void one_name(struct buf *out, const char *address, const char *name, const char *domain)
{
	/* The first is what the address is called, asked the other way round. */
	if (domain != NULL)
		buf_printf(out, "%s %s.%s %s\n", address, name, domain, name);
	else
		buf_printf(out, "%s %s\n", address, name);
}

void dnsmasq_names(struct buf *out, uint32_t address, const struct in6_addr *address6,
	const char *name, const char *domain)
{
	char text[IP6_TEXT];

	ip4_format(address, text);
	one_name(out, text, name, domain);
	if (address6 != NULL) {
		ip6_format(address6, text);
		one_name(out, text, name, domain);
	}
}

/* "1732212345 52:ab:.. 10.0.0.2 web-1 *"; the part of DHCPv6 begins with "duid". */
bool dnsmasq_lease_parse(const char *line, struct dnsmasq_lease *out)
{
	struct dnsmasq_lease l = { 0 };
	char address[64], name[256];

	if (sscanf(line, "%" SCNu64 " %17s %63s %255s", &l.expires, l.mac, address, name) != 4 ||
		strlen(l.mac) != 17 || !ip4_parse(address, &l.address))
		return false;
	if (strcmp(name, "*") != 0)
		snprintf(l.name, sizeof(l.name), "%.63s", name);
	*out = l;
	return true;
}

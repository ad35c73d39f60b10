#include "netcfg/dnsmasq6.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_list(struct strv *v, const char *option, const char *const *values,
	const char *before, const char *after)
{
	struct buf list = { 0 };

	/* Without a value the option is left out. */
	buf_printf(&list, "--dhcp-option=option6:%s", option);
	for (size_t i = 0; values != NULL && values[i] != NULL; i++)
		buf_printf(&list, ",%s%s%s", before, values[i], after);
	if (list.bad)
		v->bad = true;
	else
		strv_add(v, list.data);
	buf_finish(&list);
}

static const char *mode(const struct dnsmasq6_spec *s)
{
	if (s->dhcp)
		return s->autonomous ? "static,slaac" : "static";
	return s->other ? "ra-stateless" : "ra-only";
}

void dnsmasq6_args(const struct dnsmasq6_spec *s, struct strv *v)
{
	char net[IP6_TEXT], mtu[16] = "";

	ip6_format(&s->net.addr, net);
	if (s->mtu != 0)
		snprintf(mtu, sizeof(mtu), "mtu:%u,", s->mtu);
	strv_add(v, "--enable-ra");
	strv_addf(v, "--ra-param=%s,%s%" PRIu64 ",%" PRIu64, s->link, mtu, s->interval,
		s->router_lifetime);
	strv_addf(v, "--dhcp-range=%s,%s%s,%u,%" PRIu64, net, mode(s),
		s->on_link ? "" : ",off-link", s->net.len, s->lifetime);
	add_list(v, "dns-server", s->dns, "[", "]");
	if (s->search != NULL && s->search[0] != NULL)
		add_list(v, "domain-search", s->search, "", "");
	if (s->refresh != 0)
		strv_addf(v, "--dhcp-option=option6:information-refresh-time,%" PRIu64, s->refresh);
}

/* "1732212345 12345678 fd00::2 web-1 00:01:00:.."; IAIDs of temporary addresses begin with T. */
bool dnsmasq6_lease_parse(const char *line, struct dnsmasq6_lease *out)
{
	struct dnsmasq6_lease l = { 0 };
	char address[64];

	if (sscanf(line, "%" SCNu64 " %" SCNu32 " %63s %*s %399s", &l.expires, &l.iaid, address,
		    l.duid) != 4 ||
		!ip6_parse(address, &l.address))
		return false;
	*out = l;
	return true;
}

const char *dnsmasq6_server_duid(const char *line)
{
	return str_starts(line, "duid ") ? line + 5 : NULL;
}

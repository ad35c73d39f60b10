#include "netcfg/dnsmasq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>

static bool is_label(const char *s)
{
	static const char *const letters =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
	size_t len = strlen(s);

	return len > 0 && len <= 63 && strspn(s, letters) == len && s[0] != '-' &&
	       s[len - 1] != '-';
}

static bool is_mac(const char *s)
{
	if (strlen(s) != 17)
		return false;
	for (size_t i = 0; i < 17; i++) {
		if (i % 3 == 2 ? s[i] != ':' : strchr("0123456789abcdefABCDEF", s[i]) == NULL)
			return false;
	}
	return true;
}

static int check(const struct dnsmasq_p2p_spec *spec, struct err *err)
{
	struct in_addr in;

	/* Commas split dnsmasq's values, '*' at the end of a link's name is a wildcard. */
	if (strlen(spec->tap) == 0 || strlen(spec->tap) >= IFNAMSIZ ||
		strpbrk(spec->tap, ",*/ ") != NULL)
		return err_set(err, -EINVAL, "dnsmasq: %s is no link", quote(spec->tap));
	if (!is_mac(spec->mac))
		return err_set(err, -EINVAL, "dnsmasq: %s is no MAC address", quote(spec->mac));
	if (spec->net.len != 30 || (spec->net.addr & 3) != 0)
		return err_set(err, -EINVAL, "dnsmasq: the network of %s is no /30", spec->tap);
	for (size_t i = 0; spec->own_dns == NULL && spec->dns != NULL && spec->dns[i] != NULL;
		i++) {
		if (inet_pton(AF_INET, spec->dns[i], &in) != 1)
			return err_set(err, -EINVAL,
				"dnsmasq: %s is no IPv4 address of a DNS server",
				quote(spec->dns[i]));
	}
	return 0;
}

static void add_dns(struct strv *v, const struct dnsmasq_p2p_spec *spec, const char *router)
{
	const char *const *dns = spec->dns;
	struct buf list = { 0 };

	if (spec->own_dns != NULL) {
		strv_addf(v, "--dhcp-option=option:dns-server,%s", router);
		return;
	}
	/* Without a value the option is left out. */
	buf_adds(&list, "--dhcp-option=option:dns-server");
	for (size_t i = 0; dns != NULL && dns[i] != NULL; i++)
		buf_printf(&list, ",%s", dns[i]);
	if (list.bad)
		v->bad = true;
	else
		strv_add(v, list.data);
	buf_finish(&list);
}

int dnsmasq_p2p_args(const struct dnsmasq_p2p_spec *spec, struct strv *out, struct err *err)
{
	char router[16], client[16], client6[IP6_TEXT];
	struct strv v = { 0 };
	int r = check(spec, err);

	if (r < 0)
		return r;
	ip4_format(spec->net.addr + 1, router);
	ip4_format(spec->net.addr + 2, client);
	strv_add(&v, spec->binary);
	/* Nothing of the host's own dnsmasq: its configuration, its hosts, its leases. */
	strv_add(&v, "--conf-file=/dev/null");
	strv_add(&v, "--keep-in-foreground");
	strv_add(&v, "--log-facility=-");
	strv_addf(&v, "--pid-file=%s", spec->pid_file != NULL ? spec->pid_file : "");
	if (spec->own_dns != NULL) {
		strv_add(&v, "--except-interface=lo");
		dnsmasq_dns_args(&v, spec->own_dns);
	} else {
		strv_add(&v, "--port=0");
		strv_add(&v, "--no-resolv");
	}
	strv_add(&v, "--no-hosts");
	strv_add(&v, "--leasefile-ro");
	strv_addf(&v, "--interface=%s", spec->tap);
	strv_add(&v, "--bind-dynamic");
	strv_add(&v, "--no-ping");
	strv_add(&v, "--dhcp-authoritative");
	strv_add(&v, "--dhcp-ignore-clid");
	strv_addf(&v, "--dhcp-range=%s,static,255.255.255.252,infinite", client);
	strv_addf(&v, "--dhcp-host=%s,%s,infinite", spec->mac, client);
	strv_addf(&v, "--dhcp-option=option:router,%s", router);
	add_dns(&v, spec, router);
	/* As an option, not in dhcp-host: there "ignore", "infinite" and "1h" are no names. */
	if (spec->host_name != NULL && is_label(spec->host_name))
		strv_addf(&v, "--dhcp-option=12,%s", spec->host_name);
	if (spec->v6 != NULL) {
		dnsmasq6_args(spec->v6, &v);
		ip6_format(&spec->address6, client6);
		strv_addf(&v, "--dhcp-host=%s,[%s]", spec->mac, client6);
	}
	if (v.bad) {
		strv_finish(&v);
		return err_nomem(err);
	}
	*out = v;
	return 0;
}

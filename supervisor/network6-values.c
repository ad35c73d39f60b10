#include "supervisor/network6-values.h"

#include <errno.h>
#include <string.h>

#include "lib/util.h"

static int parse_net(const struct network_config *n, struct network6 *v, struct err *err)
{
	static const struct in6_addr multicast = { .s6_addr = { 0xff } };
	static const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	const struct ip6_prefix bad[] = { { multicast, 8 }, { local, 10 } };
	int r = ip6_prefix_parse(n->v6.cidr, &v->net, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (ip6_overlap(&v->net, &bad[i]))
			return err_set(err, -EINVAL,
				"%s is of no use for a network's own addresses", n->v6.cidr);
	if (n->kind != NETWORK_P2P && v->net.len > 126)
		return err_set(
			err, -EINVAL, "%s has no room for a gateway and a machine", n->v6.cidr);
	return 0;
}

static int parse_within(
	const struct network6 *v, const char *text, struct in6_addr *out, struct err *err)
{
	char net[IP6_TEXT + 4];

	if (!ip6_parse(text, out))
		return err_set(err, -EINVAL, "%s is not an IPv6 address", quote(text));
	ip6_prefix_format(&v->net, net);
	/* The first address of a network is every router's (RFC 4291, 2.6.1). */
	if (!ip6_in(&v->net, out) || ip6_equal(out, &v->net.addr))
		return err_set(err, -EINVAL, "%s is not an address for hosts in %s", text, net);
	return 0;
}

static int parse_range(const char *text, struct network6 *v, struct err *err)
{
	char first[IP6_TEXT];
	const char *dash;
	size_t n;
	int r;

	v->first = ip6_add(&v->net.addr, 2, 0);
	v->last = ip6_last(&v->net);
	if (text == NULL)
		return 0;
	dash = strchr(text, '-');
	n = strcspn(text, " \t-");
	if (dash == NULL || n >= sizeof(first))
		return err_set(err, -EINVAL, "%s is not FIRST-LAST, such as fd00::100-fd00::1ff",
			quote(text));
	memcpy(first, text, n);
	first[n] = '\0';
	dash++;
	r = parse_within(v, first, &v->first, err);
	if (r == 0)
		r = parse_within(v, dash + strspn(dash, " \t"), &v->last, err);
	if (r < 0)
		return r;
	if (ip6_compare(&v->first, &v->last) > 0)
		return err_set(err, -EINVAL, "%s ends before it begins", quote(text));
	if (ip6_equal(&v->first, &v->last) && ip6_equal(&v->first, &v->gateway))
		return err_set(err, -EINVAL, "%s is the gateway alone", quote(text));
	return 0;
}

static bool chosen(int choice, bool otherwise)
{
	return choice == CHOICE_AUTO ? otherwise : choice == CHOICE_YES;
}

/* What would leave machines without addresses, or tell them to ask where nobody answers. */
static int parse_flags(
	const struct network_config *n, struct network6 *v, const char **key, struct err *err)
{
	v->dhcp = chosen(
		n->v6.dhcp, n->kind == NETWORK_P2P || n->v6.range != NULL || v->net.len != 64);
	v->autonomous = chosen(n->v6.autonomous, !v->dhcp);
	/* Prefixes are asked for where there is DHCPv6 at all. */
	v->other = chosen(n->v6.other, v->dhcp || n->v6.delegate != NULL);
	*key = "ra_managed";
	if (chosen(n->v6.managed, v->dhcp) != v->dhcp)
		return err_set(err, -EINVAL,
			v->dhcp ? "without it no machine asks for its address by DHCPv6; leave it out, or say dhcp6 = no"
				: "it sends machines to DHCPv6, which gives no addresses here: say dhcp6 = yes");
	*key = "ra_other";
	if (v->dhcp && !v->other)
		return err_set(err, -EINVAL,
			"it says nothing where addresses come by DHCPv6, and with them all else (RFC 4861, 4.2)");
	*key = "ra_autonomous";
	if (v->autonomous && (n->kind == NETWORK_P2P ? n->v6.length : v->net.len) != 64)
		return err_set(err, -EINVAL,
			"machines make up addresses from a /64 only (RFC 4862); say ra_autonomous = no");
	if (!v->autonomous && !v->dhcp)
		return err_set(
			err, -EINVAL, "without it and without dhcp6 no machine gets an address");
	*key = "range6";
	if (n->v6.range != NULL && !v->dhcp)
		return err_set(err, -EINVAL, "it is of no use with dhcp6 = no");
	*key = "ra_lifetime";
	if (n->v6.router_lifetime != 0 && n->v6.router_lifetime < n->v6.interval)
		return err_set(err, -EINVAL,
			"it would end before the next advertisement: it must not "
			"be less than ra_interval");
	*key = "refresh6";
	/* RFC 8415, 21.23: IRT_MINIMUM. */
	if (n->v6.refresh != 0 && n->v6.refresh < 600 * 1000)
		return err_set(err, -EINVAL, "it must be at least 10m");
	return 0;
}

static int parse_pool(
	const struct network_config *n, struct network6 *v, const char **key, struct err *err)
{
	int r;

	if (n->v6.delegate == NULL || n->kind == NETWORK_P2P)
		return 0;
	*key = "delegate";
	r = ip6_prefix_parse(n->v6.delegate, &v->pool, err);
	if (r < 0)
		return r;
	if (ip6_overlap(&v->pool, &v->net))
		return err_set(err, -EINVAL, "%s overlaps cidr6 %s", n->v6.delegate, n->v6.cidr);
	if (!v->other)
		return err_set(err, -EINVAL,
			"without ra_other and without dhcp6 no machine asks for a prefix");
	*key = "delegate_length";
	if (n->v6.delegate_length < v->pool.len)
		return err_set(err, -EINVAL, "%s holds no /%u", n->v6.delegate,
			(unsigned)n->v6.delegate_length);
	v->delegated = (uint8_t)n->v6.delegate_length;
	return 0;
}

static int parse_times(
	const struct network_config *n, struct network6 *v, const char **key, struct err *err)
{
	uint64_t lifetime = n->v6.lifetime;
	uint64_t preferred = n->v6.preferred != 0 ? n->v6.preferred : lifetime;

	*key = "lifetime6";
	/* dnsmasq's least (option.c, LEASE time of a dhcp-range). */
	if (!v->kea && lifetime < 120 * 1000)
		return err_set(err, -EINVAL,
			"it is less than 2m, which is possible with delegate, preferred6, renew6 or rebind6 only");
	if (n->kind == NETWORK_P2P)
		return 0;
	*key = "preferred6";
	if (n->v6.preferred > lifetime)
		return err_set(err, -EINVAL, "it is longer than lifetime6");
	*key = "renew6";
	if (n->v6.renew != 0 && !v->dhcp && v->pool.len == 0)
		return err_set(
			err, -EINVAL, "it is of no use with dhcp6 = no and without delegate");
	if (n->v6.renew > preferred)
		return err_set(err, -EINVAL, "it is longer than the address is preferred");
	*key = "rebind6";
	if (n->v6.rebind != 0 && !v->dhcp && v->pool.len == 0)
		return err_set(
			err, -EINVAL, "it is of no use with dhcp6 = no and without delegate");
	/* RFC 8415, 21.4. */
	if (n->v6.rebind != 0 && n->v6.rebind < n->v6.renew)
		return err_set(err, -EINVAL, "it is shorter than renew6");
	if (n->v6.rebind > lifetime)
		return err_set(err, -EINVAL, "it is longer than lifetime6");
	return 0;
}

/* Each subnet of cidr has its prefix of cidr6. */
static int check_p2p(const struct network_config *n, const struct network6 *v, struct err *err)
{
	struct ip4_prefix range;

	if (n->v6.length != 64 && n->v6.length != 127)
		return err_set(err, -EINVAL, "length6 is 64 or 127");
	if (n->cidr == NULL || ip4_prefix_parse(n->cidr, false, &range, NULL) < 0 || range.len > 30)
		return 0;
	if (v->net.len + (30u - range.len) > n->v6.length)
		return err_set(err, -EINVAL,
			"%s has no /%u for each /30 of %s: it must be a /%u or wider", n->v6.cidr,
			(unsigned)n->v6.length, n->cidr,
			(unsigned)n->v6.length - (30u - range.len));
	return 0;
}

int network6_values(
	const struct network_config *n, struct network6 *out, const char **key, struct err *err)
{
	struct network6 v = { 0 };
	int r;

	*key = "cidr6";
	v.kea = n->kind != NETWORK_P2P && (n->v6.delegate != NULL || n->v6.preferred != 0 ||
						  n->v6.renew != 0 || n->v6.rebind != 0);
	if (n->v6.cidr == NULL) {
		v.kea = false;
		*out = v;
		return 0;
	}
	r = parse_net(n, &v, err);
	if (r == 0 && n->kind == NETWORK_P2P)
		r = check_p2p(n, &v, err);
	if (r == 0 && n->kind != NETWORK_P2P) {
		*key = "gateway6";
		v.gateway = ip6_add(&v.net.addr, 1, 0);
		r = n->v6.gateway != NULL ? parse_within(&v, n->v6.gateway, &v.gateway, err) : 0;
		if (r == 0) {
			*key = "range6";
			r = parse_range(n->v6.range, &v, err);
		}
	}
	if (r == 0)
		r = parse_flags(n, &v, key, err);
	if (r == 0)
		r = parse_pool(n, &v, key, err);
	if (r == 0)
		r = parse_times(n, &v, key, err);
	if (r == 0)
		*out = v;
	return r;
}

bool network6_has(const struct network6 *v6, const struct in6_addr *address)
{
	return ip6_in(&v6->net, address) && !ip6_equal(address, &v6->gateway) &&
	       !ip6_equal(address, &v6->net.addr);
}

struct ip6_prefix network6_delegated(const struct network6 *v6, uint64_t n)
{
	return (struct ip6_prefix){ ip6_add(&v6->pool.addr, n, 128u - v6->delegated),
		v6->delegated };
}

uint64_t network6_ndelegated(const struct network6 *v6)
{
	unsigned bits = v6->delegated - v6->pool.len;

	if (v6->pool.len == 0)
		return 0;
	return bits >= 64 ? UINT64_MAX : (uint64_t)1 << bits;
}

struct ip6_prefix network6_p2p(
	const struct network_config *n, const struct network6 *v6, struct ip4_prefix net)
{
	struct ip6_prefix p = { .len = (uint8_t)n->v6.length };
	struct ip4_prefix range;

	if (n->cidr == NULL || ip4_prefix_parse(n->cidr, false, &range, NULL) < 0)
		return (struct ip6_prefix){ .len = 0 };
	p.addr = ip6_add(&v6->net.addr, (net.addr - range.addr) / 4, 128u - p.len);
	return p;
}

struct in6_addr network6_p2p_host(const struct ip6_prefix *p)
{
	/* A /127 has no address that is every router's (RFC 6164). */
	return ip6_add(&p->addr, p->len == 127 ? 0 : 1, 0);
}

struct in6_addr network6_p2p_guest(const struct ip6_prefix *p)
{
	return ip6_add(&p->addr, p->len == 127 ? 1 : 2, 0);
}

bool network6_without_dns(const struct network_config *n)
{
	return n->v6.dns.n == 1 && strcmp(n->v6.dns.v[0], "none") == 0;
}

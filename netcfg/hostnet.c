/* The part of netcfg/link.h that reads which IPv4 networks the host already uses. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "netcfg/netlink.h"

#define DUMP_TRIES 5

/*
 * Routes shorter than this stand for "everything else": besides 0.0.0.0/0 the halves and eighths
 * of it by which VPN clients cover a default route (0.0.0.0/1 and 128.0.0.0/1).
 */
#define DEFAULT_ROUTE_LEN 8

struct host_net {
	struct ip4_prefix net;
	uint32_t local;           /* an address: ours; a route: the gateway or 0 */
	unsigned char route_type; /* RTN_...; 0: an address */
	char ifname[IFNAMSIZ];    /* "": none */
};

struct host_nets {
	struct host_net *v;
	size_t n, cap;
	bool nomem;
	bool (*skip)(void *arg, const char *ifname);
	void *arg;
	/* The last name asked for: entries of one link come in a row. */
	unsigned index;
	char ifname[IFNAMSIZ];
};

static const char *name_of(struct host_nets *h, unsigned index)
{
	if (index != h->index || h->ifname[0] == '\0') {
		h->index = index;
		if (if_indextoname(index, h->ifname) == NULL)
			h->ifname[0] = '\0';
	}
	return h->ifname;
}

static void collect(struct host_nets *h, const struct host_net *net, unsigned index)
{
	const char *ifname = index == 0 ? "" : name_of(h, index);

	if (net->net.addr >> 24 == 127)
		return;
	if (h->skip != NULL && ifname[0] != '\0' && h->skip(h->arg, ifname))
		return;
	if (h->n == h->cap) {
		size_t cap = h->cap == 0 ? 32 : h->cap * 2;
		struct host_net *v = reallocarray(h->v, cap, sizeof(*v));

		if (v == NULL) {
			h->nomem = true;
			return;
		}
		h->v = v;
		h->cap = cap;
	}
	h->v[h->n] = *net;
	memcpy(h->v[h->n++].ifname, ifname, strlen(ifname) + 1);
}

static uint32_t attr_addr(struct nlattr *a)
{
	return a != NULL && nla_len(a) == 4 ? ntohl(nla_get_u32(a)) : 0;
}

static struct ip4_prefix network_of(uint32_t addr, unsigned len)
{
	uint32_t mask = len == 0 ? 0 : UINT32_MAX << (32 - len);

	return (struct ip4_prefix){ addr & mask, (uint8_t)len };
}

static void read_address(void *arg, struct nlmsghdr *hdr)
{
	const struct ifaddrmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFA_MAX + 1];
	struct host_net net = { 0 };

	if (hdr->nlmsg_type != RTM_NEWADDR || info->ifa_family != AF_INET ||
		info->ifa_prefixlen > 32 ||
		nlmsg_parse(hdr, sizeof(*info), attrs, IFA_MAX, NULL) < 0 ||
		attrs[IFA_ADDRESS] == NULL)
		return;
	/* IFA_ADDRESS is the peer's where there is one; then ours is a host's address beside it. */
	net.local = attr_addr(attrs[attrs[IFA_LOCAL] != NULL ? IFA_LOCAL : IFA_ADDRESS]);
	net.net = network_of(attr_addr(attrs[IFA_ADDRESS]), info->ifa_prefixlen);
	collect(arg, &net, info->ifa_index);
	if (!ip4_overlap(net.net, (struct ip4_prefix){ net.local, 32 })) {
		net.net = (struct ip4_prefix){ net.local, 32 };
		collect(arg, &net, info->ifa_index);
	}
}

static unsigned route_link(struct nlattr *attrs[])
{
	const struct rtnexthop *hop;

	if (attrs[RTA_OIF] != NULL)
		return nla_get_u32(attrs[RTA_OIF]);
	if (attrs[RTA_MULTIPATH] == NULL ||
		nla_len(attrs[RTA_MULTIPATH]) < (int)sizeof(struct rtnexthop))
		return 0;
	hop = nla_data(attrs[RTA_MULTIPATH]);
	return (unsigned)hop->rtnh_ifindex;
}

static bool claims_addresses(unsigned char type)
{
	return type == RTN_UNICAST || type == RTN_BLACKHOLE || type == RTN_UNREACHABLE ||
	       type == RTN_PROHIBIT;
}

static void read_route(void *arg, struct nlmsghdr *hdr)
{
	const struct rtmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];
	struct host_net net = { 0 };

	if (hdr->nlmsg_type != RTM_NEWROUTE || info->rtm_family != AF_INET ||
		!claims_addresses(info->rtm_type) || (info->rtm_flags & RTM_F_CLONED) != 0 ||
		info->rtm_dst_len < DEFAULT_ROUTE_LEN || info->rtm_dst_len > 32 ||
		nlmsg_parse(hdr, sizeof(*info), attrs, RTA_MAX, NULL) < 0)
		return;
	net.net = network_of(attr_addr(attrs[RTA_DST]), info->rtm_dst_len);
	net.local = attr_addr(attrs[RTA_GATEWAY]);
	net.route_type = info->rtm_type;
	collect(arg, &net, route_link(attrs));
}

static int dump(struct netlink *nl, int type, const void *body, size_t len, netlink_msg_fn *fn,
	struct host_nets *h)
{
	size_t before = h->n;
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_DUMP);

		if (msg != NULL && nlmsg_append(msg, (void *)body, len, NLMSG_ALIGNTO) < 0) {
			nlmsg_free(msg);
			msg = NULL;
		}
		h->n = before;
		r = netlink_talk(nl, msg, fn, h);
	}
	return h->nomem ? -ENOMEM : r;
}

static int read_host(struct netlink *nl, struct host_nets *h, struct err *err)
{
	struct ifaddrmsg addresses = { .ifa_family = AF_INET };
	struct rtmsg routes = { .rtm_family = AF_INET };
	int r = dump(nl, RTM_GETADDR, &addresses, sizeof(addresses), read_address, h);

	if (r == 0)
		r = dump(nl, RTM_GETROUTE, &routes, sizeof(routes), read_route, h);
	return r < 0 ? netlink_fail(err, r, "read the host's addresses and routes") : 0;
}

int host_prefixes(struct netlink *nl, bool (*skip)(void *arg, const char *ifname), void *arg,
	struct ip4_prefix **out, size_t *n, struct err *err)
{
	struct host_nets h = { .skip = skip, .arg = arg };
	struct ip4_prefix *v;
	int r = read_host(nl, &h, err);

	if (r < 0) {
		free(h.v);
		return r;
	}
	v = calloc(h.n + 1, sizeof(*v));
	if (v == NULL) {
		free(h.v);
		return err_nomem(err);
	}
	for (size_t i = 0; i < h.n; i++)
		v[i] = h.v[i].net;
	*out = v;
	*n = h.n;
	free(h.v);
	return 0;
}

static void describe(const struct host_net *net, char *who, size_t cap)
{
	struct ip4_prefix shown = net->net;
	char text[19], via[16];
	int len;

	if (net->route_type == 0) {
		shown.addr = net->local;
		ip4_prefix_format(shown, text);
		snprintf(who, cap, "%s has %s", net->ifname[0] != '\0' ? net->ifname : "a link",
			text);
		return;
	}
	ip4_prefix_format(shown, text);
	if (net->route_type != RTN_UNICAST) {
		snprintf(who, cap, "a route that blocks %s", text);
		return;
	}
	len = snprintf(who, cap, "a route %s", text);
	if (net->local != 0 && (size_t)len < cap) {
		ip4_format(net->local, via);
		len += snprintf(who + len, cap - (size_t)len, " via %s", via);
	}
	if (net->ifname[0] != '\0' && (size_t)len < cap)
		snprintf(who + len, cap - (size_t)len, " on %s", net->ifname);
}

bool host_overlap(struct netlink *nl, struct ip4_prefix p,
	bool (*skip)(void *arg, const char *ifname), void *arg, char *who, size_t cap)
{
	struct host_nets h = { .skip = skip, .arg = arg };
	struct err err;
	bool found = false;

	if (read_host(nl, &h, &err) < 0)
		log_warn("ignoring: %s", err.msg);
	/* Addresses come before routes: "eth0 has ..." tells more than the route that it makes. */
	for (size_t i = 0; i < h.n && !found; i++) {
		found = ip4_overlap(h.v[i].net, p);
		if (found)
			describe(&h.v[i], who, cap);
	}
	free(h.v);
	return found;
}

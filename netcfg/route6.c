#include "netcfg/route6.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>
#include "lib/util.h"
#include "netcfg/netlink.h"

static struct nl_msg *route_msg(int type, int flags, const struct ip6_prefix *to)
{
	struct rtmsg info = { .rtm_family = AF_INET6,
		.rtm_dst_len = to->len,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = ROUTE_PROTO,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST };
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

	if (msg == NULL)
		return NULL;
	if (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
		nla_put(msg, RTA_DST, sizeof(to->addr), &to->addr) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

int route6_set(struct netlink *nl, const struct ip6_prefix *to, const struct in6_addr *via,
	const char *link, struct err *err)
{
	struct link_info info;
	struct nl_msg *msg;
	char text[IP6_TEXT + 4], gateway[IP6_TEXT];
	int r = link_get(nl, link, &info);

	ip6_prefix_format(to, text);
	ip6_format(via, gateway);
	/* A second one beside the first would be another path to the same place, not a change. */
	if (r == 0)
		r = route6_delete(nl, to, err);
	if (r == 0) {
		msg = route_msg(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, to);
		if (msg != NULL && (nla_put(msg, RTA_GATEWAY, sizeof(*via), via) < 0 ||
					   nla_put_u32(msg, RTA_OIF, (uint32_t)info.index) < 0)) {
			nlmsg_free(msg);
			msg = NULL;
		}
		r = netlink_talk(nl, msg, NULL, NULL);
	}
	if (r == -EEXIST)
		return err_set(err, r, "another program has a route to %s", text);
	return r < 0 ? netlink_fail(err, r, "route to %s via %s dev %s", text, gateway, link) : 0;
}

int route6_delete(struct netlink *nl, const struct ip6_prefix *to, struct err *err)
{
	char text[IP6_TEXT + 4];
	int r = netlink_talk(nl, route_msg(RTM_DELROUTE, 0, to), NULL, NULL);

	if (r == 0 || r == -ESRCH)
		return 0;
	ip6_prefix_format(to, text);
	return netlink_fail(err, r, "delete the route to %s", text);
}

/* ---- looking ---- */

struct found {
	struct ip6_prefix to;
	struct in6_addr via;
	int index;
	bool yes;
};

static void read_route(void *arg, struct nlmsghdr *hdr)
{
	const struct rtmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];
	struct found *f = arg;

	if (hdr->nlmsg_type != RTM_NEWROUTE ||
		nlmsg_parse(hdr, sizeof(*info), attrs, RTA_MAX, NULL) < 0 ||
		attrs[RTA_DST] == NULL || attrs[RTA_GATEWAY] == NULL || attrs[RTA_OIF] == NULL ||
		nla_len(attrs[RTA_DST]) != 16 || nla_len(attrs[RTA_GATEWAY]) != 16)
		return;
	f->yes = info->rtm_dst_len == f->to.len && info->rtm_protocol == ROUTE_PROTO &&
		 memcmp(nla_data(attrs[RTA_DST]), &f->to.addr, 16) == 0 &&
		 memcmp(nla_data(attrs[RTA_GATEWAY]), &f->via, 16) == 0 &&
		 (int)nla_get_u32(attrs[RTA_OIF]) == f->index;
}

/* By asking which way an address of it would go, rather than for the whole table. */
int route6_has(struct netlink *nl, const struct ip6_prefix *to, const struct in6_addr *via,
	int index, bool *out)
{
	struct found f = { *to, *via, index, false };
	struct rtmsg info = {
		.rtm_family = AF_INET6, .rtm_dst_len = 128, .rtm_flags = RTM_F_FIB_MATCH
	};
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST);
	int r;

	if (msg != NULL && (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
				   nla_put(msg, RTA_DST, sizeof(to->addr), &to->addr) < 0)) {
		nlmsg_free(msg);
		msg = NULL;
	}
	r = netlink_talk(nl, msg, read_route, &f);
	/* There is no way there at all. */
	if (r == -ENETUNREACH || r == -EHOSTUNREACH)
		r = 0;
	if (r == 0)
		*out = f.yes;
	return r;
}

/* ---- neighbours ---- */

struct neighbour {
	int index;
	const char *mac;
	struct in6_addr made; /* of the MAC */
	struct in6_addr addr;
	bool found;
};

static void read_neighbour(void *arg, struct nlmsghdr *hdr)
{
	const struct ndmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[NDA_MAX + 1];
	struct neighbour *n = arg;
	struct in6_addr addr;
	const uint8_t *m;
	char mac[18];

	if (hdr->nlmsg_type != RTM_NEWNEIGH || info->ndm_ifindex != n->index ||
		(info->ndm_state & (NUD_FAILED | NUD_INCOMPLETE | NUD_NOARP)) != 0 ||
		nlmsg_parse(hdr, sizeof(*info), attrs, NDA_MAX, NULL) < 0 ||
		attrs[NDA_DST] == NULL || attrs[NDA_LLADDR] == NULL ||
		nla_len(attrs[NDA_DST]) != 16 || nla_len(attrs[NDA_LLADDR]) != 6)
		return;
	memcpy(&addr, nla_data(attrs[NDA_DST]), sizeof(addr));
	m = nla_data(attrs[NDA_LLADDR]);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	if (strcmp(mac, n->mac) != 0 || !IN6_IS_ADDR_LINKLOCAL(&addr) ||
		(n->found && ip6_equal(&n->addr, &n->made)))
		return;
	n->addr = addr;
	n->found = true;
}

bool neighbour6_local(struct netlink *nl, int index, const char *mac, struct in6_addr *out)
{
	struct neighbour n = { .index = index, .mac = mac };
	struct ndmsg info = { .ndm_family = AF_INET6, .ndm_ifindex = index };
	struct nl_msg *msg;
	int r = -EINTR;

	ip6_local_of(mac, &n.made);
	for (int i = 0; r == -EINTR && i < 3; i++) {
		msg = nlmsg_alloc_simple(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP);
		if (msg != NULL && (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
					   nla_put_u32(msg, NDA_IFINDEX, (uint32_t)index) < 0)) {
			nlmsg_free(msg);
			msg = NULL;
		}
		r = netlink_talk(nl, msg, read_neighbour, &n);
	}
	if (n.found)
		*out = n.addr;
	return n.found;
}

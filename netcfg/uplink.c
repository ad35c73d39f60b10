#include "netcfg/uplink.h"

#include <errno.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>

#include "netcfg/netlink.h"

#define DUMP_TRIES 5

struct search {
	unsigned char family;
	bool found;
	uint32_t metric;
	int index;
};

static int link_of(struct nlattr *attrs[])
{
	const struct rtnexthop *hop;

	if (attrs[RTA_OIF] != NULL)
		return (int)nla_get_u32(attrs[RTA_OIF]);
	if (attrs[RTA_MULTIPATH] == NULL ||
		nla_len(attrs[RTA_MULTIPATH]) < (int)sizeof(struct rtnexthop))
		return 0;
	hop = nla_data(attrs[RTA_MULTIPATH]);
	return hop->rtnh_ifindex;
}

static void read_route(void *arg, struct nlmsghdr *hdr)
{
	const struct rtmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];
	struct search *s = arg;
	uint32_t metric;
	int index;

	if (hdr->nlmsg_type != RTM_NEWROUTE || info->rtm_family != s->family ||
		info->rtm_dst_len != 0 || info->rtm_type != RTN_UNICAST ||
		info->rtm_table != RT_TABLE_MAIN ||
		nlmsg_parse(hdr, sizeof(*info), attrs, RTA_MAX, NULL) < 0)
		return;
	index = link_of(attrs);
	metric = attrs[RTA_PRIORITY] != NULL ? nla_get_u32(attrs[RTA_PRIORITY]) : 0;
	if (index == 0 || (s->found && metric >= s->metric))
		return;
	s->found = true;
	s->metric = metric;
	s->index = index;
}

int uplink_get(struct netlink *nl, int family, struct uplink *out, struct err *err)
{
	struct rtmsg body = { .rtm_family = (unsigned char)family };
	struct search s = { .found = false };
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP);

		if (msg != NULL && nlmsg_append(msg, &body, sizeof(body), NLMSG_ALIGNTO) < 0) {
			nlmsg_free(msg);
			msg = NULL;
		}
		s = (struct search){ .family = (unsigned char)family };
		r = netlink_talk(nl, msg, read_route, &s);
	}
	if (r < 0)
		return netlink_fail(err, r, "read the host's default route");
	*out = (struct uplink){ .index = s.index };
	if (s.index != 0 && if_indextoname((unsigned)s.index, out->name) == NULL)
		out->name[0] = '\0';
	return 0;
}

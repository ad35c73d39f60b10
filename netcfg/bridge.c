#include "netcfg/bridge.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <string.h>
#include "lib/str.h"
#include "netcfg/netlink.h"

/* A message that did not fit is none: netlink_talk() takes that for -ENOMEM. */
static struct nl_msg *whole(struct nl_msg *msg, int r)
{
	if (msg != NULL && r < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static bool port_learns(struct nlattr *info)
{
	struct nlattr *port = nla_find(nla_data(info), nla_len(info), IFLA_INFO_SLAVE_DATA);
	struct nlattr *learning = port != NULL ? nla_find(nla_data(port), nla_len(port),
							 IFLA_BRPORT_LEARNING)
					       : NULL;

	return learning != NULL && nla_get_u8(learning) != 0;
}

static void read_bridge(void *arg, struct nlmsghdr *hdr)
{
	const struct ifinfomsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFLA_MAX + 1], *kind = NULL;
	struct bridge_info *out = arg;

	if (hdr->nlmsg_type != RTM_NEWLINK ||
		nlmsg_parse(hdr, sizeof(*info), attrs, IFLA_MAX, NULL) < 0)
		return;
	out->index = info->ifi_index;
	out->up = (info->ifi_flags & IFF_UP) != 0;
	out->master = attrs[IFLA_MASTER] != NULL ? (int)nla_get_u32(attrs[IFLA_MASTER]) : 0;
	out->mtu = attrs[IFLA_MTU] != NULL ? nla_get_u32(attrs[IFLA_MTU]) : 0;
	if (attrs[IFLA_IFALIAS] != NULL)
		nla_strlcpy(out->alias, attrs[IFLA_IFALIAS], sizeof(out->alias));
	if (attrs[IFLA_LINKINFO] != NULL)
		kind = nla_find(nla_data(attrs[IFLA_LINKINFO]), nla_len(attrs[IFLA_LINKINFO]),
			IFLA_INFO_KIND);
	if (attrs[IFLA_LINKINFO] != NULL && out->master != 0)
		out->learns = port_learns(attrs[IFLA_LINKINFO]);
	out->is_bridge = kind != NULL && nla_strcmp(kind, "bridge") == 0;
}

int bridge_get(struct netlink *nl, const char *name, struct bridge_info *out)
{
	struct bridge_info info = { 0 };
	int r = netlink_talk(nl, link_msg(RTM_GETLINK, 0, 0, name, 0), read_bridge, &info);

	if (r == 0 && info.index == 0)
		r = -ENODEV;
	if (r == 0)
		*out = info;
	return r;
}

int bridge_make(struct netlink *nl, const char *name, struct err *err)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name, 0);
	struct nlattr *info = msg != NULL ? nla_nest_start(msg, IFLA_LINKINFO) : NULL;
	int r = info == NULL ? -1 : nla_put_string(msg, IFLA_INFO_KIND, "bridge");

	if (r >= 0)
		nla_nest_end(msg, info);
	r = netlink_talk(nl, whole(msg, r), NULL, NULL);
	if (r == -EEXIST)
		return err_set(err, r, "the name %s is taken by another link", name);
	return r < 0 ? netlink_fail(err, r, "bridge %s", name) : 0;
}

int bridge_enslave(struct netlink *nl, const char *port, const char *bridge, struct err *err)
{
	struct bridge_info info = { 0 };
	struct nl_msg *msg;
	int r = bridge != NULL ? bridge_get(nl, bridge, &info) : 0;

	if (r < 0)
		return netlink_fail(err, r, "bridge %s", bridge);
	msg = link_msg(RTM_NEWLINK, 0, 0, port, 0);
	r = msg == NULL ? -1 : nla_put_u32(msg, IFLA_MASTER, (uint32_t)info.index);
	r = netlink_talk(nl, whole(msg, r), NULL, NULL);
	if (r == -EXFULL)
		return err_set(err, r, "link %s: bridge %s has its 1023 ports", port, bridge);
	if (r < 0)
		return netlink_fail(
			err, r, "link %s: port of %s", port, bridge != NULL ? bridge : "nothing");
	return 0;
}

static int set_port(struct netlink *nl, int index, const struct bridge_port *as)
{
	struct ifinfomsg info = { .ifi_family = AF_BRIDGE, .ifi_index = index };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST);
	struct nlattr *nest = NULL;
	int r = msg == NULL ? -1 : nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO);

	if (r >= 0)
		nest = nla_nest_start(msg, IFLA_PROTINFO | NLA_F_NESTED);
	r = nest == NULL ? -1 : nla_put_u8(msg, IFLA_BRPORT_ISOLATED, as->isolated);
	if (r >= 0)
		r = nla_put_u8(msg, IFLA_BRPORT_LEARNING, as->mac == NULL);
	if (r >= 0)
		r = nla_put_u8(msg, IFLA_BRPORT_UNICAST_FLOOD, as->flood);
	/* Where the bridge speaks STP a machine has no say in it. */
	if (r >= 0)
		r = nla_put_u8(msg, IFLA_BRPORT_GUARD, 1);
	if (r >= 0)
		nla_nest_end(msg, nest);
	return netlink_talk(nl, whole(msg, r), NULL, NULL);
}

/* Sticky: what is static alone still moves to where a frame comes from (br_fdb_update()). */
static int set_place(struct netlink *nl, int index, const char *mac)
{
	struct ndmsg entry = { .ndm_family = AF_BRIDGE,
		.ndm_ifindex = index,
		.ndm_state = NUD_NOARP,
		.ndm_flags = NTF_MASTER | NTF_STICKY };
	struct nl_msg *msg = nlmsg_alloc_simple(
		RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
	struct ether_addr addr;
	int r = msg == NULL || ether_aton_r(mac, &addr) == NULL ? -1 : 0;

	if (r == 0)
		r = nlmsg_append(msg, &entry, sizeof(entry), NLMSG_ALIGNTO);
	if (r >= 0)
		r = nla_put(msg, NDA_LLADDR, sizeof(addr), &addr);
	return netlink_talk(nl, whole(msg, r), NULL, NULL);
}

int bridge_set_port(
	struct netlink *nl, const char *port, const struct bridge_port *as, struct err *err)
{
	struct link_info link;
	int r = link_get(nl, port, &link);

	if (r < 0)
		return netlink_fail(err, r, "link %s", port);
	r = set_port(nl, link.index, as);
	if (r == 0 && as->mac != NULL)
		r = set_place(nl, link.index, as->mac);
	return r < 0 ? netlink_fail(err, r, "link %s: what it may do as a port", port) : 0;
}

int link_down(struct netlink *nl, const char *name, struct err *err)
{
	struct ifinfomsg info = { .ifi_change = IFF_UP };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_REQUEST);
	int r = msg == NULL ? -1 : nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO);

	if (r >= 0)
		r = nla_put_string(msg, IFLA_IFNAME, name);
	r = netlink_talk(nl, whole(msg, r), NULL, NULL);
	return r < 0 ? netlink_fail(err, r, "link %s: take it down", name) : 0;
}

int link_set_group(struct netlink *nl, const char *name, unsigned group, struct err *err)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, 0, name, 0);
	int r = msg == NULL ? -1 : nla_put_u32(msg, IFLA_GROUP, group);

	r = netlink_talk(nl, whole(msg, r), NULL, NULL);
	return r < 0 ? netlink_fail(err, r, "link %s: set its group", name) : 0;
}

int link_set_mtu(struct netlink *nl, const char *name, unsigned mtu, struct err *err)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, 0, name, 0);
	int r = msg == NULL ? -1 : nla_put_u32(msg, IFLA_MTU, mtu);

	r = netlink_talk(nl, whole(msg, r), NULL, NULL);
	return r < 0 ? netlink_fail(err, r, "link %s: set its MTU to %u", name, mtu) : 0;
}

#include "netcfg/vlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <string.h>
#include "netcfg/netlink.h"

struct reading {
	struct vlan_info info;
	bool found, is_vlan;
};

static struct nlattr *find_in(struct nlattr *nest, int type)
{
	return nest != NULL ? nla_find(nla_data(nest), nla_len(nest), type) : NULL;
}

static void read_vlan(void *arg, struct nlmsghdr *hdr)
{
	struct nlattr *attrs[IFLA_MAX + 1], *kind, *id;
	struct reading *r = arg;

	if (hdr->nlmsg_type != RTM_NEWLINK ||
		nlmsg_parse(hdr, sizeof(struct ifinfomsg), attrs, IFLA_MAX, NULL) < 0)
		return;
	r->found = true;
	kind = find_in(attrs[IFLA_LINKINFO], IFLA_INFO_KIND);
	id = find_in(find_in(attrs[IFLA_LINKINFO], IFLA_INFO_DATA), IFLA_VLAN_ID);
	r->is_vlan = kind != NULL && nla_strcmp(kind, "vlan") == 0 && id != NULL;
	if (!r->is_vlan)
		return;
	r->info.id = nla_get_u16(id);
	r->info.parent = attrs[IFLA_LINK] != NULL ? (int)nla_get_u32(attrs[IFLA_LINK]) : 0;
}

int vlan_get(struct netlink *nl, const char *name, struct vlan_info *out)
{
	struct reading reading = { .found = false };
	int r = netlink_talk(nl, link_msg(RTM_GETLINK, 0, 0, name, 0), read_vlan, &reading);

	if (r == 0 && !reading.found)
		r = -ENODEV;
	if (r == 0 && !reading.is_vlan)
		r = -EMEDIUMTYPE;
	if (r == 0)
		*out = reading.info;
	return r;
}

static struct nl_msg *make_msg(const char *name, int parent, unsigned id)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name, 0);
	struct nlattr *info, *data;

	if (msg == NULL)
		return NULL;
	if (nla_put_u32(msg, IFLA_LINK, (uint32_t)parent) < 0 ||
		(info = nla_nest_start(msg, IFLA_LINKINFO)) == NULL ||
		nla_put_string(msg, IFLA_INFO_KIND, "vlan") < 0 ||
		(data = nla_nest_start(msg, IFLA_INFO_DATA)) == NULL ||
		nla_put_u16(msg, IFLA_VLAN_ID, (uint16_t)id) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return msg;
}

int vlan_make(
	struct netlink *nl, const char *name, const char *parent, unsigned id, struct err *err)
{
	int index, r = link_index(nl, parent, &index, err);

	if (r < 0)
		return r;
	r = netlink_talk(nl, make_msg(name, index, id), NULL, NULL);
	if (r == -EOPNOTSUPP)
		return err_set(err, r,
			"VLAN %u of %s: this kernel has no 802.1Q VLANs (module 8021q)", id,
			parent);
	if (r == -EEXIST)
		return err_set(err, r,
			"VLAN %u of %s: it is there already, or the name %s is taken", id, parent,
			name);
	return r < 0 ? netlink_fail(err, r, "VLAN %u of %s", id, parent) : 0;
}

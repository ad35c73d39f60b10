#include "netcfg/shape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"
#include "netcfg/netlink.h"

#define HANDLE      0x0d0e0000u /* by which our buckets are known */
#define INGRESS     0xffff0000u
#define MIN_BURST   (32 * 1024)
#define LATENCY_DIV 20 /* what may wait, as a part of a second */
#define BURST_DIV   100
#define RATE_MIN    8000ull
#define RATE_MAX    400000000000ull

/* ---- values ---- */

static bool parse_rate(const char *text, size_t n, uint64_t *out)
{
	uint64_t factor = 1, v;
	char copy[24];

	if (n == 0 || n >= sizeof(copy))
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (copy[n - 1] == 'k')
		factor = 1000;
	else if (copy[n - 1] == 'M')
		factor = 1000000;
	else if (copy[n - 1] == 'G')
		factor = 1000000000;
	if (factor > 1)
		copy[n - 1] = '\0';
	if (parse_u64(copy, 0, RATE_MAX / factor, &v, NULL) < 0)
		return false;
	*out = v * factor;
	return *out == 0 || *out >= RATE_MIN;
}

int shape_parse(const char *text, struct shape *out, struct err *err)
{
	const char *slash = strchr(text, '/');
	struct shape s;

	if (slash != NULL ? !parse_rate(text, (size_t)(slash - text), &s.up) ||
				    !parse_rate(slash + 1, strlen(slash + 1), &s.down)
			  : !parse_rate(text, strlen(text), &s.up))
		return err_set(err, -EINVAL,
			"%s is not a rate in bits a second from 8k to 400G, such as 10M, or UP/DOWN",
			quote(text));
	if (slash == NULL)
		s.down = s.up;
	*out = s;
	return 0;
}

void shape_ifb_name(const char *tap, char out[16])
{
	snprintf(out, 16, "ifb%.12s", tap + strlen("tap"));
}

/* ---- messages ---- */

static struct nl_msg *tc_msg(
	int type, int flags, int index, uint32_t parent, uint32_t handle, uint32_t info)
{
	struct tcmsg tcm = {
		.tcm_ifindex = index, .tcm_parent = parent, .tcm_handle = handle, .tcm_info = info
	};
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);

	if (msg != NULL && nlmsg_append(msg, &tcm, sizeof(tcm), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static struct nl_msg *whole(struct nl_msg *msg, bool good)
{
	if (msg != NULL && !good) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* sch_tbf.c: burst in bytes wins over the ticks in the parameters; larger packets are split. */
static bool put_bucket(struct nl_msg *msg, uint64_t bits)
{
	uint64_t bytes = bits / 8;
	uint32_t burst = (uint32_t)MAX(bytes / BURST_DIV, (uint64_t)MIN_BURST);
	struct tc_tbf_qopt q = { .rate.linklayer = TC_LINKLAYER_ETHERNET,
		.rate.rate = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes,
		.limit = (uint32_t)MIN(bytes / LATENCY_DIV + burst, (uint64_t)INT32_MAX) };
	struct nlattr *options;

	if (nla_put_string(msg, TCA_KIND, "tbf") < 0 ||
		(options = nla_nest_start(msg, TCA_OPTIONS)) == NULL ||
		nla_put(msg, TCA_TBF_PARMS, sizeof(q), &q) < 0 ||
		nla_put_u32(msg, TCA_TBF_BURST, burst) < 0 ||
		(bytes > UINT32_MAX && nla_put_u64(msg, TCA_TBF_RATE64, bytes) < 0))
		return false;
	nla_nest_end(msg, options);
	return true;
}

static int set_bucket(struct netlink *nl, int index, uint64_t bits)
{
	struct nl_msg *msg;
	int r;

	if (bits == 0) {
		/* Only ours; there may be none. */
		r = netlink_talk(
			nl, tc_msg(RTM_DELQDISC, 0, index, TC_H_ROOT, HANDLE, 0), NULL, NULL);
		return r == -ENOENT || r == -EINVAL ? 0 : r;
	}
	msg = tc_msg(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, TC_H_ROOT, HANDLE, 0);
	return netlink_talk(nl, whole(msg, msg != NULL && put_bucket(msg, bits)), NULL, NULL);
}

/* cls_u32 with a key that everything has: it is where cls_matchall is not. */
static bool put_redirect(struct nl_msg *msg, int to)
{
	struct {
		struct tc_u32_sel sel;
		struct tc_u32_key key;
	} all = { .sel.flags = TC_U32_TERMINAL, .sel.nkeys = 1 };
	struct tc_mirred to_ifb = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to
	};
	struct nlattr *options, *actions, *action, *parameters;

	if (nla_put_string(msg, TCA_KIND, "u32") < 0 ||
		(options = nla_nest_start(msg, TCA_OPTIONS)) == NULL ||
		nla_put(msg, TCA_U32_SEL, sizeof(all), &all) < 0 ||
		(actions = nla_nest_start(msg, TCA_U32_ACT)) == NULL ||
		(action = nla_nest_start(msg, 1)) == NULL ||
		nla_put_string(msg, TCA_ACT_KIND, "mirred") < 0 ||
		(parameters = nla_nest_start(msg, TCA_ACT_OPTIONS)) == NULL ||
		nla_put(msg, TCA_MIRRED_PARMS, sizeof(to_ifb), &to_ifb) < 0)
		return false;
	nla_nest_end(msg, parameters);
	nla_nest_end(msg, action);
	nla_nest_end(msg, actions);
	nla_nest_end(msg, options);
	return true;
}

static int set_way_in(struct netlink *nl, int tap, int ifb)
{
	struct nl_msg *msg = tc_msg(RTM_DELQDISC, 0, tap, TC_H_INGRESS, INGRESS, 0);
	int r = netlink_talk(nl, msg, NULL, NULL);

	if (r == -ENOENT || r == -EINVAL)
		r = 0;
	if (r < 0 || ifb == 0)
		return r;
	msg = tc_msg(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, tap, TC_H_INGRESS, INGRESS, 0);
	msg = whole(msg, msg != NULL && nla_put_string(msg, TCA_KIND, "ingress") >= 0);
	r = netlink_talk(nl, msg, NULL, NULL);
	if (r < 0)
		return r;
	msg = tc_msg(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, tap, INGRESS, 0,
		TC_H_MAKE(1u << 16, htons(ETH_P_ALL)));
	return netlink_talk(nl, whole(msg, msg != NULL && put_redirect(msg, ifb)), NULL, NULL);
}

static int make_ifb(struct netlink *nl, const char *name)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name, IFF_UP);
	struct nlattr *info = msg != NULL ? nla_nest_start(msg, IFLA_LINKINFO) : NULL;
	bool good = info != NULL && nla_put_string(msg, IFLA_INFO_KIND, "ifb") >= 0;
	int r;

	if (good)
		nla_nest_end(msg, info);
	r = netlink_talk(nl, whole(msg, good), NULL, NULL);
	return r == -EEXIST ? 0 : r;
}

int shape_set(struct netlink *nl, const char *tap, const struct shape *shape, struct err *err)
{
	struct link_info link, ifb = { 0 };
	char name[16];
	int r = link_get(nl, tap, &link);

	shape_ifb_name(tap, name);
	if (r == 0)
		r = set_bucket(nl, link.index, shape->down);
	if (r == 0 && shape->up != 0) {
		r = make_ifb(nl, name);
		if (r == -EOPNOTSUPP)
			return err_set(err, r,
				"TAP %s: this kernel has no ifb, without which what a machine sends cannot be limited",
				tap);
		if (r == 0)
			r = link_get(nl, name, &ifb);
		if (r == 0 && strcmp(ifb.kind, "ifb") != 0)
			return err_set(err, -EEXIST,
				"there is a link %s already, which is not ours", name);
		if (r == 0)
			r = set_bucket(nl, ifb.index, shape->up);
	}
	if (r == 0)
		r = set_way_in(nl, link.index, ifb.index);
	return r < 0 ? netlink_fail(err, r, "TAP %s: limit its rate", tap) : 0;
}

static bool has_qdisc(struct netlink *nl, const char *name, uint32_t parent, uint32_t handle)
{
	struct link_info link;

	return link_get(nl, name, &link) == 0 &&
	       netlink_talk(
		       nl, tc_msg(RTM_GETQDISC, 0, link.index, parent, handle, 0), NULL, NULL) == 0;
}

bool shape_differs(struct netlink *nl, const char *tap, const struct shape *shape)
{
	char name[16];

	shape_ifb_name(tap, name);
	if (shape->down != 0 && !has_qdisc(nl, tap, TC_H_ROOT, HANDLE))
		return true;
	return shape->up != 0 && (!has_qdisc(nl, name, TC_H_ROOT, HANDLE) ||
					 !has_qdisc(nl, tap, TC_H_INGRESS, INGRESS));
}

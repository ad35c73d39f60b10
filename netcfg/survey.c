#include "netcfg/survey.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"
#include "netcfg/netlink.h"

#define DUMP_TRIES 5

struct taking {
	struct survey s;
	size_t taps_cap, addresses_cap;
	bool nomem;
};

static bool is_tap(const struct ifinfomsg *info, struct nlattr *attrs[])
{
	struct link_info link = { .type = info->ifi_type };
	struct nlattr *kind;

	if (attrs[IFLA_LINKINFO] == NULL)
		return false;
	kind = nla_find(
		nla_data(attrs[IFLA_LINKINFO]), nla_len(attrs[IFLA_LINKINFO]), IFLA_INFO_KIND);
	if (kind == NULL)
		return false;
	nla_strlcpy(link.kind, kind, sizeof(link.kind));
	return link_is_tap(&link);
}

static void read_tap(void *arg, struct nlmsghdr *hdr)
{
	const struct ifinfomsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFLA_MAX + 1];
	struct taking *t = arg;
	struct survey_tap *tap;

	if (hdr->nlmsg_type != RTM_NEWLINK ||
		nlmsg_parse(hdr, sizeof(*info), attrs, IFLA_MAX, NULL) < 0 ||
		attrs[IFLA_IFNAME] == NULL || !is_tap(info, attrs))
		return;
	if (t->s.ntaps == t->taps_cap) {
		size_t cap = t->taps_cap == 0 ? 32 : t->taps_cap * 2;

		tap = reallocarray(t->s.taps, cap, sizeof(*tap));
		if (tap == NULL) {
			t->nomem = true;
			return;
		}
		t->s.taps = tap;
		t->taps_cap = cap;
	}
	tap = &t->s.taps[t->s.ntaps++];
	*tap = (struct survey_tap){ .index = info->ifi_index,
		.master = attrs[IFLA_MASTER] != NULL ? (int)nla_get_u32(attrs[IFLA_MASTER]) : 0,
		.up = (info->ifi_flags & IFF_UP) != 0 };
	nla_strlcpy(tap->name, attrs[IFLA_IFNAME], sizeof(tap->name));
	if (attrs[IFLA_IFALIAS] != NULL) {
		tap->alias = strndup(
			nla_data(attrs[IFLA_IFALIAS]), (size_t)nla_len(attrs[IFLA_IFALIAS]));
		t->nomem = t->nomem || tap->alias == NULL;
	}
}

static void read_address(void *arg, struct nlmsghdr *hdr)
{
	const struct ifaddrmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFA_MAX + 1], *addr;
	struct taking *t = arg;
	struct survey_address *a;

	if (hdr->nlmsg_type != RTM_NEWADDR || info->ifa_family != AF_INET ||
		nlmsg_parse(hdr, sizeof(*info), attrs, IFA_MAX, NULL) < 0)
		return;
	addr = attrs[IFA_LOCAL] != NULL ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
	if (addr == NULL || nla_len(addr) != 4)
		return;
	if (t->s.naddresses == t->addresses_cap) {
		size_t cap = t->addresses_cap == 0 ? 32 : t->addresses_cap * 2;

		a = reallocarray(t->s.addresses, cap, sizeof(*a));
		if (a == NULL) {
			t->nomem = true;
			return;
		}
		t->s.addresses = a;
		t->addresses_cap = cap;
	}
	t->s.addresses[t->s.naddresses++] = (struct survey_address){
		.index = (int)info->ifa_index,
		.address = { ntohl(nla_get_u32(addr)), info->ifa_prefixlen },
	};
}

static struct nl_msg *links_msg(void)
{
	struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP);

	/* Without counters, which are most of each message. */
	if (msg != NULL && (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
				   nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static struct nl_msg *addresses_msg(void)
{
	struct ifaddrmsg info = { .ifa_family = AF_INET };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);

	if (msg != NULL && nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static int by_name(const void *a, const void *b)
{
	const struct survey_tap *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_index(const void *a, const void *b)
{
	const struct survey_address *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

int survey_take(struct netlink *nl, struct survey *out, struct err *err)
{
	struct taking t = { 0 };
	int r = -EINTR;

	/* A dump that a change has disturbed is made again. */
	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		survey_finish(&t.s);
		t = (struct taking){ 0 };
		r = netlink_talk(nl, links_msg(), read_tap, &t);
		if (r == 0)
			r = netlink_talk(nl, addresses_msg(), read_address, &t);
	}
	if (r == 0 && t.nomem)
		r = -ENOMEM;
	if (r < 0) {
		survey_finish(&t.s);
		return netlink_fail(err, r, "read the host's links and addresses");
	}
	if (t.s.ntaps > 0)
		qsort(t.s.taps, t.s.ntaps, sizeof(*t.s.taps), by_name);
	if (t.s.naddresses > 0)
		qsort(t.s.addresses, t.s.naddresses, sizeof(*t.s.addresses), by_index);
	*out = t.s;
	return 0;
}

void survey_finish(struct survey *s)
{
	for (size_t i = 0; i < s->ntaps; i++)
		free(s->taps[i].alias);
	free(s->taps);
	free(s->addresses);
	*s = (struct survey){ 0 };
}

const struct survey_tap *survey_tap(const struct survey *s, const char *name)
{
	struct survey_tap key = { 0 };

	if (s->ntaps == 0 || strlen(name) >= sizeof(key.name))
		return NULL;
	memcpy(key.name, name, strlen(name) + 1);
	return bsearch(&key, s->taps, s->ntaps, sizeof(key), by_name);
}

bool survey_has_address(const struct survey *s, int index, struct ip4_prefix address)
{
	size_t lo = 0, hi = s->naddresses;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->addresses[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < s->naddresses && s->addresses[lo].index == index; lo++) {
		if (s->addresses[lo].address.addr == address.addr &&
			s->addresses[lo].address.len == address.len)
			return true;
	}
	return false;
}

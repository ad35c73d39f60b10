#include "netcfg/link6.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <string.h>
#include "lib/str.h"
#include "lib/util.h"
#include "netcfg/netlink.h"
#include "netcfg/sysctl.h"

int link6_ready(const char *name, struct err *err)
{
	/* In this order: an address of the kernel's own is made when IPv6 comes on. addr_gen_mode 1
	 * is IN6_ADDR_GEN_MODE_NONE. */
	static const char *const settings[][2] = { { "addr_gen_mode", "1" }, { "accept_ra", "0" },
		{ "accept_redirects", "0" }, { "accept_dad", "0" }, { "disable_ipv6", "0" } };
	char path[96], old[16];
	bool changed;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(settings); i++) {
		snprintf(path, sizeof(path), "net/ipv6/conf/%s/%s", name, settings[i][0]);
		r = sysctl_change(path, settings[i][1], old, sizeof(old), &changed, err);
	}
	return r;
}

static struct nl_msg *address6_msg(int index, const struct in6_addr *addr, uint8_t len)
{
	struct ifaddrmsg info = {
		.ifa_family = AF_INET6, .ifa_prefixlen = len, .ifa_flags = IFA_F_NODAD
	};
	struct nl_msg *msg = nlmsg_alloc_simple(
		RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);

	if (msg == NULL)
		return NULL;
	info.ifa_index = (unsigned)index;
	if (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
		nla_put(msg, IFA_LOCAL, sizeof(*addr), addr) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

int link6_add_address(struct netlink *nl, const char *name, const struct in6_addr *addr,
	uint8_t len, struct err *err)
{
	struct link_info link;
	char text[IP6_TEXT];
	int r = link_get(nl, name, &link);

	if (r == 0)
		r = netlink_talk(nl, address6_msg(link.index, addr, len), NULL, NULL);
	if (r == 0 || r == -EEXIST)
		return 0;
	ip6_format(addr, text);
	return netlink_fail(err, r, "link %s: add address %s/%u", name, text, len);
}

int link6_drop_address(struct netlink *nl, const char *name, const struct in6_addr *addr,
	uint8_t len, struct err *err)
{
	struct link_info link;
	struct nl_msg *msg;
	char text[IP6_TEXT];
	int r = link_get(nl, name, &link);

	if (r == -ENODEV)
		return 0;
	msg = r == 0 ? address6_msg(link.index, addr, len) : NULL;
	if (msg != NULL) {
		nlmsg_hdr(msg)->nlmsg_type = RTM_DELADDR;
		nlmsg_hdr(msg)->nlmsg_flags = NLM_F_REQUEST;
	}
	if (r == 0)
		r = netlink_talk(nl, msg, NULL, NULL);
	if (r == 0 || r == -EADDRNOTAVAIL)
		return 0;
	ip6_format(addr, text);
	return netlink_fail(err, r, "link %s: drop address %s/%u", name, text, len);
}

struct in6_addr link6_local(void)
{
	struct in6_addr a = { .s6_addr = { 0xfe, 0x80, [15] = 1 } };

	return a;
}

/* ---- what the host has ---- */

struct line {
	struct in6_addr addr;
	unsigned index, len;
	char name[32];
};

static bool parse_hex(const char *s, struct in6_addr *out)
{
	for (size_t i = 0; i < 16; i++) {
		if (sscanf(s + 2 * i, "%2hhx", &out->s6_addr[i]) != 1)
			return false;
	}
	return true;
}

/* "fe80...0001 05 40 20 80 name": address, index, length, scope, flags (net/ipv6/addrconf.c). */
static bool next_line(FILE *f, struct line *out)
{
	char text[128], hex[33];

	return fgets(text, sizeof(text), f) != NULL &&
	       sscanf(text, "%32s %x %x %*x %*x %31s", hex, &out->index, &out->len, out->name) ==
		       4 &&
	       strlen(hex) == 32 && parse_hex(hex, &out->addr);
}

bool link6_has_address(int index, const struct in6_addr *addr, uint8_t len)
{
	FILE *f = fopen("/proc/net/if_inet6", "re");
	struct line l;
	bool found = false;

	while (f != NULL && !found && next_line(f, &l))
		found = (int)l.index == index && l.len == len && ip6_equal(&l.addr, addr);
	if (f != NULL)
		fclose(f);
	return found;
}

bool host6_overlap(const struct ip6_prefix *p, bool (*skip)(void *arg, const char *ifname),
	void *arg, char *who, size_t cap)
{
	FILE *f = fopen("/proc/net/if_inet6", "re");
	char text[IP6_TEXT];
	struct line l;
	bool found = false;

	while (f != NULL && !found && next_line(f, &l)) {
		if (!ip6_in(p, &l.addr) || skip(arg, l.name))
			continue;
		found = true;
		ip6_format(&l.addr, text);
		snprintf(who, cap, "%s has %s/%u", l.name, text, l.len);
	}
	if (f != NULL)
		fclose(f);
	return found;
}

#define ROUTE_OF_RA 0x00040000u /* RTF_ADDRCONF (linux/ipv6_route.h) */

/* /proc/net/ipv6_route: destination, length, source, length, next hop, metric, references, use,
 * flags, link. */
size_t host6_uplinks(char (*out)[16], size_t n)
{
	FILE *f = fopen("/proc/net/ipv6_route", "re");
	char text[256], name[32];
	unsigned len, flags;
	size_t count = 0;

	while (f != NULL && count < n && fgets(text, sizeof(text), f) != NULL) {
		if (sscanf(text, "%*s %x %*s %*x %*s %*x %*x %*x %x %31s", &len, &flags, name) !=
				3 ||
			len != 0 || (flags & ROUTE_OF_RA) == 0 || strlen(name) >= 16)
			continue;
		memcpy(out[count++], name, strlen(name) + 1);
	}
	if (f != NULL)
		fclose(f);
	return count;
}

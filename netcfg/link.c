#include "netcfg/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "lib/str.h"
#include "netcfg/netlink.h"

#define TUN_DEVICE "/dev/net/tun"

static int open_tun_device(int *out, struct err *err)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		*out = fd;
		return 0;
	}
	switch (errno) {
	case ENOENT:
		return err_set(err, -ENODEV,
			"no " TUN_DEVICE
			": load the driver with `modprobe tun`, or make the node with "
			"`mkdir -p /dev/net && mknod " TUN_DEVICE " c 10 200`");
	case ENODEV:
	case ENXIO:
		return err_set(err, -ENODEV,
			"no driver behind " TUN_DEVICE ": load it with `modprobe tun`");
	default:
		return err_errno(err, -errno, "open " TUN_DEVICE);
	}
}

/* What TUNSETIFF's errno means (drivers/net/tun.c, tun_set_iff and tun_attach). */
static int tap_attach_failed(const char *name, int code, struct err *err)
{
	if (code == -EPERM)
		return err_set(err, code,
			"TAP %s: not permitted, CAP_NET_ADMIN is needed to make it or to open it for "
			"another owner",
			name);
	if (code == -EBUSY)
		return err_set(err, code, "TAP %s is in use by another process", name);
	if (code == -EINVAL && link_exists(name))
		return err_set(err, -EBUSY,
			"the name %s is taken by a link that is no TAP of ours (no TAP, or one with "
			"several queues)",
			name);
	return err_errno(err, code, "TAP %s", name);
}

static int check_link_name(const char *name, struct err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ || strcspn(name, "/: \t\n%") != len ||
		strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return err_set(err, -EINVAL, "%s cannot be the name of a link (1 to 15 characters)",
			quote(name));
	return 0;
}

/* Makes the TAP, or takes the one that is there, with fd as its queue. */
static int attach(int fd, const char *name, uid_t owner, struct err *err)
{
	struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	memcpy(req.ifr_name, name, strlen(name));
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return tap_attach_failed(name, -errno, err);
	if (ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0)
		return err_errno(err, -errno, "TAP %s: owner %u", name, owner);
	if (ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return err_errno(err, -errno, "TAP %s: make it persistent", name);
	return 0;
}

int tap_open(const char *name, uid_t owner, int *out_fd, struct err *err)
{
	int fd = -1, r;

	r = check_link_name(name, err);
	if (r == 0)
		r = open_tun_device(&fd, err);
	if (r < 0)
		return r;
	r = attach(fd, name, owner, err);
	if (r == 0)
		*out_fd = fd;
	else
		close(fd);
	return r;
}

static bool is_tun_device(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 200);
}

/*
 * Deleting a TAP takes the device away from the files that are its queues (drivers/net/tun.c,
 * tun_detach_all), and such a file may be attached anew as a fresh one: until then all but TUNSETIFF
 * is EBADFD. What was set on the device is gone with it. The offloads are left off: which of them
 * the guest takes just now nobody tells, and without them the host's side does that work.
 */
int tap_attach(int fd, const char *name, uid_t owner, int vnet_hdr_len, struct err *err)
{
	struct ifreq req = { 0 };
	int r = check_link_name(name, err);

	if (r < 0)
		return r;
	if (!is_tun_device(fd))
		return err_set(err, -ENOTTY, "the descriptor is not one of " TUN_DEVICE);
	if (ioctl(fd, TUNGETIFF, &req) == 0)
		return err_set(err, -EEXIST,
			"the hypervisor's link was not deleted but moved or renamed (%s)",
			quote(req.ifr_name));
	r = attach(fd, name, owner, err);
	if (r == 0 && ioctl(fd, TUNSETVNETHDRSZ, &vnet_hdr_len) < 0)
		r = err_errno(err, -errno, "TAP %s: headers of %d bytes", name, vnet_hdr_len);
	return r;
}

bool link_is_tap(const struct link_info *link)
{
	/* A TUN has the same kind, but no Ethernet header. */
	return (strcmp(link->kind, "tun") == 0 && link->type == ARPHRD_ETHER) ||
	       strcmp(link->kind, "macvtap") == 0;
}

int tap_delete(struct netlink *nl, const char *name, struct err *err)
{
	struct link_info link;
	int r = link_get(nl, name, &link);

	if (r == -ENODEV)
		return 0;
	if (r < 0)
		return netlink_fail(err, r, "TAP %s", name);
	if (!link_is_tap(&link))
		return err_set(err, -EBUSY, "link %s is no TAP: it is left alone", name);
	r = netlink_talk(nl, link_msg(RTM_DELLINK, 0, link.index, NULL, 0), NULL, NULL);
	if (r < 0 && r != -ENODEV)
		return netlink_fail(err, r, "TAP %s: delete", name);
	return 0;
}

bool link_exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

int link_index(struct netlink *nl, const char *name, int *out, struct err *err)
{
	struct link_info link;
	int r = link_get(nl, name, &link);

	if (r < 0)
		return netlink_fail(err, r, "link %s", name);
	*out = link.index;
	return 0;
}

int link_up(struct netlink *nl, const char *name, struct err *err)
{
	int r = netlink_talk(nl, link_msg(RTM_NEWLINK, 0, 0, name, IFF_UP), NULL, NULL);

	return r < 0 ? netlink_fail(err, r, "link %s: bring it up", name) : 0;
}

static struct nl_msg *address_msg(int index, struct ip4_prefix addr)
{
	struct ifaddrmsg info = { .ifa_family = AF_INET, .ifa_prefixlen = addr.len };
	uint32_t be = htonl(addr.addr);
	struct nl_msg *msg = nlmsg_alloc_simple(
		RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);

	if (msg == NULL)
		return NULL;
	info.ifa_index = (unsigned)index;
	if (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
		nla_put(msg, IFA_LOCAL, sizeof(be), &be) < 0 ||
		nla_put(msg, IFA_ADDRESS, sizeof(be), &be) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

int link_add_address(struct netlink *nl, const char *name, struct ip4_prefix addr, struct err *err)
{
	struct link_info link;
	char text[19];
	int r = link_get(nl, name, &link);

	if (r == 0)
		r = netlink_talk(nl, address_msg(link.index, addr), NULL, NULL);
	/* The kernel compares address, length and peer: what exists is the same. */
	if (r == 0 || r == -EEXIST)
		return 0;
	ip4_prefix_format(addr, text);
	return netlink_fail(err, r, "link %s: add address %s", name, text);
}

int link_drop_address(struct netlink *nl, const char *name, struct ip4_prefix addr, struct err *err)
{
	struct link_info link;
	struct nl_msg *msg;
	char text[19];
	int r = link_get(nl, name, &link);

	if (r == -ENODEV)
		return 0;
	msg = r == 0 ? address_msg(link.index, addr) : NULL;
	if (msg != NULL) {
		/* The flags of a new one mean other things here (NLM_F_BULK). */
		nlmsg_hdr(msg)->nlmsg_type = RTM_DELADDR;
		nlmsg_hdr(msg)->nlmsg_flags = NLM_F_REQUEST;
	}
	if (r == 0)
		r = netlink_talk(nl, msg, NULL, NULL);
	if (r == 0 || r == -EADDRNOTAVAIL)
		return 0;
	ip4_prefix_format(addr, text);
	return netlink_fail(err, r, "link %s: drop address %s", name, text);
}

int link_set_mac(struct netlink *nl, const char *name, const char *mac, struct err *err)
{
	struct nl_msg *msg;
	unsigned char m[6];
	int r;

	if (strlen(mac) != 17 || strspn(mac, "0123456789abcdefABCDEF:") != 17 ||
		sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &m[0], &m[1], &m[2], &m[3],
			&m[4], &m[5]) != 6)
		return err_set(err, -EINVAL, "link %s: %s is no MAC address", name, quote(mac));
	msg = link_msg(RTM_NEWLINK, 0, 0, name, 0);
	if (msg != NULL && nla_put(msg, IFLA_ADDRESS, sizeof(m), m) < 0) {
		nlmsg_free(msg);
		msg = NULL;
	}
	r = netlink_talk(nl, msg, NULL, NULL);
	return r < 0 ? netlink_fail(err, r, "link %s: set MAC %s", name, mac) : 0;
}

int link_set_alias(struct netlink *nl, const char *name, const char *alias, struct err *err)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, 0, name, 0);
	int r;

	/* Without the NUL: the kernel counts it. */
	if (msg != NULL && nla_put(msg, IFLA_IFALIAS, (int)strlen(alias), alias) < 0) {
		nlmsg_free(msg);
		msg = NULL;
	}
	r = netlink_talk(nl, msg, NULL, NULL);
	return r < 0 ? netlink_fail(err, r, "link %s: set its alias", name) : 0;
}

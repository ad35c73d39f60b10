#include "netcfg/macvtap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/str.h"
#include "lib/util.h"
#include "netcfg/netlink.h"

static const uint32_t modes[MACVTAP_MODES] = { [MACVTAP_BRIDGE] = MACVLAN_MODE_BRIDGE,
	[MACVTAP_VEPA] = MACVLAN_MODE_VEPA,
	[MACVTAP_PRIVATE] = MACVLAN_MODE_PRIVATE };

/* ---- the link ---- */

struct reading {
	struct macvtap_info info;
	bool found, is_macvtap;
};

static struct nlattr *find_in(struct nlattr *nest, int type)
{
	return nest != NULL ? nla_find(nla_data(nest), nla_len(nest), type) : NULL;
}

static void read_macvtap(void *arg, struct nlmsghdr *hdr)
{
	struct nlattr *attrs[IFLA_MAX + 1], *kind, *mode;
	struct reading *r = arg;

	if (hdr->nlmsg_type != RTM_NEWLINK ||
		nlmsg_parse(hdr, sizeof(struct ifinfomsg), attrs, IFLA_MAX, NULL) < 0)
		return;
	r->found = true;
	r->info.index = ((const struct ifinfomsg *)nlmsg_data(hdr))->ifi_index;
	r->info.parent = attrs[IFLA_LINK] != NULL ? (int)nla_get_u32(attrs[IFLA_LINK]) : 0;
	kind = find_in(attrs[IFLA_LINKINFO], IFLA_INFO_KIND);
	mode = find_in(find_in(attrs[IFLA_LINKINFO], IFLA_INFO_DATA), IFLA_MACVLAN_MODE);
	if (kind == NULL || nla_strcmp(kind, "macvtap") != 0 || mode == NULL)
		return;
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		if (nla_get_u32(mode) == modes[i]) {
			r->info.mode = (enum macvtap_mode)i;
			r->is_macvtap = true;
		}
	}
}

int macvtap_get(struct netlink *nl, const char *name, struct macvtap_info *out)
{
	struct reading reading = { .found = false };
	int r = netlink_talk(nl, link_msg(RTM_GETLINK, 0, 0, name, 0), read_macvtap, &reading);

	if (r == 0 && !reading.found)
		r = -ENODEV;
	if (r == 0 && !reading.is_macvtap)
		r = -EMEDIUMTYPE;
	if (r == 0)
		*out = reading.info;
	return r;
}

static struct nl_msg *make_msg(const char *name, int parent, enum macvtap_mode mode)
{
	struct nl_msg *msg = link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name, 0);
	struct nlattr *info, *data;

	if (msg == NULL)
		return NULL;
	if (nla_put_u32(msg, IFLA_LINK, (uint32_t)parent) < 0 ||
		(info = nla_nest_start(msg, IFLA_LINKINFO)) == NULL ||
		nla_put_string(msg, IFLA_INFO_KIND, "macvtap") < 0 ||
		(data = nla_nest_start(msg, IFLA_INFO_DATA)) == NULL ||
		nla_put_u32(msg, IFLA_MACVLAN_MODE, modes[mode]) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	return msg;
}

int macvtap_make(struct netlink *nl, const char *name, const char *parent, const char *mac,
	enum macvtap_mode mode, struct err *err)
{
	struct macvtap_info info;
	int index, r = link_index(nl, parent, &index, err);

	if (r < 0)
		return r;
	r = netlink_talk(nl, make_msg(name, index, mode), NULL, NULL);
	if (r == -EOPNOTSUPP)
		return err_set(err, r, "this kernel has no macvtap (module macvtap)");
	/* drivers/net/macvlan.c, macvlan_port_create(): whoever else takes all that comes in there. */
	if (r == -EBUSY)
		return err_set(err, r, "%s cannot be shared: it is a port of a bridge or of a bond",
			parent);
	if (r == -EINVAL)
		return err_set(err, r, "%s is no Ethernet link, which alone can be shared", parent);
	if (r == -EEXIST &&
		(macvtap_get(nl, name, &info) < 0 || info.parent != index || info.mode != mode))
		return err_set(err, r, "the name %s is taken by another link", name);
	if (r < 0 && r != -EEXIST)
		return netlink_fail(err, r, "macvtap %s of %s", name, parent);
	return link_set_mac(nl, name, mac, err);
}

/* ---- the device ---- */

/* Of our network namespace sysfs tells, if it was mounted in it; /dev has those of all of them. */
static int find_device(const char *name, int index, dev_t *out, struct err *err)
{
	unsigned major, minor;
	char path[128];
	FILE *f;
	int n;

	snprintf(path, sizeof(path), "/sys/class/net/%s/macvtap/tap%d/dev", name, index);
	f = fopen(path, "re");
	if (f == NULL)
		return err_errno(err, -errno, "open %s", path);
	n = fscanf(f, "%u:%u", &major, &minor);
	fclose(f);
	if (n != 2)
		return err_set(err, -EBADMSG, "%s says no device's number", path);
	*out = makedev(major, minor);
	return 0;
}

static int open_node(const char *path, dev_t device, int *out)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != device) {
		close(fd);
		return -ENOENT;
	}
	*out = fd;
	return 0;
}

static int open_made(const char *dir, const char *name, dev_t device, int *out, struct err *err)
{
	char *path = str_printf("%s/%s.device", dir, name);
	int r = 0;

	if (path == NULL)
		return err_nomem(err);
	unlink(path);
	if (mknod(path, S_IFCHR | 0600, device) < 0)
		r = err_errno(err, -errno, "make the device node %s", quote(path));
	if (r == 0) {
		r = open_node(path, device, out);
		unlink(path);
		if (r == -EACCES)
			err_set(err, r,
				"open %s: there is no node of it in /dev, and the filesystem there allows none (mount option nodev)",
				quote(path));
		else if (r < 0)
			err_errno(err, r, "open %s", quote(path));
	}
	free(path);
	return r;
}

static bool is_of_device(const char *path, dev_t device)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == device;
}

int macvtap_open(
	struct netlink *nl, const char *name, const char *dir, int *out_fd, struct err *err)
{
	char path[32];
	dev_t device = 0;
	int index, r = link_index(nl, name, &index, err);

	if (r == 0)
		r = find_device(name, index, &device, err);
	if (r < 0)
		return err_wrap(err, "macvtap %s", name);
	snprintf(path, sizeof(path), "/dev/tap%d", index);
	if (!is_of_device(path, device))
		return open_made(dir, name, device, out_fd, err);
	r = open_node(path, device, out_fd);
	return r < 0 ? err_errno(err, r, "open %s", path) : 0;
}

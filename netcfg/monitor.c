#include "netcfg/monitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Links with many virtual functions make the longest messages. */
#define BUFFER_SIZE (64 * 1024)
/* A hundred machines that start at once stay below this. */
#define SOCKET_BUFFER (1024 * 1024)
/* Datagrams in one go; the rest comes with the loop's next turn. */
#define BATCH 64

/* <net/if.h>, which has if_indextoname(), lacks this one of <linux/if.h>; they do not mix. */
#define LOWER_UP (1u << 16)

struct net_monitor {
	uv_poll_t poll;
	int fd;
	net_event_fn *fn;
	void *arg;
	char *buffer;
	bool closing;
	bool lost; /* something was, since the socket was empty */
	void (*closed)(void *arg);
	void *closed_arg;
};

static int open_socket(int *out, struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE };
	int size = SOCKET_BUFFER;

	if (fd < 0)
		return err_errno(err, -errno, "rtnetlink");
	/* Beyond the host's limit where that is permitted, else as far as it goes. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int r = err_errno(err, -errno, "rtnetlink: listen to links and addresses");

		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

static void link_event(struct net_monitor *m, struct nlmsghdr *hdr)
{
	const struct ifinfomsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFLA_MAX + 1];
	struct net_event e = { .kind = NET_LINK_CHANGED, .ifname = "" };

	if (nlmsg_parse(hdr, sizeof(*info), attrs, IFLA_MAX, NULL) < 0)
		return;
	/* A bridge tells about its ports in messages of its own: a port that leaves it is no link
	 * that is gone. The change of master comes as an ordinary message too. */
	if (info->ifi_family != AF_UNSPEC)
		return;
	if (hdr->nlmsg_type == RTM_DELLINK)
		e.kind = NET_LINK_GONE;
	else if (info->ifi_change == ~0u)
		e.kind = NET_LINK_NEW;
	e.index = info->ifi_index;
	if (attrs[IFLA_IFNAME] != NULL)
		e.ifname = nla_get_string(attrs[IFLA_IFNAME]);
	e.up = (info->ifi_flags & IFF_UP) != 0;
	e.carrier = (info->ifi_flags & LOWER_UP) != 0;
	if (attrs[IFLA_MASTER] != NULL)
		e.master = (int)nla_get_u32(attrs[IFLA_MASTER]);
	m->fn(m->arg, &e);
}

static void address_event(struct net_monitor *m, struct nlmsghdr *hdr)
{
	const struct ifaddrmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[IFA_MAX + 1], *addr;
	struct net_event e = { .ifname = "" };
	char name[IFNAMSIZ];

	if (nlmsg_parse(hdr, sizeof(*info), attrs, IFA_MAX, NULL) < 0 ||
		(info->ifa_family != AF_INET && info->ifa_family != AF_INET6))
		return;
	addr = attrs[IFA_LOCAL] != NULL ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
	if (addr == NULL || nla_len(addr) != (info->ifa_family == AF_INET ? 4 : 16))
		return;
	e.kind = hdr->nlmsg_type == RTM_DELADDR ? NET_ADDRESS_GONE : NET_ADDRESS_NEW;
	e.index = (int)info->ifa_index;
	if (info->ifa_family == AF_INET) {
		e.address.addr = ntohl(nla_get_u32(addr));
		e.address.len = info->ifa_prefixlen;
	}
	/* A link that is gone by now has left its name in the label. */
	if (if_indextoname(info->ifa_index, name) != NULL)
		e.ifname = name;
	else if (attrs[IFA_LABEL] != NULL)
		e.ifname = nla_get_string(attrs[IFA_LABEL]);
	m->fn(m->arg, &e);
}

static void route_event(struct net_monitor *m, struct nlmsghdr *hdr)
{
	const struct rtmsg *info = nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];
	struct net_event e = { .kind = NET_UPLINK, .ifname = "" };

	if (nlmsg_parse(hdr, sizeof(*info), attrs, RTA_MAX, NULL) < 0 || info->rtm_dst_len != 0 ||
		info->rtm_table != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST)
		return;
	if (attrs[RTA_OIF] != NULL)
		e.index = (int)nla_get_u32(attrs[RTA_OIF]);
	m->fn(m->arg, &e);
}

/*
 * Told when the socket is empty again: until then the kernel drops what comes and does not say so
 * another time (netlink(7); NETLINK_S_CONGESTED in af_netlink.c).
 */
static void tell_lost(struct net_monitor *m)
{
	struct net_event e = { .kind = NET_EVENTS_LOST, .ifname = "" };

	m->lost = false;
	m->fn(m->arg, &e);
}

static void read_datagram(struct net_monitor *m, size_t len)
{
	struct nlmsghdr *hdr = (struct nlmsghdr *)m->buffer;
	int left = (int)len;

	for (; !m->closing && nlmsg_ok(hdr, left); hdr = nlmsg_next(hdr, &left)) {
		switch (hdr->nlmsg_type) {
		case RTM_NEWLINK:
		case RTM_DELLINK:
			link_event(m, hdr);
			break;
		case RTM_NEWADDR:
		case RTM_DELADDR:
			address_event(m, hdr);
			break;
		case RTM_NEWROUTE:
		case RTM_DELROUTE:
			route_event(m, hdr);
			break;
		}
	}
}

/* false: nothing is left to read. */
static bool read_one(struct net_monitor *m)
{
	struct sockaddr_nl from = { 0 };
	struct iovec iov = { m->buffer, BUFFER_SIZE };
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1
	};
	ssize_t n = recvmsg(m->fd, &msg, 0);

	if (n < 0 && errno == ENOBUFS)
		m->lost = true;
	else if (n <= 0)
		return n < 0 && errno == EINTR;
	else if (from.nl_pid != 0)
		return true; /* from another program: only the kernel has port 0 */
	else if ((msg.msg_flags & MSG_TRUNC) != 0)
		m->lost = true;
	else
		read_datagram(m, (size_t)n);
	return true;
}

static void readable(uv_poll_t *poll, int status, int events)
{
	struct net_monitor *m = container_of(poll, struct net_monitor, poll);

	bool more = true;

	for (int i = 0; i < BATCH && !m->closing && more; i++)
		more = read_one(m);
	if (!more && m->lost && !m->closing)
		tell_lost(m);
	/* Lost events are an error of the socket, at which libuv stops polling (EBADF); reading has
	 * cleared it. */
	if (status < 0 && !m->closing)
		uv_poll_start(&m->poll, UV_READABLE, readable);
}

int net_monitor_create(
	struct net_monitor **out, uv_loop_t *loop, net_event_fn *fn, void *arg, struct err *err)
{
	struct net_monitor *m = calloc(1, sizeof(*m));
	int r;

	if (m == NULL)
		return err_nomem(err);
	m->fn = fn;
	m->arg = arg;
	m->buffer = malloc(BUFFER_SIZE);
	if (m->buffer == NULL) {
		free(m);
		return err_nomem(err);
	}
	r = open_socket(&m->fd, err);
	if (r < 0) {
		free(m->buffer);
		free(m);
		return r;
	}
	r = uv_poll_init(loop, &m->poll, m->fd);
	if (r < 0) {
		close(m->fd);
		free(m->buffer);
		free(m);
		return err_set(err, r, "rtnetlink: %s", uv_strerror(r));
	}
	r = uv_poll_start(&m->poll, UV_READABLE, readable);
	if (r < 0) {
		net_monitor_destroy(m, NULL, NULL);
		return err_set(err, r, "rtnetlink: %s", uv_strerror(r));
	}
	*out = m;
	return 0;
}

static void poll_closed(uv_handle_t *handle)
{
	struct net_monitor *m = container_of((uv_poll_t *)handle, struct net_monitor, poll);

	close(m->fd);
	if (m->closed != NULL)
		m->closed(m->closed_arg);
	free(m->buffer);
	free(m);
}

void net_monitor_destroy(struct net_monitor *m, void (*closed)(void *arg), void *arg)
{
	if (m == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	m->closing = true;
	m->closed = closed;
	m->closed_arg = arg;
	uv_close((uv_handle_t *)&m->poll, poll_closed);
}

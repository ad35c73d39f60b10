#include "netcfg/nft-monitor.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/msg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE   (64 * 1024)
#define SOCKET_BUFFER (1024 * 1024)
#define BATCH         64
#define TABLE_NAME    "drover"

struct nft_monitor {
	uv_poll_t poll;
	int fd;
	nft_touched_fn *fn;
	void *arg;
	char *buffer;
	bool lost; /* something was, since the socket was empty */
	void (*closed)(void *arg);
	void *closed_arg;
};

static int open_socket(int *out, struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int size = SOCKET_BUFFER, group = NFNLGRP_NFTABLES, r = 0;

	if (fd < 0)
		return err_errno(err, -errno, "nfnetlink");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		r = err_errno(err, -errno, "nfnetlink: listen to changes of nftables");
	if (r < 0) {
		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

/* What every message about tables, chains and rules begins with: the table's name. */
static bool is_ours(struct nlmsghdr *hdr)
{
	const struct nfgenmsg *gen = nlmsg_data(hdr);
	struct nlattr *name;

	if (nlmsg_datalen(hdr) < (int)sizeof(*gen) || gen->nfgen_family != NFPROTO_INET)
		return false;
	/* NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and NFTA_SET_TABLE are all 1. */
	name = nlmsg_find_attr(hdr, sizeof(*gen), NFTA_TABLE_NAME);
	if (name == NULL || nla_len(name) <= 0)
		return false;
	if (strncmp(nla_data(name), TABLE_NAME, (size_t)nla_len(name)) == 0)
		return true;
	/* Of those of netcfg/egress.h only what we do seldom ourselves. */
	return strncmp(nla_data(name), TABLE_NAME "_", strlen(TABLE_NAME "_")) == 0 &&
	       (NFNL_MSG_TYPE(hdr->nlmsg_type) == NFT_MSG_DELTABLE ||
		       NFNL_MSG_TYPE(hdr->nlmsg_type) == NFT_MSG_DELCHAIN);
}

static bool touches(struct nlmsghdr *hdr)
{
	if (NFNL_SUBSYS_ID(hdr->nlmsg_type) != NFNL_SUBSYS_NFTABLES)
		return false;
	switch (NFNL_MSG_TYPE(hdr->nlmsg_type)) {
	case NFT_MSG_NEWTABLE: /* also when it was made dormant */
	case NFT_MSG_DELTABLE:
	case NFT_MSG_NEWCHAIN: /* also when its policy was changed */
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_NEWRULE:
	case NFT_MSG_DELRULE:
	case NFT_MSG_DELSET:
		return is_ours(hdr);
	default:
		return false;
	}
}

/*
 * -1: nothing is left to read; else whether it was about our table. That something was lost counts
 * as that, but only when the socket is empty again: until then the kernel drops what comes without
 * a further word (NETLINK_S_CONGESTED in its af_netlink.c).
 */
static int read_one(struct nft_monitor *m)
{
	struct sockaddr_nl from = { 0 };
	struct iovec iov = { m->buffer, BUFFER_SIZE };
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1
	};
	struct nlmsghdr *hdr = (struct nlmsghdr *)m->buffer;
	ssize_t n = recvmsg(m->fd, &msg, 0);
	int left = (int)n;

	if (n < 0 && errno == ENOBUFS) {
		m->lost = true;
		return 0;
	}
	if (n <= 0)
		return n < 0 && errno == EINTR ? 0 : -1;
	if (from.nl_pid != 0)
		return 0;
	if ((msg.msg_flags & MSG_TRUNC) != 0) {
		m->lost = true;
		return 0;
	}
	for (; nlmsg_ok(hdr, left); hdr = nlmsg_next(hdr, &left)) {
		if (touches(hdr))
			return 1;
	}
	return 0;
}

static void readable(uv_poll_t *poll, int status, int events)
{
	struct nft_monitor *m = container_of(poll, struct nft_monitor, poll);
	bool touched = false;
	int r = 0;

	for (int i = 0; i < BATCH && r >= 0; i++) {
		r = read_one(m);
		touched = touched || r > 0;
	}
	if (r < 0 && m->lost) {
		m->lost = false;
		touched = true;
	}
	/* Lost events are an error of the socket, at which libuv stops polling; reading cleared it. */
	if (status < 0)
		uv_poll_start(&m->poll, UV_READABLE, readable);
	if (touched)
		m->fn(m->arg);
}

int nft_monitor_create(
	struct nft_monitor **out, uv_loop_t *loop, nft_touched_fn *fn, void *arg, struct err *err)
{
	struct nft_monitor *m = calloc(1, sizeof(*m));
	int r;

	if (m == NULL || (m->buffer = malloc(BUFFER_SIZE)) == NULL) {
		free(m);
		return err_nomem(err);
	}
	m->fn = fn;
	m->arg = arg;
	r = open_socket(&m->fd, err);
	if (r == 0) {
		r = uv_poll_init(loop, &m->poll, m->fd);
		if (r < 0) {
			err_set(err, r, "nfnetlink: %s", uv_strerror(r));
			close(m->fd);
		}
	}
	if (r < 0) {
		free(m->buffer);
		free(m);
		return r;
	}
	uv_poll_start(&m->poll, UV_READABLE, readable); /* fails only for a handle that closes */
	*out = m;
	return 0;
}

static void poll_closed(uv_handle_t *handle)
{
	struct nft_monitor *m = container_of((uv_poll_t *)handle, struct nft_monitor, poll);

	close(m->fd);
	if (m->closed != NULL)
		m->closed(m->closed_arg);
	free(m->buffer);
	free(m);
}

void nft_monitor_destroy(struct nft_monitor *m, void (*closed)(void *arg), void *arg)
{
	if (m == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	m->closed = closed;
	m->closed_arg = arg;
	uv_close((uv_handle_t *)&m->poll, poll_closed);
}

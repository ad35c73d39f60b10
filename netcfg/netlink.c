#include "netcfg/netlink.h"

#include <errno.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct netlink {
	struct nl_sock *sock;
};

struct talk {
	netlink_msg_fn *fn;
	void *arg;
	int result;
	bool done;
};

int netlink_create(struct netlink **out, struct err *err)
{
	struct netlink *nl = calloc(1, sizeof(*nl));
	int r;

	if (nl == NULL)
		return err_nomem(err);
	nl->sock = nl_socket_alloc();
	if (nl->sock == NULL) {
		free(nl);
		return err_nomem(err);
	}
	r = nl_connect(nl->sock, NETLINK_ROUTE); /* close-on-exec */
	if (r == 0)
		r = nl_socket_set_nonblocking(nl->sock);
	if (r < 0) {
		netlink_destroy(nl);
		return err_set(err, -EIO, "rtnetlink: %s", nl_geterror(r));
	}
	*out = nl;
	return 0;
}

void netlink_destroy(struct netlink *nl)
{
	if (nl == NULL)
		return;
	nl_socket_free(nl->sock);
	free(nl);
}

static int on_message(struct nl_msg *msg, void *arg)
{
	struct talk *t = arg;

	if (t->fn != NULL)
		t->fn(t->arg, nlmsg_hdr(msg));
	return NL_OK;
}

static int on_end(struct nl_msg *msg, void *arg)
{
	struct talk *t = arg;

	t->done = true;
	return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
	struct talk *t = arg;

	t->result = e->error;
	t->done = true;
	return NL_STOP;
}

int netlink_talk(struct netlink *nl, struct nl_msg *msg, netlink_msg_fn *fn, void *arg)
{
	struct talk t = { .fn = fn, .arg = arg };
	struct nl_cb *cb;
	int r;

	if (msg == NULL)
		return -ENOMEM;
	cb = nl_cb_alloc(NL_CB_DEFAULT);
	if (cb == NULL) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_message, &t);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_end, &t);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_end, &t);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, &t);

	r = nl_send_auto(nl->sock, msg);
	while (r >= 0 && !t.done)
		r = nl_recvmsgs(nl->sock, cb);
	nl_cb_put(cb);
	nlmsg_free(msg);
	if (t.done)
		return r == -NLE_DUMP_INTR ? -EINTR : t.result;
	return r == -NLE_NOMEM ? -ENOMEM : -EIO;
}

int netlink_fail(struct err *err, int code, const char *fmt, ...)
{
	char msg[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (code == -EPERM)
		return err_set(err, code, "%s: not permitted, CAP_NET_ADMIN is needed", msg);
	return err_errno(err, code, "%s", msg);
}

struct nl_msg *link_msg(int type, int flags, int index, const char *name, unsigned set_flags)
{
	struct ifinfomsg info = {
		.ifi_index = index, .ifi_flags = set_flags, .ifi_change = set_flags
	};
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

	if (msg == NULL)
		return NULL;
	if (nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
		(name != NULL && nla_put_string(msg, IFLA_IFNAME, name) < 0)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static void read_link(void *arg, struct nlmsghdr *hdr)
{
	struct nlattr *attrs[IFLA_MAX + 1], *kind;
	const struct ifinfomsg *info = nlmsg_data(hdr);
	struct link_info *out = arg;

	if (hdr->nlmsg_type != RTM_NEWLINK ||
		nlmsg_parse(hdr, sizeof(*info), attrs, IFLA_MAX, NULL) < 0)
		return;
	out->index = info->ifi_index;
	out->type = info->ifi_type;
	out->flags = info->ifi_flags;
	if (attrs[IFLA_LINKINFO] == NULL)
		return;
	kind = nla_find(
		nla_data(attrs[IFLA_LINKINFO]), nla_len(attrs[IFLA_LINKINFO]), IFLA_INFO_KIND);
	if (kind != NULL)
		nla_strlcpy(out->kind, kind, sizeof(out->kind));
}

int link_get(struct netlink *nl, const char *name, struct link_info *out)
{
	struct link_info info = { 0 };
	int r = netlink_talk(nl, link_msg(RTM_GETLINK, 0, 0, name, 0), read_link, &info);

	if (r < 0)
		return r;
	if (info.index == 0)
		return -ENODEV;
	*out = info;
	return 0;
}

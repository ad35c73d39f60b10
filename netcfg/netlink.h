/*
 * netcfg/netlink.h - requests to the kernel over one rtnetlink socket; for the files of this
 * folder. Any thread, but one socket belongs to one thread at a time.
 *
 * The kernel carries a request out and queues its answer before send() returns, so nothing here
 * waits: the socket does not block, and a missing answer is an error.
 */
#ifndef DROVER_NETCFG_NETLINK_H
#define DROVER_NETCFG_NETLINK_H

#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include "netcfg/link.h"

typedef void netlink_msg_fn(void *arg, struct nlmsghdr *hdr);

/*
 * Sends msg, which it frees, and reads the answer; fn (may be NULL) gets each message of it.
 * msg NULL is -ENOMEM, so that builders need no check of their own. Returns what the kernel says,
 * without a message; -EINTR: a dump was disturbed by a change and must be made again.
 */
int netlink_talk(struct netlink *nl, struct nl_msg *msg, netlink_msg_fn *fn, void *arg);

/* err_errno() that says what is needed where the kernel only says "Operation not permitted". */
int netlink_fail(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

struct link_info {
	int index;
	unsigned type;  /* ARPHRD_... */
	unsigned flags; /* IFF_... */
	char kind[16];  /* "tun", "bridge", "veth"; "" for hardware */
};
/* -ENODEV: there is none of this name. */
int link_get(struct netlink *nl, const char *name, struct link_info *out);
bool link_is_tap(const struct link_info *link); /* macvtap.h's, too */

/* A request about the link of this name or, if name is NULL, of this index. NULL: no memory. */
struct nl_msg *link_msg(int type, int flags, int index, const char *name, unsigned set_flags);

#endif

#include "netcfg/linkdel.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include "lib/deadline.h"
#include "lib/list.h"
#include "netcfg/netlink.h"

/*
 * Links that go together are put into this group first: RTM_DELLINK on a group deletes all of it
 * while waiting for the readers once. Nothing else is ever in it.
 */
#define DOOMED_GROUP 0x64726f76u

struct deletion {
	struct list entry;
	char name[IFNAMSIZ];
	const char *kind; /* of rtnetlink; NULL: a TAP */
	link_deleted_fn *done;
	void *arg;
	struct err err;
};

struct link_deleter {
	uv_loop_t *loop;
	struct netlink *nl;   /* while running is set it is the pool thread's */
	struct deadline kick; /* so that requests of one turn of the loop go together */
	struct list waiting, batch;
	uv_work_t work;
	bool running, destroyed;
	void (*closed)(void *arg);
	void *closed_arg;
};

static const char *what(const struct deletion *del)
{
	return del->kind != NULL ? del->kind : "TAP";
}

static void kicked(void *arg);

int link_deleter_create(struct link_deleter **out, uv_loop_t *loop, struct err *err)
{
	struct link_deleter *d = calloc(1, sizeof(*d));
	int r;

	if (d == NULL)
		return err_nomem(err);
	d->loop = loop;
	list_init(&d->waiting);
	list_init(&d->batch);
	/* The socket keeps the network namespace of this thread, wherever the pool's threads are. */
	r = netlink_create(&d->nl, err);
	if (r < 0) {
		free(d);
		return r;
	}
	r = deadline_init(&d->kick, loop, kicked, d);
	if (r < 0) {
		netlink_destroy(d->nl);
		free(d);
		return err_set(err, r, "timer: %s", uv_strerror(r));
	}
	*out = d;
	return 0;
}

/* In the pool: puts the link into the group, or settles it when there is nothing to delete. */
static void doom(struct link_deleter *d, struct deletion *del, unsigned *doomed)
{
	struct link_info link;
	struct nl_msg *msg;
	int r = link_get(d->nl, del->name, &link);

	if (r == -ENODEV)
		return;
	if (r == 0 &&
		!(del->kind != NULL ? strcmp(link.kind, del->kind) == 0 : link_is_tap(&link))) {
		err_set(&del->err, -EBUSY, "link %s is no %s: it is left alone", del->name,
			what(del));
		return;
	}
	if (r == 0) {
		msg = link_msg(RTM_NEWLINK, 0, link.index, NULL, 0);
		if (msg != NULL && nla_put_u32(msg, IFLA_GROUP, DOOMED_GROUP) < 0) {
			nlmsg_free(msg);
			msg = NULL;
		}
		r = netlink_talk(d->nl, msg, NULL, NULL);
	}
	if (r == 0)
		(*doomed)++;
	else if (r != -ENODEV)
		netlink_fail(&del->err, r, "%s %s: delete", what(del), del->name);
}

static int delete_group(struct netlink *nl)
{
	struct nl_msg *msg = link_msg(RTM_DELLINK, 0, 0, NULL, 0);

	if (msg != NULL && nla_put_u32(msg, IFLA_GROUP, DOOMED_GROUP) < 0) {
		nlmsg_free(msg);
		msg = NULL;
	}
	return netlink_talk(nl, msg, NULL, NULL);
}

static void delete_one(struct netlink *nl, struct deletion *del)
{
	int r = netlink_talk(nl, link_msg(RTM_DELLINK, 0, 0, del->name, 0), NULL, NULL);

	if (r < 0 && r != -ENODEV)
		netlink_fail(&del->err, r, "%s %s: delete", what(del), del->name);
}

static void work(uv_work_t *req)
{
	struct link_deleter *d = container_of(req, struct link_deleter, work);
	struct deletion *del;
	unsigned doomed = 0;
	int r;

	list_for_each_entry (del, &d->batch, entry)
		doom(d, del, &doomed);
	if (doomed == 0)
		return;
	r = delete_group(d->nl);
	/* Gone already, by another hand: then each was settled. */
	if (r == 0 || r == -ENODEV)
		return;
	list_for_each_entry (del, &d->batch, entry) {
		if (del->err.code == 0)
			delete_one(d->nl, del);
	}
}

static void maybe_free(struct link_deleter *d);

static void complete(struct list *list, int code)
{
	struct list ready;

	list_init(&ready);
	list_splice(&ready, list);
	while (!list_empty(&ready)) {
		struct deletion *del = list_first(&ready, struct deletion, entry);

		list_remove(&del->entry);
		if (code != 0)
			err_set(&del->err, code, "%s %s: delete: cancelled", what(del), del->name);
		del->done(del->arg, del->err.code != 0 ? &del->err : NULL);
		free(del);
	}
}

static void worked(uv_work_t *req, int status)
{
	struct link_deleter *d = container_of(req, struct link_deleter, work);

	complete(&d->batch, 0);
	d->running = false;
	if (d->destroyed)
		maybe_free(d);
	else
		kicked(d);
}

static void kicked(void *arg)
{
	struct link_deleter *d = arg;

	if (d->destroyed) {
		complete(&d->waiting, -ECANCELED);
		maybe_free(d);
		return;
	}
	if (d->running || list_empty(&d->waiting))
		return;
	list_splice(&d->batch, &d->waiting);
	d->running = true;
	uv_queue_work(d->loop, &d->work, work, worked); /* fails only without a work function */
}

static int queue(struct link_deleter *d, const char *kind, const char *name, link_deleted_fn *done,
	void *arg, struct err *err)
{
	struct deletion *del;

	if (strlen(name) >= IFNAMSIZ)
		return err_set(err, -EINVAL, "the name of link %s is too long", name);
	del = calloc(1, sizeof(*del));
	if (del == NULL)
		return err_nomem(err);
	memcpy(del->name, name, strlen(name) + 1);
	del->kind = kind;
	del->done = done;
	del->arg = arg;
	list_append(&d->waiting, &del->entry);
	if (!deadline_armed(&d->kick))
		deadline_set(&d->kick, 0);
	return 0;
}

int link_deleter_tap(
	struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg, struct err *err)
{
	return queue(d, NULL, name, done, arg, err);
}

int link_deleter_bridge(
	struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg, struct err *err)
{
	return queue(d, "bridge", name, done, arg, err);
}

int link_deleter_ifb(
	struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg, struct err *err)
{
	return queue(d, "ifb", name, done, arg, err);
}

int link_deleter_vlan(
	struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg, struct err *err)
{
	return queue(d, "vlan", name, done, arg, err);
}

static void kick_closed(void *arg)
{
	struct link_deleter *d = arg;

	netlink_destroy(d->nl);
	if (d->closed != NULL)
		d->closed(d->closed_arg);
	free(d);
}

static void maybe_free(struct link_deleter *d)
{
	if (!d->running && list_empty(&d->waiting))
		deadline_close(&d->kick, kick_closed);
}

void link_deleter_destroy(struct link_deleter *d, void (*closed)(void *arg), void *arg)
{
	if (d == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	d->destroyed = true;
	d->closed = closed;
	d->closed_arg = arg;
	deadline_set(&d->kick, 0);
}

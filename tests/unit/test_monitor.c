#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/util.h"
#include "netcfg/link.h"
#include "netcfg/monitor.h"
#include "tests/unit/netns.h"

/* All events in order; a test reads on from where it has read to. */
struct record {
	struct net_event event;
	char name[16];
};

struct fixture {
	uv_loop_t *loop;
	struct net_monitor *m;
	struct record log[16384];
	size_t n, read;
	unsigned count[NET_EVENTS_LOST + 1];
	bool news, closed, destroy;
};

static void closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void event(void *arg, const struct net_event *e)
{
	struct fixture *f = arg;

	f->count[e->kind]++;
	f->news = true;
	assert_true(f->n < ARRAY_LEN(f->log));
	f->log[f->n].event = *e;
	snprintf(f->log[f->n++].name, sizeof(f->log[0].name), "%s", e->ifname);
	if (f->destroy)
		net_monitor_destroy(f->m, closed, f);
}

static struct fixture *setup(void)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;
	struct err err;

	memset(f, 0, sizeof(*f));
	netns_enter();
	f->loop = rig_loop();
	assert_int_equal(net_monitor_create(&f->m, f->loop, event, f, &err), 0);
	return f;
}

static void finish(struct fixture *f)
{
	if (!f->destroy)
		net_monitor_destroy(f->m, closed, f);
	rig_run_until(f->loop, &f->closed);
	rig_loop_finish(f->loop);
}

/* The next event of this kind about this link; those before it pass by. */
static const struct net_event *await(
	struct fixture *f, enum net_event_kind kind, const char *ifname)
{
	for (;;) {
		const struct record *r = &f->log[f->read];

		if (f->read == f->n) {
			f->news = false;
			rig_run_until(f->loop, &f->news);
			continue;
		}
		f->read++;
		if (r->event.kind == kind && strcmp(r->name, ifname) == 0)
			return &r->event;
	}
}

static void a_tap_s_life_is_told(void **state)
{
	struct netlink *nl = NULL;
	struct fixture *f = setup();
	const struct net_event *e;
	int fd = -1;

	assert_int_equal(netlink_create(&nl, NULL), 0);
	assert_int_equal(tap_open("tap1", 0, &fd, NULL), 0);
	e = await(f, NET_LINK_NEW, "tap1");
	assert_false(e->up);
	assert_int_equal(e->master, 0);

	assert_int_equal(link_up(nl, "tap1", NULL), 0);
	do
		e = await(f, NET_LINK_CHANGED, "tap1");
	while (!e->up || !e->carrier);
	close(fd);
	do
		e = await(f, NET_LINK_CHANGED, "tap1");
	while (e->carrier);

	assert_int_equal(
		link_add_address(nl, "tap1", (struct ip4_prefix){ 0xac100001, 30 }, NULL), 0);
	e = await(f, NET_ADDRESS_NEW, "tap1");
	assert_int_equal(e->address.addr, 0xac100001);
	assert_int_equal(e->address.len, 30);
	sh("ip addr del 172.16.0.1/30 dev tap1");
	await(f, NET_ADDRESS_GONE, "tap1");

	assert_int_equal(
		link_add_address(nl, "tap1", (struct ip4_prefix){ 0xac100005, 30 }, NULL), 0);
	assert_int_equal(tap_delete(nl, "tap1", NULL), 0);
	e = await(f, NET_ADDRESS_GONE, "tap1");
	assert_int_equal(e->address.addr, 0xac100005);
	await(f, NET_LINK_GONE, "tap1");
	assert_int_equal(f->count[NET_LINK_NEW], 1);
	assert_int_equal(f->count[NET_LINK_GONE], 1);
	netlink_destroy(nl);
	finish(f);
}

static void a_port_that_leaves_its_bridge_is_not_gone(void **state)
{
	struct fixture *f = setup();
	const struct net_event *e;
	int bridge = 0;

	sh("ip link add name br0 type bridge");
	e = await(f, NET_LINK_NEW, "br0");
	bridge = e->index;
	sh("ip tuntap add dev tap1 mode tap && ip link set tap1 master br0");
	do
		e = await(f, NET_LINK_CHANGED, "tap1");
	while (e->master != bridge);
	sh("ip link del br0");
	do
		e = await(f, NET_LINK_CHANGED, "tap1");
	while (e->master != 0);
	await(f, NET_LINK_GONE, "br0");
	assert_int_equal(f->count[NET_LINK_GONE], 1);
	sh("ip link set tap1 name tap2");
	await(f, NET_LINK_CHANGED, "tap2");
	finish(f);
}

static void too_many_events_are_told_as_lost(void **state)
{
	struct fixture *f = setup();

	sh("ip tuntap add dev tap1 mode tap");
	sh("for i in $(seq 2500); do echo link set tap1 up; echo link set tap1 down; done | ip -b -");
	await(f, NET_EVENTS_LOST, "");
	/* Told when there is room again: from here on nothing is missed. */
	sh("ip link add name br0 type bridge");
	await(f, NET_LINK_NEW, "br0");
	finish(f);
}

static void its_callback_may_destroy_it(void **state)
{
	struct fixture *f = setup();

	f->destroy = true;
	sh("ip link add name br0 type bridge && ip link set br0 up && ip link del br0");
	await(f, NET_LINK_NEW, "br0");
	finish(f);
	assert_int_equal(f->count[NET_LINK_GONE], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tap_s_life_is_told),
		cmocka_unit_test(a_port_that_leaves_its_bridge_is_not_gone),
		cmocka_unit_test(too_many_events_are_told_as_lost),
		cmocka_unit_test(its_callback_may_destroy_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

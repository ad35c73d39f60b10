/* Rates of a TAP: as values, and as what the kernel does with them. */
#include "netcfg/shape.h"

#include <errno.h>
#include <stdlib.h>

#include <string.h>
#include <unistd.h>
#include "netcfg/netlink.h"
#include "tests/unit/netns.h"

#define TAP "tap0123456789ab"
#define IFB "ifb0123456789ab"

static void values(void **state)
{
	static const struct {
		const char *text;
		uint64_t up, down;
	} rows[] = {
		{ "10M", 10000000, 10000000 },
		{ "8k", 8000, 8000 },
		{ "1G/0", 1000000000, 0 },
		{ "0/64k", 0, 64000 },
		{ "400G", 400000000000, 400000000000 },
		{ "123456", 123456, 123456 },
		{ "0", 0, 0 },
	};
	static const char *const bad[] = { "", "/", "10M/", "/10M", "10", "10m", "-1", "10 M",
		"401G", "99999999999999999999", "1M/2M/3M", "1.5M", "M", "0x10M" };
	struct shape s;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(shape_parse(rows[i].text, &s, &err), 0);
		assert_int_equal(s.up, rows[i].up);
		assert_int_equal(s.down, rows[i].down);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (shape_parse(bad[i], &s, &err) == 0)
			fail_msg("'%s' is taken", bad[i]);
		assert_non_null(strstr(err.msg, "is not a rate"));
	}
}

static void set(struct netlink *nl, uint64_t up, uint64_t down)
{
	struct shape s = { up, down };
	struct err err;

	if (shape_set(nl, TAP, &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_false(shape_differs(nl, TAP, &s));
}

static void what_the_kernel_has(void **state)
{
	const struct shape both = { 10000000, 20000000 };
	struct netlink *nl;
	struct err err;
	int fd = -1;

	netns_enter();
	assert_int_equal(netlink_create(&nl, &err), 0);
	assert_int_equal(tap_open(TAP, 0, &fd, &err), 0);
	assert_true(shape_differs(nl, TAP, &both));
	set(nl, both.up, both.down);
	sh("tc qdisc show dev " TAP " root | grep -q 'tbf d0e: .*rate 20Mbit burst 32Kb lat'");
	sh("tc qdisc show dev " IFB " root | grep -q 'tbf d0e: .*rate 10Mbit burst 32Kb lat'");
	sh("tc filter show dev " TAP " parent ffff: | grep -q 'Egress Redirect to device " IFB "'");
	sh("ip link show dev " IFB " | grep -q ,UP");
	/* Again, and other rates. */
	set(nl, both.up, both.down);
	set(nl, 40000000000, 80000000000);
	sh("tc qdisc show dev " TAP " root | grep -q 'rate 80Gbit'");
	sh("tc qdisc show dev " IFB " root | grep -q 'rate 40Gbit'");
	assert_int_equal(
		atoi(sh_output("tc filter show dev " TAP " parent ffff: | grep -c Redirect")), 1);
	/* What somebody takes away. */
	sh("tc qdisc del dev " TAP " root");
	assert_true(shape_differs(nl, TAP, &both));
	set(nl, both.up, both.down);
	sh("tc qdisc del dev " TAP " ingress");
	assert_true(shape_differs(nl, TAP, &both));
	set(nl, both.up, both.down);
	sh("ip link del " IFB);
	assert_true(shape_differs(nl, TAP, &both));
	set(nl, both.up, both.down);
	sh("tc filter show dev " TAP " parent ffff: | grep -q 'Egress Redirect to device " IFB "'");
	/* One way only, and none; others' are left alone. */
	set(nl, 0, both.down);
	sh("! tc qdisc show dev " TAP " | grep -q ingress");
	set(nl, 0, 0);
	sh("! tc qdisc show dev " TAP " | grep -q tbf");
	sh("tc qdisc add dev " TAP " root handle 7: tbf rate 1mbit burst 32k latency 50ms");
	set(nl, 0, 0);
	sh("tc qdisc show dev " TAP " | grep -q 'tbf 7:'");
	sh("ip link del " IFB " && ip link add " IFB " type bridge");
	assert_int_equal(shape_set(nl, TAP, &both, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "which is not ours"));
	close(fd);
	netlink_destroy(nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(what_the_kernel_has),
	};

	return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}

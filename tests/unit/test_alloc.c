#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "netcfg/alloc.h"

static struct ip4_prefix net(const char *s)
{
	struct ip4_prefix p = { 0 };
	struct err err;

	assert_int_equal(ip4_prefix_parse(s, true, &p, &err), 0);
	return p;
}

static const char *text(struct ip4_prefix p)
{
	static char buf[19];

	ip4_prefix_format(p, buf);
	return buf;
}

static void parses_and_formats_prefixes(void **state)
{
	static const char *const good[] = { "0.0.0.0/0", "172.16.0.0/16", "10.1.2.4/30",
		"255.255.255.255/32", "128.0.0.0/1" };
	static const char *const bad[] = { "", "/", "172.16.0.0", "172.16.0.0/", "172.16.0.0/33",
		"172.16.0.0/016", "172.16.0.0/1 ", "172.16.0.0/-1", "172.16.0/16",
		"172.16.0.0.0/16", "172.16.0.256/16", "a/16", " 172.16.0.0/16", "172.16.0.0/16x",
		"1111111111111111111111111111.0.0.0/8", "fd00::/8" };
	struct ip4_prefix p = { 1, 2 };
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_string_equal(text(net(good[i])), good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(ip4_prefix_parse(bad[i], true, &p, &err), -EINVAL);
		assert_int_equal(p.addr, 1);
	}
	assert_int_equal(ip4_prefix_parse("172.16.3.1/16", false, &p, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "did you mean 172.16.0.0/16?"));
	assert_string_equal(text(net("172.16.3.1/16")), "172.16.3.1/16");
}

static void overlap_is_symmetric(void **state)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} rows[] = {
		{ "172.16.0.0/16", "172.16.255.252/30", true },
		{ "172.16.0.0/16", "172.17.0.0/30", false },
		{ "0.0.0.0/0", "255.255.255.255/32", true },
		{ "10.0.0.1/24", "10.0.0.200/30", true },
		{ "10.0.0.0/30", "10.0.0.4/30", false },
		{ "10.0.0.1/32", "10.0.0.2/32", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(ip4_overlap(net(rows[i].a), net(rows[i].b)), rows[i].overlap);
		assert_int_equal(ip4_overlap(net(rows[i].b), net(rows[i].a)), rows[i].overlap);
	}
}

/*
 * These values must never change: a machine whose MAC, subnet or TAP name changes with an update
 * of drover loses its address and its firewall rules.
 */
static void values_are_the_same_in_every_version(void **state)
{
	static const struct {
		const char *run_id, *machine;
		unsigned nic;
		const char *net, *mac, *tap;
	} rows[] = {
		{ "default", "web-1", 0, "172.16.170.152/30", "52:56:b1:ed:d3:1a",
			"tap79f0a48fc514" },
		{ "default", "web-1", 1, "172.16.170.152/30", "52:d2:4c:85:6f:81",
			"tap0e6001cf7002" },
		{ "ci-7", "ubuntu-6.5", 0, "172.16.167.124/30", "52:d2:35:df:26:de",
			"tapd4993bbe9d8c" },
		{ "ci-7", "ubuntu-6.6", 0, "172.16.208.224/30", "52:3f:87:3b:34:65",
			"tap1672d5aa980a" },
		{ "a", "bc", 0, "172.16.36.204/30", "52:7b:ba:4a:57:5f", "tapb93c5566ee88" },
		{ "ab", "c", 0, "172.16.99.28/30", "52:7a:fd:32:f1:89", "tap965af90d8179" },
		{ "default", "a.b", 0, "172.16.40.252/30", "52:4a:d0:6d:e2:3d", "tapf499c3f18adc" },
		{ "default", "a-b", 0, "172.16.210.52/30", "52:30:53:d9:94:9a", "tapfcb25f71dda9" },
	};
	char mac[18], tap[16];
	struct ip4_prefix p;
	unsigned probes = 99;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(alloc_p2p(net("172.16.0.0/16"), rows[i].run_id, rows[i].machine,
					 NULL, 0, NULL, 0, &p, &probes, NULL),
			0);
		alloc_mac(rows[i].run_id, rows[i].machine, rows[i].nic, mac);
		alloc_tap_name(rows[i].run_id, rows[i].machine, rows[i].nic, tap);
		assert_string_equal(text(p), rows[i].net);
		assert_int_equal(probes, 0);
		assert_string_equal(mac, rows[i].mac);
		assert_string_equal(tap, rows[i].tap);
	}
}

static void names_are_hashed_whole(void **state)
{
	static const char *const pairs[][4] = {
		{ "a", "bc", "ab", "c" },
		{ "", "abc", "abc", "" },
		{ "r", "a.b", "r", "a-b" },
		{ "r", "web-1", "r", "web-11" },
	};
	char one[18], two[18], name[16], other[16];

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		alloc_mac(pairs[i][0], pairs[i][1], 0, one);
		alloc_mac(pairs[i][2], pairs[i][3], 0, two);
		assert_string_not_equal(one, two);
		alloc_tap_name(pairs[i][0], pairs[i][1], 0, name);
		alloc_tap_name(pairs[i][2], pairs[i][3], 0, other);
		assert_string_not_equal(name, other);
	}
	alloc_mac("r", "m", 0, one);
	alloc_mac("r", "m", 1, two);
	assert_string_not_equal(one, two);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* 4000 machines: no two MACs or TAPs alike, and subnets spread over the whole range. */
static void values_are_spread(void **state)
{
	enum {
		N = 4000
	};
	static char macs[N][18], taps[N][16];
	unsigned quarter[4] = { 0 };
	struct ip4_prefix p;
	char name[16];

	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "vm-%u", i);
		alloc_mac("default", name, 0, macs[i]);
		alloc_tap_name("default", name, 0, taps[i]);
		assert_int_equal(alloc_p2p(net("172.16.0.0/16"), "default", name, NULL, 0, NULL, 0,
					 &p, NULL, NULL),
			0);
		assert_int_equal(p.addr >> 16, 0xac10);
		quarter[p.addr >> 14 & 3]++;
	}
	qsort(macs, N, sizeof(macs[0]), by_text);
	qsort(taps, N, sizeof(taps[0]), by_text);
	for (unsigned i = 1; i < N; i++) {
		assert_string_not_equal(macs[i], macs[i - 1]);
		assert_string_not_equal(taps[i], taps[i - 1]);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(quarter[i], N / 4 - N / 20, N / 4 + N / 20);
}

static void a_collision_goes_to_the_next_slot(void **state)
{
	struct ip4_prefix range = net("172.16.0.0/16"), used[3], p;
	unsigned probes;

	for (unsigned i = 0; i < ARRAY_LEN(used); i++) {
		assert_int_equal(
			alloc_p2p(range, "r", "m", used, i, NULL, 0, &p, &probes, NULL), 0);
		assert_int_equal(probes, i);
		if (i > 0)
			assert_int_equal(p.addr, used[i - 1].addr + 4);
		used[i] = p;
	}
}

/* Every slot of a range is found, none twice, also from a start in the middle; then it is full. */
static void a_range_can_be_used_up(void **state)
{
	struct ip4_prefix range = net("10.9.8.0/24"), used[64], p = { 7, 7 };
	bool seen[64] = { false };
	struct err err;
	char name[16];

	for (unsigned i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_int_equal(
			alloc_p2p(range, "r", name, used, i, NULL, 0, &used[i], NULL, &err), 0);
		assert_int_equal(used[i].len, 30);
		assert_true(ip4_overlap(range, used[i]));
		assert_false(seen[used[i].addr >> 2 & 63]);
		seen[used[i].addr >> 2 & 63] = true;
	}
	assert_int_equal(
		alloc_p2p(range, "r", "late", used, 64, NULL, 0, &p, NULL, &err), -EADDRNOTAVAIL);
	assert_non_null(strstr(err.msg, "10.9.8.0/24"));
	assert_int_equal(p.addr, 7);

	/* One goes back, and it is the one that the next machine gets. */
	p = used[17];
	used[17] = used[63];
	assert_int_equal(alloc_p2p(range, "r", "late", used, 63, NULL, 0, &p, NULL, &err), 0);
	assert_false(ip4_overlap(p, used[17]));
}

static void what_the_host_has_is_avoided(void **state)
{
	struct ip4_prefix host[4] = { net("172.16.0.0/17"), net("172.16.128.0/18"),
		net("172.16.192.1/19"), net("172.16.224.0/20") };
	struct ip4_prefix all = net("172.0.0.0/8"), p;
	struct err err;
	unsigned probes;
	char name[16];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_int_equal(alloc_p2p(net("172.16.0.0/16"), "r", name, NULL, 0, host, 4, &p,
					 &probes, &err),
			0);
		assert_true(ip4_overlap(p, net("172.16.240.0/20")));
		/* Whole networks of the host are stepped over at once. */
		assert_true(probes <= 4);
	}
	assert_int_equal(
		alloc_p2p(net("172.16.0.0/16"), "r", "m", NULL, 0, &all, 1, &p, NULL, &err),
		-EADDRNOTAVAIL);
}

static void the_ends_of_the_address_space_hold(void **state)
{
	struct ip4_prefix p, used = net("255.255.255.252/30"), half = net("128.0.0.0/1");
	struct err err;

	assert_int_equal(alloc_p2p(used, "r", "m", NULL, 0, NULL, 0, &p, NULL, &err), 0);
	assert_string_equal(text(p), "255.255.255.252/30");
	assert_int_equal(
		alloc_p2p(used, "r", "m", &used, 1, NULL, 0, &p, NULL, &err), -EADDRNOTAVAIL);
	assert_int_equal(
		alloc_p2p(net("0.0.0.0/0"), "r", "m", NULL, 0, &half, 1, &p, NULL, &err), 0);
	assert_true(p.addr < 0x80000000u);
	assert_int_equal(
		alloc_p2p(net("10.0.0.0/31"), "r", "m", NULL, 0, NULL, 0, &p, NULL, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_and_formats_prefixes),
		cmocka_unit_test(overlap_is_symmetric),
		cmocka_unit_test(values_are_the_same_in_every_version),
		cmocka_unit_test(names_are_hashed_whole),
		cmocka_unit_test(values_are_spread),
		cmocka_unit_test(a_collision_goes_to_the_next_slot),
		cmocka_unit_test(a_range_can_be_used_up),
		cmocka_unit_test(what_the_host_has_is_avoided),
		cmocka_unit_test(the_ends_of_the_address_space_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

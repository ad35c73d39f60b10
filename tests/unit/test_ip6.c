/* IPv6 as values, what a dnsmasq is told of it, and what it writes down. */
#include <string.h>
#include "lib/str.h"
#include "netcfg/dhcp6-release.h"
#include "netcfg/dnsmasq-bridge.h"
#include "netcfg/ip6.h"
#include "tests/unit/rig.h"

static struct in6_addr ip(const char *text)
{
	struct in6_addr a;

	assert_true(ip6_parse(text, &a));
	return a;
}

static struct ip6_prefix net(const char *text)
{
	struct ip6_prefix p;

	assert_int_equal(ip6_prefix_parse(text, &p, NULL), 0);
	return p;
}

static void prefixes(void **state)
{
	static const char *const bad[][2] = { { "fd00::", "write it as" },
		{ "fd00::/0", "1 to 128" }, { "fd00::/129", "1 to 128" },
		{ "10.0.0.0/8", "no valid IPv6 address" },
		{ "fd00::1/64", "did you mean fd00::/64?" },
		{ "2001:db8:1:2:3::/63", "did you mean 2001:db8:1:2::/63?" },
		{ "/64", "no valid" } };
	struct ip6_prefix p = net("2001:db8::/33"), q = net("2001:db8:7fff::/64");
	char text[IP6_TEXT + 4];
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(ip6_prefix_parse(bad[i][0], &p, &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i][1]));
	}
	ip6_prefix_format(&p, text);
	assert_string_equal(text, "2001:db8::/33");
	assert_true(ip6_overlap(&p, &q) && ip6_overlap(&q, &p));
	q = net("2001:db8:8000::/64");
	assert_false(ip6_overlap(&p, &q) || ip6_overlap(&q, &p));
}

static void arithmetic(void **state)
{
	struct ip6_prefix p = net("2001:db8::/60");
	struct in6_addr a = ip("2001:db8::ffff:ffff:ffff:ffff"), b, last = ip6_last(&p);
	char text[IP6_TEXT];

	b = ip6_add(&a, 1, 0);
	ip6_format(&b, text);
	assert_string_equal(text, "2001:db8:0:1::");
	b = ip6_add(&p.addr, 3, 64);
	ip6_format(&b, text);
	assert_string_equal(text, "2001:db8:0:3::");
	ip6_format(&last, text);
	assert_string_equal(text, "2001:db8:0:f:ffff:ffff:ffff:ffff");
	assert_int_equal(ip6_distance(&p.addr, &b), UINT64_MAX);
	b = ip6_add(&p.addr, 0x1234, 0);
	assert_int_equal(ip6_distance(&p.addr, &b), 0x1234);
	ip6_format_hex(&b, text);
	assert_string_equal(text, "0x20010db8000000000000000000001234");
	b = ip("64:ff9b::1");
	ip6_format_hex(&b, text);
	assert_string_equal(text, "0x64ff9b000000000000000000000001");
}

static const char *args(const struct dnsmasq6_spec *spec)
{
	static struct buf b;
	struct strv v = { 0 };

	buf_clear(&b);
	dnsmasq6_args(spec, &v);
	for (size_t i = 0; i < v.n; i++)
		buf_printf(&b, "%s\n", v.v[i]);
	strv_finish(&v);
	return buf_str(&b);
}

static void the_command_is_exact(void **state)
{
	const char *const dns[] = { "2001:db8::1", "2001:db8::2", NULL };
	const char *const search[] = { "a.test", "b.test", NULL };
	struct dnsmasq6_spec s = { .link = "br0",
		.net = net("2001:db8::/64"),
		.dhcp = true,
		.other = true,
		.on_link = true,
		.lifetime = 3600,
		.interval = 600,
		.router_lifetime = 1800,
		.refresh = 1200,
		.mtu = 1400,
		.dns = dns,
		.search = search };

	assert_string_equal(args(&s),
		"--enable-ra\n"
		"--ra-param=br0,mtu:1400,600,1800\n"
		"--dhcp-range=2001:db8::,static,64,3600\n"
		"--dhcp-option=option6:dns-server,[2001:db8::1],[2001:db8::2]\n"
		"--dhcp-option=option6:domain-search,a.test,b.test\n"
		"--dhcp-option=option6:information-refresh-time,1200\n");
	s = (struct dnsmasq6_spec){ .link = "br0",
		.net = net("2001:db8::/64"),
		.autonomous = true,
		.lifetime = 60,
		.interval = 4 };
	assert_string_equal(args(&s), "--enable-ra\n"
				      "--ra-param=br0,4,0\n"
				      "--dhcp-range=2001:db8::,ra-only,off-link,64,60\n"
				      "--dhcp-option=option6:dns-server\n");
	s.other = s.on_link = true;
	assert_non_null(strstr(args(&s), "=2001:db8::,ra-stateless,64,60\n"));
	s.dhcp = true;
	assert_non_null(strstr(args(&s), "=2001:db8::,static,slaac,64,60\n"));
}

static void files_are_exact(void **state)
{
	struct in6_addr a = ip("2001:db8::9");
	struct buf b = { 0 };

	dnsmasq_reservation(&b, "52:54:00:00:00:02", 0x0a4d0002, &a, "web-1");
	dnsmasq_names(&b, 0x0a4d0002, &a, "web-1", "lab.test");
	assert_string_equal(buf_str(&b), "52:54:00:00:00:02,10.77.0.2,[2001:db8::9],web-1\n"
					 "10.77.0.2 web-1.lab.test web-1\n"
					 "2001:db8::9 web-1.lab.test web-1\n");
	buf_finish(&b);
}

static void leases_are_read(void **state)
{
	struct in6_addr a = ip("fd00::5");
	struct dnsmasq6_lease l;

	assert_true(dnsmasq6_lease_parse("1795291972 1234567 fd00::5 one 00:03:00:01", &l));
	assert_int_equal(l.expires, 1795291972);
	assert_int_equal(l.iaid, 1234567);
	assert_true(ip6_equal(&l.address, &a));
	assert_string_equal(l.duid, "00:03:00:01");
	assert_false(dnsmasq6_lease_parse("1795291972 52:54:00:00:00:09 10.77.0.9 one 01", &l));
	assert_false(dnsmasq6_lease_parse("1795291972 T1234567 fd00::5 one 00:01", &l));
	assert_false(dnsmasq6_lease_parse("duid 00:01:00:01", &l));
	assert_false(dnsmasq6_lease_parse("", &l));
	assert_string_equal(dnsmasq6_server_duid("duid 00:01"), "00:01");
	assert_null(dnsmasq6_server_duid("1795291972 1234567 fd00::5 one 00:03:00:01"));
}

static void a_release_is_exact(void **state)
{
	static const unsigned char want[] = { 8, 'd', 'r', 'v', 0, 1, 0, 4, 0, 3, 0, 1, 0, 2, 0, 2,
		0xab, 0xcd, 0, 8, 0, 2, 0, 0, 0, 3, 0, 40, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
		0, 24, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct dnsmasq6_lease l = { .iaid = 258, .address = ip("fd00::5"), .duid = "00:03:00:01" };
	struct buf b = { 0 };

	assert_true(dhcp6_release_message(&b, &l, "ab:cd"));
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
	buf_clear(&b);
	assert_false(dhcp6_release_message(&b, &l, ""));
	assert_false(dhcp6_release_message(&b, &l, "no duid"));
	buf_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefixes),
		cmocka_unit_test(arithmetic),
		cmocka_unit_test(the_command_is_exact),
		cmocka_unit_test(files_are_exact),
		cmocka_unit_test(leases_are_read),
		cmocka_unit_test(a_release_is_exact),
	};

	return cmocka_run_group_tests_name("ip6", tests, NULL, NULL);
}

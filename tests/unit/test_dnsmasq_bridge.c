#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "netcfg/dnsmasq-bridge.h"
#include "tests/unit/rig.h"

static const char *args(const struct dnsmasq_bridge_spec *spec)
{
	static struct buf text;
	struct strv v = { 0 };
	struct err err;

	assert_int_equal(dnsmasq_bridge_args(spec, &v, &err), 0);
	buf_clear(&text);
	for (size_t i = 0; i < v.n; i++)
		buf_printf(&text, "%s\n", v.v[i]);
	strv_finish(&v);
	return buf_str(&text);
}

static const struct dnsmasq_bridge_spec base = { .binary = "/usr/sbin/dnsmasq",
	.bridge = "vm-br0",
	.net = { 0x0a4d0000, 23 },
	.gateway = 0x0a4d0001,
	.router = true,
	.dhcp_dir = "/run/d",
	.lease_file = "/var/l" };

#define HEAD                                                                                       \
	"/usr/sbin/dnsmasq\n--conf-file=/dev/null\n--keep-in-foreground\n--log-facility=-\n"       \
	"--pid-file=\n--no-hosts\n--interface=vm-br0\n--except-interface=lo\n--bind-dynamic\n"     \
	"--no-ping\n--dhcp-authoritative\n--dhcp-ignore-clid\n--dhcp-ignore-names\n"               \
	"--dhcp-range=10.77.0.0,static,255.255.254.0,1h\n--dhcp-hostsdir=/run/d\n"                 \
	"--dhcp-leasefile=/var/l\n--dhcp-lease-max=16777216\n"

static void the_command_is_exact(void **state)
{
	struct dnsmasq_dns dns = { .host_dns = true, .names_dir = "/run/n" };
	struct dnsmasq_bridge_spec s = base;
	struct strv v = { 0 };
	struct err err;

	s.dns = &dns;
	assert_string_equal(args(&s), HEAD "--dhcp-option=option:router,10.77.0.1\n"
					   "--dhcp-option=option:dns-server,10.77.0.1\n"
					   "--hostsdir=/run/n\n--domain-needed\n");
	s.router = dns.host_dns = false;
	dns.domain = "lab.test";
	s.mtu = 1400;
	assert_string_equal(args(&s),
		HEAD "--dhcp-option=option:router\n"
		     "--dhcp-option=option:dns-server,10.77.0.1\n"
		     "--dhcp-option=option:mtu,1400\n--no-resolv\n"
		     "--hostsdir=/run/n\n--domain-needed\n--domain=lab.test\n--local=/lab.test/\n");
	s = base;
	assert_string_equal(args(&s),
		HEAD "--dhcp-option=option:router,10.77.0.1\n--dhcp-option=option:dns-server\n"
		     "--port=0\n");
	s.bridge = "br*";
	assert_int_equal(dnsmasq_bridge_args(&s, &v, &err), -EINVAL);
}

static const char *reservation(const char *name)
{
	static struct buf b;

	buf_clear(&b);
	dnsmasq_reservation(&b, "52:54:00:00:00:02", 0x0a4d0002, NULL, name);
	return buf_str(&b);
}

static void files_are_exact(void **state)
{
	static const char *const not_names[] = { "ignore", "infinite", "12", "45m", "a.b", "1d",
		"2w" };
	struct buf b = { 0 };

	assert_string_equal(reservation("web-1"), "52:54:00:00:00:02,10.77.0.2,web-1\n");
	assert_string_equal(reservation("1x"), "52:54:00:00:00:02,10.77.0.2,1x\n");
	for (size_t i = 0; i < ARRAY_LEN(not_names); i++)
		assert_string_equal(reservation(not_names[i]), "52:54:00:00:00:02,10.77.0.2\n");
	dnsmasq_names(&b, 0x0a4d0002, NULL, "a.b", NULL);
	dnsmasq_names(&b, 0x0a4d0002, NULL, "web-1", "lab.test");
	assert_string_equal(buf_str(&b), "10.77.0.2 a.b\n10.77.0.2 web-1.lab.test web-1\n");
	buf_finish(&b);
}

static void leases_are_read(void **state)
{
	struct dnsmasq_lease l;

	assert_true(dnsmasq_lease_parse(
		"1795291972 52:54:00:00:00:09 10.77.0.9 one 01:52:54:00:00:00:09", &l));
	assert_int_equal(l.expires, 1795291972);
	assert_string_equal(l.mac, "52:54:00:00:00:09");
	assert_int_equal(l.address, 0x0a4d0009);
	assert_string_equal(l.name, "one");
	assert_true(dnsmasq_lease_parse("0 52:54:00:00:00:09 10.77.0.9 * *", &l));
	assert_string_equal(l.name, "");
	assert_false(dnsmasq_lease_parse("duid 00:01:00:01:2c:5e", &l));
	assert_false(dnsmasq_lease_parse("1795291972 52:54:00:00", &l));
	assert_false(dnsmasq_lease_parse("1795291972 1234567 fd00::5 one 00:01", &l));
	assert_false(dnsmasq_lease_parse("", &l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_is_exact),
		cmocka_unit_test(files_are_exact),
		cmocka_unit_test(leases_are_read),
	};

	return cmocka_run_group_tests_name("dnsmasq_bridge", tests, NULL, NULL);
}

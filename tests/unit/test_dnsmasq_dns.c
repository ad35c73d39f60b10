#include "netcfg/dnsmasq-dns.h"
#include "tests/unit/rig.h"

static const char *args(const struct dnsmasq_dns *dns)
{
	static struct buf text;
	struct strv v = { 0 };

	buf_clear(&text);
	dnsmasq_dns_args(&v, dns);
	assert_false(v.bad);
	for (size_t i = 0; i < v.n; i++)
		buf_printf(&text, "%s\n", v.v[i]);
	strv_finish(&v);
	return buf_str(&text);
}

static void the_arguments_are_exact(void **state)
{
	static const char *const servers[] = { "9.9.9.9", "2620:fe::fe", NULL };
	struct dnsmasq_dns dns = { .host_dns = true };

	assert_string_equal(args(&dns), "--domain-needed\n");
	dns.host_dns = false;
	assert_string_equal(args(&dns), "--no-resolv\n--domain-needed\n");
	dns = (struct dnsmasq_dns){ .host_dns = true,
		.servers = servers,
		.names_dir = "/run/n",
		.domain = "lab.test",
		.net = { 0x0a4d0000, 23 },
		.log = true };
	assert_string_equal(args(&dns),
		"--no-resolv\n--server=9.9.9.9\n--server=2620:fe::fe\n--hostsdir=/run/n\n"
		"--domain-needed\n--rev-server=10.77.0.0/23\n--domain=lab.test\n--local=/lab.test/\n"
		"--log-queries=extra\n");
}

static void records_are_ours_alone(void **state)
{
	static const struct dnsmasq_record records[] = { { "ghcr.io", "10.0.0.5" },
		{ "ghcr.io", "fd00::5" }, { "printer", "10.0.0.6" }, { "lab.test", "10.0.0.7" },
		{ "a.lab.test", "10.0.0.8" }, { "notlab.test", "10.0.0.9" } };
	struct dnsmasq_dns dns = { .domain = "lab.test", .records = records, .nrecords = 6 };

	assert_string_equal(args(&dns),
		"--no-resolv\n--domain-needed\n--domain=lab.test\n--local=/lab.test/\n"
		"--host-record=ghcr.io,10.0.0.5\n--local=/ghcr.io/\n--server=/*.ghcr.io/#\n"
		"--host-record=ghcr.io,fd00::5\n"
		"--host-record=printer,10.0.0.6\n"
		"--host-record=lab.test,10.0.0.7\n"
		"--host-record=a.lab.test,10.0.0.8\n"
		"--host-record=notlab.test,10.0.0.9\n--local=/notlab.test/\n--server=/*.notlab.test/#\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_arguments_are_exact),
		cmocka_unit_test(records_are_ours_alone),
	};

	return cmocka_run_group_tests_name("dnsmasq_dns", tests, NULL, NULL);
}

/* What kea and radvd are told, byte for byte; that they take it; and kea's leases. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "netcfg/dhcp6-release.h"
#include "netcfg/kea6.h"
#include "netcfg/radvd.h"
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

static const char *const dns[] = { "2001:db8::53", "2001:db8::54", NULL };
static const char *const search[] = { "one.test", "two.test", NULL };

/* Loopback is a link that is everywhere. */
static struct kea6_spec whole(const struct kea6_guest *guests, size_t n)
{
	return (struct kea6_spec){ .link = "lo",
		.mac = "02:00:00:00:00:01",
		.net = net("2001:db8:1::/64"),
		.lifetime = 600,
		.preferred = 300,
		.renew = 60,
		.rebind = 120,
		.refresh = 1200,
		.dns = dns,
		.search = search,
		.lease_file = "/var/lib/drover/net/lab.leases6",
		.guests = guests,
		.nguests = n };
}

static void kea_is_told(void **state)
{
	struct kea6_guest guests[] = { { "tap1", "52:54:00:00:00:01", ip("2001:db8:1::9"),
					       net("2001:db8:100:7::/64") },
		{ "tap2", "52:54:00:00:00:02", { { { 0 } } }, net("2001:db8:100:8::/64") } };
	struct kea6_spec spec = whole(guests, 2);
	struct buf text = { 0 };

	assert_int_equal(kea6_config_text(&spec, &text, NULL), 0);
	assert_string_equal(text.data,
		"{\n"
		" \"Dhcp6\": {\n"
		"  \"interfaces-config\": {\n"
		"   \"interfaces\": [\n"
		"    \"lo\"\n"
		"   ],\n"
		"   \"service-sockets-max-retries\": 4294967295,\n"
		"   \"service-sockets-retry-wait-time\": 500\n"
		"  },\n"
		"  \"lease-database\": {\n"
		"   \"type\": \"memfile\",\n"
		"   \"name\": \"/var/lib/drover/net/lab.leases6\",\n"
		"   \"persist\": true,\n"
		"   \"lfc-interval\": 300\n"
		"  },\n"
		"  \"server-id\": {\n"
		"   \"type\": \"LL\",\n"
		"   \"htype\": 1,\n"
		"   \"identifier\": \"020000000001\",\n"
		"   \"persist\": false\n"
		"  },\n"
		"  \"expired-leases-processing\": {\n"
		"   \"reclaim-timer-wait-time\": 1,\n"
		"   \"hold-reclaimed-time\": 0,\n"
		"   \"flush-reclaimed-timer-wait-time\": 60\n"
		"  },\n"
		"  \"mac-sources\": [\n"
		"   \"duid\"\n"
		"  ],\n"
		"  \"host-reservation-identifiers\": [\n"
		"   \"duid\"\n"
		"  ],\n"
		"  \"valid-lifetime\": 600,\n"
		"  \"preferred-lifetime\": 300,\n"
		"  \"renew-timer\": 60,\n"
		"  \"rebind-timer\": 120,\n"
		"  \"option-data\": [\n"
		"   {\n"
		"    \"name\": \"dns-servers\",\n"
		"    \"data\": \"2001:db8::53, 2001:db8::54\"\n"
		"   },\n"
		"   {\n"
		"    \"name\": \"domain-search\",\n"
		"    \"data\": \"one.test, two.test\"\n"
		"   },\n"
		"   {\n"
		"    \"name\": \"information-refresh-time\",\n"
		"    \"data\": \"1200\"\n"
		"   }\n"
		"  ],\n"
		"  \"client-classes\": [\n"
		"   {\n"
		"    \"name\": \"tap1\",\n"
		"    \"test\": \"pkt.src == fe80::5054:ff:fe00:1 or (not (substring(pkt.src, 11, 2) == 0xfffe) and substring(option[1].hex, -6, 6) == 0x525400000001)\"\n"
		"   },\n"
		"   {\n"
		"    \"name\": \"tap2\",\n"
		"    \"test\": \"pkt.src == fe80::5054:ff:fe00:2 or (not (substring(pkt.src, 11, 2) == 0xfffe) and substring(option[1].hex, -6, 6) == 0x525400000002)\"\n"
		"   }\n"
		"  ],\n"
		"  \"subnet6\": [\n"
		"   {\n"
		"    \"id\": 1,\n"
		"    \"subnet\": \"2001:db8:1::/64\",\n"
		"    \"interface\": \"lo\",\n"
		"    \"pools\": [\n"
		"     {\n"
		"      \"pool\": \"2001:db8:1::9 - 2001:db8:1::9\",\n"
		"      \"client-class\": \"tap1\"\n"
		"     }\n"
		"    ],\n"
		"    \"pd-pools\": [\n"
		"     {\n"
		"      \"prefix\": \"2001:db8:100:7::\",\n"
		"      \"prefix-len\": 64,\n"
		"      \"delegated-len\": 64,\n"
		"      \"client-class\": \"tap1\"\n"
		"     },\n"
		"     {\n"
		"      \"prefix\": \"2001:db8:100:8::\",\n"
		"      \"prefix-len\": 64,\n"
		"      \"delegated-len\": 64,\n"
		"      \"client-class\": \"tap2\"\n"
		"     }\n"
		"    ]\n"
		"   }\n"
		"  ],\n"
		"  \"loggers\": [\n"
		"   {\n"
		"    \"name\": \"kea-dhcp6\",\n"
		"    \"severity\": \"WARN\",\n"
		"    \"output_options\": [\n"
		"     {\n"
		"      \"output\": \"stderr\",\n"
		"      \"flush\": true\n"
		"     }\n"
		"    ]\n"
		"   }\n"
		"  ]\n"
		" }\n"
		"}\n");
	buf_finish(&text);
}

/* The program itself has nothing against the text. */
static void taken(const char *program, const char *option, const char *more, const struct buf *text)
{
	char *path = find_program(program), name[] = "/tmp/drover-test.XXXXXX";
	int fd = mkstemp(name), status;
	pid_t pid;

	assert_true(fd >= 0);
	assert_non_null(path);
	assert_int_equal(write(fd, text->data, text->len), (ssize_t)text->len);
	close(fd);
	pid = fork();
	if (pid == 0) {
		setenv("KEA_LOCKFILE_DIR", "none", 1);
		dup2(2, 1); /* TAP is on the other */
		execl(path, path, option, name, more, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(name);
	free(path);
	assert_int_equal(status, 0);
}

static void kea_takes_it(void **state)
{
	struct kea6_guest guests[] = { { "tap1", "52:54:00:00:00:01", ip("2001:db8:1::9"),
					       net("2001:db8:100:7::/64") },
		{ "tap2", "52:54:00:00:00:02", { { { 0 } } }, net("2001:db8:200::/127") },
		{ "tap3", "52:54:00:00:00:03", ip("2001:db8:1::a"), { .len = 0 } } };
	struct kea6_spec spec = whole(guests, 3);
	struct buf text = { 0 };

	assert_int_equal(kea6_config_text(&spec, &text, NULL), 0);
	taken("kea-dhcp6", "-t", NULL, &text);
	buf_clear(&text);
	/* As little as can be. */
	spec = (struct kea6_spec){ .link = "lo",
		.mac = "02:00:00:00:00:01",
		.net = net("fd00::/48"),
		.lifetime = 10,
		.lease_file = "/var/lib/with \"quotes\"" };
	buf_adds(&text, "// link 3\n");
	assert_int_equal(kea6_config_text(&spec, &text, NULL), 0);
	taken("kea-dhcp6", "-t", NULL, &text);
	buf_finish(&text);
}

static void advertised(void **state)
{
	struct radvd_spec spec = { .link = "lab0",
		.net = net("2001:db8:1::/64"),
		.managed = true,
		.other = true,
		.on_link = true,
		.interval = 30,
		.router_lifetime = 1800,
		.lifetime = 600,
		.preferred = 300,
		.mtu = 1400,
		.dns = dns,
		.search = search };
	struct buf text = { 0 };

	radvd_config_text(&spec, &text);
	assert_string_equal(text.data, "interface lab0\n"
				       "{\n"
				       "\tAdvSendAdvert on;\n"
				       "\tMinRtrAdvInterval 10;\n"
				       "\tMaxRtrAdvInterval 30;\n"
				       "\tAdvDefaultLifetime 1800;\n"
				       "\tAdvManagedFlag on;\n"
				       "\tAdvOtherConfigFlag on;\n"
				       "\tAdvLinkMTU 1400;\n"
				       "\tprefix 2001:db8:1::/64 {\n"
				       "\t\tAdvOnLink on;\n"
				       "\t\tAdvAutonomous off;\n"
				       "\t\tAdvValidLifetime 600;\n"
				       "\t\tAdvPreferredLifetime 300;\n"
				       "\t};\n"
				       "\tRDNSS 2001:db8::53 2001:db8::54 {\n"
				       "\t\tAdvRDNSSLifetime 90;\n"
				       "\t};\n"
				       "\tDNSSL one.test two.test {\n"
				       "\t\tAdvDNSSLLifetime 90;\n"
				       "\t};\n"
				       "};\n");
	taken("radvd", "-C", "-c", &text);
	buf_clear(&text);
	/* The shortest of intervals, the longest of times. */
	spec = (struct radvd_spec){
		.link = "lab0", .net = net("fd00::/48"), .interval = 4, .lifetime = 3650ull * 86400
	};
	buf_adds(&text, "# link 3\n");
	radvd_config_text(&spec, &text);
	taken("radvd", "-C", "-c", &text);
	spec.interval = 1800;
	spec.router_lifetime = 9000;
	buf_clear(&text);
	radvd_config_text(&spec, &text);
	taken("radvd", "-C", "-c", &text);
	buf_finish(&text);
}

static void leases(void **state)
{
	static const char *const none[] = { "",
		"address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source",
		"2001:db8:1::9,00:03:00:01:52:54:00:00:00:01,600,1795306781,1,300,0,1,128,0,0,,52",
		"2001:db8:1::9,00:03,600,1795306781,1,300,0,1,129,0,0,,,0,,1,2",
		"2001:db8:1::9,00:03,-600,1795306781,1,300,0,1,128,0,0,,,0,,1,2",
		"2001:db8:1::9,00:03,600,1795306781,1,300,1,1,128,0,0,,,0,,1,2",
		"10.0.0.1,00:03,600,1795306781,1,300,0,1,128,0,0,,,0,,1,2" };
	struct kea6_lease l;

	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_false(kea6_lease_parse(none[i], &l));
	assert_true(kea6_lease_parse(
		"2001:db8:1::9,00:03:00:01:52:54:00:00:00:01,600,1795306781,1,300,0,4026531841,128,0,0,,52:54:00:00:00:01,0,,1,2",
		&l));
	assert_false(l.prefix || l.gone);
	assert_int_equal(l.what.len, 128);
	assert_int_equal(l.iaid, 4026531841);
	assert_int_equal(l.expires, 1795306781);
	assert_string_equal(l.duid, "00:03:00:01:52:54:00:00:00:01");
	/* A prefix that is given back, and one whose time was over; a later kea has more columns. */
	assert_true(kea6_lease_parse(
		"2001:db8:100:7::,00:03,0,1795306181,1,0,2,1,64,0,0,,,0,,1,2,0", &l));
	assert_true(l.prefix && l.gone && l.what.len == 64);
	assert_true(
		kea6_lease_parse("2001:db8:100:7::,00:03,20,1795306181,1,0,2,1,64,0,0,,,2,,,", &l));
	assert_true(l.prefix && l.gone);
}

static void given_back(void **state)
{
	static const uint8_t want[] = { 8, 'd', 'r', 'v', 0, 1, 0, 4, 0, 3, 0, 1, 0, 2, 0, 10, 0, 3,
		0, 1, 2, 0, 0, 0, 0, 1, 0, 8, 0, 2, 0, 0, 0, 25, 0, 41, 0, 0, 0, 7, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0x20, 0x01, 0x0d, 0xb8, 1, 0, 0,
		7, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct dhcp6_held held = { 7, net("2001:db8:100:7::/64"), true, "00:03:00:01" };
	struct buf message = { 0 };
	char server[32];

	kea6_server_duid("02:00:00:00:00:01", server);
	assert_string_equal(server, "00:03:00:01:02:00:00:00:00:01");
	assert_true(dhcp6_release_held(&message, &held, server));
	assert_int_equal(message.len, sizeof(want));
	assert_memory_equal(message.data, want, sizeof(want));
	buf_finish(&message);
}

static void local(void **state)
{
	struct in6_addr a, b = ip("fe80::5054:ff:fe00:1");

	assert_true(ip6_local_of("52:54:00:00:00:01", &a));
	assert_true(ip6_equal(&a, &b));
	assert_false(ip6_local_of("", &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kea_is_told),
		cmocka_unit_test(kea_takes_it),
		cmocka_unit_test(advertised),
		cmocka_unit_test(leases),
		cmocka_unit_test(given_back),
		cmocka_unit_test(local),
	};

	return cmocka_run_group_tests_name("kea6", tests, NULL, NULL);
}

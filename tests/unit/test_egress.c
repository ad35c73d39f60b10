/* Lists of what machines may reach: as values, as nft's text, as dnsmasq's options. */
#include "netcfg/egress.h"

#include <stdlib.h>
#include <string.h>
#include "lib/file.h"
#include "tests/unit/netns.h"

static void entries(void **state)
{
	static const struct {
		const char *text, *host;
		int family;
		unsigned proto, port;
	} rows[] = {
		{ "192.0.2.1", "192.0.2.1", AF_INET, 0, 0 },
		{ "192.0.2.77/24", "192.0.2.0/24", AF_INET, 0, 0 },
		{ "192.0.2.1/32", "192.0.2.1", AF_INET, 0, 0 },
		{ "0.0.0.0/0", "0.0.0.0/0", AF_INET, 0, 0 },
		{ "10.255.255.255/9:22", "10.128.0.0/9", AF_INET, IPPROTO_TCP, 22 },
		{ "udp/9.9.9.9:53", "9.9.9.9", AF_INET, IPPROTO_UDP, 53 },
		{ "2001:DB8::1", "2001:db8::1", AF_INET6, 0, 0 },
		{ "2001:db8:ffff::/33", "2001:db8:8000::/33", AF_INET6, 0, 0 },
		{ "[2001:db8::1]:443", "2001:db8::1", AF_INET6, IPPROTO_TCP, 443 },
		{ "udp/[::/0]:443", "::/0", AF_INET6, IPPROTO_UDP, 443 },
		{ "[fe80::1]", "fe80::1", AF_INET6, 0, 0 },
		{ "Deb.Debian.ORG:443", "deb.debian.org", 0, IPPROTO_TCP, 443 },
		{ "tcp/localhost:1", "localhost", 0, IPPROTO_TCP, 1 },
		{ "1.a", "1.a", 0, 0, 0 },
	};
	static const char *const bad[] = { "", ":443", "192.0.2.1:0", "192.0.2.1:65536",
		"192.0.2.1/33", "192.0.2", "300.1.1.1", "tcp/192.0.2.1", "a..b", "-a.org", "a-.org",
		"a b", "a;b", "a\"b", "a_b.org", "[::1", "[::1]443", "::1::2", "2001:db8::/129",
		"x/24", "192.0.2.1:", "a.", ".a", "192.0.2.1/", "@set", "{ }" };
	struct egress_entry e;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (egress_parse(rows[i].text, &e, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(e.host, rows[i].host);
		assert_int_equal(e.family, rows[i].family);
		assert_int_equal(e.proto, rows[i].proto);
		assert_int_equal(e.port, rows[i].port);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (egress_parse(bad[i], &e, &err) == 0)
			fail_msg("'%s' is taken for %s", bad[i], e.host);
		assert_non_null(strstr(err.msg, "is not HOST"));
	}
}

static struct egress_spec spec_of(struct egress_entry *v, const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(egress_parse(texts[i], &v[i], NULL), 0);
	return (struct egress_spec){ .table = "drover_x", .link = "vm-br0", .v = v, .n = n };
}

static const char *const list[] = { "192.0.2.0/24", "debian.org:443", "udp/[2001:db8::]:53",
	"deb.debian.org:80", "notdebian.org" };

static void the_table_is_exact(void **state)
{
	struct egress_entry v[ARRAY_LEN(list)];
	struct egress_spec spec = spec_of(v, list, ARRAY_LEN(list));
	struct buf b = { 0 };

	egress_text(&b, &spec, false);
	assert_string_equal(buf_str(&b),
		"add table inet drover_x\n"
		"add set inet drover_x n1 { type ipv4_addr; }\n"
		"add set inet drover_x m1 { type ipv6_addr; }\n"
		"add set inet drover_x n3 { type ipv4_addr; }\n"
		"add set inet drover_x m3 { type ipv6_addr; }\n"
		"add set inet drover_x n4 { type ipv4_addr; }\n"
		"add set inet drover_x m4 { type ipv6_addr; }\n"
		"add chain inet drover_x egress { type filter hook forward priority -5; policy accept; }\n"
		"flush chain inet drover_x egress\n"
		"add rule inet drover_x egress iifname != \"vm-br0\" accept\n"
		"add rule inet drover_x egress oifname \"vm-br0\" accept\n"
		"add rule inet drover_x egress ct state established,related accept\n"
		"add rule inet drover_x egress ip daddr 192.0.2.0/24 accept\n"
		"add rule inet drover_x egress ip daddr @n1 tcp dport 443 accept\n"
		"add rule inet drover_x egress ip6 daddr @m1 tcp dport 443 accept\n"
		"add rule inet drover_x egress ip6 daddr 2001:db8:: udp dport 53 accept\n"
		"add rule inet drover_x egress ip daddr @n3 tcp dport 80 accept\n"
		"add rule inet drover_x egress ip6 daddr @m3 tcp dport 80 accept\n"
		"add rule inet drover_x egress ip daddr @n4 accept\n"
		"add rule inet drover_x egress ip6 daddr @m4 accept\n"
		"add rule inet drover_x egress reject with icmpx type admin-prohibited\n");
	buf_clear(&b);
	egress_text(&b, &spec, true);
	assert_true(
		str_starts(buf_str(&b), "table inet drover_x\ndelete table inet drover_x\nadd "));
	buf_finish(&b);
}

static void load(const struct buf *text)
{
	char *dir = rig_tmp(), *path = path_join(dir, "rules");

	assert_int_equal(file_write_atomic(path, text->data, text->len, 0600, false, NULL), 0);
	sh("nft -c -f %s && nft -f %s", path, path);
	free(path);
	rig_tmp_finish(dir);
}

static void what_is_in_its_sets_stays(void **state)
{
	struct egress_entry v[ARRAY_LEN(list)];
	struct egress_spec spec = spec_of(v, list, ARRAY_LEN(list));
	struct buf b = { 0 };

	netns_enter();
	egress_text(&b, &spec, true);
	load(&b);
	sh("nft add element inet drover_x n1 { 192.0.2.1 }");
	sh("nft -s list table inet drover_x >/dev/null && nft flush chain inet drover_x egress");
	buf_clear(&b);
	egress_text(&b, &spec, false);
	load(&b);
	load(&b);
	sh("nft list set inet drover_x n1 | grep -q 192.0.2.1");
	assert_int_equal(
		atoi(sh_output("nft list chain inet drover_x egress | grep -c accept")), 12);
	buf_clear(&b);
	egress_text(&b, &spec, true);
	load(&b);
	sh("! nft list set inet drover_x n1 | grep -q 192.0.2.1");
	buf_clear(&b);
	egress_delete_text(&b, "drover_x");
	load(&b);
	load(&b);
	assert_string_equal(sh_output("nft list ruleset"), "");
	buf_finish(&b);
}

static void each_name_has_all_its_sets(void **state)
{
	struct egress_entry v[ARRAY_LEN(list)];
	struct egress_spec spec = spec_of(v, list, ARRAY_LEN(list));
	struct strv argv = { 0 };

	egress_dnsmasq_args(&argv, &spec);
	assert_int_equal(argv.n, 4);
	assert_string_equal(
		argv.v[0], "--nftset=/debian.org/4#inet#drover_x#n1,6#inet#drover_x#m1");
	assert_string_equal(argv.v[1],
		"--nftset=/deb.debian.org/4#inet#drover_x#n1,6#inet#drover_x#m1,"
		"4#inet#drover_x#n3,6#inet#drover_x#m3");
	assert_string_equal(
		argv.v[2], "--nftset=/notdebian.org/4#inet#drover_x#n4,6#inet#drover_x#m4");
	assert_string_equal(argv.v[3], "--cache-size=0");
	strv_finish(&argv);
	spec = spec_of(v, list, 1);
	egress_dnsmasq_args(&argv, &spec);
	assert_int_equal(argv.n, 0);
	strv_finish(&argv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries),
		cmocka_unit_test(the_table_is_exact),
		cmocka_unit_test(what_is_in_its_sets_stays),
		cmocka_unit_test(each_name_has_all_its_sets),
	};

	return cmocka_run_group_tests_name("egress", tests, NULL, NULL);
}

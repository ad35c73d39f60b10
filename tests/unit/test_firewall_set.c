#include <stdlib.h>
#include <string.h>
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/firewall-set.h"
#include "tests/unit/netns.h"

#define TAP "tap0123456789ab"
#define MAC "52:54:00:00:00:02"

static json_t *link_elements(void)
{
	json_t *open = json_pack("[sss]", "tcp . 5000", "udp . 53", "tcp . 5000"), *j;
	json_t *mirrors = json_pack("[s]", "10.0.0.254 . 443");
	struct firewall_link l = { .name = "vm-br0",
		.peers = true,
		.out = true,
		.nat = true,
		.dhcp = true,
		.dns = true,
		.ping = true,
		.open = open,
		.mirrors = mirrors };

	j = firewall_link_elements(&l);
	json_decref(open);
	json_decref(mirrors);
	return j;
}

static json_t *guest_elements(const char *tap, uint32_t address)
{
	json_t *f = json_pack("[s]", "tcp . 8080 : 10.0.0.2 . 80"), *j;
	struct firewall_guest g = {
		.tap = tap, .mac = MAC, .address = address, .forwards = address != 0 ? f : NULL
	};

	j = firewall_guest_elements(&g);
	json_decref(f);
	return j;
}

static void elements_are_exact(void **state)
{
	json_t *link = link_elements(), *guest = guest_elements(TAP, 0x0a000002);
	json_t *any = guest_elements("tap1", 0);
	json_t *p2p = firewall_p2p_elements("tap2", 0xac100002, 77);
	json_t *alone = firewall_p2p_elements("tap3", 0xac100006, 0);
	struct buf b = { 0 };

	firewall_elements_add_text(&b, link);
	assert_string_equal(buf_str(&b),
		"add element inet drover links { \"vm-br0\" }\n"
		"add element inet drover same_link { \"vm-br0\" . \"vm-br0\" }\n"
		"add element inet drover way_out { \"vm-br0\" }\n"
		"add element inet drover nat_links { \"vm-br0\" }\n"
		"add element inet drover open { \"vm-br0\" . udp . 67 }\n"
		"add element inet drover open { \"vm-br0\" . tcp . 53 }\n"
		"add element inet drover open { \"vm-br0\" . udp . 53 }\n"
		"add element inet drover open { \"vm-br0\" . tcp . 5000 }\n"
		"add element inet drover mirrors { \"vm-br0\" . 10.0.0.254 . 443 }\n"
		"add element inet drover pings { \"vm-br0\" }\n");
	buf_clear(&b);
	firewall_elements_add_text(&b, guest);
	assert_string_equal(buf_str(&b),
		"add element bridge drover guest_taps { \"" TAP "\" }\n"
		"add element bridge drover macs { \"" TAP "\" . " MAC " }\n"
		"add element bridge drover guests { \"" TAP "\" . " MAC " . 10.0.0.2 }\n"
		"add element inet drover forwards { tcp . 8080 : 10.0.0.2 . 80 }\n");
	buf_clear(&b);
	firewall_elements_delete_text(&b, any);
	assert_string_equal(buf_str(&b),
		"add element bridge drover guest_taps { \"tap1\" }\n"
		"add element bridge drover macs { \"tap1\" . " MAC " }\n"
		"add element bridge drover any_address { \"tap1\" }\n"
		"delete element bridge drover guest_taps { \"tap1\" }\n"
		"delete element bridge drover macs { \"tap1\" . " MAC " }\n"
		"delete element bridge drover any_address { \"tap1\" }\n");
	buf_clear(&b);
	firewall_elements_add_text(&b, p2p);
	firewall_elements_add_text(&b, alone);
	assert_string_equal(buf_str(&b),
		"add element inet drover tap_guests { \"tap2\" . 172.16.0.2 }\n"
		"add element inet drover tap_peers { \"tap2\" . 77 }\n"
		"add element inet drover tap_guests { \"tap3\" . 172.16.0.6 }\n");
	buf_finish(&b);
	json_decref(p2p);
	json_decref(alone);
	json_decref(link);
	json_decref(guest);
	json_decref(any);
}

static void the_bridge_table_is_exact(void **state)
{
	struct buf b = { 0 };

	firewall_bridge_text(&b);
	assert_string_equal(buf_str(&b),
		"table bridge drover\ndelete table bridge drover\n"
		"table bridge drover {\n"
		"\tset guest_taps {\n"
		"\t\ttype ifname\n"
		"\t}\n"
		"\tset macs {\n"
		"\t\ttype ifname . ether_addr\n"
		"\t}\n"
		"\tset guests {\n"
		"\t\ttype ifname . ether_addr . ipv4_addr\n"
		"\t}\n"
		"\tset any_address {\n"
		"\t\ttype ifname\n"
		"\t}\n"
		"\tset any_address6 {\n"
		"\t\ttype ifname\n"
		"\t}\n"
		"\tset guests6 {\n"
		"\t\ttype ifname . ipv6_addr\n"
		"\t}\n"
		"\tset prefixes6 {\n"
		"\t\ttype ifname . ipv6_addr\n"
		"\t\tflags interval\n"
		"\t}\n"
		"\tset exact6 {\n"
		"\t\ttype ifname\n"
		"\t}\n"
		"\tset targets6 {\n"
		"\t\ttypeof iifname . @th,64,128\n"
		"\t}\n"
		"\tset locals6 {\n"
		"\t\ttype ipv6_addr\n"
		"\t}\n"
		"\tset local_targets6 {\n"
		"\t\ttypeof @th,64,128\n"
		"\t}\n"
		"\tset routers6 {\n"
		"\t\ttype ipv6_addr\n"
		"\t}\n"
		"\tset router_targets6 {\n"
		"\t\ttypeof @th,64,128\n"
		"\t}\n"
		"\tchain honest {\n"
		"\t\tudp dport 68 drop\n"
		"\t\taccept\n"
		"\t}\n"
		"\tset routers {\n"
		"\t\ttype ipv4_addr\n"
		"\t}\n"
		"\tchain claims {\n"
		"\t\t@th,64,128 0xfe800000000000000000000000000001 drop\n"
		"\t\t@th,64,128 @router_targets6 drop\n"
		"\t\t@th,64,128 @local_targets6 iifname . @th,64,128 != @targets6 drop\n"
		"\t\t@th,64,10 != 0x3fa iifname @exact6 iifname . @th,64,128 != @targets6 drop\n"
		"\t}\n"
		"\tchain guest {\n"
		"\t\tiifname . ether saddr != @macs drop\n"
		"\t\tether type arp iifname . arp saddr ether != @macs drop\n"
		"\t\tether type arp arp saddr ip @routers drop\n"
		"\t\tether type arp iifname @any_address accept\n"
		"\t\tether type arp iifname . arp saddr ether . arp saddr ip @guests accept\n"
		"\t\tether type arp arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @guests accept\n"
		"\t\tether type ip udp dport 68 drop\n"
		"\t\tether type ip ip saddr @routers drop\n"
		"\t\tether type ip iifname @any_address accept\n"
		"\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
		"\t\tether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop\n"
		"\t\tether type ip6 udp dport 546 drop\n"
		"\t\tether type ip6 iifname @any_address6 accept\n"
		"\t\tether type ip6 ip6 saddr fe80::1 drop\n"
		"\t\tether type ip6 ip6 saddr @routers6 drop\n"
		"\t\ticmpv6 type nd-neighbor-advert jump claims\n"
		"\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit jump claims\n"
		"\t\tether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, nd-neighbor-solicit, mld2-listener-report } accept\n"
		"\t\tether type ip6 ip6 saddr @locals6 iifname . ip6 saddr != @guests6 drop\n"
		"\t\tether type ip6 ip6 saddr fe80::/10 accept\n"
		"\t\tether type ip6 iifname . ip6 saddr @guests6 accept\n"
		"\t\tether type ip6 iifname . ip6 saddr @prefixes6 accept\n"
		"\t\tdrop\n"
		"\t}\n"
		"\tchain prerouting {\n"
		"\t\ttype filter hook prerouting priority filter; policy accept;\n"
		"\t\tether type ip iifname . ether saddr . ip saddr @guests jump honest\n"
		"\t\tiifname @guest_taps jump guest\n"
		"\t}\n"
		"}\n");
	buf_clear(&b);
	firewall_bridge_delete_text(&b);
	assert_string_equal(buf_str(&b), "table bridge drover\ndelete table bridge drover\n");
	buf_finish(&b);
}

/* ---- with nft ---- */

static void load(const struct buf *text)
{
	char *dir = rig_tmp(), *path = path_join(dir, "rules");

	assert_int_equal(file_write_atomic(path, text->data, text->len, 0600, false, NULL), 0);
	sh("nft -c -f %s && nft -f %s", path, path);
	free(path);
	rig_tmp_finish(dir);
}

static bool same(enum firewall_table table, const json_t *elements, struct buf *why)
{
	char *json = strdup(sh_output(
		"nft -j list table %s drover", table == FIREWALL_BRIDGE ? "bridge" : "inet"));
	bool is;

	buf_clear(why);
	is = firewall_same(table, json, strlen(json), NULL, 0, elements, why);
	free(json);
	return is;
}

static void what_nft_lists_is_what_was_asked_for(void **state)
{
	json_t *all = json_array();
	struct buf text = { 0 }, why = { 0 };
	size_t i;
	json_t *e;
	static const struct {
		const char *change, *why;
		enum firewall_table table;
	} rows[] = {
		{ "add element inet drover open '{ \"vm-br0\" . tcp . 22 }'",
			"'vm-br0 . tcp . 22' does not belong into set open", FIREWALL_INET },
		{ "delete element inet drover forwards '{ tcp . 8080 }'",
			"tcp . 8080 : 10.0.0.2 . 80 is missing in set forwards", FIREWALL_INET },
		{ "delete element inet drover tap_peers '{ \"tap2\" . 77 }'",
			"tap2 . 77 is missing in set tap_peers", FIREWALL_INET },
		{ "add element inet drover tap_guests '{ \"tap2\" . 10.0.0.1 }'",
			"'tap2 . 10.0.0.1' does not belong into set tap_guests", FIREWALL_INET },
		{ "flush chain inet drover to_host", "chain", FIREWALL_INET },
		{ "add rule bridge drover guest accept", "chain 'guest'", FIREWALL_BRIDGE },
		{ "add element bridge drover any_address '{ \"" TAP "\" }'",
			"'" TAP "' does not belong into set any_address", FIREWALL_BRIDGE },
		{ "delete chain bridge drover prerouting", "chain", FIREWALL_BRIDGE },
	};

	netns_enter();
	json_array_append_new(all, link_elements());
	json_array_append_new(all, guest_elements(TAP, 0x0a000002));
	json_array_append_new(all, guest_elements("tap1", 0));
	json_array_append_new(all, firewall_p2p_elements("tap2", 0xac100002, 77));
	firewall_table_text(&text);
	firewall_bridge_text(&text);
	json_array_foreach (all, i, e)
		firewall_elements_add_text(&text, e);
	for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
		load(&text);
		if (!same(FIREWALL_INET, all, &why) || !same(FIREWALL_BRIDGE, all, &why))
			fail_msg("%s", buf_str(&why));
		sh("nft %s", rows[k].change);
		assert_false(same(rows[k].table, all, &why));
		if (strstr(buf_str(&why), rows[k].why) == NULL)
			fail_msg("'%s' does not say '%s'", buf_str(&why), rows[k].why);
	}
	/* Taking elements away twice is no error. */
	load(&text);
	json_array_foreach (all, i, e) {
		buf_clear(&text);
		firewall_elements_delete_text(&text, e);
		load(&text);
		load(&text);
	}
	assert_true(same(FIREWALL_INET, NULL, &why) && same(FIREWALL_BRIDGE, NULL, &why));
	buf_finish(&text);
	buf_finish(&why);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_are_exact),
		cmocka_unit_test(the_bridge_table_is_exact),
		cmocka_unit_test(what_nft_lists_is_what_was_asked_for),
	};

	return cmocka_run_group_tests_name("firewall_set", tests, NULL, NULL);
}

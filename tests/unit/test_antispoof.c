/*
 * What guests on a bridge can send, as real frames: written into the descriptor of a TAP as its
 * hypervisor would, and looked for at those of two others, an honest guest's and a free port's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall-set.h"
#include "netcfg/ip6.h"
#include "tests/unit/netns.h"

#define MAC_A "52:00:00:00:00:0a"
#define MAC_B "52:00:00:00:00:0b"
#define IP_A  0x0a000002u
#define IP_B  0x0a000003u

static const unsigned char mac_a[6] = { 0x52, 0, 0, 0, 0, 0x0a };
static const unsigned char mac_b[6] = { 0x52, 0, 0, 0, 0, 0x0b };
static const unsigned char mac_x[6] = { 0x52, 0, 0, 0, 0, 0x66 };
static const unsigned char mac_all[6] = { 255, 255, 255, 255, 255, 255 };

struct frame {
	unsigned char v[256];
	size_t n;
};

static void put(struct frame *f, const void *data, size_t n)
{
	memcpy(f->v + f->n, data, n);
	f->n += n;
}

static void put8(struct frame *f, unsigned v)
{
	f->v[f->n++] = (unsigned char)v;
}

static void put16(struct frame *f, unsigned v)
{
	put8(f, v >> 8);
	put8(f, v & 255);
}

static void put32(struct frame *f, uint32_t v)
{
	put16(f, v >> 16);
	put16(f, v & 65535);
}

static void ether(
	struct frame *f, const unsigned char to[6], const unsigned char from[6], unsigned type)
{
	f->n = 0;
	put(f, to, 6);
	put(f, from, 6);
	if (type != 0)
		put16(f, type);
}

static void arp_of(struct frame *f, const unsigned char from[6], const unsigned char says[6],
	uint32_t ip, uint32_t target)
{
	ether(f, mac_all, from, 0x0806);
	put16(f, 1);
	put16(f, 0x0800);
	put16(f, 0x0604);
	put16(f, 2);
	put(f, says, 6);
	put32(f, ip);
	put(f, mac_all, 6);
	put32(f, target);
}

static void arp(
	struct frame *f, const unsigned char from[6], const unsigned char says[6], uint32_t ip)
{
	arp_of(f, from, says, ip, IP_B);
}

static void udp4(struct frame *f, const unsigned char from[6], uint32_t ip, uint32_t to,
	unsigned sport, unsigned dport)
{
	uint32_t sum = 0;
	size_t start;

	ether(f, to == 0xffffffff ? mac_all : mac_b, from, 0x0800);
	start = f->n;
	put16(f, 0x4500);
	put16(f, 20 + 8 + 4);
	put32(f, 0x00014000);
	put16(f, 0x4011);
	put16(f, 0);
	put32(f, ip);
	put32(f, to);
	for (size_t i = start; i < f->n; i += 2)
		sum += (uint32_t)f->v[i] << 8 | f->v[i + 1];
	sum = (sum & 65535) + (sum >> 16);
	sum = ~((sum & 65535) + (sum >> 16));
	f->v[start + 10] = sum >> 8 & 255;
	f->v[start + 11] = sum & 255;
	put16(f, sport);
	put16(f, dport);
	put16(f, 12);
	put16(f, 0);
	put(f, "data", 4);
}

static const char *from6 = "fe80::1";

static void put6(struct frame *f, const char *address)
{
	struct in6_addr a;

	assert_true(ip6_parse(address, &a));
	put(f, &a, 16);
}

static void ip6(struct frame *f, unsigned next, unsigned length)
{
	static const unsigned char to[16] = { 0xff, 2, [15] = 1 };

	ether(f, mac_all, mac_a, 0x86dd);
	put32(f, 0x60000000);
	put16(f, length);
	put8(f, next);
	put8(f, 255);
	put6(f, from6);
	put(f, to, 16);
}

static void icmp6(struct frame *f, unsigned type)
{
	ip6(f, 58, 16);
	put8(f, type);
	put8(f, 0);
	for (int i = 0; i < 14; i++)
		put8(f, 0);
}

static void discovery(struct frame *f, unsigned type, const char *target)
{
	ip6(f, 58, 32);
	put8(f, type);
	put8(f, 0);
	put16(f, 0);
	put32(f, type == 136 ? 0x20000000 : 0);
	put6(f, target);
	put16(f, 0x0201);
	put(f, mac_a, 6);
}

/* "target is at my MAC" (RFC 4861, 4.4) */
static void neighbour(struct frame *f, const char *target)
{
	discovery(f, 136, target);
}

static void udp6(struct frame *f, unsigned sport, unsigned dport)
{
	ip6(f, 17, 12);
	put16(f, sport);
	put16(f, dport);
	put16(f, 12);
	put16(f, 0);
	put(f, "data", 4);
}

/* ---- the bridge ---- */

static struct {
	struct netlink *nl;
	int a, b, out; /* descriptors of the TAPs */
} w;

static int port(const char *name)
{
	struct err err;
	int fd = -1;

	assert_int_equal(tap_open(name, 0, &fd, &err), 0);
	sh("sysctl -qw net.ipv6.conf.%s.disable_ipv6=1", name);
	assert_int_equal(bridge_enslave(w.nl, name, "br0", &err), 0);
	assert_int_equal(link_up(w.nl, name, &err), 0);
	return fd;
}

#define NET6  "2001:db8::/64"
#define IP6_A "2001:db8::a"
#define IP6_B "2001:db8::b"

enum v6 {
	V6_ANY,   /* of no network of ours */
	V6_EXACT, /* one that was given to it */
	V6_MADE   /* one that it has made up */
};

static void rules6(enum v6 v6, json_t *a)
{
	struct in6_addr address, router;
	char text[40];

	ip6_parse(IP6_A, &address);
	ip6_parse("2001:db8::1", &router);
	if (v6 == V6_ANY) {
		firewall_put(a, "any_address6", "tapa");
		return;
	}
	ip6_format_hex(&router, text);
	firewall_put(a, "routers6", "2001:db8::1");
	firewall_put(a, "router_targets6", "%s", text);
	if (v6 == V6_MADE) {
		firewall_put(a, "prefixes6", "tapa . " NET6);
		return;
	}
	ip6_format_hex(&address, text);
	firewall_put(a, "exact6", "tapa");
	firewall_put(a, "guests6", "tapa . " IP6_A);
	firewall_put(a, "targets6", "tapa . %s", text);
}

static void load_rules(bool any, enum v6 v6)
{
	struct firewall_guest a = { .tap = "tapa", .mac = MAC_A, .address = any ? 0 : IP_A };
	struct firewall_guest b = { .tap = "tapb", .mac = MAC_B, .address = IP_B };
	char *dir = rig_tmp(), *path = path_join(dir, "rules");
	struct buf text = { 0 };
	json_t *j;

	firewall_table_text(&text);
	firewall_bridge_text(&text);
	j = firewall_guest_elements(&a);
	rules6(v6, j);
	firewall_elements_add_text(&text, j);
	json_decref(j);
	j = firewall_guest_elements(&b);
	firewall_put(j, "routers", "192.168.0.254");
	firewall_elements_add_text(&text, j);
	json_decref(j);
	assert_int_equal(file_write_atomic(path, text.data, text.len, 0600, false, NULL), 0);
	sh("nft -f %s", path);
	free(path);
	rig_tmp_finish(dir);
	buf_finish(&text);
}

static void begin(void)
{
	struct err err;

	netns_enter();
	assert_int_equal(netlink_create(&w.nl, &err), 0);
	assert_int_equal(bridge_make(w.nl, "br0", &err), 0);
	assert_int_equal(bridge_make(w.nl, "br0", &err), -EEXIST);
	sh("sysctl -qw net.ipv6.conf.br0.disable_ipv6=1");
	assert_int_equal(link_up(w.nl, "br0", &err), 0);
	w.a = port("tapa");
	w.b = port("tapb");
	w.out = port("out");
	sh_await(
		"bridge link show dev tapa | grep -q forwarding && bridge link show dev tapb | grep -q "
		"forwarding && bridge link show dev out | grep -q forwarding");
}

static void end(void)
{
	close(w.a);
	close(w.b);
	close(w.out);
	netlink_destroy(w.nl);
}

static void send_frame(int fd, const struct frame *f)
{
	unsigned char v[sizeof(struct virtio_net_hdr) + sizeof(f->v)] = { 0 };
	ssize_t n = (ssize_t)(sizeof(struct virtio_net_hdr) + MAX(f->n, (size_t)60));

	memcpy(v + sizeof(struct virtio_net_hdr), f->v, f->n);
	assert_int_equal(write(fd, v, (size_t)n), n);
}

/* Frames come in the order of their sending: whether f is there before the mark that is sent after
 * it, from the free port, whom nothing keeps from anything. */
static bool arrives(int from, int at, const struct frame *f)
{
	static unsigned char n;
	struct frame mark;
	bool found = false;

	ether(&mark, mac_all, mac_x, 0x9999);
	put8(&mark, ++n);
	send_frame(from, f);
	send_frame(from == w.out ? w.a : w.out, &mark);
	for (;;) {
		unsigned char got[2048];
		struct pollfd p = { .fd = at == w.out ? w.b : at, .events = POLLIN };
		const unsigned char *data = got + sizeof(struct virtio_net_hdr);
		ssize_t len;

		if (poll(&p, 1, 20000) <= 0)
			fail_msg("the mark did not come");
		len = read(p.fd, got, sizeof(got)) - (ssize_t)sizeof(struct virtio_net_hdr);
		if (len >= (ssize_t)f->n && memcmp(data, f->v, f->n) == 0)
			found = true;
		if (len >= (ssize_t)mark.n && memcmp(data, mark.v, mark.n) == 0)
			return found;
	}
}

#define passes(f) assert_true(arrives(w.a, w.b, f))
#define stops(f)  assert_false(arrives(w.a, w.b, f))

static void a_guest_is_what_it_was_made_to_be(void **state)
{
	struct frame f;

	begin();
	load_rules(false, V6_ANY);
	udp4(&f, mac_a, IP_A, IP_B, 1000, 2000);
	passes(&f);
	udp4(&f, mac_x, IP_A, IP_B, 1000, 2000); /* another MAC */
	stops(&f);
	udp4(&f, mac_b, IP_A, IP_B, 1000, 2000); /* another machine's */
	stops(&f);
	udp4(&f, mac_a, IP_B, IP_B, 1000, 2000); /* another address */
	stops(&f);
	udp4(&f, mac_a, 0, IP_B, 1000, 2000);
	stops(&f);
	udp4(&f, mac_a, 0, 0xffffffff, 68, 67); /* it asks for one */
	passes(&f);
	udp4(&f, mac_a, IP_A, 0xffffffff, 68, 67);
	passes(&f);
	udp4(&f, mac_a, IP_A, IP_B, 67, 68); /* it gives one */
	stops(&f);
	arp(&f, mac_a, mac_a, IP_A);
	passes(&f);
	arp_of(&f, mac_a, mac_a, 0, IP_A); /* a probe, before it takes its address */
	passes(&f);
	arp(&f, mac_a, mac_a, 0); /* and one that would keep another from it */
	stops(&f);
	arp(&f, mac_a, mac_a, IP_B);
	stops(&f);
	arp(&f, mac_a, mac_b, IP_A);
	stops(&f);
	arp(&f, mac_x, mac_a, IP_A);
	stops(&f);
	end();
}

static void ipv6_and_the_rest(void **state)
{
	struct frame f;

	begin();
	load_rules(false, V6_ANY);
	from6 = "fe80::1";
	icmp6(&f, 135); /* neighbour solicitation */
	passes(&f);
	icmp6(&f, 133); /* router solicitation */
	passes(&f);
	icmp6(&f, 134); /* router advertisement */
	stops(&f);
	icmp6(&f, 137); /* redirect */
	stops(&f);
	udp6(&f, 546, 547); /* it asks by DHCPv6 */
	passes(&f);
	udp6(&f, 547, 546); /* it answers */
	stops(&f);
	udp6(&f, 1000, 546); /* from wherever */
	stops(&f);
	ether(&f, mac_all, mac_a, 0x8100); /* behind a tag what is in it would not be looked at */
	put16(&f, 5);
	put16(&f, 0x0806);
	stops(&f);
	ether(&f, mac_all, mac_a, 0x8863); /* PPPoE */
	stops(&f);
	ether(&f, mac_all, mac_a, 0x88a8);
	put16(&f, 5);
	put16(&f, 0x0800);
	stops(&f);
	end();
}

/* What holds wherever there is IPv6 of ours; own: an address that it may have. */
static void no_router_and_nobody_else(const char *own)
{
	struct frame f;

	from6 = own;
	udp6(&f, 1000, 2000);
	passes(&f);
	neighbour(&f, own);
	passes(&f);
	neighbour(&f, "fe80::5000:ff:fe00:a");
	passes(&f);
	neighbour(&f, "fe80::1"); /* the router */
	stops(&f);
	neighbour(&f, "2001:db8::1");
	stops(&f);
	icmp6(&f, 134);
	stops(&f);
	udp6(&f, 547, 546);
	stops(&f);
	from6 = "fe80::5000:ff:fe00:a";
	icmp6(&f, 133);
	passes(&f);
	udp6(&f, 546, 547);
	passes(&f);
	from6 = "::"; /* nobody yet */
	icmp6(&f, 135);
	passes(&f);
	icmp6(&f, 133);
	passes(&f);
	udp6(&f, 1000, 2000);
	stops(&f);
	neighbour(&f, own);
	stops(&f);
	from6 = "fe80::1";
	icmp6(&f, 135);
	stops(&f);
	from6 = "2001:db8::1";
	icmp6(&f, 135);
	stops(&f);
	from6 = "2001:db8:0:1::a"; /* another network's */
	udp6(&f, 1000, 2000);
	stops(&f);
}

static void ipv6_that_was_given(void **state)
{
	struct frame f;

	begin();
	load_rules(false, V6_EXACT);
	no_router_and_nobody_else(IP6_A);
	from6 = IP6_B;
	udp6(&f, 1000, 2000);
	stops(&f);
	from6 = IP6_A;
	neighbour(&f, IP6_B);
	stops(&f);
	/* "Has anybody target?" (RFC 4862, 5.4.2): who hears it does not take that address. */
	from6 = "::";
	discovery(&f, 135, IP6_A);
	passes(&f);
	discovery(&f, 135, IP6_B);
	stops(&f);
	discovery(&f, 135, "2001:db8::1");
	stops(&f);
	end();
}

static void ipv6_that_is_made_up(void **state)
{
	begin();
	load_rules(false, V6_MADE);
	no_router_and_nobody_else("2001:db8::1234:5678");
	end();
}

static void any_address_but_no_other_mac(void **state)
{
	struct frame f;

	begin();
	load_rules(true, V6_ANY);
	udp4(&f, mac_a, 0xc0a80001, IP_B, 1000, 2000);
	passes(&f);
	arp(&f, mac_a, mac_a, 0xc0a80001);
	passes(&f);
	arp(&f, mac_a, mac_x, 0xc0a80001);
	stops(&f);
	udp4(&f, mac_x, 0xc0a80001, IP_B, 1000, 2000);
	stops(&f);
	udp4(&f, mac_a, 0xc0a80001, 0xffffffff, 67, 68);
	stops(&f);
	udp4(&f, mac_a, 0xc0a80001, 0xffffffff, 1000, 68);
	stops(&f);
	arp(&f, mac_a, mac_a, 0xc0a800fe); /* the router */
	stops(&f);
	udp4(&f, mac_a, 0xc0a800fe, IP_B, 1000, 2000);
	stops(&f);
	end();
}

static int set_port(const char *name, bool isolated)
{
	struct bridge_port as = { .isolated = isolated, .flood = true };
	struct err err;

	return bridge_set_port(w.nl, name, &as, &err);
}

static bool learns(const char *port)
{
	struct bridge_info info;

	assert_int_equal(bridge_get(w.nl, port, &info), 0);
	return info.learns;
}

static bool place_of_b(const char *port)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "bridge fdb show dev %s | grep -q " MAC_B, port);
	return system(cmd) == 0;
}

/* No rule sees frames that are for the bridge itself, but it would learn from them. */
static void nobody_takes_the_place_of_another(void **state)
{
	struct bridge_port a = { .mac = MAC_A }, b = { .mac = MAC_B };
	static const uint8_t lldp[] = { 0x01, 0x80, 0xc2, 0, 0, 0x0e };
	struct frame f;
	struct err err;

	begin();
	load_rules(false, V6_ANY);
	assert_true(learns("tapa"));
	ether(&f, lldp, mac_b, 0x88cc);
	for (int i = 0; i < 46; i++)
		put8(&f, 0);
	stops(&f);
	assert_true(place_of_b("tapa")); /* that is the danger */
	assert_int_equal(bridge_set_port(w.nl, "tapa", &a, &err), 0);
	assert_int_equal(bridge_set_port(w.nl, "tapb", &b, &err), 0);
	assert_false(learns("tapa"));
	assert_true(place_of_b("tapb"));
	assert_false(place_of_b("tapa"));
	stops(&f);
	assert_true(place_of_b("tapb"));
	assert_false(place_of_b("tapa"));
	udp4(&f, mac_a, IP_A, IP_B, 1000, 2000);
	passes(&f);
	end();
}

static void isolated_ports_do_not_reach_one_another(void **state)
{
	struct frame f;

	begin();
	load_rules(false, V6_ANY);
	assert_int_equal(set_port("tapa", true), 0);
	udp4(&f, mac_a, IP_A, IP_B, 1000, 2000);
	passes(&f);
	assert_int_equal(set_port("tapb", true), 0);
	stops(&f);
	sh("bridge -d link show dev tapb | grep -q 'isolated on'");
	assert_int_equal(set_port("tapa", false), 0);
	passes(&f);
	assert_true(set_port("nothing", true) < 0);
	end();
}

static void ports_and_sizes(void **state)
{
	struct bridge_info info, bridge;
	struct err err;

	begin();
	assert_int_equal(bridge_get(w.nl, "br0", &bridge), 0);
	assert_true(bridge.is_bridge && bridge.up && bridge.mtu == 1500);
	assert_int_equal(bridge_get(w.nl, "tapa", &info), 0);
	assert_false(info.is_bridge);
	assert_int_equal(info.master, bridge.index);
	assert_int_equal(bridge_enslave(w.nl, "tapa", "br0", &err), 0);
	assert_int_equal(bridge_enslave(w.nl, "tapa", NULL, &err), 0);
	assert_int_equal(bridge_get(w.nl, "tapa", &info), 0);
	assert_int_equal(info.master, 0);
	assert_int_equal(link_set_mtu(w.nl, "br0", 1400, &err), 0);
	assert_int_equal(bridge_get(w.nl, "br0", &info), 0);
	assert_int_equal(info.mtu, 1400);
	assert_int_equal(bridge_get(w.nl, "br1", &info), -ENODEV);
	assert_int_equal(bridge_enslave(w.nl, "tapa", "br1", &err), -ENODEV);
	assert_non_null(strstr(err.msg, "bridge br1"));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_is_what_it_was_made_to_be),
		cmocka_unit_test(ipv6_and_the_rest),
		cmocka_unit_test(ipv6_that_was_given),
		cmocka_unit_test(ipv6_that_is_made_up),
		cmocka_unit_test(any_address_but_no_other_mac),
		cmocka_unit_test(nobody_takes_the_place_of_another),
		cmocka_unit_test(isolated_ports_do_not_reach_one_another),
		cmocka_unit_test(ports_and_sizes),
	};

	return cmocka_run_group_tests_name("antispoof", tests, NULL, NULL);
}

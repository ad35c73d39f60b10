/* What guests say of their addresses: by neighbour discovery, and by their agent. */
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <string.h>

#include "lib/json.h"
#include "netcfg/nd-watch.h"
#include "supervisor/network-seen.h"
#include "tests/unit/rig.h"

struct packet {
	struct ip6_hdr ip;
	struct nd_neighbor_advert nd;
};

static struct in6_addr address(const char *text)
{
	struct in6_addr a;

	assert_true(ip6_parse(text, &a));
	return a;
}

static struct packet packet(uint8_t type, const char *source, const char *target)
{
	struct packet p = { .ip = { .ip6_src = address(source) } };

	p.ip.ip6_nxt = IPPROTO_ICMPV6;
	p.ip.ip6_hops = 255;
	p.nd.nd_na_type = type;
	p.nd.nd_na_target = address(target);
	return p;
}

static void claims(const struct packet *p, size_t len, const char *want)
{
	struct in6_addr got;
	bool claimed = nd_claimed((const uint8_t *)p, len, &got);
	char text[IP6_TEXT];

	assert_int_equal(claimed, want != NULL);
	if (want == NULL)
		return;
	ip6_format(&got, text);
	assert_string_equal(text, want);
}

static void discovery(void **state)
{
	struct packet p = packet(ND_NEIGHBOR_ADVERT, "fe80::1", "2001:db8::5");

	claims(&p, sizeof(p), "2001:db8::5");
	claims(&p, sizeof(p) - 1, NULL);
	p.ip.ip6_hops = 64; /* from beyond a router */
	claims(&p, sizeof(p), NULL);
	p = packet(ND_NEIGHBOR_SOLICIT, "2001:db8::7", "2001:db8::1");
	claims(&p, sizeof(p), "2001:db8::7");
	p.ip.ip6_nxt = IPPROTO_UDP;
	claims(&p, sizeof(p), NULL);
	/* Whether it is free is asked; nobody has it yet. */
	p = packet(ND_NEIGHBOR_SOLICIT, "::", "2001:db8::7");
	claims(&p, sizeof(p), NULL);
	p = packet(ND_NEIGHBOR_SOLICIT, "fe80::7", "2001:db8::1");
	claims(&p, sizeof(p), NULL);
	p = packet(ND_NEIGHBOR_ADVERT, "fe80::7", "fe80::7");
	claims(&p, sizeof(p), NULL);
	p = packet(ND_NEIGHBOR_ADVERT, "fe80::7", "ff02::1");
	claims(&p, sizeof(p), NULL);
	p = packet(ND_ROUTER_ADVERT, "2001:db8::1", "2001:db8::1");
	claims(&p, sizeof(p), NULL);
}

static void agent(void **state)
{
	/* As qemu-ga 7.2 answers. */
	static const char text[] =
		"[{\"name\":\"lo\",\"hardware-address\":\"00:00:00:00:00:00\",\"ip-addresses\":["
		"{\"ip-address-type\":\"ipv4\",\"ip-address\":\"127.0.0.1\",\"prefix\":8}]},"
		"{\"name\":\"tun0\",\"ip-addresses\":[]},"
		"{\"name\":\"eth0\",\"hardware-address\":\"52:54:00:AA:bb:cc\",\"ip-addresses\":["
		"{\"ip-address-type\":\"ipv4\",\"ip-address\":\"169.254.3.4\",\"prefix\":16},"
		"{\"ip-address-type\":\"ipv4\",\"ip-address\":\"192.0.2.9\",\"prefix\":24},"
		"{\"ip-address-type\":\"ipv6\",\"ip-address\":\"fe80::1\",\"prefix\":64},"
		"{\"ip-address-type\":\"ipv6\",\"ip-address\":\"nonsense\",\"prefix\":64},"
		"{\"ip-address-type\":\"ipv6\",\"ip-address\":\"2001:db8::9\",\"prefix\":64}]},"
		"{\"name\":\"eth1\",\"hardware-address\":\"52:54:00:aa:bb:cd\"}, 7]";
	json_t *reply = json_loads(text, 0, NULL);
	struct in6_addr six, want = address("2001:db8::9");
	uint32_t four;

	network_agent_addresses(reply, "52:54:00:aa:bb:cc", &four, &six);
	assert_int_equal(four, 0xc0000209);
	assert_memory_equal(&six, &want, sizeof(six));
	network_agent_addresses(reply, "52:54:00:aa:bb:cd", &four, &six);
	assert_int_equal(four, 0);
	assert_true(ip6_is_zero(&six));
	network_agent_addresses(NULL, "52:54:00:aa:bb:cd", &four, &six);
	assert_int_equal(four, 0);
	json_decref(reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(discovery),
		cmocka_unit_test(agent),
	};

	return cmocka_run_group_tests_name("seen", tests, NULL, NULL);
}

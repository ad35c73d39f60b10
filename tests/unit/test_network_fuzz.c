/*
 * Networks as nobody would write them: from a seed, values right, wrong and hostile are put together and bytes
 * changed; what the configuration takes becomes the firewall's text, which nft must take. Prints its seed;
 * DROVER_FUZZ_SEED and DROVER_FUZZ_ROUNDS choose others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/file.h"
#include "netcfg/egress.h"
#include "netcfg/firewall-set.h"
#include "supervisor/config.h"
#include "supervisor/network-bridge.h"
#include "tests/unit/netns.h"

#define ROUNDS 400

static uint64_t seed;

/* xorshift64* */
static unsigned pick(unsigned n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned)((seed * 2685821657736338717ull) >> 33) % n;
}

/* What nft, a shell or an INI reader takes for something else, and what is too much. */
static const char *const hostile[] = { "\"", "\" accept; flush ruleset; #", "; drop", "{ 1.2.3.4 }",
	"@links", "$x", "../../etc", "a\\nb", "%s%n", "-1", "99999999999999999999", "0",
	"::", "0.0.0.0/0", "255.255.255.255", "lo", "eth0", "any", "ip", "tcp", "counter",
	"\303\244", "a.b.c.", "*", "tap0123456789ab", "x x",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };

static const struct {
	const char *key;
	unsigned good; /* so many at the front are right in most networks */
	const char *values[12];
} keys[] = {
	{ "kind", 5, { "nat", "nat", "routed", "isolated", "bridge", "p2p" } },
	{ "gateway", 2, { "10.1.0.1", "10.1.0.6", "10.1.255.254", "10.9.0.1" } },
	{ "range", 2, { "10.1.0.2-10.1.0.5", "10.1.0.2 - 10.1.0.3", "10.1.0.9-10.1.0.8" } },
	{ "domain", 3, { "lab.test", "a", "lab-1.example" } },
	{ "bridge", 9,
		{ "vm-br0", "ip", "accept", "br.1", "a-b_c.d", "drop", "inet", "0", "1", "br{",
			"br;" } },
	{ "mtu", 4, { "0", "576", "1500", "65535", "70000" } },
	{ "peers", 2, { "yes", "no" } },
	{ "open", 4, { "tcp/22", "udp/53", "ping", "tcp/65535", "tcp/0", "sctp/1" } },
	{ "egress", 11,
		{ "192.0.2.0/24", "0.0.0.0/0", "deb.debian.org:443", "udp/[2001:db8::]:53", "::/0",
			"[fe80::1]:22", "192.0.2.7:80", "a.b", "accept", "drop:80", "1.2.3.4/0" } },
	{ "rate", 3, { "10M", "8k/0", "1G/400G", "7" } },
	{ "dns", 2, { "9.9.9.9", "1.1.1.1", "none" } },
	{ "nat", 1, { "yes", "no" } },
};

static const char *value_of(size_t k)
{
	unsigned n = 0;

	while (n < ARRAY_LEN(keys[k].values) && keys[k].values[n] != NULL)
		n++;
	if (pick(30) == 0)
		return hostile[pick(ARRAY_LEN(hostile))];
	return keys[k].values[pick(pick(15) == 0 ? n : keys[k].good)];
}

static void put_network(struct buf *out, unsigned i)
{
	static const unsigned lens[] = { 24, 16, 24, 28, 29, 30, 31 };

	buf_printf(out, "[network n%u]\ncidr = 10.1.0.0/%u\n", i,
		lens[pick(pick(8) == 0 ? ARRAY_LEN(lens) : 3)]);
	for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
		bool list = strcmp(keys[k].key, "open") == 0 || strcmp(keys[k].key, "egress") == 0;

		if (k > 0 && pick(4) != 0)
			continue;
		buf_printf(out, "%s = %s\n", keys[k].key, value_of(k));
		for (unsigned more = list ? pick(4) : 0; more > 0; more--)
			buf_printf(out, "\t%s\n", value_of(k));
	}
}

static void put_vm(struct buf *out, unsigned i)
{
	static const char *const forwards[] = { "8080:80", "udp/53:5353", "1:65535", "65536:1",
		"a:b", "tcp/22:22", "0:0" };
	unsigned forward = pick(pick(6) == 0 ? ARRAY_LEN(forwards) : 3);

	buf_printf(out, "[vm v%u]\nkernel = /k\nnetwork = n%u", i, pick(8) == 0 ? 2 : 1);
	if (pick(3) == 0)
		buf_printf(out, " address=10.1.0.%u", pick(9) + (pick(5) == 0 ? 247 : i));
	if (pick(4) == 0)
		buf_printf(out, " mac=52:54:00:00:%02x:%02X", pick(256), pick(256));
	buf_adds(out, "\n");
	if (pick(3) == 0)
		buf_printf(out, "forward = %s\n", forwards[forward]);
}

static void make(struct buf *out)
{
	buf_adds(out, "[drover]\nrun_dir = /run/x\nstate_dir = /var/x\n");
	put_network(out, 1);
	if (pick(2) == 0) {
		size_t from = out->len;

		put_network(out, 2);
		for (char *at = out->data + from; (at = strstr(at, "10.1.")) != NULL;)
			at[3] = '2';
	}
	put_vm(out, 1);
	put_vm(out, 2);
	for (unsigned n = pick(4) == 0 ? 1 + pick(3) : 0; n > 0; n--)
		out->data[pick((unsigned)out->len)] = (char)(1 + pick(255));
}

/* ---- as droverd would have it ---- */

static void put_egress(struct buf *text, const struct network_config *n, const char *link)
{
	struct egress_entry v[16];
	struct egress_spec spec = { .table = "drover_0123456789ab", .link = link, .v = v };

	for (size_t i = 0; i < n->egress.n && spec.n < ARRAY_LEN(v); i++)
		spec.n += egress_parse(n->egress.v[i], &v[spec.n], NULL) == 0;
	if (n->egress.n > 0)
		egress_text(text, &spec, pick(2) == 0);
}

static void put_elements(struct buf *text, json_t *elements)
{
	firewall_elements_add_text(text, elements);
	firewall_elements_delete_text(text, elements);
	firewall_elements_add_text(text, elements);
	json_decref(elements);
}

static void put_nic(struct buf *text, const struct config *c, const struct vm_config *vm)
{
	struct firewall_guest guest = { .tap = "tap0123456789ab" };
	const struct network_config *n;
	struct nic_spec s;
	json_t *forwards;

	assert_int_equal(nic_spec_parse(vm->networks.v[0], &s, NULL), 0);
	n = config_network(c, s.network);
	assert_non_null(n);
	if (n->kind == NETWORK_P2P) {
		put_elements(text, firewall_p2p_elements(guest.tap, 0xac100002,
					   n->peers ? network_group("x", n->s.name) : 0));
		return;
	}
	guest.mac = s.mac[0] != '\0' ? s.mac : "52:00:00:00:00:01";
	guest.address = s.address != 0 ? s.address : 0x0a010203;
	guest.forwards = forwards = network_forwards(vm, guest.address);
	put_elements(text, firewall_guest_elements(&guest));
	json_decref(forwards);
}

static void put_config(struct buf *text, const struct config *c)
{
	const struct config_array *networks = &c->by_kind[SECTION_NETWORK];
	const struct config_array *vms = &c->by_kind[SECTION_VM];

	firewall_table_text(text);
	firewall_bridge_text(text);
	for (size_t i = 0; i < networks->n; i++) {
		const struct network_config *n = (const void *)networks->v[i];
		char bridge[16];

		network_bridge_name("x", n, bridge);
		if (n->kind != NETWORK_P2P) {
			put_elements(text, network_link_elements(n, bridge, NULL));
			put_egress(text, n, bridge);
		}
	}
	for (size_t i = 0; i < vms->n; i++) {
		const struct vm_config *vm = (const void *)vms->v[i];

		if (vm->networks.n > 0)
			put_nic(text, c, vm);
	}
}

static const char *number(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0' ? v : NULL;
}

static void what_is_taken_makes_rules(void **state)
{
	unsigned rounds = ROUNDS, taken = 0;
	char *dir = rig_tmp(), *ini = path_join(dir, "x.ini"), *rules = path_join(dir, "rules");
	struct config_load_opts opts = { .path = ini };

	netns_enter();
	seed = number("DROVER_FUZZ_SEED") != NULL ? strtoull(number("DROVER_FUZZ_SEED"), NULL, 10)
						  : (uint64_t)time(NULL) * 2654435769u + 1;
	if (number("DROVER_FUZZ_ROUNDS") != NULL)
		rounds = (unsigned)atoi(number("DROVER_FUZZ_ROUNDS"));
	print_message("# DROVER_FUZZ_SEED=%llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < rounds; i++) {
		struct config_errors errors = { 0 };
		struct buf text = { 0 }, file = { 0 };
		struct config *c = NULL;
		struct err err;

		make(&file);
		assert_int_equal(file_write_atomic(ini, file.data, file.len, 0600, false, NULL), 0);
		if (config_load(&c, &opts, &errors, &err) == 0) {
			taken++;
			put_config(&text, c);
			assert_int_equal(
				file_write_atomic(rules, text.data, text.len, 0600, false, NULL),
				0);
			if (sh_status("nft -c -f %s", rules) != 0)
				fail_msg("nft does not take what comes of\n%s", buf_str(&file));
			config_destroy(c);
		}
		config_errors_finish(&errors);
		buf_finish(&text);
		buf_finish(&file);
	}
	print_message("# %u of %u were taken\n", taken, rounds);
	/* Else it would be a test of the configuration's reader. */
	assert_true(taken * 20 > rounds);
	free(ini);
	free(rules);
	rig_tmp_finish(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_taken_makes_rules),
	};

	return cmocka_run_group_tests_name("network_fuzz", tests, NULL, NULL);
}

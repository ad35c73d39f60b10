#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "lib/util.h"
#include "netcfg/sysctl.h"
#include "tests/unit/netns.h"

static const char *get(const char *key)
{
	static char value[64];
	struct err err;

	if (sysctl_get(key, value, sizeof(value), &err) < 0)
		fail_msg("%s", err.msg);
	return value;
}

static void keys_are_paths_below_net(void **state)
{
	static const char *const bad[] = { "", "net", "net.", "kernel.hostname",
		"net.//.kernel.hostname", "net/../kernel/hostname", "net/ipv4/..", "network.x",
		"/net/ipv4/ip_forward", "net..ipv4.ip_forward" };
	char value[64];
	struct err err;

	netns_enter();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(sysctl_get(bad[i], value, sizeof(value), &err), -EINVAL);
	assert_string_equal(get("net.ipv4.ip_forward"), get("net/ipv4/ip_forward"));
	assert_int_equal(sysctl_get("net.ipv4.nonsense", value, sizeof(value), &err), -ENOENT);
	assert_non_null(strstr(err.msg, "sysctl net.ipv4.nonsense: "));
	assert_int_equal(sysctl_get("net.ipv4.nonsense", value, sizeof(value), NULL), -ENOENT);
}

static void links_with_dots_have_settings(void **state)
{
	struct err err;

	netns_enter();
	sh("ip link add name tap.1 type bridge");
	assert_int_equal(sysctl_set("net/ipv4/conf/tap.1/rp_filter", "1", &err), 0);
	assert_string_equal(get("net/ipv4/conf/tap.1/rp_filter"), "1");
	assert_int_equal(sysctl_set("net/ipv4/conf/tap.1/rp_filter", "2", &err), 0);
	assert_string_equal(get("net.ipv4.conf.tap/1.rp_filter"), "2");
}

static void a_change_is_put_back(void **state)
{
	char old[8] = "x";
	bool changed = false;
	struct err err;

	netns_enter();
	assert_int_equal(sysctl_set("net.ipv4.ip_forward", "0", &err), 0);
	assert_int_equal(
		sysctl_change("net.ipv4.ip_forward", "1", old, sizeof(old), &changed, &err), 0);
	assert_true(changed);
	assert_string_equal(old, "0");
	assert_string_equal(get("net.ipv4.ip_forward"), "1");
	assert_int_equal(
		sysctl_change("net.ipv4.ip_forward", "1", old, sizeof(old), &changed, &err), 0);
	assert_false(changed);
	assert_string_equal(old, "1");
	assert_int_equal(sysctl_restore("net.ipv4.ip_forward", "1", "0", &err), 0);
	assert_string_equal(get("net.ipv4.ip_forward"), "0");
}

static void what_others_changed_since_stays(void **state)
{
	struct err err;

	netns_enter();
	sh("ip link add name br0 type bridge");
	assert_int_equal(sysctl_set("net.ipv4.conf.br0.rp_filter", "2", &err), 0);
	assert_int_equal(sysctl_restore("net.ipv4.conf.br0.rp_filter", "0", "1", &err), 0);
	assert_string_equal(get("net.ipv4.conf.br0.rp_filter"), "2");
	sh("ip link del br0");
	assert_int_equal(sysctl_restore("net.ipv4.conf.br0.rp_filter", "0", "1", &err), 0);
	assert_int_equal(sysctl_restore("kernel.hostname", "a", "b", &err), -EINVAL);
}

static void a_refused_value_is_an_error(void **state)
{
	struct err err;

	netns_enter();
	assert_int_equal(sysctl_set("net.ipv4.ip_forward", "maybe", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "sysctl net.ipv4.ip_forward = maybe: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_paths_below_net),
		cmocka_unit_test(links_with_dots_have_settings),
		cmocka_unit_test(a_change_is_put_back),
		cmocka_unit_test(what_others_changed_since_stays),
		cmocka_unit_test(a_refused_value_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

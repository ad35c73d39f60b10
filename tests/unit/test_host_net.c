/*
 * The host's settings and the nft table while a machine needs them, the release of what the ledger
 * has, and the doctor; in a network namespace of its own.
 */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "supervisor/doctor.h"
#include "supervisor/host-net.h"
#include "supervisor/network.h"
#include "supervisor/reconcile.h"
#include "tests/unit/netns.h"

static struct world {
	struct drover_rig r;
	bool done;
	int code;
	json_t *report;
} w;

#define NET "172.16.3.4/30"

static void begin(void)
{
	netns_enter();
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "[network taps]\ncidr = 172.16.0.0/16\n");
	assert_int_equal(netlink_create(&w.r.d.nl, NULL), 0);
	assert_int_equal(link_deleter_create(&w.r.d.linkdel, w.r.d.loop, NULL), 0);
	assert_int_equal(firewall_create(&w.r.d.firewall, w.r.d.loop, NULL), 0);
	sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=1");
}

static void end(void)
{
	firewall_destroy(w.r.d.firewall, NULL, NULL);
	link_deleter_destroy(w.r.d.linkdel, NULL, NULL);
	netlink_destroy(w.r.d.nl);
	json_decref(w.report);
	drover_rig_finish(&w.r);
}

static void finished(void *arg)
{
	assert_false(w.done);
	w.done = true;
}

static void finished_with(void *arg, const struct err *err)
{
	w.code = err != NULL ? err->code : 0;
	finished(arg);
}

static bool firewall_rests(void *arg)
{
	return firewall_idle(w.r.d.firewall);
}

static void acquire(bool rp_filter_all)
{
	struct err err;

	if (host_net_acquire(&w.r.d, rp_filter_all, &err) < 0)
		fail_msg("%s", err.msg);
	drover_rig_until(&w.r, firewall_rests, NULL);
}

static void check(void)
{
	w.done = false;
	network_host_check(&w.r.d, finished, NULL);
	rig_run_until(w.r.d.loop, &w.done);
}

static void release(const char *owner)
{
	w.done = false;
	objects_release(&w.r.d, owner, finished, NULL);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
}

static bool has_table(void)
{
	return sh_status("nft list table inet drover >/dev/null 2>&1") == 0;
}

static void assert_sysctl(const char *key, const char *want)
{
	assert_int_equal(sh_status("test \"$(sysctl -n %s)\" = %s", key, want), 0);
}

static void add_nft_tap(const char *owner, const char *tap, json_t *data)
{
	assert_int_equal(ledger_add(w.r.d.ledger, owner, OBJECT_NFT_TAP, tap, data, NULL), 0);
}

static void test_acquire(void **state)
{
	struct object *o;

	begin();
	acquire(false);
	assert_true(w.r.d.host_ready);
	assert_true(has_table());
	assert_sysctl("net.ipv4.ip_forward", "1");
	assert_sysctl("net.ipv4.conf.all.rp_filter", "1");
	o = ledger_find(w.r.d.ledger, HOST_OWNER, OBJECT_SYSCTL, "net.ipv4.ip_forward");
	assert_string_equal(json_str(o->data, "old"), "0");
	assert_string_equal(json_str(o->data, "ours"), "1");
	/* A network that wants more gets it; what was found first is what counts. */
	acquire(true);
	assert_sysctl("net.ipv4.conf.all.rp_filter", "0");
	acquire(true);
	o = ledger_find(w.r.d.ledger, HOST_OWNER, OBJECT_SYSCTL, "net.ipv4.conf.all.rp_filter");
	assert_string_equal(json_str(o->data, "old"), "1");
	check();
	assert_sysctl("net.ipv4.ip_forward", "0");
	assert_sysctl("net.ipv4.conf.all.rp_filter", "1");
	assert_false(has_table());
	assert_false(w.r.d.host_ready);
	assert_false(ledger_has(w.r.d.ledger, HOST_OWNER));
	end();
}

/* On before we came: nothing of ours, and nothing to put back. */
static void test_on_before(void **state)
{
	begin();
	sh("sysctl -qw net.ipv4.ip_forward=1");
	acquire(false);
	assert_null(ledger_find(w.r.d.ledger, HOST_OWNER, OBJECT_SYSCTL, "net.ipv4.ip_forward"));
	check();
	assert_sysctl("net.ipv4.ip_forward", "1");
	assert_false(has_table());
	end();
}

/* Somebody has set it to another value since: that stays. */
static void test_changed_since(void **state)
{
	begin();
	acquire(true);
	sh("sysctl -qw net.ipv4.conf.all.rp_filter=2");
	check();
	assert_sysctl("net.ipv4.conf.all.rp_filter", "2");
	assert_sysctl("net.ipv4.ip_forward", "0");
	assert_false(ledger_has(w.r.d.ledger, HOST_OWNER));
	end();
}

static void test_differs(void **state)
{
	struct buf text = { 0 };

	begin();
	acquire(false);
	assert_false(host_net_setting_differs(&w.r.d, false, &text));
	assert_true(host_net_setting_differs(&w.r.d, true, &text));
	assert_string_equal(buf_str(&text), "net.ipv4.conf.all.rp_filter is 1");
	buf_clear(&text);
	sh("sysctl -qw net.ipv4.ip_forward=0");
	assert_true(host_net_setting_differs(&w.r.d, false, &text));
	assert_string_equal(buf_str(&text), "net.ipv4.ip_forward is 0");
	assert_int_equal(host_net_set_again(&w.r.d, false, NULL), 0);
	buf_clear(&text);
	assert_false(host_net_setting_differs(&w.r.d, false, &text));
	buf_finish(&text);
	check();
	assert_sysctl("net.ipv4.ip_forward", "0");
	end();
}

/* As long as the ledger has a TAP of anybody's they stay, and go with the last one. */
static void test_last_one(void **state)
{
	begin();
	acquire(false);
	assert_false(host_net_needed(&w.r.d));
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/a", OBJECT_TAP, "tapa", NULL, NULL), 0);
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/b", OBJECT_TAP, "tapb", NULL, NULL), 0);
	assert_true(host_net_needed(&w.r.d));
	check();
	assert_true(has_table());
	/* Neither TAP is there: releasing what is gone is no error. */
	release("vm/a");
	assert_true(has_table());
	assert_sysctl("net.ipv4.ip_forward", "1");
	release("vm/b");
	assert_false(has_table());
	assert_sysctl("net.ipv4.ip_forward", "0");
	assert_true(list_empty(ledger_owners(w.r.d.ledger)));
	/* Of an owner that has nothing. */
	release("vm/nobody");
	end();
}

static void test_taps_of_ledger(void **state)
{
	struct firewall_tap *taps = NULL;
	size_t n = 7;

	begin();
	assert_int_equal(host_net_taps(&w.r.d, &taps, &n, NULL), 0);
	assert_int_equal(n, 0);
	free(taps);
	/* Nobody makes again what is on its way out. */
	add_nft_tap("vm/z", "tapz", json_pack("{s:s}", "net", "172.16.9.4/30"));
	ledger_find(w.r.d.ledger, "vm/z", OBJECT_NFT_TAP, "tapz")->going = true;
	add_nft_tap("vm/a", "tapa", json_pack("{s:s,s:b}", "net", NET, "nat", 1));
	add_nft_tap("vm/b", "tapb", json_pack("{s:s}", "net", "172.16.9.8/30"));
	/* What makes no sense is passed over. */
	add_nft_tap("vm/c", "tapc", NULL);
	add_nft_tap("vm/d", "tapd", json_pack("{s:s}", "net", "junk"));
	add_nft_tap("vm/e", "tape", json_pack("{s:i}", "net", 1));
	assert_int_equal(host_net_taps(&w.r.d, &taps, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(taps[0].tap, "tapa");
	assert_true(taps[0].nat);
	assert_string_equal(taps[1].tap, "tapb");
	assert_false(taps[1].nat);
	assert_int_equal(taps[1].net.len, 30);
	free(taps);
	end();
}

/* Somebody flushed the ruleset: all of it again, in one go. */
static void test_rebuild(void **state)
{
	begin();
	acquire(false);
	add_nft_tap("vm/a", "tapa", json_pack("{s:s,s:b}", "net", NET, "nat", 1));
	sh("nft flush ruleset");
	assert_false(has_table());
	host_net_rebuild(&w.r.d, finished_with, NULL);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
	assert_int_equal(w.code, 0);
	assert_int_equal(sh_status("nft list table inet drover | grep -q tapa"), 0);
	/* And gone when it is released, whoever has removed the table meanwhile. */
	sh("nft flush ruleset");
	release("vm/a");
	assert_false(ledger_has(w.r.d.ledger, "vm/a"));
	assert_false(ledger_has(w.r.d.ledger, HOST_OWNER));
	assert_sysctl("net.ipv4.ip_forward", "0");
	end();
}

/* On the way out nothing is released: the next daemon goes on with the ledger. */
static void test_leaving(void **state)
{
	begin();
	acquire(false);
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/a", OBJECT_TAP, "tapa", NULL, NULL), 0);
	w.r.d.leaving = true;
	release("vm/a");
	check();
	assert_true(ledger_has(w.r.d.ledger, "vm/a"));
	assert_true(ledger_has(w.r.d.ledger, HOST_OWNER));
	assert_true(has_table());
	end();
}

static void test_alias(void **state)
{
	struct nic nic = { .tap_fd = -1 };
	char *alias, *want, text[16];
	uint32_t address;

	begin();
	alias = network_alias(&w.r.d, "vm/web");
	want = str_printf("drover %s vm/web", w.r.run_dir);
	assert_string_equal(alias, want);
	free(alias);
	free(want);
	assert_int_equal(ip4_prefix_parse(NET, false, &nic.net, NULL), 0);
	assert_true(network_guest_address(&nic, &address));
	ip4_format(address, text);
	assert_string_equal(text, "172.16.3.6");
	end();
}

/* ---- the doctor ---- */

static void reported(void *arg, json_t *report, const struct err *err)
{
	w.code = err != NULL ? err->code : 0;
	w.report = json_incref(report);
	finished(arg);
}

static const json_t *check_named(const char *name)
{
	const json_t *e;
	size_t i;

	json_array_foreach (json_arr(w.report, "checks"), i, e) {
		if (str_eq(json_str(e, "check"), name))
			return e;
	}
	return NULL;
}

static void test_doctor(void **state)
{
	static const char *const names[] = { "kvm", "tun", "forwarding", "rp-filter", "cgroup",
		"space", "run-dir", "dnsmasq", "nft", "docker-registry", "ssh", "ssh-keygen",
		"firewall" };
	const json_t *e;
	struct err err;
	size_t i;

	begin();
	assert_int_equal(doctor_run(&w.r.d, false, reported, NULL, &err), -ECANCELED);
	assert_int_equal(reconcile_create(&w.r.d.reconciler, &w.r.d, NULL), 0);
	assert_int_equal(doctor_run(&w.r.d, false, reported, NULL, &err), 0);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
	assert_int_equal(w.code, 0);
	for (i = 0; i < ARRAY_LEN(names); i++)
		assert_non_null(check_named(names[i]));
	json_array_foreach (json_arr(w.report, "checks"), i, e) {
		const char *level = json_str(e, "level");

		assert_true(json_is_boolean(json_object_get(e, "ok")));
		assert_true(str_eq(level, "error") || str_eq(level, "warning") ||
			    str_eq(level, "info"));
		assert_true(json_str(e, "message")[0] != '\0');
		/* Nothing is to be done about what is well. */
		if (json_flag(e, "ok", false))
			assert_null(json_str(e, "fix"));
	}
	/* Off, and nobody needs it: no fault. */
	assert_true(json_flag(check_named("forwarding"), "ok", false));
	assert_false(json_flag(check_named("rp-filter"), "ok", true));
	assert_int_equal(json_array_size(json_arr(w.report, "differences")), 0);
	reconcile_destroy(w.r.d.reconciler);
	end();
}

/* A machine needs forwarding, and somebody has turned it off. */
static void test_doctor_faults(void **state)
{
	struct err err;

	begin();
	assert_int_equal(ledger_add(w.r.d.ledger, "host", OBJECT_TAP, "tapa", NULL, NULL), 0);
	assert_int_equal(reconcile_create(&w.r.d.reconciler, &w.r.d, NULL), 0);
	assert_int_equal(doctor_run(&w.r.d, false, reported, NULL, &err), 0);
	rig_run_until(w.r.d.loop, &w.done);
	assert_false(json_flag(check_named("forwarding"), "ok", true));
	assert_string_equal(json_str(check_named("forwarding"), "fix"), "`drover doctor --fix`");
	reconcile_destroy(w.r.d.reconciler);
	end();
}

/* The daemon ends while it is being asked: told, once. */
static void test_doctor_cancelled(void **state)
{
	struct err err;

	begin();
	assert_int_equal(reconcile_create(&w.r.d.reconciler, &w.r.d, NULL), 0);
	assert_int_equal(doctor_run(&w.r.d, false, reported, NULL, &err), 0);
	reconcile_destroy(w.r.d.reconciler);
	assert_true(w.done);
	assert_int_equal(w.code, -ECANCELED);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acquire),
		cmocka_unit_test(test_on_before),
		cmocka_unit_test(test_changed_since),
		cmocka_unit_test(test_differs),
		cmocka_unit_test(test_last_one),
		cmocka_unit_test(test_taps_of_ledger),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_doctor),
		cmocka_unit_test(test_doctor_faults),
		cmocka_unit_test(test_doctor_cancelled),
	};

	return cmocka_run_group_tests_name("host_net", tests, NULL, NULL);
}

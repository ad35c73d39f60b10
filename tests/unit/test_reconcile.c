/*
 * The reconciler in a network namespace of its own: what no one owns, what running machines lack.
 * The firewall has its own test (test_firewall); here no machine has needed it yet.
 */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/backend.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/reconcile-private.h"
#include "supervisor/service.h"
#include "tests/unit/netns.h"

static struct world {
	struct drover_rig r;
	struct reconciler *rec;
	unsigned done, cancelled;
	bool finished;
	json_t *differences; /* of the last pass */
	struct buf order;
} w;

#define TAP "tap0123456789ab"

static void first_passed(void *arg, json_t *differences, const struct err *err)
{
	*(bool *)arg = true;
}

/* The first pass comes by itself, soon: not into the middle of a test. */
static void first_pass(void)
{
	bool over = false;

	assert_int_equal(reconcile_run(w.rec, RECONCILE_AGED, first_passed, &over, NULL), 0);
	rig_run_until(w.r.d.loop, &over);
}

static void begin(const char *head)
{
	char *text = str_printf("%s[network taps]\ncidr = 172.16.0.0/16\n"
				"[vm web]\nkernel = /boot/k\nautostart = no\nnetwork = taps\n",
		head);

	netns_enter();
	w = (struct world){ 0 };
	drover_rig_init(&w.r, text);
	free(text);
	assert_int_equal(netlink_create(&w.r.d.nl, NULL), 0);
	assert_int_equal(link_deleter_create(&w.r.d.linkdel, w.r.d.loop, NULL), 0);
	assert_int_equal(reconcile_create(&w.rec, &w.r.d, NULL), 0);
	w.r.d.reconciler = w.rec;
	first_pass();
}

static void end(void)
{
	struct machine *m;

	list_for_each_entry (m, &w.r.d.machines, entry) {
		m->state = MACHINE_STOPPED;
		m->process = false;
	}
	reconcile_destroy(w.rec);
	link_deleter_destroy(w.r.d.linkdel, NULL, NULL);
	netlink_destroy(w.r.d.nl);
	json_decref(w.differences);
	buf_finish(&w.order);
	drover_rig_finish(&w.r);
}

static void passed(void *arg, json_t *differences, const struct err *err)
{
	const char *word = arg;

	if (word != NULL)
		buf_adds(&w.order, word);
	w.done++;
	w.cancelled += err != NULL && err->code == -ECANCELED;
	assert_true((differences == NULL) == (err != NULL));
	json_decref(w.differences);
	w.differences = json_incref(differences);
	w.finished = true;
}

/* Runs a pass; its differences are "kind name owner: difference: action\n". */
static const char *run(enum reconcile_mode mode)
{
	static struct buf text;
	const json_t *e;
	struct err err;
	size_t i;

	w.finished = false;
	if (reconcile_run(w.rec, mode, passed, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_false(w.finished);
	rig_run_until(w.r.d.loop, &w.finished);
	buf_clear(&text);
	json_array_foreach (w.differences, i, e) {
		const char *name = json_str(e, "name"), *owner = json_str(e, "owner");

		if (str_starts(name, w.r.dir))
			name += strlen(w.r.dir);
		buf_printf(&text, "%s %s %s: %s: %s\n", json_str(e, "kind"), name,
			owner != NULL ? owner : "-", json_str(e, "difference"),
			json_str(e, "action"));
	}
	return buf_str(&text);
}

static bool has_event(const char *line)
{
	return strstr(drover_rig_events(&w.r), line) != NULL;
}

static char *folder(const char *name)
{
	char *path = str_printf("%s/vm/%s", w.r.run_dir, name);

	assert_int_equal(mkdir_p(path, 0700, NULL), 0);
	return path;
}

static void test_nothing(void **state)
{
	begin("");
	assert_string_equal(run(RECONCILE_LOOK), "");
	assert_string_equal(run(RECONCILE_AGED), "");
	assert_string_equal(run(RECONCILE_NOW), "");
	assert_string_equal(drover_rig_events(&w.r), "");
	end();
}

static void test_in_use(void **state)
{
	struct drover *d = &w.r.d;
	struct machine *m;

	begin("[registry ghcr]\nupstream = https://ghcr.io\nlisten = 127.0.0.1:5000\n");
	m = drover_rig_machine(&w.r, "web");
	assert_false(reconcile_owner_in_use(d, "vm/nobody"));
	for (int s = 0; s < MACHINE_STATES; s++) {
		m->state = (enum machine_state)s;
		assert_int_equal(reconcile_owner_in_use(d, "vm/web"),
			s != MACHINE_STOPPED && s != MACHINE_FAILED && s != MACHINE_BACKOFF);
	}
	m->state = MACHINE_STOPPED;
	m->tearing_down = true;
	assert_true(reconcile_owner_in_use(d, "vm/web"));
	m->tearing_down = false;
	m->op = operation_begin(d->ops, "rm", "web", NULL, NULL);
	assert_true(reconcile_owner_in_use(d, "vm/web"));
	operation_end(m->op, NULL);
	m->op = NULL;
	assert_true(reconcile_owner_in_use(d, "registry/ghcr"));
	assert_false(reconcile_owner_in_use(d, "registry/gone"));
	/* Of a later version: not ours to judge. */
	assert_true(reconcile_owner_in_use(d, "host"));
	assert_true(reconcile_owner_in_use(d, "unicorn/x"));
	end();
}

static void test_settled(void **state)
{
	struct machine *m;

	begin("");
	m = drover_rig_machine(&w.r, "web");
	for (int s = 0; s < MACHINE_STATES; s++) {
		m->state = (enum machine_state)s;
		m->process = false;
		assert_false(reconcile_settled(m));
		m->process = true;
		assert_int_equal(
			reconcile_settled(m), s != MACHINE_STOPPING && s != MACHINE_PREPARING);
	}
	m->state = MACHINE_RUNNING;
	m->tearing_down = true;
	assert_false(reconcile_settled(m));
	m->tearing_down = false;
	m->attaching = true;
	assert_false(reconcile_settled(m));
	m->attaching = false;
	end();
}

/* Entries of the ledger whose machine does not run. */
static void test_objects(void **state)
{
	static const char would[] = "objects vm/gone vm/gone: it does not run and still has "
				    "process p and more: ";
	char *path, *want;

	begin("reconcile_min_age = 1h\n");
	path = folder("gone");
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/gone", OBJECT_PROCESS, "p", NULL, NULL), 0);
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/gone", OBJECT_DIR, path, NULL, NULL), 0);
	want = str_printf("%swould be released\n", would);
	assert_string_equal(run(RECONCILE_LOOK), want);
	free(want);
	want = str_printf("%sremoved when it is older\n", would);
	assert_string_equal(run(RECONCILE_AGED), want);
	free(want);
	assert_int_equal(access(path, F_OK), 0);
	assert_string_equal(drover_rig_events(&w.r), "");
	want = str_printf("%sreleased\n", would);
	assert_string_equal(run(RECONCILE_NOW), want);
	free(want);
	assert_int_equal(access(path, F_OK), -1);
	assert_false(ledger_has(w.r.d.ledger, "vm/gone"));
	assert_true(has_event("vm gone repaired\n"));
	assert_string_equal(run(RECONCILE_NOW), "");
	free(path);
	end();
}

/* What cannot be released is said, and tried again by the next pass. */
static void test_cannot_release(void **state)
{
	char *path;

	begin("");
	path = folder("gone");
	assert_int_equal(
		ledger_add(w.r.d.ledger, "vm/gone", OBJECT_DIR, "/proc/self/fd", NULL, NULL), 0);
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/gone", OBJECT_DIR, path, NULL, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_non_null(
			strstr(run(RECONCILE_NOW), ": failed: not all of it could be released"));
	assert_int_equal(access(path, F_OK), -1);
	assert_non_null(ledger_find(w.r.d.ledger, "vm/gone", OBJECT_DIR, "/proc/self/fd"));
	assert_true(has_event("vm gone repair-failed\n"));
	free(path);
	end();
}

static bool is_gone(void *path)
{
	return access(path, F_OK) < 0;
}

/* Old enough at once: our own passes remove it, unasked. Not what is in use. */
static void test_aged(void **state)
{
	struct machine *m;
	char *path, *used;

	begin("reconcile_min_age = 0\nreconcile_interval = 1s\n");
	m = drover_rig_machine(&w.r, "web");
	m->state = MACHINE_STARTING;
	path = folder("gone");
	used = folder("web");
	drover_rig_until(&w.r, is_gone, path);
	assert_int_equal(access(used, F_OK), 0);
	assert_true(has_event("vm gone repaired\n"));
	free(path);
	free(used);
	end();
}

/* Folders that no machine can have made are left alone. */
static void test_strange_folders(void **state)
{
	char *a, *b;

	begin("reconcile_min_age = 0\n");
	a = folder("Not_A_Name");
	b = folder(".hidden");
	assert_string_equal(run(RECONCILE_NOW), "");
	assert_int_equal(access(a, F_OK), 0);
	assert_int_equal(access(b, F_OK), 0);
	free(a);
	free(b);
	end();
}

/* A TAP is ours if its alias says so; a name like ours is not enough. */
static void test_taps(void **state)
{
	begin("reconcile_min_age = 1h\n");
	sh("ip tuntap add dev tapours mode tap && ip link set tapours alias 'drover %s vm/gone'",
		w.r.run_dir);
	sh("ip tuntap add dev " TAP " mode tap");
	sh("ip tuntap add dev tapother mode tap && ip link set tapother alias 'drover /run/x vm/gone'");
	assert_string_equal(run(RECONCILE_LOOK),
		"tap tapours vm/gone: its alias says that it is ours, and no machine uses it: "
		"would be deleted\n");
	assert_string_equal(run(RECONCILE_NOW),
		"tap tapours vm/gone: its alias says that it is ours, and no machine uses it: "
		"deleted\n");
	assert_int_not_equal(sh_status("ip link show tapours >/dev/null 2>&1"), 0);
	assert_int_equal(sh_status("ip link show " TAP " >/dev/null"), 0);
	assert_int_equal(sh_status("ip link show tapother >/dev/null"), 0);
	end();
}

/* ---- what a running machine lacks ---- */

static struct machine *running(void)
{
	struct machine *m = drover_rig_machine(&w.r, "web");
	struct nic *nic = &m->nics[0];

	m->state = MACHINE_RUNNING;
	m->process = true;
	m->run_box = config_box_ref(w.r.d.box);
	m->run_cfg = m->cfg;
	m->nnics = 1;
	*nic = (struct nic){ .network = strdup("taps"), .tap_fd = -1 };
	strcpy(nic->tap, TAP);
	assert_int_equal(ip4_prefix_parse("172.16.3.4/30", false, &nic->net, NULL), 0);
	assert_int_equal(ledger_add(w.r.d.ledger, m->owner, OBJECT_TAP, TAP, NULL, NULL), 0);
	return m;
}

static void make_tap(void)
{
	sh("ip tuntap add dev " TAP " mode tap && ip link set " TAP " alias 'drover %s vm/web'",
		w.r.run_dir);
	sh("ip address add 172.16.3.5/30 dev " TAP " && ip link set " TAP " up");
}

/* The rig's nic has none, nor a MAC with which one could be started. */
#define NO_DNSMASQ    "process " TAP " vm/web: its dnsmasq does not run: "
#define DNSMASQ_WOULD NO_DNSMASQ "would be started or found again\n"
#define DNSMASQ_FAILS NO_DNSMASQ "failed: dnsmasq: '' is no MAC address\n"

static void service_is_gone(void *arg)
{
	struct nic *nic = arg;

	service_destroy(nic->dnsmasq);
	nic->dnsmasq = NULL;
}

static bool has_no_service(void *arg)
{
	const struct nic *nic = arg;

	return nic->dnsmasq == NULL;
}

static void test_link(void **state)
{
	begin("");
	make_tap();
	running();
	assert_string_equal(run(RECONCILE_LOOK), DNSMASQ_WOULD);
	sh("ip link set " TAP " down");
	assert_string_equal(run(RECONCILE_LOOK),
		"link " TAP " vm/web: it is down: would be put back\n" DNSMASQ_WOULD);
	assert_string_equal(
		run(RECONCILE_NOW), "link " TAP " vm/web: it is down: put back\n" DNSMASQ_FAILS);
	sh("ip address flush dev " TAP);
	assert_string_equal(run(RECONCILE_AGED),
		"link " TAP
		" vm/web: its address 172.16.3.5/30 is missing: put back\n" DNSMASQ_FAILS);
	assert_non_null(strstr(sh_output("ip -br address show " TAP), "172.16.3.5/30"));
	assert_string_equal(run(RECONCILE_LOOK), DNSMASQ_WOULD);
	assert_true(has_event("vm web repaired\n"));
	end();
}

/* Somebody who undoes it again and again is not fought with; a person's order is an order. */
static void test_limit(void **state)
{
	begin("");
	make_tap();
	running();
	run(RECONCILE_LOOK);
	for (unsigned i = 0; i < difference_rows[DIFF_LINK].limit; i++) {
		sh("ip link set " TAP " down");
		if (strstr(run(RECONCILE_AGED), "put back") == NULL)
			break; /* our own pass was before this one */
	}
	w.rec->mends[DIFF_LINK].n = difference_rows[DIFF_LINK].limit;
	sh("ip link set " TAP " down");
	assert_string_equal(run(RECONCILE_AGED),
		"link " TAP
		" vm/web: it is down: left alone: somebody keeps changing it\n" DNSMASQ_FAILS);
	assert_string_equal(
		run(RECONCILE_NOW), "link " TAP " vm/web: it is down: put back\n" DNSMASQ_FAILS);
	end();
}

/* One that could not be taken up or started, and that nothing starts again, is. */
static void test_service(void **state)
{
	struct machine *m;
	struct nic *nic;

	begin("");
	make_tap();
	m = running();
	nic = &m->nics[0];
	strcpy(nic->mac, "52:54:00:00:00:01");
	assert_int_equal(mkdir_p(m->log_dir, 0700, NULL), 0);
	assert_string_equal(run(RECONCILE_LOOK), DNSMASQ_WOULD);
	run(RECONCILE_NOW); /* or a pass of our own before it */
	assert_non_null(nic->dnsmasq);
	assert_true(service_up(nic->dnsmasq));
	assert_string_equal(run(RECONCILE_LOOK), "");
	service_stop(nic->dnsmasq, service_is_gone, nic);
	drover_rig_until(&w.r, has_no_service, nic);
	end();
}

static void no_destroy(struct hv *hv, void (*closed)(void *arg), void *arg)
{
}

/* Deleted under a hypervisor that cannot be given it again: that is said once. Another TAP of its
 * name is not the one. */
static void test_tap_lost(void **state)
{
	static const char lost[] =
		"tap-lost " TAP " vm/web: the TAP was deleted, and the hypervisor "
		"holds the deleted one: it could not be attached again: this hypervisor cannot be "
		"given another TAP; `drover restart web` brings the network back\n";
	static const struct hv_ops none = { .name = "none", .destroy = no_destroy };
	static struct hv hv;
	struct machine *m;
	const char *first;

	begin("");
	make_tap();
	m = running();
	run(RECONCILE_LOOK);
	assert_int_not_equal(m->nics[0].ifindex, 0);
	sh("ip link delete " TAP);
	assert_non_null(strstr(run(RECONCILE_LOOK), "would be made and attached again"));
	hv = (struct hv){ .ops = &none };
	list_init(&hv.refusals);
	m->hv = &hv;
	assert_string_equal(run(RECONCILE_NOW), lost);
	assert_string_equal(run(RECONCILE_LOOK), lost);
	assert_string_equal(run(RECONCILE_AGED), lost);
	assert_true(m->nics[0].lost);
	make_tap();
	assert_string_equal(run(RECONCILE_NOW), lost);
	first = strstr(drover_rig_events(&w.r), "vm web network-lost\n");
	assert_non_null(first);
	assert_null(strstr(first + strlen("vm web network-lost"), "network-lost"));
	m->hv = NULL;
	end();
}

/* A machine about which something is being done is left alone. */
static void test_not_settled(void **state)
{
	struct machine *m;

	begin("");
	m = running();
	m->state = MACHINE_STOPPING;
	assert_string_equal(run(RECONCILE_NOW), "");
	m->state = MACHINE_RUNNING;
	m->attaching = true;
	assert_string_equal(run(RECONCILE_NOW), "");
	m->attaching = false;
	end();
}

/* ---- passes ---- */

static bool four_done(void *arg)
{
	return w.done == 4;
}

static bool is_busy(void *arg)
{
	return w.rec->busy;
}

static void test_order(void **state)
{
	begin("");
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(
			reconcile_run(w.rec, i % 2 ? RECONCILE_NOW : RECONCILE_LOOK, passed,
				(void *)(uintptr_t)(const char *[]){ "a", "b", "c", "d" }[i], NULL),
			0);
	assert_int_equal(w.done, 0);
	drover_rig_until(&w.r, four_done, NULL);
	assert_string_equal(buf_str(&w.order), "abcd");
	end();
}

/* Those that wait are told, once. */
static void test_destroy(void **state)
{
	struct err err;

	begin("");
	/* A TAP is deleted in another thread. */
	sh("ip tuntap add dev tapgone mode tap");
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/gone", OBJECT_TAP, "tapgone", NULL, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(reconcile_run(w.rec, RECONCILE_NOW, passed, NULL, NULL), 0);
	/* Into the middle of the first one's work. */
	drover_rig_until(&w.r, is_busy, NULL);
	reconcile_destroy(w.rec);
	assert_int_equal(w.done, 3);
	assert_int_equal(w.cancelled, 3);
	rig_run_for(w.r.d.loop, 50);
	assert_int_equal(w.done, 3);
	w.rec = NULL;
	assert_int_equal(reconcile_run(NULL, RECONCILE_LOOK, passed, NULL, &err), -ECANCELED);
	reconcile_rearm(NULL);
	end();
}

/* Every difference has its words, and those that are mended have a way to do it. */
static void test_rows(void **state)
{
	for (int k = 0; k < DIFF_KINDS; k++) {
		const struct difference_row *row = &difference_rows[k];

		assert_non_null(row->word);
		assert_true((row->mend == NULL) == (row->would == NULL));
		assert_true((row->mend == NULL) == (row->did == NULL));
		assert_true(row->mend != NULL || (!row->aged && row->limit == 0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_in_use),
		cmocka_unit_test(test_settled),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_cannot_release),
		cmocka_unit_test(test_aged),
		cmocka_unit_test(test_strange_folders),
		cmocka_unit_test(test_taps),
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_service),
		cmocka_unit_test(test_tap_lost),
		cmocka_unit_test(test_not_settled),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_destroy),
	};

	return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}

/* What the API shows of a machine, in each of the states that matter to it. */
#include "tests/unit/rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine.h"
#include "supervisor/notify.h"
#include "supervisor/plan.h"

void drover_machine_rests(struct drover *d)
{
}

static struct world {
	struct drover d;
	char *dir;
} w;

static const char ini[] = "[network taps]\n"
			  "cidr = 172.16.0.0/16\n"
			  "[key made]\n"
			  "generate = yes\n"
			  "[key given]\n"
			  "public = ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHX me\n"
			  "private = /home/me/key\n"
			  "[key public-only]\n"
			  "public = ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHX me\n"
			  "[vm full]\n"
			  "kernel = ghcr.io/org/a-kernel:6\n"
			  "rootfs = ghcr.io/org/a-image:6\n"
			  "memory = 1G\n"
			  "vcpus = 3\n"
			  "accel = tcg\n"
			  "network = taps\n"
			  "ssh_key = public-only\n"
			  "ssh_key = made\n"
			  "ssh_user = admin\n"
			  "restart = on-failure\n"
			  "[vm plain]\n"
			  "kernel = /boot/vmlinuz\n"
			  "ssh_key = given\n"
			  "autostart = no\n";

static int setup(void **state)
{
	struct drover *d = &w.d;
	struct config_load_opts opts = { 0 };
	struct config_errors errors = { 0 };
	struct config *config = NULL;
	char *path;
	struct err err;

	w = (struct world){ .dir = rig_tmp() };
	path = path_join(w.dir, "drover.ini");
	assert_int_equal(file_write_atomic(path, ini, strlen(ini), 0600, false, NULL), 0);
	opts.path = path;
	if (config_load(&config, &opts, &errors, &err) < 0)
		fail_msg("%s: %s", err.msg, errors.n > 0 ? errors.v[0].message : "");
	free(path);
	d->loop = rig_loop();
	d->box = config_box_create(config);
	d->state_dir = "/state";
	d->run_dir = "/run/d";
	list_init(&d->machines);
	for (size_t i = 0; i < MACHINE_BUCKETS; i++)
		list_init(&d->machine_buckets[i]);
	return 0;
}

static int teardown(void **state)
{
	machines_release(&w.d);
	rig_loop_finish(w.d.loop);
	config_box_unref(w.d.box);
	rig_tmp_finish(w.dir);
	return 0;
}

static struct machine *make(const char *name)
{
	struct machine *m = NULL;

	assert_int_equal(machine_create(&m, &w.d, name, NULL), 0);
	m->cfg = config_vm(drover_config(&w.d), name);
	return m;
}

/* j's keys, in order. */
static void assert_keys(const json_t *j, const char *keys)
{
	struct buf got = { 0 };
	const char *key;
	const json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)j, key, value)
		buf_printf(&got, "%s%s", value != NULL && got.len > 0 ? " " : "", key);
	assert_string_equal(buf_str(&got), keys);
	buf_finish(&got);
}

static void assert_json(const json_t *j, const char *key, const char *text)
{
	char *got = json_text(json_object_get(j, key));

	assert_non_null(got);
	if (strcmp(got, text) != 0)
		fail_msg("%s is %s, not %s", key, got, text);
	free(got);
}

#define SUMMARY                                                                                                \
	"name state conditions hypervisor pid address address6 mac network image uptime_s restarts last_cause" \
	" operation"

static void test_never_ran(void **state)
{
	struct machine *m = make("full");
	json_t *j = machine_detail(m);
	json_t *why = machine_why(m);

	assert_keys(j, SUMMARY
		" wanted nics accel machine memory vcpus kernel rootfs restart disk disk_layers added drives boot"
		" reboots error"
		" ssh degraded vnc vsock_cid console monitor qmp core log guest_id started"
		" migration migrated_to migrated_disks capabilities cannot warm health");
	assert_json(j, "state", "\"stopped\"");
	assert_json(j, "conditions", "[]");
	assert_json(j, "hypervisor", "\"qemu\"");
	assert_json(j, "pid", "null");
	assert_json(j, "address", "null");
	assert_json(j, "network", "\"taps\"");
	assert_json(j, "image", "\"ghcr.io/org/a-image:6\"");
	assert_json(j, "uptime_s", "null");
	assert_json(j, "restarts", "0");
	assert_json(j, "last_cause", "null");
	assert_json(j, "wanted", "\"running\"");
	assert_json(j, "accel", "\"tcg\"");
	assert_json(j, "machine", "\"q35\"");
	assert_json(j, "memory", "1073741824");
	assert_json(j, "vcpus", "3");
	assert_json(j, "restart", "\"on-failure\"");
	assert_json(j, "error", "null");
	assert_json(j, "operation", "null");
	assert_json(j, "console", "null");
	assert_json(j, "log", "null");
	assert_json(j, "guest_id", "null");
	assert_json(j, "started", "null");
	assert_json(j, "ssh",
		"{\"user\":\"admin\",\"identity\":\"/state/keys/made/id_ed25519\",\"address\":null,\"port\":22}");
	assert_keys(why, "name state boot cause sentence started ended status console story");
	assert_json(why, "cause", "null");
	assert_json(why, "sentence", "\"it has not run yet\"");
	assert_json(why, "story", "[]");
	json_decref(j);
	json_decref(why);
}

static void test_no_network(void **state)
{
	struct machine *m = make("plain");
	json_t *j = machine_detail(m);

	assert_json(j, "network", "null");
	assert_json(j, "mac", "null");
	assert_json(j, "image", "\"/boot/vmlinuz\"");
	assert_json(j, "rootfs", "null");
	assert_json(j, "wanted", "\"stopped\"");
	assert_json(j, "ssh",
		"{\"user\":\"root\",\"identity\":\"/home/me/key\",\"address\":null,\"port\":22}");
	json_decref(j);
}

static void test_running(void **state)
{
	struct machine *m = make("full");
	json_t *j, *why;
	struct nic *nic = &m->nics[0];

	m->state = MACHINE_RUNNING;
	m->process = true;
	m->run_box = config_box_ref(w.d.box);
	m->run_cfg = m->cfg;
	m->up_mono_ms = clock_mono_ms() - 61000;
	m->boot = 4;
	m->restarts = 2;
	m->last_cause = CAUSE_GUEST_PANIC;
	m->run_started_ms = 1700000000000;
	m->guest_id = 7;
	m->nnics = 1;
	*nic = (struct nic){ .network = strdup("taps"), .tap_fd = -1 };
	strcpy(nic->mac, "52:00:00:00:00:01");
	strcpy(nic->tap, "tap0123456789ab");
	assert_int_equal(ip4_prefix_parse("172.16.3.4/30", false, &nic->net, NULL), 0);
	j = machine_detail(m);
	why = machine_why(m);
	assert_json(j, "state", "\"running\"");
	/* Its dnsmasq is not up. */
	assert_json(j, "conditions", "[\"degraded\"]");
	assert_json(j, "address", "\"172.16.3.6\"");
	assert_json(j, "mac", "\"52:00:00:00:00:01\"");
	assert_json(j, "uptime_s", "61");
	assert_json(j, "restarts", "2");
	assert_json(j, "last_cause", "\"guest-panic\"");
	assert_json(j, "nics",
		"[{\"name\":\"nic0\",\"network\":\"taps\",\"mac\":\"52:00:00:00:00:01\","
		"\"tap\":\"tap0123456789ab\",\"addresses\":[\"172.16.3.6\"],"
		"\"added\":false}]");
	assert_json(j, "monitor", "\"/run/d/vm/full/mon.sock\"");
	assert_json(j, "qmp", "\"/run/d/vm/full/qmp.sock\"");
	assert_json(j, "log", "\"/state/log/full/4.log\"");
	assert_json(j, "guest_id", "7");
	assert_json(j, "started", "\"2023-11-14T22:13:20.000Z\"");
	/* Of the run that goes on, not of the one before. */
	assert_json(why, "cause", "null");
	assert_json(why, "sentence", "\"this run has not ended\"");
	assert_json(why, "boot", "4");
	json_decref(j);
	json_decref(why);
	m->process = false;
}

static void test_ended(void **state)
{
	struct machine *m = make("full");
	json_t *j, *why;

	m->state = MACHINE_FAILED;
	m->boot = 1;
	m->want_known = true;
	m->run_started_ms = 1700000000000;
	m->run_ended_ms = 1700000005000;
	m->last_cause = CAUSE_HYPERVISOR_CRASH;
	m->sentence = strdup("the hypervisor was killed by SIGKILL");
	m->exit_status = (struct child_status){ .known = true, .signaled = true, .code = 9 };
	m->last_console = json_pack("[s]", "last words");
	m->nnics = 1;
	m->nics[0] = (struct nic){ .network = strdup("taps"), .tap_fd = -1 };
	m->story = json_pack("[{s:s}]", "text", "started");
	err_set(&m->error, -1, "vm full: no");
	j = machine_detail(m);
	why = machine_why(m);
	assert_json(j, "state", "\"failed\"");
	assert_json(j, "conditions", "[]");
	assert_json(j, "address", "null");
	assert_json(j, "wanted", "\"stopped\"");
	assert_json(j, "error", "\"vm full: no\"");
	assert_json(j, "started", "null");
	assert_json(why, "cause", "\"hypervisor-crash\"");
	assert_json(why, "sentence", "\"the hypervisor was killed by SIGKILL\"");
	assert_json(why, "ended", "\"2023-11-14T22:13:25.000Z\"");
	assert_json(why, "status", "\"was killed by SIGKILL\"");
	assert_json(why, "console", "[\"last words\"]");
	assert_json(why, "story", "[{\"text\":\"started\"}]");
	json_decref(j);
	json_decref(why);
}

/* Shown as it was when it last ran. */
static void test_removed(void **state)
{
	struct machine *m = make("full");
	json_t *j;

	m->applied = plan_applied(&m->cfg->s);
	m->cfg = NULL;
	j = machine_detail(m);
	assert_json(j, "state", "\"removed\"");
	assert_json(j, "hypervisor", "\"qemu\"");
	assert_json(j, "image", "\"ghcr.io/org/a-image:6\"");
	assert_json(j, "wanted", "\"stopped\"");
	assert_json(j, "kernel", "\"ghcr.io/org/a-kernel:6\"");
	json_decref(j);
	m->state = MACHINE_STOPPING;
	j = machine_summary(m);
	assert_keys(j, SUMMARY);
	assert_json(j, "state", "\"stopping\"");
	json_decref(j);
	m->state = MACHINE_STOPPED;
}

/* The lines of a live console, whatever bytes they are. */
static void test_console(void **state)
{
	struct machine *m = make("full");
	char *logs = path_join(w.dir, "logs"), *path = path_join(w.dir, "c");
	struct console_opts opts = {
		.log_dir = logs, .socket_path = path, .boot = 1, .max_bytes = 10000
	};
	json_t *j, *why;

	assert_int_equal(console_create(&m->console, w.d.loop, &opts, NULL), 0);
	console_write(m->console, "one\nbroken \xff byte\n", 18);
	m->state = MACHINE_RUNNING;
	why = machine_why(m);
	j = machine_detail(m);
	assert_json(why, "console", "[\"one\",\"broken \xef\xbf\xbd byte\"]");
	assert_json(j, "console", "\"/run/d/vm/full/console.sock\"");
	json_decref(why);
	json_decref(j);
	m->state = MACHINE_STOPPED;
	free(logs);
	free(path);
}

static void test_status_text(void **state)
{
	struct machine *full = make("full"), *plain = make("plain"), *gone;
	char text[128];

	notify_status_text(&w.d, text, sizeof(text));
	assert_string_equal(text, "2 machines: 2 stopped");
	full->state = MACHINE_RUNNING;
	plain->state = MACHINE_FAILED;
	notify_status_text(&w.d, text, sizeof(text));
	assert_string_equal(text, "2 machines: 1 running, 1 failed");
	/* A removed one counts while it runs. */
	assert_int_equal(machine_create(&gone, &w.d, "gone", NULL), 0);
	notify_status_text(&w.d, text, sizeof(text));
	assert_string_equal(text, "2 machines: 1 running, 1 failed");
	gone->state = MACHINE_STARTING;
	notify_status_text(&w.d, text, sizeof(text));
	assert_string_equal(text, "3 machines: 1 running, 1 starting, 1 failed");
	/* What does not fit is cut. */
	notify_status_text(&w.d, text, 20);
	assert_string_equal(text, "3 machines: 1 runni");
	machine_destroy(gone);
	machine_destroy(plain);
	plain = NULL;
	full->state = MACHINE_PREPARING;
	notify_status_text(&w.d, text, sizeof(text));
	assert_string_equal(text, "1 machine: 1 preparing");
}

static void test_no_cgroup(void **state)
{
	struct machine *m = make("plain");
	json_t *j;

	m->state = MACHINE_RUNNING;
	m->process = m->no_cgroup = true;
	j = machine_summary(m);
	assert_json(j, "conditions", "[\"no-cgroup\"]");
	json_decref(j);
	/* It is the run's. */
	m->process = false;
	j = machine_summary(m);
	assert_json(j, "conditions", "[]");
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_never_ran, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_network, setup, teardown),
		cmocka_unit_test_setup_teardown(test_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_console, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_cgroup, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

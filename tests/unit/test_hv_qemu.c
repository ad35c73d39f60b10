/* The backend on the real QEMU, with the nano guest under TCG. */
#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/qemu.h"
#include "lib/file.h"

static char *qemu, *nano, *jail;

static int setup(void **state)
{
	qemu = find_program("qemu-system-x86_64");
	if (qemu == NULL) {
		print_message("# no qemu-system-x86_64\n");
		return 0;
	}
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	nano = hv_rig_program("nano.elf");
	jail = hv_rig_program("drover-jail");
	return 0;
}

static int teardown(void **state)
{
	free(qemu);
	free(nano);
	free(jail);
	return 0;
}

static void init(struct hv_rig *r, const char *machine)
{
	if (qemu == NULL)
		skip();
	hv_rig_init(r, qemu);
	r->spec.machine = machine;
	r->spec.kernel = nano;
	r->spec.cmdline = "";
}

static void up(struct hv_rig *r, const char *machine)
{
	init(r, machine);
	hv_rig_up(r);
	hv_rig_until_console(r, "NANO-READY");
}

static void lifecycle(const char *machine)
{
	struct hv_rig r;

	up(&r, machine);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_int_equal(strncmp(hv_caps(r.hv)->program, "QEMU ", 5), 0);
	assert_true(hv_caps(r.hv)->program[5] >= '6');
	assert_string_equal(hv_accel_text(r.hv), "tcg (as configured)");
	assert_int_equal(hv_process(r.hv)->pid, r.process.pid);
	assert_int_equal(proc_starttime(r.process.pid), r.process.starttime);

	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_true(hv_rig_has(&r, "status:paused:us op"));
	/* A paused guest does not echo; when it goes on it does. */
	assert_int_equal(hv_console_write(r.hv, "x", 1), 0);
	rig_run_for(r.loop, 200);
	assert_null(strchr(buf_str(&r.console), 'x'));
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_true(hv_rig_has(&r, "status:running:us"));
	hv_rig_until_console(&r, "x");

	buf_clear(&r.console);
	assert_int_equal(hv_rig_op(&r, hv_reset), 0);
	hv_rig_until(&r, "host-reset:host-qmp-system-reset:us");
	hv_rig_until_console(&r, "NANO-READY");

	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-qmp-quit:us"));
	assert_false(hv_rig_has(&r, "monitor-lost"));
	assert_true(r.status.known && !r.status.signaled && r.status.code == 0);
	hv_rig_finish(&r);
}

static void test_q35(void **state)
{
	lifecycle("q35");
}

static void test_pc(void **state)
{
	lifecycle("pc");
}

static void test_microvm(void **state)
{
	lifecycle("microvm");
}

static void test_powerdown(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	/* The guest says that it is ready shortly before it listens to its button. */
	hv_console_write(r.hv, "x", 1);
	hv_rig_until_console(&r, "x");
	assert_int_equal(hv_rig_op(&r, hv_powerdown), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown:us"));
	/* The last bytes of the console came before exited. */
	assert_non_null(strstr(buf_str(&r.console), "NANO-BYE"));
	assert_int_equal(hv_status(r.hv), HV_STATUS_SHUTDOWN);
	hv_rig_finish(&r);
}

static void test_guest_poweroff(void **state)
{
	struct hv_rig r;

	up(&r, "pc");
	hv_console_write(r.hv, "q", 1);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown exited"));
	hv_rig_finish(&r);
}

static void watchdog(const char *action, const char *events)
{
	struct hv_rig r;

	init(&r, "q35");
	r.spec.watchdog = "i6300esb";
	r.spec.watchdog_action = action;
	r.spec.reboot_is_exit = true;
	r.spec.agent = true;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	hv_console_write(r.hv, "w", 1);
	hv_rig_until(&r, events);
	if (strcmp(action, "pause") == 0)
		hv_rig_op(&r, hv_quit);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
}

static void test_watchdog(void **state)
{
	watchdog("poweroff", "watchdog:poweroff exited");
	watchdog("reset", "watchdog:reset guest-shutdown:guest-reset exited");
	watchdog("pause", "watchdog:pause status:paused");
}

static void agent_silent(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_rig *r = arg;

	assert_non_null(err);
	assert_int_equal(err->code, -ETIMEDOUT);
	r->op_done = true;
	uv_stop(r->loop);
}

/* Nobody in the guest opens the port: each try leaves a connection behind that QEMU must drop. */
static void test_agent_port(void **state)
{
	static const char *const machines[] = { "q35", "microvm" };
	struct hv_rig r;
	json_t *cmd = json_pack("{s:s}", "execute", "guest-ping");

	for (size_t m = 0; m < ARRAY_LEN(machines); m++) {
		init(&r, machines[m]);
		r.spec.agent = true;
		hv_rig_up(&r);
		for (int i = 0; i < 40; i++) {
			r.op_done = false;
			hv_agent(r.hv, cmd, 20, agent_silent, &r);
			rig_run_until(r.loop, &r.op_done);
		}
		hv_rig_op(&r, hv_quit);
		hv_rig_until_exit(&r);
		hv_rig_finish(&r);
	}
	json_decref(cmd);
}

static void test_guest_reboot(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	buf_clear(&r.console);
	hv_console_write(r.hv, "r", 1);
	hv_rig_until(&r, "guest-reset:guest-reset ");
	hv_rig_until_console(&r, "NANO-READY");
	assert_false(r.exited);
	/* The guest has spoken since: another one at once is its own again, and no echo of it. */
	buf_clear(&r.console);
	hv_console_write(r.hv, "r", 1);
	hv_rig_until(&r, "guest-reset:guest-reset guest-reset:guest-reset ");
	hv_rig_until_console(&r, "NANO-READY");
	rig_run_for(r.loop, 200);
	assert_false(hv_rig_has(
		&r, "guest-reset:guest-reset guest-reset:guest-reset guest-reset:guest-reset "));
	hv_rig_op(&r, hv_quit);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
}

static void test_reboot_is_exit(void **state)
{
	struct hv_rig r;

	init(&r, "q35");
	r.spec.reboot_is_exit = true;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	/* Our own reset is none of the guest's and does not end the run. */
	buf_clear(&r.console);
	assert_int_equal(hv_rig_op(&r, hv_reset), 0);
	hv_rig_until(&r, "host-reset:host-qmp-system-reset:us");
	hv_rig_until_console(&r, "NANO-READY");
	assert_false(r.exited);
	assert_false(hv_rig_has(&r, "guest-reset"));
	/* It takes a while until a reboot is an exit again. */
	for (int i = 0; i < 20 && !r.exited; i++) {
		hv_console_write(r.hv, "r", 1);
		rig_run_for(r.loop, 1000);
	}
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-reset exited"));
	hv_rig_finish(&r);
}

static void test_start_paused(void **state)
{
	struct hv_rig r;

	init(&r, "q35");
	r.spec.start_paused = true;
	hv_rig_up(&r);
	assert_int_equal(hv_status(r.hv), HV_STATUS_CREATED);
	rig_run_for(r.loop, 200);
	assert_int_equal(r.console.len, 0);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	hv_rig_until_console(&r, "NANO-READY");
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	hv_rig_finish(&r);
}

static void test_kill(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	assert_int_equal(hv_kill(r.hv, SIGKILL), 0);
	hv_rig_until_exit(&r);
	assert_true(r.status.known && r.status.signaled);
	assert_int_equal(r.status.code, SIGKILL);
	assert_int_equal(hv_kill(r.hv, SIGKILL), -ESRCH);
	assert_int_equal(hv_rig_op(&r, hv_pause), -ESRCH);
	hv_rig_finish(&r);
}

static void test_sigterm(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	assert_int_equal(hv_kill(r.hv, SIGTERM), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-signal:us"));
	hv_rig_finish(&r);

	up(&r, "q35");
	kill(r.process.pid, SIGTERM);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-signal exited"));
	hv_rig_finish(&r);
}

/* What another client of the monitor does is not taken for ours. */
static void test_foreign_commands(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	hv_rig_execute(&r, "{\"execute\":\"stop\",\"id\":\"mine\"}", 0);
	assert_string_equal(r.reply, "{}");
	hv_rig_until(&r, "status:paused ");
	hv_rig_execute(&r, "{\"execute\":\"cont\"}", 0);
	hv_rig_until(&r, "status:running ");
	hv_rig_execute(&r, "{\"execute\":\"query-qmp-schema\"}", 0);
	assert_true(strlen(r.reply) > 100000);
	hv_rig_execute(&r, "{\"execute\":\"no-such\"}", 0);
	assert_int_equal(r.err.code, -ENOTSUP);
	assert_non_null(strstr(r.err.msg, "no-such"));
	hv_rig_execute(&r, "{\"execute\":\"quit\"}", 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-qmp-quit "));
	hv_rig_finish(&r);
}

static void test_refused_argument(void **state)
{
	static const char *const extra[] = { "-device", "no-such-device", NULL };
	struct hv_rig r;

	init(&r, "q35");
	r.spec.extra_args = extra;
	hv_rig_start(&r);
	hv_rig_until_exit(&r);
	assert_string_equal(buf_str(&r.diary), "spawned done:-5 exited ");
	assert_non_null(strstr(r.err.msg, "exited with status 1"));
	assert_non_null(strstr(r.err.msg, "no-such-device"));
	assert_null(strstr(r.err.msg, "waiting for connection"));
	hv_rig_finish(&r);
}

static void test_disks(void **state)
{
	struct hv_disk disks[2] = { { 0 } };
	struct hv_rig r;
	char *cmd;

	init(&r, "q35");
	disks[0].path = path_join(r.dir, "a,b=c.raw");
	disks[0].serial = "root";
	disks[1].path = path_join(r.dir, "data.qcow2");
	disks[1].format = HV_DISK_QCOW2;
	cmd = str_printf("truncate -s 1M '%s' && qemu-img create -q -f qcow2 '%s' 1M",
		disks[0].path, disks[1].path);
	assert_int_equal(system(cmd), 0);
	r.spec.disks = disks;
	r.spec.ndisks = 2;
	hv_rig_up(&r);
	hv_rig_execute(
		&r, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}", 0);
	assert_non_null(strstr(r.reply, "a,b=c.raw"));
	hv_rig_finish(&r);
	free((char *)disks[0].path);
	free((char *)disks[1].path);
	free(cmd);
}

static void adoption(bool with_jail)
{
	struct hv_rig r;

	init(&r, "q35");
	r.spec.jail = with_jail ? jail : NULL;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	buf_clear(&r.console);
	hv_console_write(r.hv, "hello", 5);
	hv_rig_until_console(&r, "hello");
	hv_console_write(r.hv, "q", 1);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown exited"));
	assert_non_null(strstr(buf_str(&r.console), "NANO-BYE"));
	assert_true(r.status.known);
	assert_int_equal(r.status.code, 0);
	hv_rig_finish(&r);
}

static void test_adopt(void **state)
{
	adoption(false);
}

static void test_adopt_jailed(void **state)
{
	adoption(true);
}

/* A stopped hypervisor is slow, not dead. */
static void test_sigstop(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	kill(r.process.pid, SIGSTOP);
	hv_rig_execute(&r, "{\"execute\":\"query-name\"}", 100);
	assert_int_equal(r.err.code, -ETIMEDOUT);
	hv_rig_until(&r, "unresponsive:query-name");
	assert_true(hv_unresponsive(r.hv));
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	kill(r.process.pid, SIGCONT);
	hv_rig_until(&r, " responsive");
	assert_false(hv_unresponsive(r.hv));
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_finish(&r);
}

static void save(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_save(hv, ((struct hv_rig *)arg)->dir, NULL, done, arg);
}

static void count(struct hv_rig *r, const char *to)
{
	hv_console_write(r->hv, "N", 1);
	hv_rig_until_console(r, to);
}

/* A counter in the guest's memory goes on where it was when it was saved, there and in a new QEMU. */
static void saved_and_restored(const char *machine, bool jailed)
{
	struct hv_rig r, copy;

	init(&r, machine);
	r.spec.jail = jailed ? jail : NULL;
	r.spec.sandbox = true;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	count(&r, "NANO-COUNT 0001");
	/* Not while it runs. */
	assert_int_equal(hv_rig_op(&r, save), -EBUSY);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_rig_op(&r, save), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	/* The file is there: it is not written over. */
	assert_int_equal(hv_rig_op(&r, save), -EEXIST);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	count(&r, "NANO-COUNT 0002");
	count(&r, "NANO-COUNT 0003");

	init(&copy, machine);
	copy.spec.restore_dir = r.dir;
	copy.spec.sandbox = true;
	hv_rig_up(&copy);
	assert_int_equal(hv_status(copy.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&copy, hv_resume), 0);
	count(&copy, "NANO-COUNT 0002");
	assert_null(strstr(buf_str(&copy.console), "NANO-READY"));
	hv_rig_finish(&copy);
	hv_rig_finish(&r);
}

static void test_save(void **state)
{
	saved_and_restored("q35", false);
	saved_and_restored("pc", true);
	saved_and_restored("microvm", false);
}

/*
 * Two begin with the memory of one: it is in a file that stays as it is, and what each of them saves
 * is whole again.
 */
static void clones_of_memory(const char *machine)
{
	struct hv_rig r, one, two, again;
	char *ram;
	struct stat st;

	init(&r, machine);
	ram = path_join(r.dir, "ram");
	r.spec.memory_file = ram;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	assert_int_equal(hv_can(r.hv, HV_CAP_MEMORY_CLONE, NULL), 0);
	count(&r, "NANO-COUNT 0001");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_rig_op(&r, save), 0);
	assert_int_equal(stat(ram, &st), 0);
	assert_int_equal(st.st_size, (off_t)r.spec.memory_mib << 20);

	init(&one, machine);
	one.spec.restore_dir = r.dir;
	one.spec.memory_file = ram;
	one.spec.memory_private = true;
	init(&two, machine);
	two.spec = one.spec;
	two.spec.run_dir = two.dir;
	hv_rig_up(&one);
	assert_int_equal(hv_rig_op(&one, hv_resume), 0);
	count(&one, "NANO-COUNT 0002");
	count(&one, "NANO-COUNT 0003");
	hv_rig_up(&two);
	assert_int_equal(hv_rig_op(&two, hv_resume), 0);
	count(&two, "NANO-COUNT 0002");

	assert_int_equal(hv_rig_op(&one, hv_pause), 0);
	assert_int_equal(hv_rig_op(&one, save), 0);
	init(&again, machine);
	again.spec.restore_dir = one.dir;
	hv_rig_up(&again);
	assert_int_equal(hv_rig_op(&again, hv_resume), 0);
	count(&again, "NANO-COUNT 0004");
	hv_rig_finish(&again);
	hv_rig_finish(&two);
	hv_rig_finish(&one);
	hv_rig_finish(&r);
	free(ram);
}

static void test_memory_clones(void **state)
{
	clones_of_memory("q35");
	clones_of_memory("microvm");
}

/* A file that is no guest, or another one's: the start fails with QEMU's own words. */
static void test_restore_bad(void **state)
{
	struct hv_rig r;
	char *path;

	init(&r, "q35");
	path = path_join(r.dir, "memory");
	assert_int_equal(file_write_atomic(path, "no guest", 8, 0600, false, NULL), 0);
	r.spec.restore_dir = r.dir;
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_true(r.err.code < 0);
	if (strstr(r.err.msg, "Not a migration stream") == NULL)
		fail_msg("%s", r.err.msg);
	hv_rig_finish(&r);
	free(path);

	init(&r, "q35");
	r.spec.restore_dir = "/nonexistent";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_int_equal(r.err.code, -ENOENT);
	hv_rig_finish(&r);
}

/* Whatever a save has come to: cancelled, its process killed, its owner gone. */
static void test_save_ends(void **state)
{
	struct hv_rig r;

	up(&r, "q35");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_op_start(&r, save);
	hv_job_cancel(r.hv);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, -ECANCELED);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	hv_rig_finish(&r);

	up(&r, "q35");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_op_start(&r, save);
	kill(r.process.pid, SIGKILL);
	rig_run_until(r.loop, &r.op_done);
	assert_true(r.err.code < 0);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);

	up(&r, "q35");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_op_start(&r, save);
	hv_rig_finish(&r);
	assert_false(r.op_done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_q35),
		cmocka_unit_test(test_pc),
		cmocka_unit_test(test_microvm),
		cmocka_unit_test(test_powerdown),
		cmocka_unit_test(test_guest_poweroff),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_agent_port),
		cmocka_unit_test(test_guest_reboot),
		cmocka_unit_test(test_reboot_is_exit),
		cmocka_unit_test(test_start_paused),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_sigterm),
		cmocka_unit_test(test_foreign_commands),
		cmocka_unit_test(test_refused_argument),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_adopt_jailed),
		cmocka_unit_test(test_sigstop),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_memory_clones),
		cmocka_unit_test(test_restore_bad),
		cmocka_unit_test(test_save_ends),
	};

	return cmocka_run_group_tests_name("hv on real QEMU", tests, setup, teardown);
}

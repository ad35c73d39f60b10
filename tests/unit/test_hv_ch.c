/* A machine on a cloud-hypervisor that misbehaves (tests/fakes/fake-ch.c), beyond test_hv_contract. */
#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"

static char *fake, *kernel;
static const char *script_args[3] = { "--fake" };

static int setup(void **state)
{
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	fake = hv_rig_program("fakes/fake-ch");
	kernel = hv_rig_program("nano64.elf");
	return 0;
}

static int teardown(void **state)
{
	free(fake);
	free(kernel);
	return 0;
}

static void init(struct hv_rig *r, const char *script)
{
	hv_rig_init(r, fake);
	r->backend = &hv_cloud_hypervisor;
	r->spec.kernel = kernel;
	r->spec.cmdline = "";
	r->spec.memory_mib = 64;
	r->spec.vcpus_max = 4;
	r->spec.memory_max_mib = 256;
	script_args[1] = script;
	r->spec.extra_args = script_args;
}

static void up(struct hv_rig *r, const char *script)
{
	init(r, script);
	hv_rig_up(r);
	hv_rig_until_console(r, "FAKE-READY");
}

static void do_fake(struct hv_rig *r, const char *script)
{
	char *cmd = str_printf(
		"{\"method\":\"PUT\",\"path\":\"/x-fake\",\"body\":{\"script\":\"%s\"}}", script);

	hv_rig_execute(r, cmd, 0);
	if (r->err.code != 0)
		fail_msg("x-fake: %s", r->err.msg);
	free(cmd);
}

static void assert_message(const struct hv_rig *r, const char *part)
{
	if (strstr(r->err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", r->err.msg, part);
}

static void get_info(struct hv_rig *r)
{
	hv_rig_execute(r, "{\"method\":\"GET\",\"path\":\"/vm.info\"}", 0);
	assert_int_equal(r->err.code, 0);
}

/* ---- starts that go wrong ---- */

static void start_fails(const char *script, const char *words)
{
	struct hv_rig r;

	init(&r, script);
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_int_not_equal(r.err.code, 0);
	assert_message(&r, words);
	if (r.spawned)
		hv_rig_until_exit(&r);
	hv_rig_finish(&r);
}

static void starts(void **state)
{
	struct hv_rig r;

	start_fails("error vm.create 500 [\"Error from API\",\"no such thing\"]",
		"vm.create: Error from API: no such thing (HTTP status 500)");
	start_fails("error vm.boot 500 [\"The VM could not boot\"]",
		"vm.boot: The VM could not boot (HTTP status 500)");
	start_fails("say cannot go on;exit vm.boot 7", "exited with status 7: cannot go on");
	start_fails("kill vmm.ping 11", "was killed by SIGSEGV");
	start_fails("close vm.create", "vm.create");
	start_fails("garbage vm.boot", "vm.boot");
	/* Its own deadline. */
	init(&r, "ignore vm.boot");
	r.spec.ready_timeout_ms = 300;
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_int_equal(r.err.code, -ETIMEDOUT);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
	/* Answers in pieces are answers. */
	up(&r, "fragments 3");
	get_info(&r);
	assert_non_null(strstr(r.reply, "\"state\":\"Running\""));
	hv_rig_finish(&r);
}

/* ---- slow ones ---- */

static void late_answer(void **state)
{
	struct hv_rig r;

	up(&r, "late vm.counters 700");
	hv_rig_execute(&r, "{\"method\":\"GET\",\"path\":\"/vm.counters\"}", 100);
	assert_int_equal(r.err.code, -ETIMEDOUT);
	hv_rig_until(&r, "unresponsive:/vm.counters ");
	assert_true(hv_unresponsive(r.hv));
	/* What comes behind it is not answered either, and is told so in its own time. */
	hv_rig_execute(&r, "{\"method\":\"GET\",\"path\":\"/vm.info\"}", 50);
	assert_int_equal(r.err.code, -ETIMEDOUT);
	hv_rig_until(&r, "op unresponsive:/vm.counters op responsive ");
	assert_false(hv_unresponsive(r.hv));
	get_info(&r);
	assert_false(hv_rig_has(&r, "monitor-lost"));
	hv_rig_finish(&r);
}

static void ping(struct hv_rig *r)
{
	hv_rig_execute(r, "{\"method\":\"GET\",\"path\":\"/vmm.ping\"}", 0);
}

static char *folder;

static void save(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_save(hv, folder, NULL, done, arg);
}

static void nothing(void *arg, const json_t *reply, const struct err *err)
{
	*(int *)arg = err != NULL ? err->code : 1;
}

/* A snapshot stalls all other answers, and that is no sign of anything. */
static void long_one(void **state)
{
	int pinged = 0;
	struct hv_rig r;

	up(&r, "late vm.snapshot 1000");
	folder = path_join(r.dir, "snap");
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(hv_rig_op(&r, save), -EBUSY);
	assert_message(&r, "does not stand still");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_op_start(&r, save);
	rig_run_for(r.loop, 50);
	hv_ping(r.hv, 100, nothing, &pinged);
	rig_run_for(r.loop, 200);
	assert_int_equal(pinged, 1);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, 0);
	assert_false(hv_rig_has(&r, "unresponsive"));
	/* Cancelled, it is still waited for: files are being written. */
	do_fake(&r, "late vm.snapshot 300");
	free(folder);
	folder = path_join(r.dir, "snap2");
	assert_int_equal(mkdir(folder, 0700), 0);
	hv_rig_op_start(&r, save);
	hv_job_cancel(r.hv);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, -ECANCELED);
	ping(&r);
	assert_int_equal(r.err.code, 0);
	free(folder);
	hv_rig_finish(&r);
}

/* ---- lost ones ---- */

static void lost_connection(void **state)
{
	struct hv_rig r;

	up(&r, "");
	do_fake(&r, "cut vm.counters");
	hv_rig_execute(&r, "{\"method\":\"GET\",\"path\":\"/vm.counters\"}", 0);
	assert_int_not_equal(r.err.code, 0);
	/* It lives: that is said once, and mends itself. */
	hv_rig_until(&r, "monitor-lost ");
	hv_rig_until(&r, "responsive ");
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	get_info(&r);
	hv_rig_finish(&r);
	/* The answer to the end may be lost: that is none. */
	up(&r, "exit vmm.shutdown+ 0");
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-quit:us"));
	hv_rig_finish(&r);
}

/* ---- events ---- */

static void others_do(void **state)
{
	struct hv_rig r;

	up(&r, "");
	do_fake(&r, "status now Paused;event now vm pausing;event now vm paused");
	hv_rig_until(&r, "status:paused ");
	do_fake(&r, "status now Running;event now vm resumed");
	hv_rig_until(&r, "status:running ");
	do_fake(&r, "event now vm something id x");
	hv_rig_until(&r, "other:vm.something ");
	hv_rig_finish(&r);
}

/* Without events the answers tell. */
static void no_events(void **state)
{
	struct hv_rig r;

	up(&r, "no-events");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_true(hv_rig_has(&r, "status:paused:us op"));
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_true(hv_rig_has(&r, "status:running:us op"));
	hv_rig_finish(&r);
}

static void panics(void **state)
{
	struct hv_rig r;

	init(&r, "");
	r.spec.panic_device = r.spec.panic_is_pause = true;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "FAKE-READY");
	do_fake(&r, "panic now");
	hv_rig_until(&r, "status:panicked:us");
	assert_true(hv_rig_has(&r, "panic:pause: "));
	get_info(&r);
	assert_non_null(strstr(r.reply, "\"Paused\""));
	/* A new daemon sees a guest that stands still. */
	hv_rig_adopt(&r);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	hv_rig_finish(&r);
}

static void whose_end(void **state)
{
	struct hv_rig r;

	up(&r, "");
	assert_int_equal(hv_kill(r.hv, SIGTERM), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-signal:us"));
	hv_rig_finish(&r);
	up(&r, "");
	do_fake(&r, "poweroff now");
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown "));
	hv_rig_finish(&r);
}

/* What happens while nobody looks stays in the FIFO. */
static void missed(void **state)
{
	struct hv_rig r;

	up(&r, "");
	do_fake(&r, "reboot +400;reboot +700");
	buf_clear(&r.diary);
	hv_rig_destroy(&r);
	usleep(1500 * 1000);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	hv_rig_until(&r, "guest-reset");
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	hv_rig_finish(&r);
}

/* ---- devices and sizes ---- */

static struct hv_disk disk;
static struct hv_nic nic;

static void add_disk(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_add_disk(hv, &disk, done, arg);
}

static void add_nic(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_add_nic(hv, &nic, done, arg);
}

static void remove_disk(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_remove_device(hv, "data", done, arg);
}

static void remove_nic(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_remove_device(hv, "more", done, arg);
}

static void grow(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_resize(hv, 3, 128, done, arg);
}

static void grow_too_much(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_resize(hv, 9, 0, done, arg);
}

static void count(struct hv_rig *r, const char *want)
{
	get_info(r);
	if (strstr(r->reply, want) == NULL)
		fail_msg("no %s in %s", want, r->reply);
}

static void devices(void **state)
{
	char *path;
	struct hv_rig r;
	int fds[2];

	up(&r, "");
	path = path_join(r.dir, "data.raw");
	assert_int_equal(file_write_atomic(path, "x", 1, 0600, false, NULL), 0);
	assert_int_equal(truncate(path, 1 << 20), 0);
	disk = (struct hv_disk){ .id = "data", .path = path, .format = HV_DISK_RAW };
	assert_int_equal(hv_rig_op(&r, add_disk), 0);
	count(&r, "\"id\":\"data\"");
	assert_int_equal(hv_rig_op(&r, add_disk), -EEXIST);
	assert_int_equal(hv_rig_op(&r, remove_disk), 0);
	assert_true(hv_rig_has(&r, "device-gone:data "));
	assert_int_equal(hv_rig_op(&r, remove_disk), -ENOENT);
	/* A nic's descriptor goes with the request. */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	nic = (struct hv_nic){ .id = "more", .mac = "52:00:00:00:00:09", .tap_fd = fds[0] };
	assert_int_equal(hv_rig_op(&r, add_nic), 0);
	count(&r, "\"id\":\"more\"");
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(hv_rig_op(&r, add_nic), -EEXIST);
	assert_int_equal(hv_rig_op(&r, remove_nic), 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(hv_rig_op(&r, grow), 0);
	count(&r, "\"boot_vcpus\":3");
	assert_int_not_equal(hv_rig_op(&r, grow_too_much), 0);
	assert_false(hv_rig_has(&r, "unresponsive"));
	free(path);
	hv_rig_finish(&r);
}

/* Nobody is left waiting when it goes. */
static void unplug_and_die(void **state)
{
	struct hv_rig r;
	char *path;

	up(&r, "no-unplug");
	path = path_join(r.dir, "data.raw");
	assert_int_equal(file_write_atomic(path, "x", 1, 0600, false, NULL), 0);
	disk = (struct hv_disk){ .id = "data", .path = path, .format = HV_DISK_RAW };
	assert_int_equal(hv_rig_op(&r, add_disk), 0);
	hv_rig_op_start(&r, remove_disk);
	rig_run_for(r.loop, 200);
	assert_false(r.op_done);
	kill(r.process.pid, SIGKILL);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, -ESRCH);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
	/* Nor told anything by one that is forgotten. */
	up(&r, "no-unplug");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_op_start(&r, remove_disk);
	hv_rig_destroy(&r);
	assert_false(r.op_done);
	hv_rig_finish(&r);
	free(path);
}

/* ---- requests of others ---- */

struct said {
	char *text;
	int code;
	bool done;
};

static void said(void *arg, const char *text, size_t len, const struct err *err)
{
	struct said *s = arg;

	assert_false(s->done);
	s->done = true;
	s->text = text != NULL ? strndup(text, len) : NULL;
	s->code = err != NULL ? err->code : 0;
}

static void check_text(struct hv_rig *r, const char *text, bool write, int code, const char *want)
{
	const struct hv_peer who = { .uid = 7, .pid = 8 };
	struct said s = { 0 };

	hv_execute_text(r->hv, &who, text, strlen(text), write, said, &s);
	assert_false(s.done);
	rig_run_until(r->loop, &s.done);
	assert_int_equal(s.code, code);
	if (want != NULL && strstr(s.text, want) == NULL)
		fail_msg("%s: '%s' lacks '%s'", text, s.text, want);
	free(s.text);
}

static void texts(void **state)
{
	struct said s = { 0 };
	const struct hv_peer who = { .uid = 7, .pid = 8 };
	struct hv_rig r;

	up(&r, "");
	check_text(&r, "GET /vm.info", false, 0, "{\"status\":200,\"return\":{");
	check_text(&r, "PUT /vm.pause", false, -EACCES, NULL);
	check_text(&r, "PUT /vm.pause", true, 0, "{\"status\":204,\"return\":{}}");
	hv_rig_until(&r, "status:paused ");
	check_text(&r, "PUT /vm.pause", true, 0, "{\"status\":500,\"error\":[\"");
	check_text(&r, "GET /nowhere", true, 0, "{\"status\":404,\"error\":");
	check_text(&r, "nonsense", true, -EINVAL, NULL);
	/* The process goes first. */
	do_fake(&r, "ignore vm.nmi");
	hv_execute_text(r.hv, &who, "PUT /vm.nmi", 11, true, said, &s);
	rig_run_for(r.loop, 100);
	assert_false(s.done);
	kill(r.process.pid, SIGKILL);
	rig_run_until(r.loop, &s.done);
	assert_int_not_equal(s.code, 0);
	hv_rig_until_exit(&r);
	check_text(&r, "GET /vm.info", false, -ENOTCONN, NULL);
	hv_rig_finish(&r);
	/* Or somebody lets go of it. */
	up(&r, "ignore vm.nmi");
	s.done = false;
	hv_execute_text(r.hv, &who, "PUT /vm.nmi", 11, true, said, &s);
	rig_run_for(r.loop, 100);
	hv_rig_destroy(&r);
	hv_rig_finish(&r);
}

static void dump(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_dump(hv, folder, NULL, done, arg);
}

static void capabilities(void **state)
{
	struct hv_rig r;

	up(&r, "");
	assert_int_equal(hv_rig_op(&r, dump), -ENOTSUP);
	assert_string_equal(r.err.msg, "cloud-hypervisor v53.0 cannot do dump here: it was built "
				       "without the feature guest_debug");
	hv_rig_finish(&r);
	up(&r, "features guest_debug");
	folder = path_join(r.dir, "core");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_rig_op(&r, dump), 0);
	free(folder);
	hv_rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts),
		cmocka_unit_test(late_answer),
		cmocka_unit_test(long_one),
		cmocka_unit_test(lost_connection),
		cmocka_unit_test(others_do),
		cmocka_unit_test(no_events),
		cmocka_unit_test(panics),
		cmocka_unit_test(whose_end),
		cmocka_unit_test(missed),
		cmocka_unit_test(devices),
		cmocka_unit_test(unplug_and_die),
		cmocka_unit_test(texts),
		cmocka_unit_test(capabilities),
	};

	return cmocka_run_group_tests_name("hv on cloud-hypervisor", tests, setup, teardown);
}

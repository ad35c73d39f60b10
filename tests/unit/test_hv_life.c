/* The life of a machine against a hypervisor that misbehaves (tests/fakes/fake-qemu.c). */
#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"

static char *fake, *jail;
static const char *script_args[3] = { "-fake" };

static int setup(void **state)
{
	fake = hv_rig_program("fakes/fake-qemu");
	jail = hv_rig_program("drover-jail");
	return 0;
}

static int teardown(void **state)
{
	free(fake);
	free(jail);
	return 0;
}

static void init(struct hv_rig *r, const char *script, bool jailed)
{
	hv_rig_init(r, fake);
	script_args[1] = script;
	r->spec.extra_args = script_args;
	r->spec.jail = jailed ? jail : NULL;
}

static void up(struct hv_rig *r, const char *script, bool jailed)
{
	init(r, script, jailed);
	hv_rig_up(r);
	hv_rig_until_console(r, "FAKE-READY");
}

static void do_fake(struct hv_rig *r, const char *script)
{
	char *cmd = str_printf(
		"{\"execute\":\"x-fake\",\"arguments\":{\"script\":\"%s\"}}", script);

	hv_rig_execute(r, cmd, 0);
	free(cmd);
}

static void assert_message(const struct hv_rig *r, const char *part)
{
	if (strstr(r->err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", r->err.msg, part);
}

static void assert_exit(const struct hv_rig *r, bool signaled, int code)
{
	assert_true(r->exited);
	assert_true(r->status.known);
	assert_int_equal(r->status.signaled, signaled);
	assert_int_equal(r->status.code, code);
}

static void plain_run(bool jailed)
{
	struct hv_rig r;

	up(&r, "", jailed);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_string_equal(hv_caps(r.hv)->program, "QEMU 7.2.9");
	assert_int_equal(r.process.jail_pid != 0, jailed);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	assert_string_equal(buf_str(&r.diary),
		"spawned done status:paused:us op status:running:us op op "
		"host-quit:host-qmp-quit:us exited ");
	assert_exit(&r, false, 0);
	hv_rig_finish(&r);
}

static void test_plain(void **state)
{
	plain_run(false);
	plain_run(true);
}

/* It ends before it has answered: at each step, by itself and by a signal. */
static void test_early_exit(void **state)
{
	static const char *const steps[] = { "start", "connect", "greeting", "qmp_capabilities",
		"capabilities", "query-status" };

	for (size_t i = 0; i < 2 * ARRAY_LEN(steps); i++) {
		bool jailed = i % 2 == 1;
		const char *step = steps[i / 2];
		char *script = str_printf("say cannot open /x: no such disk; exit %s 3", step);
		struct hv_rig r;

		init(&r, script, jailed);
		hv_rig_start(&r);
		hv_rig_until_exit(&r);
		assert_string_equal(buf_str(&r.diary), "spawned done:-5 exited ");
		assert_message(&r, "exited with status 3: cannot open /x: no such disk");
		assert_exit(&r, false, 3);
		hv_rig_finish(&r);
		free(script);

		script = str_printf("kill %s", step);
		init(&r, script, jailed);
		hv_rig_start(&r);
		hv_rig_until_exit(&r);
		assert_string_equal(buf_str(&r.diary), "spawned done:-5 exited ");
		assert_message(&r, "was killed by SIGKILL");
		assert_exit(&r, true, SIGKILL);
		hv_rig_finish(&r);
		free(script);
	}
}

/* Only the words of this run, the last three lines of them. */
static void test_last_words(void **state)
{
	struct hv_rig r;

	init(&r, "say one; say two; say three; say four; exit start 1", false);
	assert_int_equal(file_write_atomic(r.log_path, "old words\n", 10, 0600, false, NULL), 0);
	hv_rig_start(&r);
	hv_rig_until_exit(&r);
	assert_message(&r, "status 1: two; three; four");
	hv_rig_finish(&r);
}

static void test_no_program(void **state)
{
	struct hv_rig r;

	init(&r, "", false);
	r.spec.binary = "/nonexistent/qemu";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_string_equal(buf_str(&r.diary), "done:-2 ");
	assert_message(&r, "/nonexistent/qemu");
	hv_rig_finish(&r);

	init(&r, "", true);
	r.spec.binary = "/nonexistent/qemu";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	rig_run_for(r.loop, 50);
	assert_string_equal(buf_str(&r.diary), "done:-5 ");
	assert_message(&r, "cannot execute /nonexistent/qemu: No such file or directory");
	hv_rig_finish(&r);

	init(&r, "", true);
	r.spec.jail = "/bin/false";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_string_equal(buf_str(&r.diary), "done:-5 ");
	assert_message(&r, "drover-jail exited with status 1");
	/* Each of the three was reaped. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	hv_rig_finish(&r);
}

/* A path that does not fit a socket's address is refused by name. */
static void test_long_path(void **state)
{
	struct hv_rig r;
	char *dir;

	init(&r, "", false);
	dir = str_printf("%s/%0100d", r.dir, 1);
	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	r.spec.run_dir = dir;
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_string_equal(buf_str(&r.diary), "done:-36 ");
	assert_message(&r, "mon.sock");
	free(dir);
	hv_rig_finish(&r);
}

/* The monitor fails, the process does not: it is made to end. */
static void test_monitor_fails(void **state)
{
	static const struct {
		const char *script, *message;
	} rows[] = {
		{ "close greeting; stop greeting", "the connection was closed" },
		{ "garbage connect", "garbage: '%!garbage" },
		{ "send connect {\"hello\": 1}", "no greeting" },
		{ "error qmp_capabilities not today", "not today" },
		{ "error query-status bad day", "bad day" },
		{ "late qmp_capabilities 60000", "did not answer in time" },
		{ "stop start", "did not answer in time" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hv_rig r;

		init(&r, rows[i].script, i % 2 == 1);
		if (strstr(rows[i].message, "in time") != NULL)
			r.spec.ready_timeout_ms = 200;
		hv_rig_start(&r);
		hv_rig_until_exit(&r);
		assert_int_equal(strncmp(buf_str(&r.diary), "spawned done:-", 14), 0);
		assert_message(&r, rows[i].message);
		assert_exit(&r, true, SIGKILL);
		hv_rig_finish(&r);
	}
}

static void test_cancel(void **state)
{
	for (int i = 0; i < 4; i++) {
		bool jailed = i % 2 == 1;
		struct hv_rig r;

		/* At once, and when it is spawned but has not answered. */
		init(&r, "late qmp_capabilities 60000", jailed);
		hv_rig_start(&r);
		if (i >= 2)
			rig_run_until(r.loop, &r.spawned);
		hv_start_cancel(r.hv);
		hv_start_cancel(r.hv);
		assert_false(r.done);
		hv_rig_until_exit(&r);
		assert_string_equal(buf_str(&r.diary), "spawned done:-125 exited ");
		assert_int_equal(proc_starttime(r.process.pid), 0);
		hv_rig_finish(&r);
	}
	/* What has started is not cancelled; what could not start either. */
	struct hv_rig r;

	up(&r, "", false);
	hv_start_cancel(r.hv);
	rig_run_for(r.loop, 50);
	assert_string_equal(buf_str(&r.diary), "spawned done ");
	hv_rig_finish(&r);
	init(&r, "", true);
	r.spec.binary = "/nonexistent/qemu";
	hv_rig_start(&r);
	hv_start_cancel(r.hv);
	rig_run_until(r.loop, &r.done);
	rig_run_for(r.loop, 50);
	assert_string_equal(buf_str(&r.diary), "done:-125 ");
	hv_rig_finish(&r);
}

static void test_start_paused(void **state)
{
	struct hv_rig r;

	init(&r, "", false);
	r.spec.start_paused = true;
	hv_rig_up(&r);
	assert_int_equal(hv_status(r.hv), HV_STATUS_CREATED);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	hv_rig_until_console(&r, "FAKE-READY");
	hv_rig_finish(&r);
}

static void test_guest_events(void **state)
{
	struct hv_rig r;

	up(&r, "", false);
	do_fake(&r, "panic now");
	hv_rig_until(&r, "panic:pause: hyper-v status:panicked ");
	assert_int_equal(hv_status(r.hv), HV_STATUS_PANICKED);
	hv_rig_finish(&r);

	up(&r, "", false);
	do_fake(&r,
		"status now io-error; event now BLOCK_IO_ERROR {\\\"node-name\\\":\\\"disk0\\\","
		"\\\"nospace\\\":true,\\\"reason\\\":\\\"No space left on device\\\"};"
		"event now STOP");
	hv_rig_until(&r, "io-error:disk0: No space left on device:nospace status:io-error ");
	do_fake(&r, "event now WATCHDOG {\\\"action\\\":\\\"reset\\\"}");
	hv_rig_until(&r, "watchdog:reset");
	do_fake(&r,
		"event now DEVICE_DELETED {\\\"device\\\":\\\"nic1\\\",\\\"path\\\":\\\"/m\\\"}");
	hv_rig_until(&r, "device-gone:nic1");
	do_fake(&r, "event now NIC_RX_FILTER_CHANGED");
	hv_rig_until(&r, "other:NIC_RX_FILTER_CHANGED");
	do_fake(&r, "reboot now");
	hv_rig_until(&r, "guest-reset:guest-reset");
	do_fake(&r, "poweroff now");
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown exited"));
	assert_non_null(strstr(buf_str(&r.console), "FAKE-BYE"));
	hv_rig_finish(&r);
}

/* An error of the disk has stopped it before we did, and the STOP looks like ours. */
static void test_pause_too_late(void **state)
{
	struct hv_rig r;

	up(&r, "event stop STOP; status stop io-error", false);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_until(&r, "status:io-error ");
	assert_int_equal(hv_status(r.hv), HV_STATUS_IO_ERROR);
	hv_rig_finish(&r);
}

static void save(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_save(hv, ((struct hv_rig *)arg)->dir, NULL, done, arg);
}

/* Whichever of the commands before it is refused: nothing is written, and it can be tried again. */
static void test_save_refused(void **state)
{
	static const char *const commands[] = { "migrate-set-capabilities",
		"migrate-set-parameters", "getfd" };

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		char *script = str_printf("error %s no; kill migrate", commands[i]);
		struct hv_rig r;

		up(&r, script, false);
		assert_int_equal(hv_rig_op(&r, hv_pause), 0);
		for (int n = 0; n < 2; n++) {
			char *file = path_join(r.dir, "memory");

			assert_int_equal(hv_rig_op(&r, save), -EIO);
			assert_message(&r, commands[i]);
			assert_int_equal(unlink(file), 0);
			free(file);
		}
		assert_int_equal(hv_rig_op(&r, hv_resume), 0);
		assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
		hv_rig_finish(&r);
		free(script);
	}
}

/* Several bytes at a time, with pauses: the same life. */
static void test_fragments(void **state)
{
	struct hv_rig r;

	up(&r, "fragments 7 1", false);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	hv_rig_finish(&r);
}

static void test_late_answer(void **state)
{
	struct hv_rig r;

	up(&r, "late query-name 400", false);
	hv_rig_execute(&r, "{\"execute\":\"query-name\"}", 50);
	assert_int_equal(r.err.code, -ETIMEDOUT);
	hv_rig_until(&r, "unresponsive:query-name");
	assert_true(hv_unresponsive(r.hv));
	/* The late reply is nobody's, but it tells that the monitor is back. */
	hv_rig_until(&r, " responsive");
	assert_false(hv_unresponsive(r.hv));
	assert_int_equal(r.ops, 1);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_finish(&r);
}

static void test_monitor_lost(void **state)
{
	struct hv_rig r;

	up(&r, "", false);
	do_fake(&r, "close x-fake+");
	do_fake(&r, "");
	/* The process lives: it is lost, not gone, and found again. */
	hv_rig_until(&r, "monitor-lost ");
	hv_rig_until(&r, "monitor-lost responsive status:running ");
	assert_false(hv_unresponsive(r.hv));
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	do_fake(&r, "garbage now");
	hv_rig_until(&r, "op monitor-lost responsive status:paused ");
	hv_rig_finish(&r);
}

/* A reply to quit may never come; and the end of the sockets is not the end of the process. */
static void test_quit(void **state)
{
	struct hv_rig r;

	up(&r, "ignore quit", false);
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	rig_run_for(r.loop, 50);
	assert_false(r.exited);
	assert_int_equal(hv_kill(r.hv, SIGTERM), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-signal:us exited"));
	hv_rig_finish(&r);

	up(&r, "linger 600", false);
	hv_rig_op_start(&r, hv_quit);
	hv_rig_until(&r, "host-quit:host-qmp-quit:us monitor-lost:us");
	assert_false(r.exited);
	hv_rig_until_exit(&r);
	assert_exit(&r, false, 0);
	hv_rig_finish(&r);
}

static void test_ops_of_the_dead(void **state)
{
	struct hv_rig r;

	up(&r, "ignore stop", false);
	hv_rig_op_start(&r, hv_pause);
	hv_kill(r.hv, SIGKILL);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "op exited"));
	assert_int_equal(r.err.code, -ECONNRESET);
	assert_int_equal(hv_rig_op(&r, hv_pause), -ESRCH);
	assert_int_equal(hv_console_write(r.hv, "x", 1), -ENOTCONN);
	assert_int_equal(hv_kill(r.hv, SIGTERM), -ESRCH);
	hv_rig_finish(&r);
}

static void test_console(void **state)
{
	size_t taken = 0;
	struct hv_rig r;
	char block[1000];
	int rc;

	up(&r, "", false);
	assert_int_equal(hv_console_write(r.hv, "hello", 5), 0);
	hv_rig_until_console(&r, "hello");
	/* Nobody reads while it is stopped: the queue is bounded, nothing is cut. */
	kill(r.process.pid, SIGSTOP);
	memset(block, 'x', sizeof(block));
	while ((rc = hv_console_write(r.hv, block, sizeof(block))) == 0 && taken < (8u << 20))
		taken += sizeof(block);
	assert_int_equal(rc, -EAGAIN);
	assert_true(taken >= 64u << 10);
	buf_clear(&r.console);
	kill(r.process.pid, SIGCONT);
	for (int i = 0; i < 1000 && r.console.len < taken; i++)
		rig_run_for(r.loop, 10);
	assert_int_equal(r.console.len, taken);
	assert_int_equal(hv_console_write(r.hv, "end", 3), 0);
	hv_rig_until_console(&r, "end");
	hv_rig_finish(&r);
}

static void test_destroy_in_callback(void **state)
{
	static const char *const words[] = { "spawned", "done", "status:paused:us", "op",
		"host-quit:host-qmp-quit:us", "exited" };

	for (size_t i = 0; i < 2 * ARRAY_LEN(words); i++) {
		struct hv_rig r;

		init(&r, "", i % 2 == 1);
		r.destroy_at = words[i / 2];
		hv_rig_start(&r);
		if (i / 2 >= 2) {
			rig_run_until(r.loop, &r.done);
			hv_rig_op_start(&r, hv_pause);
			rig_run_until(r.loop, i / 2 < 4 ? &r.closed : &r.op_done);
		}
		if (i / 2 >= 4)
			hv_rig_op_start(&r, hv_quit);
		rig_run_until(r.loop, &r.closed);
		if (i / 2 >= 4 && i / 2 < 5)
			assert_false(r.exited);
		hv_rig_finish(&r);
	}
}

/* Adoption */

static void adopt(bool jailed)
{
	struct hv_rig r;

	up(&r, "", jailed);
	hv_rig_op(&r, hv_pause);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_string_equal(hv_accel_text(r.hv), "tcg");
	assert_int_equal(hv_process(r.hv)->pid, r.process.pid);
	/* And once more, as each daemon does. */
	hv_rig_adopt(&r);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	hv_console_write(r.hv, "again", 5);
	hv_rig_until_console(&r, "again");
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "host-quit:host-qmp-quit:us exited"));
	assert_exit(&r, false, 0);
	hv_rig_finish(&r);
}

static void test_adopt(void **state)
{
	adopt(false);
	adopt(true);
}

static void test_adopt_gone(void **state)
{
	struct hv_rig r;

	/* It died while nobody watched: the jail knows how. */
	up(&r, "kill +300 9", true);
	hv_rig_destroy(&r);
	while (proc_starttime(r.process.jail_pid) != 0)
		rig_run_for(r.loop, 10);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, -ESRCH);
	assert_true(r.status.known && r.status.signaled);
	assert_int_equal(r.status.code, SIGKILL);
	rig_run_for(r.loop, 20);
	assert_false(r.exited);
	/* The file is not taken for another process's. */
	r.process.starttime++;
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, -ESRCH);
	assert_false(r.status.known);
	hv_rig_finish(&r);

	/* Our own pid is alive, but not since then. */
	init(&r, "", false);
	r.process = (struct hv_process){ .pid = getpid(), .starttime = 1 };
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, -ESRCH);
	assert_false(r.status.known);
	hv_rig_finish(&r);
}

/* A stopped hypervisor is adopted as it is: slow, not dead. */
static void test_adopt_silent(void **state)
{
	struct hv_rig r;

	up(&r, "", false);
	kill(r.process.pid, SIGSTOP);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_UNKNOWN);
	hv_rig_until(&r, "done unresponsive");
	assert_true(hv_unresponsive(r.hv));
	kill(r.process.pid, SIGCONT);
	hv_rig_until(&r, " responsive status:running");
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_finish(&r);
}

static void test_adopt_no_monitor(void **state)
{
	struct hv_rig r;
	char *sock;

	up(&r, "", false);
	sock = path_join(r.dir, "mon.sock");
	unlink(sock);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	hv_rig_until(&r, "done monitor-lost");
	assert_int_equal(hv_status(r.hv), HV_STATUS_UNKNOWN);
	assert_int_equal(hv_rig_op(&r, hv_pause), -EHOSTUNREACH);
	hv_kill(r.hv, SIGKILL);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
	free(sock);
}

/* The jail is killed: the machine lives on, only the cause of its end will not be known. */
static void test_jail_killed(void **state)
{
	struct hv_rig r;

	up(&r, "", true);
	kill(r.process.jail_pid, SIGKILL);
	rig_run_for(r.loop, 50);
	assert_false(r.exited);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	hv_kill(r.hv, SIGKILL);
	hv_rig_until_exit(&r);
	assert_false(r.status.known);
	hv_rig_finish(&r);
}

/* Two machines cannot have one disk; the second says so. */
/* ---- the guest agent ---- */

struct answer {
	struct hv_rig *r;
	bool come;
	int code;
};

static void agent_answered(void *arg, const json_t *reply, const struct err *err)
{
	struct answer *a = arg;

	assert_false(a->come);
	assert_true((reply != NULL) == (err == NULL));
	a->come = true;
	a->code = err != NULL ? err->code : 0;
	uv_stop(a->r->loop);
}

static int ask_agent(struct hv_rig *r, const char *command, uint64_t timeout_ms)
{
	json_t *cmd = json_pack("{s:s}", "execute", command);
	struct answer a = { .r = r };

	hv_agent(r->hv, cmd, timeout_ms, agent_answered, &a);
	json_decref(cmd);
	assert_false(a.come);
	rig_run_until(r->loop, &a.come);
	return a.code;
}

static void test_agent(void **state)
{
	struct answer a;
	struct hv_rig r;
	json_t *cmd;

	init(&r, "", true);
	r.spec.agent = true;
	hv_rig_up(&r);
	assert_true(hv_caps(r.hv)->agent);
	assert_int_equal(ask_agent(&r, "guest-ping", 0), 0);
	assert_int_equal(ask_agent(&r, "guest-nonsense", 0), -ENOTSUP);
	/* A new daemon takes the port up too. */
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_true(hv_caps(r.hv)->agent);
	assert_int_equal(ask_agent(&r, "guest-ping", 0), 0);
	/* One that was forgotten, one that is under way at the end. */
	cmd = json_pack("{s:s}", "execute", "guest-ping");
	a = (struct answer){ .r = &r };
	hv_agent(r.hv, cmd, 0, agent_answered, &a);
	hv_agent_forget(r.hv, &a);
	json_decref(cmd);
	assert_int_equal(ask_agent(&r, "guest-ping", 0), 0);
	assert_false(a.come);
	/* It has no answer, and what follows is our doing. */
	assert_int_equal(ask_agent(&r, "guest-shutdown", 0), -ECONNRESET);
	hv_rig_until_exit(&r);
	assert_true(hv_rig_has(&r, "guest-shutdown:guest-shutdown:us"));
	/* Nobody is left to be asked. */
	assert_true(ask_agent(&r, "guest-ping", 0) < 0);
	hv_rig_finish(&r);
}

static void test_agent_silent(void **state)
{
	struct hv_rig r;

	init(&r, "no-agent", false);
	r.spec.agent = true;
	hv_rig_up(&r);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask_agent(&r, "guest-ping", 20), -ETIMEDOUT);
	hv_rig_finish(&r);

	up(&r, "", false);
	assert_false(hv_caps(r.hv)->agent);
	assert_int_equal(ask_agent(&r, "guest-ping", 0), -ENOENT);
	hv_rig_finish(&r);
}

static void test_ping(void **state)
{
	struct answer a;
	struct hv_rig r;

	up(&r, "", false);
	a = (struct answer){ .r = &r };
	hv_ping(r.hv, 0, agent_answered, &a);
	rig_run_until(r.loop, &a.come);
	assert_int_equal(a.code, 0);
	assert_int_equal(kill(r.process.pid, SIGSTOP), 0);
	a = (struct answer){ .r = &r };
	hv_ping(r.hv, 50, agent_answered, &a);
	rig_run_until(r.loop, &a.come);
	assert_int_equal(a.code, -ETIMEDOUT);
	assert_true(hv_unresponsive(r.hv));
	assert_int_equal(kill(r.process.pid, SIGCONT), 0);
	hv_rig_until(&r, "responsive ");
	hv_rig_finish(&r);
}

static void test_disk_lock(void **state)
{
	struct hv_disk disk = { .format = HV_DISK_RAW };
	struct hv_rig a, b;

	init(&a, "", false);
	disk.path = path_join(a.dir, "a,b.raw");
	assert_int_equal(file_write_atomic(disk.path, "x", 1, 0600, false, NULL), 0);
	a.spec.disks = &disk;
	a.spec.ndisks = 1;
	hv_rig_up(&a);
	init(&b, "", false);
	b.spec.disks = &disk;
	b.spec.ndisks = 1;
	hv_rig_start(&b);
	hv_rig_until_exit(&b);
	assert_message(&b, "Failed to get \"write\" lock");
	hv_rig_finish(&b);
	hv_rig_finish(&a);
	free((char *)disk.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_early_exit),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_no_program),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_monitor_fails),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_start_paused),
		cmocka_unit_test(test_guest_events),
		cmocka_unit_test(test_pause_too_late),
		cmocka_unit_test(test_save_refused),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_late_answer),
		cmocka_unit_test(test_monitor_lost),
		cmocka_unit_test(test_quit),
		cmocka_unit_test(test_ops_of_the_dead),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_destroy_in_callback),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_adopt_gone),
		cmocka_unit_test(test_adopt_silent),
		cmocka_unit_test(test_adopt_no_monitor),
		cmocka_unit_test(test_jail_killed),
		cmocka_unit_test(test_agent),
		cmocka_unit_test(test_agent_silent),
		cmocka_unit_test(test_ping),
		cmocka_unit_test(test_disk_lock),
	};

	return cmocka_run_group_tests_name("life of a machine", tests, setup, teardown);
}

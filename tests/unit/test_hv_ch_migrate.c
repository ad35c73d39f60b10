/*
 * Migration from one cloud-hypervisor to another, both of them fakes that speak the real one's
 * protocol: at no time may the guest run in both.
 */
#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/child.h"
#include "lib/file.h"

static char *fake, *kernel;
static const char *real; /* NULL: none */

/* Sender and receiver, each on a loop of its own. */
struct pair {
	struct hv_rig out, in;
	const char *out_args[3], *in_args[3];
	char *out_script, *in_script, *dir, *witness;
	int fds[2];
	struct hv_migration to, from;
	bool moved;
};

static struct pair *current; /* the operations of a rig have no argument of their own */

static const char *sender_cgroup; /* NULL: none */

static int setup(void **state)
{
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	fake = hv_rig_program("fakes/fake-ch");
	real = getenv("DROVER_CLOUD_HYPERVISOR");
	real = real != NULL && *real != '\0' ? real : NULL;
	kernel = hv_rig_program("nano64.elf");
	return 0;
}

static int teardown(void **state)
{
	free(fake);
	free(kernel);
	return 0;
}

static void init(struct hv_rig *r, const char **args, const char *script)
{
	hv_rig_init(r, script != NULL ? fake : real);
	r->backend = &hv_cloud_hypervisor;
	r->spec.kernel = kernel;
	r->spec.cmdline = "";
	r->spec.memory_mib = 64;
	args[0] = "--fake";
	args[1] = script;
	args[2] = NULL;
	r->spec.extra_args = script != NULL ? args : NULL;
}

static void receiver(struct pair *p, const char *in)
{
	free(p->in_script);
	p->in_script = in != NULL ? str_printf("witness %s;%s", p->witness, in) : NULL;
	init(&p->in, p->in_args, p->in_script);
	p->in.spec.incoming = true;
	hv_rig_up(&p->in);
	assert_int_equal(hv_status(p->in.hv), HV_STATUS_INCOMING);
}

static void connect_them(struct pair *p)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds), 0);
	p->to = (struct hv_migration){ .fd = p->fds[0] };
	p->from = (struct hv_migration){ .fd = p->fds[1] };
}

/* The guest has counted to one. Without scripts they are the real one. */
static void pair_up(struct pair *p, const char *out, const char *in)
{
	*p = (struct pair){ 0 };
	current = p;
	p->dir = rig_tmp();
	p->witness = str_printf("%s/witness", p->dir);
	p->out_script = out != NULL ? str_printf("witness %s;%s", p->witness, out) : NULL;
	init(&p->out, p->out_args, p->out_script);
	p->out.spec.cgroup = sender_cgroup;
	hv_rig_up(&p->out);
	if (out != NULL) {
		hv_rig_until_console(&p->out, "FAKE-READY");
		hv_console_write(p->out.hv, "a", 1);
		hv_rig_until_console(&p->out, "a");
	}
	connect_them(p);
	receiver(p, in);
}

static void let_go_of_fds(struct pair *p)
{
	for (size_t i = 0; i < ARRAY_LEN(p->fds); i++)
		if (p->fds[i] >= 0)
			close(p->fds[i]);
	p->fds[0] = p->fds[1] = -1;
}

static void pair_finish(struct pair *p)
{
	char *both = str_printf("%s.both", p->witness);

	let_go_of_fds(p);
	hv_rig_finish(&p->in);
	hv_rig_finish(&p->out);
	assert_int_not_equal(access(both, F_OK), 0);
	rig_tmp_finish(p->dir);
	free(both);
	free(p->witness);
	free(p->out_script);
	free(p->in_script);
}

static void on_progress(void *arg, const struct hv_progress *progress)
{
	assert_string_equal(progress->step, "memory");
	assert_true(progress->total >= progress->done);
	current->moved = current->moved || progress->done > 0;
}

static void send_it(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_migrate_out(hv, &current->to, on_progress, done, arg);
}

static void receive_it(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_migrate_in(hv, &current->from, done, arg);
}

/* Runs both loops. */
static void pump(const bool *flag)
{
	for (unsigned i = 0; i < 60000 && !*flag; i++) {
		uv_run(current->out.loop, UV_RUN_NOWAIT);
		uv_run(current->in.loop, UV_RUN_NOWAIT);
		usleep(500);
	}
	assert_true(*flag);
}

static void begin(struct pair *p)
{
	hv_rig_op_start(&p->in, receive_it);
	hv_rig_op_start(&p->out, send_it);
	/* The hypervisors have their own. */
	let_go_of_fds(p);
}

/*
 * The guest stands still at the sender, whose process does, too, and waits at the receiver.
 */
static void is_there(struct pair *p)
{
	pump(&p->out.op_done);
	pump(&p->in.op_done);
	if (p->in.err.code != 0 || p->out.err.code != 0)
		fail_msg("%s; %s", p->out.err.msg, p->in.err.msg);
	assert_int_equal(hv_status(p->out.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_status(p->in.hv), HV_STATUS_PAUSED);
	assert_int_equal(proc_state(p->out.process.pid), 'T');
	assert_true(ch_all_stopped(p->out.process.pid));
	assert_false(ch_all_stopped(p->in.process.pid));
}

static void go_over(struct pair *p)
{
	begin(p);
	is_there(p);
}

static void assert_message(const struct hv_rig *r, const char *part)
{
	if (strstr(r->err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", r->err.msg, part);
}

/* It has its memory. */
static void counts_to(struct hv_rig *r, const char *expected)
{
	assert_int_equal(hv_status(r->hv), HV_STATUS_RUNNING);
	buf_clear(&r->console);
	assert_int_equal(hv_console_write(r->hv, "c", 1), 0);
	hv_rig_until_console(r, expected);
}

static void counts(struct hv_rig *r)
{
	counts_to(r, "COUNTER 2\r\n");
}

static void moves(const char *out, const char *in)
{
	struct pair p;

	pair_up(&p, out, in);
	go_over(&p);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	counts(&p.in);
	assert_true(p.moved);
	/* It was not booted there. */
	assert_null(strstr(buf_str(&p.in.console), "FAKE-READY"));
	assert_int_equal(hv_rig_op(&p.out, hv_quit), 0);
	hv_rig_until_exit(&p.out);
	assert_false(hv_rig_has(&p.out, "guest-shutdown"));
	/* It is one like any other there. */
	assert_int_equal(hv_rig_op(&p.in, hv_pause), 0);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	pair_finish(&p);
}

static void test_moves(void **state)
{
	moves("", "");
	moves("memory 3000000;migration 50", "memory 3000000");
	/* The sender does nothing else meanwhile, the receiver removes its socket. */
	moves("version v51.2", "version v51.2");
	moves("version v50.0;migration 50", "version v50.0");
}

static void test_taken_back(void **state)
{
	static const char *const versions[] = { "", "version v51.2" };

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct pair p;

		pair_up(&p, versions[i], versions[i]);
		go_over(&p);
		kill(p.in.process.pid, SIGKILL);
		hv_rig_until_exit(&p.in);
		/* Neither the end of the stream nor anything else but our word. */
		rig_run_for(p.out.loop, 100);
		assert_true(ch_all_stopped(p.out.process.pid));
		assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
		counts(&p.out);
		assert_int_equal(hv_rig_op(&p.out, hv_pause), 0);
		assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
		pair_finish(&p);
	}
}

/* Another daemon finds it standing still. */
static void test_sender_adopted(void **state)
{
	struct pair p;
	char *mark;

	pair_up(&p, "", "");
	mark = path_join(p.out.dir, "ch.frozen");
	go_over(&p);
	hv_rig_adopt(&p.out);
	assert_int_equal(hv_status(p.out.hv), HV_STATUS_PAUSED);
	assert_false(hv_unresponsive(p.out.hv));
	assert_true(ch_all_stopped(p.out.process.pid));
	assert_int_equal(access(mark, F_OK), 0);
	kill(p.in.process.pid, SIGKILL);
	hv_rig_until_exit(&p.in);
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	counts(&p.out);
	assert_int_not_equal(access(mark, F_OK), 0);
	pair_finish(&p);
	/* Or it is over for it. */
	pair_up(&p, "", "");
	go_over(&p);
	hv_rig_adopt(&p.out);
	assert_int_equal(hv_rig_op(&p.out, hv_quit), 0);
	hv_rig_until_exit(&p.out);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	counts(&p.in);
	pair_finish(&p);
	free(mark);
}

/* A cgroup (v2) of the test's own; NULL: this host has none. malloc'd. */
static char *make_cgroup(void)
{
	char line[1024], at[256], *path = NULL;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f != NULL && path == NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strstr(line, " - cgroup2 ") == NULL ||
			sscanf(line, "%*s %*s %*s %*s %255s", at) != 1)
			continue;
		path = str_printf("%s/drover-test-%d", at, (int)getpid());
		if (mkdir(path, 0700) < 0) {
			free(path);
			path = NULL;
		}
	}
	if (f != NULL)
		fclose(f);
	return path;
}

/* Somebody wakes what was stopped, as systemd does to what it ends: its cgroup holds it all the same. */
static void test_continued(void **state)
{
	struct pair p;
	char *cgroup = make_cgroup();

	if (cgroup == NULL) {
		print_message("# no cgroup (v2) can be made here\n");
		skip();
	}
	sender_cgroup = cgroup;
	pair_up(&p, "", "");
	go_over(&p);
	/* Its stream ends with the daemon that had it: that is when it would let its guest go on. */
	hv_rig_adopt(&p.out);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	assert_int_equal(kill(p.out.process.pid, SIGCONT), 0);
	rig_run_for(p.out.loop, 500);
	counts(&p.in);
	assert_int_equal(hv_status(p.out.hv), HV_STATUS_PAUSED);
	/* It can be ended, */
	assert_int_equal(hv_rig_op(&p.out, hv_quit), 0);
	hv_rig_until_exit(&p.out);
	pair_finish(&p);
	/* and killed by another daemon; */
	pair_up(&p, "", "");
	go_over(&p);
	hv_rig_adopt(&p.out);
	assert_int_equal(hv_kill(p.out.hv, SIGKILL), 0);
	hv_rig_until_exit(&p.out);
	pair_finish(&p);
	/* and it goes on when it is to. */
	pair_up(&p, "", "");
	go_over(&p);
	hv_rig_adopt(&p.out);
	assert_int_equal(kill(p.out.process.pid, SIGCONT), 0);
	kill(p.in.process.pid, SIGKILL);
	hv_rig_until_exit(&p.in);
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	counts(&p.out);
	pair_finish(&p);
	sender_cgroup = NULL;
	assert_int_equal(rmdir(cgroup), 0);
	free(cgroup);
}

/* The end of its stream leaves the guest paused in it. */
static void test_receiver_adopted(void **state)
{
	struct pair p;

	pair_up(&p, "", "");
	go_over(&p);
	hv_rig_adopt(&p.in);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	counts(&p.in);
	pair_finish(&p);
}

/* Adopted with no guest in it: it ends. */
static void test_receiver_adopted_empty(void **state)
{
	struct pair p;

	pair_up(&p, "", "");
	hv_rig_adopt(&p.in);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_INCOMING);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), -ESRCH);
	hv_rig_until_exit(&p.in);
	counts(&p.out);
	pair_finish(&p);
}

static void fails(const char *out, const char *in, int code, const char *part)
{
	struct pair p;

	pair_up(&p, out, in);
	begin(&p);
	pump(&p.out.op_done);
	assert_int_equal(p.out.err.code, code);
	assert_message(&p.out, part);
	counts(&p.out);
	pump(&p.in.op_done);
	assert_int_not_equal(p.in.err.code, 0);
	if (!p.in.exited)
		assert_int_not_equal(hv_status(p.in.hv), HV_STATUS_RUNNING);
	/* Nothing of it is left: it goes to another one. */
	if (!p.in.exited)
		kill(p.in.process.pid, SIGKILL);
	hv_rig_until_exit(&p.in);
	hv_rig_finish(&p.in);
	connect_them(&p);
	receiver(&p, "");
	if (strstr(out, "garble") == NULL && strstr(out, "protocol") == NULL) {
		go_over(&p);
		assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
		counts_to(&p.in, "COUNTER 3\r\n");
	}
	pair_finish(&p);
}

static void test_fails(void **state)
{
	fails("", "refuse start", -EIO, "refuses Start");
	fails("", "refuse config", -EIO, "refuses Config");
	fails("", "refuse memory", -EIO, "refuses Memory");
	fails("", "refuse state", -EIO, "refuses State");
	fails("", "kill wire.config", -ECONNRESET, "");
	fails("", "kill wire.memory", -ECONNRESET, "");
	fails("", "kill wire.state", -ECONNRESET, "after State");
	fails("garble config", "", -EBADMSG, "a header of Config that makes no sense");
	fails("garble state", "", -EBADMSG, "a header of State that makes no sense");
	fails("garble complete", "", -EBADMSG, "a header of Complete that makes no sense");
	fails("protocol 1", "", -ENOTSUP, "version 1 of its migration protocol");
	fails("version v51.2", "version v51.2;refuse state", -EIO, "refuses State");
	fails("version v51.2", "version v51.2;kill wire.state", -ECONNRESET, "");
	fails("version v51.2;garble complete", "version v51.2", -EBADMSG, "Complete");
	fails("", "error vm.receive-migration 500", -ECONNRESET, "");
}

/* It has said that it has the guest, and cannot let it run: then it is gone from both. */
static void test_cannot_run(void **state)
{
	struct pair p;

	pair_up(&p, "", "refuse complete");
	go_over(&p);
	assert_int_not_equal(hv_rig_op(&p.in, hv_resume), 0);
	hv_rig_until_exit(&p.in);
	assert_true(ch_all_stopped(p.out.process.pid));
	pair_finish(&p);
}

static void sender_killed(const char *script, bool there)
{
	struct pair p;

	pair_up(&p, script, "");
	begin(&p);
	pump(&p.out.op_done);
	assert_int_equal(p.out.err.code, -EUNATCH);
	hv_rig_until_exit(&p.out);
	if (!there) {
		pump(&p.in.op_done);
		assert_int_equal(p.in.err.code, -ECONNRESET);
	}
	pair_finish(&p);
}

static void test_sender_killed(void **state)
{
	sender_killed("kill wire.config", false);
	sender_killed("kill wire.state", false);
	sender_killed("kill wire.complete", false);
	sender_killed("version v51.2;kill wire.state", false);
}

static void test_cancelled(void **state)
{
	static const char *const scripts[] = { "memory 4000000", "memory 4000000;version v51.2" };

	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		struct pair p;

		pair_up(&p, scripts[i], scripts[i]);
		/* So slow that it does not end. */
		p.to.max_bandwidth = 65536;
		begin(&p);
		pump(&p.moved);
		rig_run_for(p.out.loop, 50);
		assert_false(p.out.op_done || p.in.op_done);
		hv_job_cancel(p.out.hv);
		assert_false(p.out.op_done);
		pump(&p.out.op_done);
		assert_int_equal(p.out.err.code, -ECANCELED);
		counts(&p.out);
		pump(&p.in.op_done);
		assert_int_not_equal(p.in.err.code, 0);
		pair_finish(&p);
	}
}

static void test_receiver_cancelled(void **state)
{
	struct pair p;

	pair_up(&p, "memory 4000000", "memory 4000000");
	p.to.max_bandwidth = 65536;
	begin(&p);
	pump(&p.moved);
	hv_job_cancel(p.in.hv);
	pump(&p.in.op_done);
	assert_int_equal(p.in.err.code, -ECANCELED);
	pump(&p.out.op_done);
	assert_int_equal(p.out.err.code, -ECONNRESET);
	counts(&p.out);
	pair_finish(&p);
}

static void test_refused(void **state)
{
	struct pair p;

	pair_up(&p, "", "");
	assert_int_equal(hv_rig_op(&p.in, send_it), -EBUSY);
	assert_int_equal(hv_rig_op(&p.out, receive_it), -EBUSY);
	assert_int_equal(hv_rig_op(&p.out, hv_pause), 0);
	assert_int_equal(hv_rig_op(&p.out, send_it), -EBUSY);
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	p.to.ndisks = 1;
	assert_int_equal(hv_rig_op(&p.out, send_it), -ENOTSUP);
	p.to.ndisks = 0;
	p.to.fd = -1;
	assert_int_equal(hv_rig_op(&p.out, send_it), -ENOTSUP);
	counts(&p.out);
	pair_finish(&p);
}

/* The owner may go at any time. */
static void test_destroyed(void **state)
{
	struct pair p;

	pair_up(&p, "memory 4000000", "memory 4000000");
	p.to.max_bandwidth = 65536;
	begin(&p);
	pump(&p.moved);
	hv_rig_destroy(&p.in);
	hv_rig_destroy(&p.out);
	assert_false(p.out.op_done || p.in.op_done);
	pair_finish(&p);
	pair_up(&p, "", "");
	go_over(&p);
	hv_rig_destroy(&p.out);
	hv_rig_destroy(&p.in);
	pair_finish(&p);
}

/*
 * Two of the real one: from one to the other; back to the sender after the receiver's death; and with
 * a receiver whose daemon dies when the guest is there. Whether the guest does anything is not asked:
 * it may have a /dev/kvm that is of no use.
 */
static void real_cloud_hypervisor_migrates(void **state)
{
	struct pair p;

	if (real == NULL) {
		print_message("# DROVER_CLOUD_HYPERVISOR names none\n");
		skip();
	}
	pair_up(&p, NULL, NULL);
	begin(&p);
	pump(&p.out.op_done);
	/* A KVM that cannot say what state a processor is in. */
	if (strstr(p.out.err.msg, "Could not get vCPU state") != NULL) {
		print_message("# %s\n", p.out.err.msg);
		pair_finish(&p);
		skip();
	}
	is_there(&p);
	kill(p.in.process.pid, SIGKILL);
	hv_rig_until_exit(&p.in);
	hv_rig_finish(&p.in);
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	assert_int_equal(hv_status(p.out.hv), HV_STATUS_RUNNING);
	connect_them(&p);
	receiver(&p, NULL);
	go_over(&p);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_RUNNING);
	assert_int_equal(hv_rig_op(&p.in, hv_pause), 0);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	pair_finish(&p);
	pair_up(&p, NULL, NULL);
	go_over(&p);
	hv_rig_adopt(&p.in);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_RUNNING);
	pair_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_sender_adopted),
		cmocka_unit_test(test_continued),
		cmocka_unit_test(test_receiver_adopted),
		cmocka_unit_test(test_receiver_adopted_empty),
		cmocka_unit_test(test_fails),
		cmocka_unit_test(test_cannot_run),
		cmocka_unit_test(test_sender_killed),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_receiver_cancelled),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_destroyed),
		cmocka_unit_test(real_cloud_hypervisor_migrates),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

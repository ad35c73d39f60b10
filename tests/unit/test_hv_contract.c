/*
 * What hv/hv.h promises of every backend: one list of cases, run against each of them, with the real
 * program and with the tests' fake of it. A backend that hv_find() does not know yet is left out.
 * HV_CONTRACT=fake_ch runs only what begins so.
 */
#include "tests/unit/hv-rig.h"

#include <dirent.h>
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

/* One row of the table: a program, and what its guest can. */
struct backend {
	const char *name;    /* of the row */
	const char *ops;     /* value of `hypervisor =` */
	const char *program; /* the fake below $B, or one of PATH; NULL: variable names it */
	const char *variable;
	bool fake;
	const char *kernel; /* below $B */
	const char *ready;  /* what the guest prints first */
	bool guest;         /* it echoes, ends by `q` and resets by `r` */
	bool button;        /* it obeys the power button */
	enum hv_accel accel;
};

static const struct backend backends[] = {
	{ .name = "qemu",
		.ops = "qemu",
		.program = "qemu-system-x86_64",
		.accel = HV_ACCEL_TCG,
		.kernel = "nano.elf",
		.ready = "NANO-READY",
		.guest = true,
		.button = true },
	{ .name = "fake_qemu",
		.ops = "qemu",
		.program = "fakes/fake-qemu",
		.accel = HV_ACCEL_TCG,
		.fake = true,
		.kernel = "nano.elf",
		.ready = "FAKE-READY",
		.guest = true,
		.button = true },
	{ .name = "fake_ch",
		.ops = "cloud-hypervisor",
		.program = "fakes/fake-ch",
		.fake = true,
		.kernel = "nano64.elf",
		.ready = "FAKE-READY",
		.guest = true,
		.button = true },
	/*
	 * The nano guest lives on a timer and on registers that cloud-hypervisor has not: it comes up
	 * and no further.
	 */
	{ .name = "cloud_hypervisor",
		.ops = "cloud-hypervisor",
		.variable = "DROVER_CLOUD_HYPERVISOR",
		.kernel = "nano64.elf",
		.ready = "NANO-READY" },
};

static char *programs[ARRAY_LEN(backends)], *kernels[ARRAY_LEN(backends)], *jail;

/* What a case is given. */
struct run {
	const struct backend *backend;
	void (*fn)(const struct backend *b);
};

static bool is_named(const struct backend *b)
{
	return b->variable == NULL ||
	       (getenv(b->variable) != NULL && access("/dev/kvm", R_OK | W_OK) == 0);
}

static char *find_one(const struct backend *b)
{
	if (b->program == NULL) {
		return is_named(b) ? strdup(getenv(b->variable)) : NULL;
	}
	return b->fake ? hv_rig_program(b->program) : find_program(b->program);
}

static int setup(void **state)
{
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
		programs[i] = find_one(&backends[i]);
		kernels[i] = hv_rig_program(backends[i].kernel);
	}
	jail = hv_rig_program("drover-jail");
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
		free(programs[i]);
		free(kernels[i]);
	}
	free(jail);
	return 0;
}

static void init(struct hv_rig *r, const struct backend *b)
{
	size_t i = (size_t)(b - backends);

	if (programs[i] == NULL) {
		print_message("# there is no %s\n", b->program);
		skip();
	}
	hv_rig_init(r, programs[i]);
	r->backend = hv_find(b->ops);
	r->spec.kernel = kernels[i];
	r->spec.cmdline = "";
	r->spec.memory_mib = 64;
	r->spec.vcpus_max = 2;
	r->spec.accel = b->accel;
	/*
	 * A system call that SIGCONT resumes is restart_syscall(2), which not all filters of the real
	 * cloud-hypervisor know (v53, vmm/src/seccomp_filters.rs): stopped and continued it may die.
	 */
	r->spec.sandbox = b->fake || b->variable == NULL;
}

static void up(struct hv_rig *r, const struct backend *b)
{
	init(r, b);
	hv_rig_up(r);
	hv_rig_until_console(r, b->ready);
}

/* None of text's letters may be one that the guests obey: c k p q r w. */
static void echo(struct hv_rig *r, const struct backend *b, const char *text)
{
	if (!b->guest)
		return;
	buf_clear(&r->console);
	assert_int_equal(hv_console_write(r->hv, text, strlen(text)), 0);
	hv_rig_until_console(r, text);
}

static void type(struct hv_rig *r, char key)
{
	assert_int_equal(hv_console_write(r->hv, &key, 1), 0);
}

static void assert_message(const struct hv_rig *r, const char *part)
{
	if (strstr(r->err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", r->err.msg, part);
}

static bool task_stopped(pid_t pid, const char *tid)
{
	char path[80], text[256] = "", *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (read(fd, text, sizeof(text) - 1) < 0)
		*text = '\0';
	close(fd);
	state = strrchr(text, ')');
	return state != NULL && state[2] == 'T';
}

static bool all_stopped(pid_t pid)
{
	struct dirent *e;
	bool all = true;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		all &= e->d_name[0] == '.' || task_stopped(pid, e->d_name);
	closedir(d);
	return all;
}

/* SIGSTOP, and until it has come to each of its threads. */
static void stop(struct hv_rig *r)
{
	assert_int_equal(kill(r->process.pid, SIGSTOP), 0);
	while (!all_stopped(r->process.pid))
		usleep(1000);
}

/* Whether a word that begins so is in the diary, and ends in `end`. */
static bool wrote(const struct hv_rig *r, const char *begin, const char *end)
{
	char *copy = strdup(buf_str(&r->diary)), *save;
	bool found = false;

	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		size_t len = strlen(w), tail = strlen(end);

		found |= strncmp(w, begin, strlen(begin)) == 0 && len >= tail &&
			 strcmp(w + len - tail, end) == 0;
	}
	free(copy);
	return found;
}

static void assert_wrote(const struct hv_rig *r, const char *begin, const char *end)
{
	if (!wrote(r, begin, end))
		fail_msg("no '%s...%s' in '%s'", begin, end, buf_str(&r->diary));
}

static void assert_exit(const struct hv_rig *r, bool signaled, int code)
{
	assert_true(r->exited);
	assert_true(r->status.known);
	assert_int_equal(r->status.signaled, signaled);
	assert_int_equal(r->status.code, code);
}

/* Start */

static void case_start(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_false(hv_unresponsive(r.hv));
	assert_int_equal(hv_process(r.hv)->pid, r.process.pid);
	assert_int_equal(hv_process(r.hv)->starttime, r.process.starttime);
	assert_int_equal(proc_starttime(r.process.pid), r.process.starttime);
	assert_int_equal(r.process.jail_pid, 0);
	assert_non_null(hv_caps(r.hv)->program);
	assert_non_null(strpbrk(hv_caps(r.hv)->program, "0123456789"));
	assert_true(strlen(hv_accel_text(r.hv)) > 0);
	echo(&r, b, "hello");
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	assert_exit(&r, false, 0);
	assert_wrote(&r, "host-quit", ":us");
	assert_false(hv_rig_has(&r, "monitor-lost"));
	/* That it was spawned comes first; events may come before `done`; `exited` is the last. */
	assert_int_equal(strncmp(buf_str(&r.diary), "spawned ", 8), 0);
	assert_true(hv_rig_has(&r, " done "));
	assert_string_equal(buf_str(&r.diary) + strlen(buf_str(&r.diary)) - 8, " exited ");
	hv_rig_finish(&r);
}

static void case_jailed(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.jail = jail;
	hv_rig_up(&r);
	assert_int_not_equal(r.process.jail_pid, 0);
	assert_int_not_equal(r.process.jail_pid, r.process.pid);
	kill(r.process.pid, SIGKILL);
	hv_rig_until_exit(&r);
	assert_exit(&r, true, SIGKILL);
	hv_rig_finish(&r);
}

static void case_start_paused(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.start_paused = true;
	hv_rig_up(&r);
	assert_int_equal(hv_status(r.hv), HV_STATUS_CREATED);
	rig_run_for(r.loop, 100);
	assert_string_equal(buf_str(&r.console), "");
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	hv_rig_until_console(&r, b->ready);
	echo(&r, b, "hello");
	hv_rig_finish(&r);
}

static void case_no_program(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.binary = "/nonexistent/hypervisor";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_int_equal(r.err.code, -ENOENT);
	assert_message(&r, "/nonexistent/hypervisor");
	rig_run_for(r.loop, 50);
	assert_false(r.spawned || r.exited);
	hv_rig_finish(&r);
}

/* The hypervisor is there, its kernel is not; the reason is the hypervisor's own. */
static void case_no_kernel(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	/* What is no hypervisor does not look at its kernel. */
	if (b->fake && strcmp(b->ops, "qemu") == 0) {
		hv_rig_finish(&r);
		return;
	}
	r.spec.kernel = "/nonexistent/kernel";
	hv_rig_start(&r);
	rig_run_until(r.loop, &r.done);
	assert_int_not_equal(r.err.code, 0);
	assert_message(&r, "kernel");
	if (r.spawned)
		hv_rig_until_exit(&r);
	hv_rig_finish(&r);
}

/* It says a word and ends. */
static void case_last_words(const struct backend *b)
{
	static const char script[] =
		"#!/bin/sh\n"
		"case $1 in --version) echo cloud-hypervisor v53.0; exit;; esac\n"
		"echo cannot open /x: no such disk >&2; exit 3\n";
	struct hv_rig r;
	char *path;

	init(&r, b);
	path = path_join(r.dir, "ends");
	assert_int_equal(file_write_atomic(path, script, sizeof(script) - 1, 0700, false, NULL), 0);
	r.spec.binary = path;
	hv_rig_start(&r);
	hv_rig_until_exit(&r);
	assert_true(r.done);
	assert_int_not_equal(r.err.code, 0);
	assert_message(&r, "exited with status 3: cannot open /x: no such disk");
	assert_exit(&r, false, 3);
	hv_rig_finish(&r);
	free(path);
}

static void cancel(const struct backend *b, const char *at)
{
	struct hv_rig r;

	for (int i = 0;; i++) {
		init(&r, b);
		hv_rig_start(&r);
		if (at != NULL)
			hv_rig_until(&r, at);
		/* Its monitor may answer before the thread that spawned it has said so. */
		if (!r.done)
			break;
		assert_in_range(i, 0, 20);
		hv_rig_finish(&r);
	}
	hv_start_cancel(r.hv);
	assert_false(r.done);
	rig_run_until(r.loop, &r.done);
	assert_int_equal(r.err.code, -ECANCELED);
	if (r.spawned) {
		hv_rig_until_exit(&r);
		assert_int_equal(proc_starttime(r.process.pid), 0);
	}
	hv_rig_finish(&r);
}

static void case_cancel(const struct backend *b)
{
	struct hv_rig r;

	cancel(b, NULL);
	cancel(b, "spawned");
	/* After done it does nothing. */
	up(&r, b);
	hv_start_cancel(r.hv);
	rig_run_for(r.loop, 50);
	assert_false(r.exited);
	hv_rig_finish(&r);
}

/* Operations */

static void case_pause(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_true(hv_rig_has(&r, "status:paused:us op"));
	/* Once more changes nothing. */
	hv_rig_op(&r, hv_pause);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	buf_clear(&r.console);
	if (b->guest) {
		type(&r, 'x');
		rig_run_for(r.loop, 100);
		assert_null(strchr(buf_str(&r.console), 'x'));
	}
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_true(hv_rig_has(&r, "status:running:us op"));
	hv_rig_op(&r, hv_resume);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	echo(&r, b, "yz");
	hv_rig_finish(&r);
}

static void case_powerdown(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	if (b->button) {
		/* The guest says that it is ready shortly before it listens to its button. */
		echo(&r, b, "x");
		assert_int_equal(hv_rig_op(&r, hv_powerdown), 0);
		hv_rig_until_exit(&r);
		assert_wrote(&r, "guest-shutdown", ":us");
		assert_exit(&r, false, 0);
	} else {
		assert_int_equal(hv_rig_op(&r, hv_powerdown), 0);
		assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	}
	hv_rig_finish(&r);
}

static void case_guest_poweroff(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	if (b->guest) {
		type(&r, 'q');
		hv_rig_until_exit(&r);
		assert_wrote(&r, "guest-shutdown", "");
		assert_false(wrote(&r, "guest-shutdown", ":us"));
		/* What it said last came before. */
		assert_non_null(strstr(buf_str(&r.console), "-BYE"));
		assert_exit(&r, false, 0);
	}
	hv_rig_finish(&r);
}

static void case_reset(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	buf_clear(&r.console);
	assert_int_equal(hv_rig_op(&r, hv_reset), 0);
	hv_rig_until(&r, "host-reset");
	hv_rig_until_console(&r, b->ready);
	assert_wrote(&r, "host-reset", ":us");
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	echo(&r, b, "hello");
	assert_false(hv_rig_has(&r, "monitor-lost"));
	hv_rig_finish(&r);
}

static void case_guest_reboot(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	if (b->guest) {
		buf_clear(&r.console);
		type(&r, 'r');
		hv_rig_until(&r, "guest-reset");
		hv_rig_until_console(&r, b->ready);
		assert_false(wrote(&r, "guest-reset", ":us"));
		assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
		echo(&r, b, "hello");
	}
	hv_rig_finish(&r);
}

static void case_reboot_is_exit(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.reboot_is_exit = true;
	hv_rig_up(&r);
	hv_rig_until_console(&r, b->ready);
	if (b->guest) {
		type(&r, 'r');
		hv_rig_until_exit(&r);
		assert_wrote(&r, "guest-shutdown:guest-reset", "");
	}
	hv_rig_finish(&r);
}

static void case_kill(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	assert_int_equal(hv_kill(r.hv, SIGKILL), 0);
	hv_rig_until_exit(&r);
	assert_exit(&r, true, SIGKILL);
	assert_int_equal(hv_kill(r.hv, SIGKILL), -ESRCH);
	hv_rig_finish(&r);
	up(&r, b);
	assert_int_equal(hv_kill(r.hv, SIGTERM), 0);
	hv_rig_until_exit(&r);
	assert_exit(&r, false, 0);
	hv_rig_finish(&r);
}

static void case_console(const struct backend *b)
{
	static char much[70000];
	struct hv_rig r;

	up(&r, b);
	echo(&r, b, "moon");
	echo(&r, b, "sun");
	/* More than fits is refused whole. */
	memset(much, 'a', sizeof(much));
	buf_clear(&r.console);
	assert_int_equal(hv_console_write(r.hv, much, sizeof(much)), -EAGAIN);
	rig_run_for(r.loop, 50);
	assert_null(strchr(buf_str(&r.console), 'a'));
	echo(&r, b, "still");
	hv_rig_finish(&r);
}

static void on_ping(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_rig *r = arg;

	r->op_done = true;
	r->err = err != NULL ? *err : (struct err){ 0 };
	uv_stop(r->loop);
}

static int ping(struct hv_rig *r, uint64_t timeout_ms)
{
	r->op_done = false;
	hv_ping(r->hv, timeout_ms, on_ping, r);
	assert_false(r->op_done);
	rig_run_until(r->loop, &r->op_done);
	return r->err.code;
}

/* A stopped hypervisor is slow, not dead. */
static void case_unresponsive(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	assert_int_equal(ping(&r, 0), 0);
	stop(&r);
	assert_int_equal(ping(&r, 100), -ETIMEDOUT);
	hv_rig_until(&r, "unresponsive");
	assert_true(hv_unresponsive(r.hv));
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_int_equal(kill(r.process.pid, SIGCONT), 0);
	hv_rig_until(&r, " responsive");
	assert_false(hv_unresponsive(r.hv));
	assert_int_equal(ping(&r, 0), 0);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	hv_rig_finish(&r);
}

/* What is asked of the dead has an answer, too. */
static void case_ops_of_the_dead(const struct backend *b)
{
	static void (*const ops[])(struct hv *, hv_done_fn *, void *) = { hv_pause, hv_resume,
		hv_powerdown, hv_reset, hv_quit };
	struct hv_rig r;

	up(&r, b);
	kill(r.process.pid, SIGKILL);
	hv_rig_until_exit(&r);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		if (hv_rig_op(&r, ops[i]) == 0)
			fail_msg("operation %zu of the dead went well", i);
	assert_int_not_equal(ping(&r, 0), 0);
	assert_int_equal(hv_console_write(r.hv, "x", 1), -ENOTCONN);
	hv_rig_finish(&r);
}

/* Adoption */

static void adopt(const struct backend *b, bool jailed, bool paused)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.jail = jailed ? jail : NULL;
	hv_rig_up(&r);
	hv_rig_until_console(&r, b->ready);
	if (paused)
		assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	buf_clear(&r.diary);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_false(r.exited);
	assert_int_equal(hv_status(r.hv), paused ? HV_STATUS_PAUSED : HV_STATUS_RUNNING);
	assert_int_equal(hv_process(r.hv)->pid, r.process.pid);
	assert_non_null(strpbrk(hv_caps(r.hv)->program, "0123456789"));
	if (paused)
		assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	echo(&r, b, "still");
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	/* Only a jail can tell how the child of somebody else has ended. */
	assert_true(!jailed || r.status.known);
	if (r.status.known)
		assert_exit(&r, false, 0);
	hv_rig_finish(&r);
}

static void case_adopt(const struct backend *b)
{
	adopt(b, false, false);
	adopt(b, true, false);
	adopt(b, true, true);
}

static void case_adopt_gone(const struct backend *b)
{
	struct hv_rig r;

	init(&r, b);
	r.spec.jail = jail;
	hv_rig_up(&r);
	hv_rig_destroy(&r);
	kill(r.process.pid, SIGKILL);
	while (proc_starttime(r.process.jail_pid) == r.process.jail_starttime) {
		waitpid(-1, NULL, WNOHANG);
		usleep(1000);
	}
	r.status = (struct child_status){ 0 };
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, -ESRCH);
	assert_true(r.status.known && r.status.signaled);
	assert_int_equal(r.status.code, SIGKILL);
	rig_run_for(r.loop, 50);
	assert_false(r.exited);
	hv_rig_finish(&r);
}

/* It stands still when it is adopted: that is no failure. */
static void case_adopt_silent(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	hv_rig_destroy(&r);
	buf_clear(&r.diary);
	stop(&r);
	hv_rig_adopt(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_UNKNOWN);
	hv_rig_until(&r, "done unresponsive");
	assert_true(hv_unresponsive(r.hv));
	kill(r.process.pid, SIGCONT);
	hv_rig_until(&r, " responsive");
	hv_rig_until(&r, "status:running");
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	echo(&r, b, "hello");
	hv_rig_finish(&r);
}

/* Capabilities */

static void can_nmi(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_nmi(hv, done, arg);
}

static void can_screendump(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_screendump(hv, "/nonexistent/x", done, arg);
}

static void can_dump(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_dump(hv, "/nonexistent/x", NULL, done, arg);
}

static void can_save(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_save(hv, "/nonexistent", NULL, done, arg);
}

static void can_migrate(struct hv *hv, hv_done_fn *done, void *arg)
{
	const struct hv_migration to = { .uri = "unix:/nonexistent/x", .fd = -1 };

	hv_migrate_out(hv, &to, NULL, done, arg);
}

static void can_copy(struct hv *hv, hv_done_fn *done, void *arg)
{
	const struct hv_disk_copy copy = { "disk0", "/nonexistent/x" };

	/* Of the two only the last is looked at. */
	hv_copy_disks(hv, &copy, 1, NULL, NULL, done, arg);
}

static void can_add_disk(struct hv *hv, hv_done_fn *done, void *arg)
{
	const struct hv_disk disk = { .id = "more", .path = "/nonexistent/x" };

	hv_add_disk(hv, &disk, done, arg);
}

static void can_add_nic(struct hv *hv, hv_done_fn *done, void *arg)
{
	const struct hv_nic nic = { .id = "nic7", .mac = "52:54:00:00:00:07", .tap_fd = -1 };

	hv_add_nic(hv, &nic, done, arg);
}

static void can_resize_cpu(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_resize(hv, 2, 0, done, arg);
}

static void can_resize_memory(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_resize(hv, 0, 128, done, arg);
}

static const struct {
	enum hv_cap cap;
	void (*fn)(struct hv *hv, hv_done_fn *done, void *arg);
} wishes[] = {
	{ HV_CAP_PAUSE, hv_pause },
	{ HV_CAP_POWERDOWN, hv_powerdown },
	{ HV_CAP_RESET, hv_reset },
	{ HV_CAP_NMI, can_nmi },
	{ HV_CAP_SCREENDUMP, can_screendump },
	{ HV_CAP_DUMP, can_dump },
	{ HV_CAP_SNAPSHOT, can_save },
	{ HV_CAP_COPY_DISKS, can_copy },
	{ HV_CAP_MIGRATE, can_migrate },
	{ HV_CAP_ADD_DISK, can_add_disk },
	{ HV_CAP_ADD_NIC, can_add_nic },
	{ HV_CAP_RESIZE_CPU, can_resize_cpu },
	{ HV_CAP_RESIZE_MEMORY, can_resize_memory },
};

/* What it cannot it says in one sentence, and the operation says the same. */
static void case_capabilities(const struct backend *b)
{
	struct hv_rig r;

	up(&r, b);
	for (int cap = 0; cap < HV_NCAPS; cap++) {
		struct err err = { 0 };
		int rc = hv_can(r.hv, (enum hv_cap)cap, &err);

		assert_non_null(hv_cap_name((enum hv_cap)cap));
		assert_int_equal(rc, hv_caps(r.hv)->why_not[cap] != NULL ? -ENOTSUP : 0);
		if (rc == 0)
			continue;
		assert_non_null(strstr(err.msg, hv_caps(r.hv)->program));
		assert_non_null(strstr(err.msg, hv_caps(r.hv)->why_not[cap]));
	}
	for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
		struct err err = { 0 };

		if (hv_can(r.hv, wishes[i].cap, &err) == 0)
			continue;
		assert_int_equal(hv_rig_op(&r, wishes[i].fn), -ENOTSUP);
		assert_string_equal(r.err.msg, err.msg);
	}
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	hv_rig_finish(&r);
}

/* Memory and devices */

static void save_progress(void *arg, const struct hv_progress *p)
{
}

static void do_save(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct hv_rig *r = arg;

	hv_save(hv, r->spec.restore_dir, save_progress, done, arg);
}

static bool cannot_snapshot(struct hv_rig *r)
{
	return hv_can(r->hv, HV_CAP_SNAPSHOT, NULL) != 0;
}

static void case_snapshot(const struct backend *b)
{
	char *dir, *socket_dir;
	struct hv_rig r;

	/* Of the fakes only that of cloud-hypervisor has a memory; ordinary KVM cannot here. */
	if ((b->fake && strcmp(b->ops, "qemu") == 0) || !b->guest)
		return;
	up(&r, b);
	if (cannot_snapshot(&r)) {
		hv_rig_finish(&r);
		return;
	}
	socket_dir = r.dir;
	dir = path_join(socket_dir, "saved");
	assert_int_equal(mkdir(dir, 0700), 0);
	r.spec.restore_dir = dir;
	assert_int_equal(hv_rig_op(&r, do_save), -EBUSY);
	assert_int_equal(hv_status(r.hv), HV_STATUS_RUNNING);
	assert_int_equal(hv_rig_op(&r, hv_pause), 0);
	assert_int_equal(hv_rig_op(&r, do_save), 0);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&r, hv_quit), 0);
	hv_rig_until_exit(&r);
	hv_rig_destroy(&r);
	buf_clear(&r.console);
	buf_clear(&r.diary);
	hv_rig_up(&r);
	assert_int_equal(hv_status(r.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&r, hv_resume), 0);
	echo(&r, b, "again");
	/* It was not booted anew. */
	assert_null(strstr(buf_str(&r.console), b->ready));
	hv_rig_finish(&r);
	free(dir);
}

/* Letting go */

static const char *const moments[] = { "spawned", "done", "status:paused:us", "op", "exited" };

/* Goes through a life, and lets go of the machine from within the callback that writes word. */
static void destroy_at(const struct backend *b, const char *word)
{
	struct hv_rig r;

	init(&r, b);
	r.destroy_at = word;
	hv_rig_start(&r);
	hv_rig_until(&r, "spawned");
	if (r.hv != NULL)
		hv_rig_until(&r, "done");
	if (r.hv != NULL)
		hv_rig_op_start(&r, hv_pause);
	if (r.hv != NULL)
		hv_rig_until(&r, "status:paused:us");
	if (r.hv != NULL)
		hv_rig_until(&r, "op");
	if (r.hv != NULL)
		kill(r.process.pid, SIGKILL);
	rig_run_until(r.loop, &r.closed);
	assert_null(r.hv);
	assert_true(wrote(&r, word, ""));
	hv_rig_finish(&r);
}

static void case_destroy(const struct backend *b)
{
	struct hv_rig r;

	for (size_t i = 0; i < ARRAY_LEN(moments); i++)
		destroy_at(b, moments[i]);
	/* While it is spawned: then that is its end. */
	init(&r, b);
	hv_rig_start(&r);
	hv_rig_destroy(&r);
	assert_false(r.done);
	/* It is killed and reaped without us; the loop has that to do yet. */
	while (uv_loop_alive(r.loop))
		uv_run(r.loop, UV_RUN_ONCE);
	hv_rig_finish(&r);
	/* With an operation under way. */
	up(&r, b);
	stop(&r);
	hv_rig_op_start(&r, hv_pause);
	hv_rig_destroy(&r);
	assert_false(r.op_done);
	kill(r.process.pid, SIGCONT);
	hv_rig_finish(&r);
}

/* The list */

static const struct {
	const char *name;
	void (*fn)(const struct backend *b);
} cases[] = {
	{ "start_and_quit", case_start },
	{ "jailed", case_jailed },
	{ "start_paused", case_start_paused },
	{ "no_program", case_no_program },
	{ "no_kernel", case_no_kernel },
	{ "last_words", case_last_words },
	{ "cancel", case_cancel },
	{ "pause_and_resume", case_pause },
	{ "powerdown", case_powerdown },
	{ "guest_poweroff", case_guest_poweroff },
	{ "reset", case_reset },
	{ "guest_reboot", case_guest_reboot },
	{ "reboot_is_exit", case_reboot_is_exit },
	{ "kill", case_kill },
	{ "console", case_console },
	{ "unresponsive", case_unresponsive },
	{ "ops_of_the_dead", case_ops_of_the_dead },
	{ "adopt", case_adopt },
	{ "adopt_gone", case_adopt_gone },
	{ "adopt_silent", case_adopt_silent },
	{ "capabilities", case_capabilities },
	{ "snapshot", case_snapshot },
	{ "destroy", case_destroy },
};

/* In place of all cases of a row that needs a program which is named by a variable. */
static void case_not_named(const struct backend *b)
{
	print_message("# %s names no program that can run here\n", b->variable);
	skip();
}

static void run_case(void **state)
{
	const struct run *run = *state;

	run->fn(run->backend);
}

int main(void)
{
	static struct CMUnitTest tests[ARRAY_LEN(backends) * ARRAY_LEN(cases)];
	static struct run runs[ARRAY_LEN(tests)];
	const char *only = getenv("HV_CONTRACT");
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
		bool named = is_named(&backends[i]);

		for (size_t k = 0; k < (named ? ARRAY_LEN(cases) : 1); k++) {
			char *name = named ? str_printf("%s_%s", backends[i].name, cases[k].name)
					   : strdup(backends[i].name);

			if (hv_find(backends[i].ops) == NULL ||
				(only != NULL && strncmp(name, only, strlen(only)) != 0)) {
				free(name);
				continue;
			}
			runs[n] = (struct run){ &backends[i],
				named ? cases[k].fn : case_not_named };
			tests[n] = (struct CMUnitTest){
				.name = name,
				.test_func = run_case,
				.initial_state = &runs[n],
			};
			n++;
		}
	}
	n = (size_t)_cmocka_run_group_tests("contract of hv", tests, n, setup, teardown);
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		free((char *)tests[i].name);
	return (int)n;
}

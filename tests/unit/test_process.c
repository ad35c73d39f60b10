/*
 * A hypervisor's process with and without a jail around it. The jails are scripts that speak as
 * told: in crumbs, nonsense, nothing, or die between two words.
 */
#include "tests/unit/rig.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hv/process.h"
#include "lib/file.h"
#include "tests/unit/hv-rig.h"

struct fixture {
	uv_loop_t *loop;
	char *dir, *jail;
	struct process *p;
	struct hv_process id;
	struct child_status status;
	struct err err;
	unsigned spawned, failed, exited, fds;
	bool is_spawned, is_failed, is_exited, closed;
	bool release_at_spawned;
};

static void on_closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void on_spawned(void *arg, const struct hv_process *id)
{
	struct fixture *f = arg;

	f->id = *id;
	f->spawned++;
	f->is_spawned = true;
	assert_int_equal(f->exited + f->failed, 0);
	if (f->release_at_spawned) {
		process_release(f->p, on_closed, f);
		f->p = NULL;
	}
}

static void on_failed(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	f->err = *err;
	f->failed++;
	f->is_failed = true;
	assert_int_equal(f->spawned + f->exited, 0);
}

static void on_exited(void *arg, const struct child_status *status)
{
	struct fixture *f = arg;

	f->status = *status;
	f->exited++;
	f->is_exited = true;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->fds = rig_count_fds();
	f->loop = rig_loop();
	f->dir = rig_tmp();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->p != NULL)
		process_release(f->p, on_closed, f);
	if (f->id.pid > 0 && proc_starttime(f->id.pid) == f->id.starttime)
		kill(f->id.pid, SIGKILL);
	rig_loop_finish(f->loop);
	/* Whoever was ours and was let go of. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	assert_int_equal(rig_count_fds(), f->fds);
	rig_tmp_finish(f->dir);
	free(f->jail);
	free(f);
	return 0;
}

/* A jail that is this script: $1 is --run-dir, $2 the folder, $4 the status descriptor. */
static void make_jail(struct fixture *f, const char *script)
{
	char *text = str_printf("#!/bin/bash\nfd=$4\n%s\n", script);

	free(f->jail);
	f->jail = path_join(f->dir, "jail");
	assert_int_equal(file_write_atomic(f->jail, text, strlen(text), 0755, false, NULL), 0);
	free(text);
}

/* Runs sh -c script as the hypervisor. */
static int spawn(struct fixture *f, const char *script)
{
	struct process_callbacks cb = { on_spawned, on_failed, on_exited, f };
	struct hv_command command = { .nfds = 0 };
	struct process_spec spec = {
		.command = &command, .run_dir = f->dir, .jail = f->jail, .log_fd = -1
	};
	int r;

	strv_add(&command.argv, "/bin/sh");
	strv_add(&command.argv, "-c");
	strv_add(&command.argv, script);
	r = process_spawn(&f->p, f->loop, &spec, &cb, &f->err);
	hv_command_finish(&command);
	assert_int_equal(f->spawned + f->failed + f->exited, 0);
	return r;
}

static void a_plain_process_lives_and_dies(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(spawn(f, "exec sleep 100"), 0);
	rig_run_until(f->loop, &f->is_spawned);
	assert_int_equal(f->id.jail_pid, 0);
	assert_int_equal(proc_starttime(f->id.pid), f->id.starttime);
	assert_int_equal(process_signal(f->p, SIGTERM), 0);
	rig_run_until(f->loop, &f->is_exited);
	assert_string_equal(child_status_text(&f->status), "was killed by SIGTERM");
	assert_int_equal(process_signal(f->p, SIGTERM), -ESRCH);
	assert_int_equal(f->spawned + f->exited, 2);
}

/* It ends at once: told as started all the same, and then as ended. */
static void a_short_life_is_told_in_order(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(spawn(f, "exit 3"), 0);
	rig_run_until(f->loop, &f->is_exited);
	assert_int_equal(f->spawned, 1);
	assert_string_equal(child_status_text(&f->status), "exited with status 3");
}

static void what_cannot_be_started_fails(void **state)
{
	struct fixture *f = *state;

	f->jail = strdup("/nonexistent/jail");
	assert_int_equal(spawn(f, "exit 0"), 0);
	assert_int_equal(f->failed, 0);
	rig_run_until(f->loop, &f->is_failed);
	assert_int_equal(f->err.code, -ENOENT);
	assert_non_null(strstr(f->err.msg, "start '/nonexistent/jail': "));
	rig_run_for(f->loop, 20);
	assert_int_equal(f->failed, 1);
	assert_int_equal(f->spawned + f->exited, 0);
}

static bool file_is_there(const struct fixture *f, const char *name)
{
	char *path = path_join(f->dir, name);
	bool there = access(path, F_OK) == 0;

	free(path);
	return there;
}

/* Released or killed while a thread is still about to spawn it: it does not live on unseen. */
static void one_that_is_being_spawned_can_be_given_up(void **state)
{
	struct fixture *f = *state;
	char *script = str_printf("sleep 0.5; touch %s/lived", f->dir);

	assert_int_equal(spawn(f, script), 0);
	free(script);
	assert_int_equal(process_signal(f->p, SIGTERM), -EAGAIN);
	process_release(f->p, on_closed, f);
	f->p = NULL;
	rig_run_until(f->loop, &f->closed);
	rig_run_for(f->loop, 1000);
	assert_int_equal(f->spawned + f->failed + f->exited, 0);
	assert_false(file_is_there(f, "lived"));

	assert_int_equal(spawn(f, "sleep 1000"), 0);
	assert_int_equal(process_signal(f->p, SIGKILL), 0);
	rig_run_until(f->loop, &f->is_exited);
	assert_int_equal(f->spawned, 1);
	assert_string_equal(child_status_text(&f->status), "was killed by SIGKILL");
}

static void a_real_jail_tells_the_status(void **state)
{
	struct fixture *f = *state;

	f->jail = hv_rig_program("drover-jail");
	assert_int_equal(spawn(f, "sleep 0.1; exit 9"), 0);
	rig_run_until(f->loop, &f->is_spawned);
	assert_true(f->id.jail_pid > 0 && f->id.jail_pid != f->id.pid);
	rig_run_until(f->loop, &f->is_exited);
	assert_true(f->status.known);
	assert_string_equal(child_status_text(&f->status), "exited with status 9");
}

/* The line that names the process, as slowly as can be. */
#define TELL                                                                                       \
	"sleep 100 & pid=$!; set -- $(cut -d')' -f2 /proc/$pid/stat); line=\"$pid ${20}\"\n"       \
	"for ((i = 0; i < ${#line}; i++)); do printf %s \"${line:i:1}\" >&$fd; sleep 0.002; done\n"

static void the_line_may_come_in_crumbs(void **state)
{
	struct fixture *f = *state;

	make_jail(f, TELL "echo >&$fd\nwait $pid\nexit $?");
	assert_int_equal(spawn(f, "exit 0"), 0);
	/* Nobody is known yet: only a kill can be kept for later. */
	assert_int_equal(process_signal(f->p, SIGTERM), -EAGAIN);
	rig_run_until(f->loop, &f->is_spawned);
	assert_int_equal(proc_starttime(f->id.pid), f->id.starttime);
	assert_int_equal(process_signal(f->p, SIGKILL), 0);
	rig_run_until(f->loop, &f->is_exited);
	assert_int_equal(f->exited, 1);
}

static void a_kill_is_kept_until_there_is_a_pid(void **state)
{
	struct fixture *f = *state;

	make_jail(f, TELL "echo >&$fd\nwait $pid\nexit $?");
	assert_int_equal(spawn(f, "exit 0"), 0);
	assert_int_equal(process_signal(f->p, SIGKILL), 0);
	rig_run_until(f->loop, &f->is_exited);
	assert_int_equal(f->spawned, 1);
}

static void jails_that_start_nothing(void **state)
{
	static const struct {
		const char *script, *message;
	} rows[] = {
		{ "echo 'error: no such user' >&$fd; exit 1", "no such user" },
		/* What it says is foreign. */
		{ "printf 'error: a\\033[31mb\\n' >&$fd", NULL },
		{ "exit 5", "drover-jail exited with status 5" },
		{ "kill -9 $$", "drover-jail was killed by SIGKILL" },
		{ "eval \"exec $fd>&-\"; exec sleep 0.05", "drover-jail exited with status 0" },
		{ "echo nonsense >&$fd", "drover-jail said 'nonsense'" },
		{ "echo '12 34 56' >&$fd", "drover-jail said '12 34 56'" },
		{ "echo '-1 5' >&$fd", "drover-jail said '-1 5'" },
		{ "printf '1234 5' >&$fd", NULL },
		{ "head -c 100000 /dev/zero | tr '\\0' x >&$fd", NULL },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		f->failed = 0;
		f->is_failed = f->closed = false;
		make_jail(f, rows[i].script);
		assert_int_equal(spawn(f, "exit 0"), 0);
		rig_run_until(f->loop, &f->is_failed);
		if (rows[i].message != NULL)
			assert_string_equal(f->err.msg, rows[i].message);
		assert_null(strchr(f->err.msg, '\033'));
		assert_int_equal(f->failed, 1);
		assert_int_equal(process_signal(f->p, SIGTERM), -ESRCH);
		process_release(f->p, on_closed, f);
		f->p = NULL;
		assert_false(f->closed);
		rig_run_until(f->loop, &f->closed);
	}
}

/* It says that it failed, and does not leave: killed with all that it has started. */
static void a_jail_that_hangs_is_killed(void **state)
{
	struct fixture *f = *state;
	char *path = path_join(f->dir, "child");
	struct buf pid = { 0 };

	make_jail(f, "sleep 1000 & echo $! >$2/child; echo 'error: stuck' >&$fd; wait");
	assert_int_equal(spawn(f, "exit 0"), 0);
	rig_run_until(f->loop, &f->is_failed);
	assert_int_equal(f->err.code, -ETIMEDOUT);
	assert_string_equal(f->err.msg, "drover-jail does not answer");
	assert_int_equal(file_read(path, 100, &pid, NULL), 0);
	for (int i = 0; i < 3000 && proc_starttime(atoi(pid.data)) != 0; i++)
		poll(NULL, 0, 10);
	assert_int_equal(proc_starttime(atoi(pid.data)), 0);
	buf_finish(&pid);
	free(path);
}

static void what_is_let_go_of_lives_on(void **state)
{
	struct process_callbacks cb = { on_spawned, on_failed, on_exited, *state };
	struct fixture *f = *state;
	struct child_status status;
	struct hv_process wrong;

	f->release_at_spawned = true;
	assert_int_equal(spawn(f, "exec sleep 100"), 0);
	rig_run_until(f->loop, &f->closed);
	assert_int_equal(proc_starttime(f->id.pid), f->id.starttime);
	/* Adopted again; not one that only has its pid. */
	wrong = f->id;
	wrong.starttime++;
	assert_int_equal(
		process_adopt(&f->p, f->loop, f->dir, &wrong, &status, &cb, &f->err), -ESRCH);
	assert_null(f->p);
	assert_false(status.known);
	assert_int_equal(process_adopt(&f->p, f->loop, f->dir, &f->id, &status, &cb, &f->err), 0);
	assert_int_equal(process_signal(f->p, SIGKILL), 0);
	rig_run_until(f->loop, &f->is_exited);
	/* Not told a second time that it was started. */
	assert_int_equal(f->spawned, 1);
	process_release(NULL, NULL, NULL);
}

/* It died while nobody looked: what its jail has left says how, and it is of this run alone. */
static void who_died_meanwhile_is_explained(void **state)
{
	struct process_callbacks cb = { on_spawned, on_failed, on_exited, *state };
	struct fixture *f = *state;
	struct hv_process id = { .pid = 4000000, .starttime = 5, .jail_pid = 4000001 };
	static const char text[] = "{\"pid\":4000000,\"starttime\":5,\"signal\":11}";
	char *path = path_join(f->dir, "exit");
	struct child_status status;

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
	assert_int_equal(process_adopt(&f->p, f->loop, f->dir, &id, &status, &cb, &f->err), -ESRCH);
	assert_true(status.known && status.signaled);
	assert_int_equal(status.code, 11);
	id.starttime = 6;
	assert_int_equal(process_adopt(&f->p, f->loop, f->dir, &id, &status, &cb, &f->err), -ESRCH);
	assert_false(status.known);
	id.pid = 0;
	assert_int_equal(process_adopt(&f->p, f->loop, f->dir, &id, &status, &cb, &f->err), -ESRCH);
	id = (struct hv_process){ 0 };
	assert_null(f->p);
	free(path);
}

/* libuv opens descriptors of its own with the first loop of a process. */
static int warm_up(void **state)
{
	rig_loop_finish(rig_loop());
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_plain_process_lives_and_dies),
		TEST(a_short_life_is_told_in_order),
		TEST(what_cannot_be_started_fails),
		TEST(one_that_is_being_spawned_can_be_given_up),
		TEST(a_real_jail_tells_the_status),
		TEST(the_line_may_come_in_crumbs),
		TEST(a_kill_is_kept_until_there_is_a_pid),
		TEST(jails_that_start_nothing),
		TEST(a_jail_that_hangs_is_killed),
		TEST(what_is_let_go_of_lives_on),
		TEST(who_died_meanwhile_is_explained),
	};

	return cmocka_run_group_tests(tests, warm_up, NULL);
}

#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"

struct seen {
	bool fired;
	unsigned times;
	struct child_status status;
	char out[4096], message[512];
	int code;
	unsigned lines;
};

static void exited(void *arg, const struct child_status *status)
{
	struct seen *s = arg;

	s->fired = true;
	s->times++;
	s->status = *status;
}

static void done(void *arg, const struct child_result *res, const struct err *err)
{
	struct seen *s = arg;

	s->fired = true;
	s->times++;
	snprintf(s->out, sizeof(s->out), "%s", res->out);
	s->code = err != NULL ? err->code : 0;
	snprintf(s->message, sizeof(s->message), "%s", err != NULL ? err->msg : "");
}

static struct child *start(uv_loop_t *loop, const char *script, struct seen *s)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	struct child_spec spec = { .file = "/bin/sh", .argv = argv };
	struct child *c = NULL;
	struct err err;

	if (child_spawn(&c, loop, &spec, exited, s, &err) < 0)
		fail_msg("%s", err.msg);
	return c;
}

static void test_exit_status(void **state)
{
	static const struct {
		const char *script, *text;
	} rows[] = {
		{ "exit 0", "exited with status 0" },
		{ "exit 7", "exited with status 7" },
		{ "kill -9 $$", "was killed by SIGKILL" },
	};
	uv_loop_t *loop = rig_loop();
	unsigned fds = rig_count_fds();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct seen s = { 0 };
		struct child *c = start(loop, rows[i].script, &s);

		assert_true(child_starttime(c) > 0);
		rig_run_until(loop, &s.fired);
		assert_string_equal(child_status_text(&s.status), rows[i].text);
		assert_false(child_alive(c));
		assert_int_equal(child_signal(c, SIGTERM), -ESRCH);
		child_release(c);
	}
	uv_run(loop, UV_RUN_NOWAIT);
	assert_int_equal(rig_count_fds(), fds);
	rig_loop_finish(loop);
}

static void test_spawn_failure(void **state)
{
	char *argv[] = { "nothing", NULL };
	struct child_spec spec = { .file = "/nonexistent/nothing", .argv = argv };
	uv_loop_t *loop = rig_loop();
	unsigned fds = rig_count_fds();
	struct child *c = NULL;
	struct err err;

	assert_int_equal(child_spawn(&c, loop, &spec, exited, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "start '/nonexistent/nothing': No such file or directory");
	assert_int_equal(rig_count_fds(), fds);
	/* The dead child was reaped. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	rig_loop_finish(loop);
}

/* Whatever we ignore or block, libc's own signals too: a child begins with the defaults. */
static void test_signals(void **state)
{
	static const int sigs[] = { SIGPIPE, SIGXFSZ, SIGTTOU, 32, 33, 34, 64 };
	static const unsigned long ignore[8] = { 1 };
	unsigned long old[ARRAY_LEN(sigs)][8];
	char *argv[] = { "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status", NULL };
	struct child_spec spec = { .file = "/bin/grep", .argv = argv };
	uv_loop_t *loop = rig_loop();
	struct seen s = { 0 };
	sigset_t block, before;

	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, &before);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		assert_int_equal(
			syscall(SYS_rt_sigaction, sigs[i], ignore, old[i], (NSIG - 1) / 8), 0);
	assert_int_equal(child_run(NULL, loop, &spec, NULL, done, &s, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		syscall(SYS_rt_sigaction, sigs[i], old[i], NULL, (NSIG - 1) / 8);
	sigprocmask(SIG_SETMASK, &before, NULL);
	rig_run_until(loop, &s.fired);
	assert_string_equal(s.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	rig_loop_finish(loop);
}

/* Descriptors arrive at the numbers asked for, also when the numbers cross; no other one does. */
static void test_descriptors(void **state)
{
	uv_loop_t *loop = rig_loop();
	char *dir = rig_tmp();
	char *a = path_join(dir, "a"), *b = path_join(dir, "b"), *o = path_join(dir, "o");
	int fa, fb, fo, leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, on purpose */
	struct seen s = { 0 };
	struct child *c = NULL;
	struct buf text = { 0 };

	file_write_atomic(a, "A", 1, 0600, false, NULL);
	file_write_atomic(b, "B", 1, 0600, false, NULL);
	int low_a = open(a, O_RDONLY | O_CLOEXEC), low_b = open(b, O_RDONLY | O_CLOEXEC);

	fa = fcntl(low_a, F_DUPFD_CLOEXEC, 20);
	fb = fcntl(low_b, F_DUPFD_CLOEXEC, 20);
	close(low_a), close(low_b);
	fo = open(o, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char *argv[] = { "sh", "-c",
		"cat /proc/self/fd/$1 >&3; cat /proc/self/fd/$2 >&3; ls /proc/self/fd | wc -l >&3",
		"sh", NULL, NULL, NULL };
	struct child_fd fds[] = { { fa, fb }, { fb, fa }, { fo, 3 } };
	struct child_spec spec = { .file = "/bin/sh", .argv = argv, .fds = fds, .nfds = 3 };

	argv[4] = str_printf("%d", fb);
	argv[5] = str_printf("%d", fa);
	assert_int_equal(child_spawn(&c, loop, &spec, exited, &s, NULL), 0);
	rig_run_until(loop, &s.fired);
	child_release(c);
	assert_int_equal(file_read(o, 100, &text, NULL), 0);
	/* 0, 1, 2, 3, the two and the one of ls itself */
	assert_string_equal(buf_str(&text), "AB7\n");
	buf_finish(&text);
	close(fa), close(fb), close(fo), close(leak);
	free(argv[4]), free(argv[5]), free(a), free(b), free(o);
	rig_tmp_finish(dir);
	rig_loop_finish(loop);
}

static void test_stop_escalates(void **state)
{
	static const struct child_stop_step steps[] = { { SIGINT, 50 }, { SIGTERM, 50 } };
	uv_loop_t *loop = rig_loop();
	struct seen s = { 0 };
	struct child *c = start(loop, "trap '' INT TERM; while :; do sleep 0.05; done", &s);

	rig_run_for(loop, 200);
	child_stop(c, steps, ARRAY_LEN(steps));
	rig_run_until(loop, &s.fired);
	assert_string_equal(child_status_text(&s.status), "was killed by SIGKILL");
	assert_int_equal(s.times, 1);
	child_release(c);
	rig_loop_finish(loop);
}

static void test_adopt(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct seen first = { 0 }, s = { 0 };
	struct child *c = start(loop, "exec sleep 100", &first), *again = NULL, *none = NULL;
	pid_t pid = child_pid(c);
	uint64_t started = child_starttime(c);
	struct err err;

	assert_int_equal(proc_starttime(pid), started);
	child_release(c);
	assert_int_equal(child_adopt(&none, loop, pid, started + 1, exited, &s, &err), -ESRCH);
	assert_null(none);
	assert_int_equal(child_adopt(&again, loop, pid, started, exited, &s, &err), 0);
	assert_int_equal(child_signal(again, SIGKILL), 0);
	rig_run_until(loop, &s.fired);
	/* It is our own child all the same, as after a re-exec: its status is known. */
	assert_true(s.status.known && s.status.signaled);
	assert_false(first.fired);
	child_release(again);
	assert_int_equal(child_adopt(&none, loop, pid, started, exited, &s, &err), -ESRCH);
	rig_loop_finish(loop);
}

static int run(uv_loop_t *loop, const char *script, const struct child_run_opts *opts,
	struct seen *s, struct child_run **out)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	struct child_spec spec = { .file = "/bin/sh", .argv = argv };

	return child_run(out, loop, &spec, opts, done, s, NULL);
}

static void test_run_output(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct child_run_opts in = { .input = "hello", .input_len = 5 };
	struct seen first = { 0 }, s = { 0 }, bad = { 0 };
	unsigned fds;

	/* libuv opens a spare descriptor of its own with the first stream. */
	assert_int_equal(run(loop, "exit 0", NULL, &first, NULL), 0);
	rig_run_until(loop, &first.fired);
	uv_run(loop, UV_RUN_NOWAIT);
	fds = rig_count_fds();
	assert_int_equal(run(loop, "tr a-z A-Z; echo err >&2", &in, &s, NULL), 0);
	rig_run_until(loop, &s.fired);
	assert_string_equal(s.out, "HELLO");
	assert_int_equal(s.code, 0);
	assert_int_equal(
		run(loop, "echo first >&2; echo 'the cause' >&2; exit 3", NULL, &bad, NULL), 0);
	rig_run_until(loop, &bad.fired);
	assert_int_equal(bad.code, -EIO);
	assert_string_equal(bad.message, "sh exited with status 3: the cause");
	uv_run(loop, UV_RUN_NOWAIT);
	assert_int_equal(rig_count_fds(), fds);
	rig_loop_finish(loop);
}

static void count_line(void *arg, const char *line)
{
	struct seen *s = arg;

	s->lines++;
	snprintf(s->message, sizeof(s->message), "%s", line);
}

static void test_run_lines(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct child_run_opts opts = { .line = count_line };
	struct seen s = { 0 };

	assert_int_equal(
		run(loop, "echo one; sleep 0.05; printf 'two\\nthr'; printf ee", &opts, &s, NULL),
		0);
	rig_run_until(loop, &s.fired);
	assert_int_equal(s.lines, 3);
	assert_string_equal(s.out, "");
	rig_loop_finish(loop);
}

static void test_run_deadline_and_cancel(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct child_run_opts opts = { .timeout_ms = 50 };
	struct seen late = { 0 }, cancelled = { 0 }, orphan = { 0 };
	struct child_run *r;

	assert_int_equal(run(loop, "exec sleep 100", &opts, &late, NULL), 0);
	rig_run_until(loop, &late.fired);
	assert_int_equal(late.code, -ETIMEDOUT);
	assert_int_equal(run(loop, "exec sleep 100", NULL, &cancelled, &r), 0);
	child_run_cancel(r);
	assert_false(cancelled.fired);
	rig_run_until(loop, &cancelled.fired);
	assert_int_equal(cancelled.code, -ECANCELED);
	/* A grandchild that keeps the pipes open does not keep us waiting. */
	assert_int_equal(run(loop, "sleep 5 & exit 0", NULL, &orphan, NULL), 0);
	rig_run_until(loop, &orphan.fired);
	assert_int_equal(orphan.code, 0);
	assert_int_equal(late.times + cancelled.times + orphan.times, 3);
	rig_loop_finish(loop);
}

/* Spawned by a thread: the same output, and what can come before there is a child. */
static void test_run_async(void **state)
{
	uv_loop_t *loop = rig_loop();
	char *argv[] = { "nothing", NULL };
	struct child_spec missing = { .file = "/no/such/program", .argv = argv };
	struct child_run_opts opts = { .input = "hello", .input_len = 5, .async = true };
	struct child_run_opts hasty = { .timeout_ms = 1, .async = true };
	struct seen s = { 0 }, late = { 0 }, cancelled = { 0 }, failed = { 0 };
	struct child_run *r;

	assert_int_equal(run(loop, "tr a-z A-Z", &opts, &s, NULL), 0);
	rig_run_until(loop, &s.fired);
	assert_string_equal(s.out, "HELLO");
	assert_int_equal(s.code, 0);
	assert_int_equal(run(loop, "exec sleep 100", &opts, &cancelled, &r), 0);
	child_run_cancel(r);
	child_run_cancel(r);
	assert_false(cancelled.fired);
	rig_run_until(loop, &cancelled.fired);
	assert_int_equal(cancelled.code, -ECANCELED);
	assert_int_equal(run(loop, "exec sleep 100", &hasty, &late, NULL), 0);
	rig_run_until(loop, &late.fired);
	assert_int_equal(late.code, -ETIMEDOUT);
	assert_int_equal(child_run(NULL, loop, &missing, &opts, done, &failed, NULL), 0);
	assert_false(failed.fired);
	rig_run_until(loop, &failed.fired);
	assert_int_equal(failed.code, -ENOENT);
	assert_non_null(strstr(failed.message, "/no/such/program"));
	assert_int_equal(s.times + cancelled.times + late.times + failed.times, 4);
	rig_loop_finish(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_spawn_failure),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_stop_escalates),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_run_output),
		cmocka_unit_test(test_run_lines),
		cmocka_unit_test(test_run_deadline_and_cancel),
		cmocka_unit_test(test_run_async),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

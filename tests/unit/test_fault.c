/*
 * The fault points, which only a build of their own has: here that part is compiled in, so that
 * the crash matrix rests on something that was tested.
 */
#ifndef DROVER_FAULTS
#define DROVER_FAULTS
#endif
#include "tests/unit/rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/fault.c"

/* In a process of its own, since a fault happens once. The wait status. */
static int in_child(const char *fault, void (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (fault != NULL)
			setenv("DROVER_FAULT", fault, 1);
		else
			unsetenv("DROVER_FAULT");
		log_setup(&(struct log_opts){ .level = LOG_LVL_ERROR });
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c))                                                                          \
			_exit(__LINE__ % 200 + 1);                                                 \
	} while (0)

static void expect_nothing(void)
{
	struct err err = { 0 };

	CHECK(fault_at("start", "tap", &err) == 0);
	CHECK(fault_at("start", "tap", NULL) == 0);
	CHECK(err.code == 0);
}

static void expect_enospc(void)
{
	struct err err = { 0 };

	CHECK(fault_at("start", "ta", &err) == 0);
	CHECK(fault_at("start", "tapx", &err) == 0);
	CHECK(fault_at("stop", "tap", &err) == 0);
	CHECK(fault_at("start", "tap", &err) == -ENOSPC);
	CHECK(strcmp(err.msg, "injected at start/tap: No space left on device") == 0);
	/* Once, so that what is done after it can succeed. */
	CHECK(fault_at("start", "tap", &err) == 0);
}

static void reach_tap(void)
{
	fault_at("start", "tap", NULL);
}

static void expect_each_error(void)
{
	const char *want = getenv("DROVER_FAULT");
	int code = strstr(want, "EMFILE") ? EMFILE : strstr(want, "ENOMEM") ? ENOMEM : EPERM;

	CHECK(fault_at("start", "tap", NULL) == -code);
}

static void expect_a_stall(void)
{
	CHECK(!fault_stalls("start", "ta"));
	CHECK(!fault_stalls("stop", "tap"));
	CHECK(fault_stalls("start", "tap"));
	/* Once: what is done again goes through. */
	CHECK(!fault_stalls("start", "tap"));
	CHECK(fault_at("start", "tap", NULL) == 0);
}

static void expect_no_stall(void)
{
	CHECK(!fault_stalls("start", "tap"));
	CHECK(fault_at("start", "tap", NULL) == -EPERM);
}

static void nothing_happens_unasked(void **state)
{
	static const char *const faults[] = { NULL, "", "start/tap", "start=kill", "=kill",
		"start/tapx=kill", "/tap=kill" };

	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		assert_int_equal(in_child(faults[i], expect_nothing), 0);
}

static void a_step_fails_once(void **state)
{
	assert_int_equal(in_child("start/tap=ENOSPC", expect_enospc), 0);
	assert_int_equal(in_child("start/tap=EMFILE", expect_each_error), 0);
	assert_int_equal(in_child("start/tap=ENOMEM", expect_each_error), 0);
	assert_int_equal(in_child("start/tap=EPERM", expect_each_error), 0);
}

static void a_step_stalls_once(void **state)
{
	assert_int_equal(in_child("start/tap=stall", expect_a_stall), 0);
	assert_int_equal(in_child("start/tap=EPERM", expect_no_stall), 0);
}

static void the_daemon_is_killed(void **state)
{
	int status = in_child("start/tap=kill", reach_tap);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* A misspelt fault that did nothing would let its test pass. */
static void an_unknown_fault_is_no_success(void **state)
{
	int status = in_child("start/tap=ENOSPACE", reach_tap);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	/* Nor does one that can only be stalled where nothing waits. */
	status = in_child("start/tap=stall", reach_tap);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_happens_unasked),
		cmocka_unit_test(a_step_fails_once),
		cmocka_unit_test(a_step_stalls_once),
		cmocka_unit_test(the_daemon_is_killed),
		cmocka_unit_test(an_unknown_fault_is_no_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The loop's thread goes first; nobody that it starts does. */
#include "tests/unit/rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/priority.h"

static void *own_nice(void *arg)
{
	*(int *)arg = getpriority(PRIO_PROCESS, 0);
	return NULL;
}

/* Exit status of a child of a raised parent with this nice value; 100 + N when one has N. */
static int raised_from(int nice)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err err = { 0 };
		pthread_t thread;
		int r, other = -100;

		if (setpriority(PRIO_PROCESS, 0, nice) < 0)
			_exit(77);
		r = priority_raise(&err);
		/* EPERM is an answer; then it has what it had. */
		if (getpriority(PRIO_PROCESS, 0) != (nice > 0 || r == -EPERM ? nice : -10))
			_exit(1);
		if (pthread_create(&thread, NULL, own_nice, &other) != 0 ||
			pthread_join(thread, NULL) != 0 || other != MAX(nice, 0))
			_exit(2);
		pid = fork();
		if (pid == 0)
			_exit(getpriority(PRIO_PROCESS, 0) != MAX(nice, 0));
		if (waitpid(pid, &status, 0) != pid || status != 0)
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_goes_first(void **state)
{
	int r = raised_from(0);

	if (r == 77)
		skip(); /* we are behind others, and may not change it */
	assert_int_equal(r, 0);
}

static void test_stays_behind(void **state)
{
	int r = raised_from(15);

	if (r == 77)
		skip();
	assert_int_equal(r, 0);
}

static void test_own_priority_is_not_inherited(void **state)
{
	int r = raised_from(-3);

	if (r == 77)
		skip(); /* we may not have one */
	assert_int_equal(r, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goes_first),
		cmocka_unit_test(test_stays_behind),
		cmocka_unit_test(test_own_priority_is_not_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

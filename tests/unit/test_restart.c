/* Why a run ended and what follows, without a machine. Time is an argument, so is chance. */
#include "tests/unit/rig.h"

#include <string.h>

#include "lib/util.h"
#include "supervisor/config.h"
#include "supervisor/restart.h"

static const struct restart_rules on_failure = { .policy = RESTART_ON_FAILURE,
	.delay_ms = 1000,
	.max_delay_ms = 60000,
	.stable_ms = 60000,
	.limit = 5 };

/* 20 gives a jitter of nothing: 80 + 20 %. */
#define EVEN 20

static void test_names(void **state)
{
	assert_null(cause_name(CAUSE_NONE));
	for (int c = CAUSE_NONE + 1; c < CAUSES; c++) {
		assert_non_null(cause_name((enum cause)c));
		assert_int_equal(cause_from_name(cause_name((enum cause)c)), c);
		for (int other = CAUSE_NONE + 1; other < c; other++)
			assert_string_not_equal(
				cause_name((enum cause)c), cause_name((enum cause)other));
	}
	assert_int_equal(cause_from_name(NULL), CAUSE_NONE);
	assert_int_equal(cause_from_name(""), CAUSE_NONE);
	assert_int_equal(cause_from_name("of a later version"), CAUSE_NONE);
}

/* Every cause under every policy. */
static void test_policies(void **state)
{
	enum {
		S = RESTART_STAY,
		A = RESTART_AGAIN,
		G = RESTART_GIVE_UP
	};
	static const struct {
		enum cause cause;
		int verdict[3]; /* no, on-failure, always */
	} rows[] = {
		{ CAUSE_REQUESTED, { S, S, S } },
		{ CAUSE_GUEST_SHUTDOWN, { S, S, A } },
		{ CAUSE_GUEST_REBOOT, { S, S, A } },
		{ CAUSE_GUEST_PANIC, { G, A, A } },
		{ CAUSE_HYPERVISOR_CRASH, { G, A, A } },
		{ CAUSE_OOM_KILL, { G, A, A } },
		{ CAUSE_WATCHDOG, { G, A, A } },
		{ CAUSE_UNHEALTHY, { G, A, A } },
		{ CAUSE_IO_ERROR, { G, A, A } },
		{ CAUSE_START_FAILURE, { G, A, A } },
		{ CAUSE_HOST_SHUTDOWN, { S, S, A } },
		{ CAUSE_MIGRATED, { S, S, S } },
		{ CAUSE_UNKNOWN, { G, A, A } },
	};

	assert_int_equal(ARRAY_LEN(rows), CAUSES - 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (int policy = 0; policy < 3; policy++) {
			struct restart_rules rules = on_failure;
			unsigned failures = 3;
			uint64_t delay = 77;

			rules.policy = policy;
			assert_int_equal(
				restart_decide(&rules, rows[i].cause, 0, &failures, EVEN, &delay),
				rows[i].verdict[policy]);
			/* What does not start again is not counted. */
			assert_int_equal(failures, rows[i].verdict[policy] == A ? 4 : 3);
			assert_int_equal(delay, rows[i].verdict[policy] == A ? 8000 : 77);
		}
	}
}

static void test_backoff(void **state)
{
	static const uint64_t delays[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };
	struct restart_rules rules = on_failure;
	unsigned failures = 0;
	uint64_t delay = 0;

	rules.limit = 0;
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		assert_int_equal(
			restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay),
			RESTART_AGAIN);
		assert_int_equal(delay, delays[i]);
		assert_int_equal(failures, i + 1);
	}
	/* A count beyond all shifts: still the longest wait. */
	failures = 4000000000u;
	restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay);
	assert_int_equal(delay, 60000);
}

/* From -20 % to +20 %, all of it, whatever the number. */
static void test_jitter(void **state)
{
	uint64_t least = UINT64_MAX, most = 0;

	for (uint32_t random = 0; random < 1000; random++) {
		unsigned failures = 0;
		uint64_t delay = 0;

		restart_decide(&on_failure, CAUSE_WATCHDOG, 0, &failures, random * 7919, &delay);
		least = delay < least ? delay : least;
		most = delay > most ? delay : most;
	}
	assert_int_equal(least, 800);
	assert_int_equal(most, 1200);
	for (int i = 0; i < 2; i++) {
		unsigned failures = 0;
		uint64_t delay = 0;

		restart_decide(
			&on_failure, CAUSE_WATCHDOG, 0, &failures, i ? UINT32_MAX : 0, &delay);
		assert_in_range(delay, 800, 1200);
	}
}

static void test_odd_rules(void **state)
{
	struct restart_rules rules = on_failure;
	unsigned failures = 3;
	uint64_t delay = 77;

	/* No wait at all, and a longest wait that is shorter than the first. */
	rules.delay_ms = 0;
	assert_int_equal(restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay),
		RESTART_AGAIN);
	assert_int_equal(delay, 0);
	rules.delay_ms = 5000;
	rules.max_delay_ms = 2000;
	failures = 0;
	restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay);
	assert_int_equal(delay, 2000);
	/* A day, the most that a key takes, doubled for ever. */
	rules.delay_ms = rules.max_delay_ms = 86400000;
	failures = 60;
	rules.limit = 0;
	restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay);
	assert_int_equal(delay, 86400000);
}

/* A run that was long enough starts the count anew, one millisecond less does not. */
static void test_stability(void **state)
{
	unsigned failures = 4;
	uint64_t delay = 0;

	restart_decide(&on_failure, CAUSE_GUEST_PANIC, 59999, &failures, EVEN, &delay);
	assert_int_equal(failures, 5);
	assert_int_equal(delay, 16000);
	/* At its limit; but it was stable. */
	assert_int_equal(
		restart_decide(&on_failure, CAUSE_GUEST_PANIC, 60000, &failures, EVEN, &delay),
		RESTART_AGAIN);
	assert_int_equal(failures, 1);
	assert_int_equal(delay, 1000);
}

static void test_limit(void **state)
{
	struct restart_rules rules = on_failure;
	unsigned failures = 0;
	uint64_t delay = 0;

	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(
			restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay),
			RESTART_AGAIN);
	assert_int_equal(restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay),
		RESTART_GIVE_UP);
	assert_int_equal(failures, 5);
	/* The limit was lowered meanwhile. */
	rules.limit = 2;
	assert_int_equal(restart_decide(&rules, CAUSE_GUEST_PANIC, 0, &failures, EVEN, &delay),
		RESTART_GIVE_UP);
	/* `always` heeds it too, also for a guest that shuts down at once again and again. */
	rules.policy = RESTART_ALWAYS;
	assert_int_equal(restart_decide(&rules, CAUSE_GUEST_SHUTDOWN, 0, &failures, EVEN, &delay),
		RESTART_GIVE_UP);
	rules.limit = 0;
	assert_int_equal(restart_decide(&rules, CAUSE_GUEST_SHUTDOWN, 0, &failures, EVEN, &delay),
		RESTART_AGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_backoff),
		cmocka_unit_test(test_jitter),
		cmocka_unit_test(test_odd_rules),
		cmocka_unit_test(test_stability),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}

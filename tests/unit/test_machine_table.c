/* The transitions of a machine: every cell, and what an empty one does. */
#include "tests/unit/drover-rig.h"

#include <stdlib.h>
#include <string.h>

#include "supervisor/migrate.h"

struct cell {
	enum machine_state from;
	enum machine_event ev;
	enum machine_state next;
	machine_action_fn *action;
};

#define ROW(from, ev, next, action)                                                                \
	{                                                                                          \
		MACHINE_##from, EV_##ev, MACHINE_##next, action                                    \
	}

static const struct cell cells[] = {
	ROW(STOPPED, START, PREPARING, machine_begin_prepare),

	ROW(PREPARING, PREPARED, STARTING, machine_begin_spawn),
	ROW(PREPARING, LOAD, RESTORING, machine_begin_spawn),
	ROW(PREPARING, MIGRATE, MIGRATING, machine_begin_spawn),
	ROW(PREPARING, START_FAILED, STOPPING, machine_begin_teardown),
	ROW(PREPARING, STOP, STOPPING, machine_cancel_start),

	ROW(STARTING, UP, RUNNING, machine_now_up),
	ROW(STARTING, START_FAILED, STOPPING, machine_begin_teardown),
	ROW(STARTING, EXITED, STOPPING, machine_begin_teardown),
	ROW(STARTING, STOP, STOPPING, machine_cancel_start),

	ROW(RESTORING, UP, PAUSED, machine_now_loaded),
	ROW(RESTORING, START_FAILED, STOPPING, machine_begin_teardown),
	ROW(RESTORING, EXITED, STOPPING, machine_begin_teardown),
	ROW(RESTORING, STOP, STOPPING, machine_cancel_start),

	ROW(MIGRATING, UP, MIGRATING, machine_now_waiting),
	ROW(MIGRATING, RESUMED, RUNNING, NULL),
	ROW(MIGRATING, START_FAILED, STOPPING, machine_begin_teardown),
	ROW(MIGRATING, EXITED, STOPPING, machine_begin_teardown),
	ROW(MIGRATING, STOP, STOPPING, machine_end_migrating),

	ROW(SAVING, RESUMED, RUNNING, NULL),
	ROW(SAVING, SAVED, PAUSED, NULL),
	ROW(SAVING, STOP, STOPPING, machine_begin_shutdown),
	ROW(SAVING, EXITED, STOPPING, machine_begin_teardown),

	ROW(RUNNING, SAVE, SAVING, NULL),
	ROW(RUNNING, MIGRATE, MIGRATING, NULL),
	ROW(RUNNING, PAUSED, PAUSED, NULL),
	ROW(RUNNING, STOP, STOPPING, machine_begin_shutdown),
	ROW(RUNNING, EXITED, STOPPING, machine_begin_teardown),

	ROW(PAUSED, SAVE, SAVING, NULL),
	ROW(PAUSED, RESUMED, RUNNING, NULL),
	ROW(PAUSED, STOP, STOPPING, machine_begin_shutdown),
	ROW(PAUSED, EXITED, STOPPING, machine_begin_teardown),

	ROW(UNKNOWN, UP, RUNNING, NULL),
	ROW(UNKNOWN, RESUMED, RUNNING, NULL),
	ROW(UNKNOWN, PAUSED, PAUSED, NULL),
	ROW(UNKNOWN, MIGRATE, MIGRATING, NULL),
	ROW(UNKNOWN, STOP, STOPPING, machine_begin_shutdown),
	ROW(UNKNOWN, EXITED, STOPPING, machine_begin_teardown),

	ROW(STOPPING, START_FAILED, STOPPING, machine_begin_teardown),
	ROW(STOPPING, EXITED, STOPPING, machine_begin_teardown),
	ROW(STOPPING, STOP, STOPPING, machine_begin_shutdown),
	ROW(STOPPING, CLEAN, STOPPING, machine_settle),
	ROW(STOPPING, REST, STOPPED, machine_at_rest),
	ROW(STOPPING, WAIT, BACKOFF, machine_at_rest),
	ROW(STOPPING, GIVE_UP, FAILED, machine_at_rest),
	ROW(STOPPING, AGAIN, PREPARING, machine_begin_prepare),

	ROW(BACKOFF, START, PREPARING, machine_begin_prepare),
	ROW(BACKOFF, STOP, STOPPED, machine_leave_rest),

	ROW(FAILED, START, PREPARING, machine_begin_prepare),
	ROW(FAILED, STOP, STOPPED, machine_leave_rest),
};

static const struct cell *expected(enum machine_state s, enum machine_event ev)
{
	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		if (cells[i].from == s && cells[i].ev == ev)
			return &cells[i];
	}
	return NULL;
}

static void test_every_cell(void **state)
{
	for (int s = 0; s < MACHINE_STATES; s++) {
		for (int ev = 0; ev < MACHINE_EVENTS; ev++) {
			const struct cell *want = expected(
				(enum machine_state)s, (enum machine_event)ev);
			const struct transition *t = machine_transition(
				(enum machine_state)s, (enum machine_event)ev);

			if (t->valid != (want != NULL))
				fail_msg("%s, event %d: %s", machine_state_name(s), ev,
					t->valid ? "valid" : "empty");
			if (want == NULL)
				continue;
			assert_int_equal(t->next, want->next);
			assert_true(t->action == want->action);
		}
	}
}

/* States that some transition enters, and those that an adoption begins with. */
static bool entered(enum machine_state s)
{
	if (s == MACHINE_STOPPED || s == MACHINE_UNKNOWN)
		return true;
	for (int from = 0; from < MACHINE_STATES; from++) {
		for (int ev = 0; ev < MACHINE_EVENTS; ev++) {
			const struct transition *t = machine_transition(
				(enum machine_state)from, (enum machine_event)ev);

			if (t->valid && t->next == s && from != (int)s)
				return true;
		}
	}
	return false;
}

/* Marks all states from which `to` can be reached. */
static void reaching(enum machine_state to, bool reach[MACHINE_STATES])
{
	bool more = true;

	memset(reach, 0, MACHINE_STATES * sizeof(*reach));
	reach[to] = true;
	while (more) {
		more = false;
		for (int s = 0; s < MACHINE_STATES; s++) {
			for (int ev = 0; !reach[s] && ev < MACHINE_EVENTS; ev++) {
				const struct transition *t = machine_transition(
					(enum machine_state)s, (enum machine_event)ev);

				if (t->valid && reach[t->next])
					reach[s] = more = true;
			}
		}
	}
}

/* Whatever a machine is in, it can be stopped and it can run; none is a trap. */
static void test_no_trap(void **state)
{
	bool stopped[MACHINE_STATES], running[MACHINE_STATES];

	reaching(MACHINE_STOPPED, stopped);
	reaching(MACHINE_RUNNING, running);
	for (int s = 0; s < MACHINE_STATES; s++) {
		if (!entered((enum machine_state)s))
			continue;
		if (!stopped[s] || !running[s])
			fail_msg("%s is a trap", machine_state_name((enum machine_state)s));
	}
}

/* A stop is heard in every state that a machine can be in, but where it has stopped. */
static void test_stop_is_heard(void **state)
{
	for (int s = 0; s < MACHINE_STATES; s++) {
		if (entered((enum machine_state)s) && s != MACHINE_STOPPED)
			assert_true(machine_transition((enum machine_state)s, EV_STOP)->valid);
	}
}

static void test_names(void **state)
{
	for (int s = 0; s < MACHINE_STATES; s++) {
		assert_non_null(machine_state_name((enum machine_state)s));
		for (int other = 0; other < s; other++)
			assert_string_not_equal(machine_state_name((enum machine_state)s),
				machine_state_name((enum machine_state)other));
	}
}

/* Nothing is written, published or changed. */
static void test_empty_cells(void **state)
{
	struct drover_rig r;
	struct machine *m;
	unsigned n = 0;

	drover_rig_init(&r, "[vm web]\nkernel = /boot/k\nautostart = no\n");
	m = drover_rig_machine(&r, "web");
	for (int s = 0; s < MACHINE_STATES; s++) {
		for (int ev = 0; ev < MACHINE_EVENTS; ev++) {
			if (machine_transition((enum machine_state)s, (enum machine_event)ev)
					->valid)
				continue;
			m->state = (enum machine_state)s;
			machine_event(m, (enum machine_event)ev);
			assert_int_equal(m->state, s);
			n++;
		}
	}
	assert_int_equal(n, MACHINE_STATES * MACHINE_EVENTS - ARRAY_LEN(cells));
	assert_string_equal(drover_rig_events(&r), "");
	assert_null(drover_rig_text(&r, "state/vm/web/state.json"));
	assert_int_equal(m->npending, 0);
	m->state = MACHINE_STOPPED;
	drover_rig_finish(&r);
}

/* A change is published once, with where it came from; the same state again is not. */
static void test_set_state(void **state)
{
	struct drover_rig r;
	struct machine *m;
	char *text;

	drover_rig_init(&r, "[vm web]\nkernel = /boot/k\nautostart = no\n");
	m = drover_rig_machine(&r, "web");
	machine_set_state(m, MACHINE_PREPARING);
	machine_set_state(m, MACHINE_PREPARING);
	assert_string_equal(drover_rig_events(&r), "vm web state\n");
	/* It is written at the end of the loop's turn, or before something rests on it. */
	machine_flush(m);
	text = drover_rig_text(&r, "state/vm/web/state.json");
	assert_non_null(strstr(text, "\"state\":\"preparing\""));
	free(text);
	machine_set_state(m, MACHINE_STOPPED);
	drover_rig_finish(&r);
}

/* A change in the turn of the loop in which the daemon lets go is not lost to the next one. */
static void test_release_saves(void **state)
{
	struct drover_rig r;
	char *text;

	drover_rig_init(&r, "[vm web]\nkernel = /boot/k\nautostart = no\n");
	machine_set_state(drover_rig_machine(&r, "web"), MACHINE_PREPARING);
	machines_release(&r.d);
	text = drover_rig_text(&r, "state/vm/web/state.json");
	assert_non_null(text);
	assert_non_null(strstr(text, "\"state\":\"preparing\""));
	free(text);
	drover_rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_no_trap),
		cmocka_unit_test(test_stop_is_heard),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_empty_cells),
		cmocka_unit_test(test_set_state),
		cmocka_unit_test(test_release_saves),
	};

	return cmocka_run_group_tests_name("machine_table", tests, NULL, NULL);
}

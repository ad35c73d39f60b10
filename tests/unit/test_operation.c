/* Operations: each ends once, and those who wait are told once. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "supervisor/operation.h"

static struct operations *ops;

static int setup(void **state)
{
	return operations_create(&ops, NULL);
}

static int teardown(void **state)
{
	operations_destroy(ops);
	return 0;
}

static uint64_t id_of(const struct operation *op)
{
	json_t *j = operation_json(op);
	uint64_t id = (uint64_t)json_int(j, "id", 0);

	json_decref(j);
	return id;
}

static void assert_member(const struct operation *op, const char *key, const char *value)
{
	json_t *j = operation_json(op);

	assert_true(str_eq(json_str(j, key), value));
	json_decref(j);
}

static unsigned cancelled;

static int cancel(void *arg, struct err *err)
{
	assert_ptr_equal(arg, &cancelled);
	cancelled++;
	return 0;
}

struct waiter {
	struct operation_wait wait;
	unsigned told;
	enum operation_state state;
	struct operation_wait *victim;
	bool begins;   /* another operation, within the callback */
	unsigned many; /* so many others, within the callback */
};

static void ended(void *arg, struct operation *op)
{
	struct waiter *w = arg;

	w->told++;
	w->state = operation_state(op);
	if (w->victim != NULL)
		operation_unwait(w->victim);
	for (unsigned i = 0; i < w->many; i++)
		operation_end(operation_begin(ops, "next", "web", NULL, NULL), NULL);
	if (w->begins)
		operation_end(operation_begin(ops, "next", "web", NULL, NULL), NULL);
}

static void wait_for(struct waiter *w, struct operation *op)
{
	*w = (struct waiter){ .wait = { .ended = ended, .arg = w } };
	operation_wait(op, &w->wait);
}

/* The one that is being told must outlive all that end meanwhile, also for the next who waits. */
static void test_many_within(void **state)
{
	struct operation *op = operation_begin(ops, "stop", "web", NULL, NULL);
	uint64_t id = id_of(op);
	struct waiter first, second;
	struct err err;

	wait_for(&first, op);
	first.many = 150;
	wait_for(&second, op);
	err_set(&err, -ENOSPC, "no room");
	operation_end(op, &err);
	assert_int_equal(first.told, 1);
	assert_int_equal(second.told, 1);
	assert_int_equal(second.state, OPERATION_FAILED);
	/* Then it goes as the others do. */
	for (unsigned i = 0; i < 100; i++)
		operation_end(operation_begin(ops, "next", "web", NULL, NULL), NULL);
	assert_null(operation_find(ops, id));
}

static void test_life(void **state)
{
	struct operation *op = operation_begin(ops, "start", "web", NULL, NULL);
	uint64_t id = id_of(op);
	json_t *j;

	assert_int_equal(operation_state(op), OPERATION_RUNNING);
	assert_string_equal(operation_verb(op), "start");
	assert_null(operation_error(op));
	assert_ptr_equal(operation_find(ops, id), op);
	operation_step(op, "kernel");
	j = operation_json(op);
	assert_string_equal(json_str(j, "verb"), "start");
	assert_string_equal(json_str(j, "vm"), "web");
	assert_string_equal(json_str(j, "state"), "running");
	assert_string_equal(json_str(j, "step"), "kernel");
	assert_true(json_is_null(json_object_get(j, "error")));
	assert_true(json_is_null(json_object_get(j, "ended")));
	json_decref(j);
	operation_end(op, NULL);
	assert_int_equal(operation_state(op), OPERATION_DONE);
	assert_ptr_equal(operation_find(ops, id), op);
	j = operation_json(op);
	assert_string_equal(json_str(j, "state"), "done");
	assert_string_equal(json_str(j, "step"), "kernel");
	assert_non_null(json_str(j, "ended"));
	json_decref(j);
	operation_step(NULL, "of nothing");
}

static void test_outcomes(void **state)
{
	struct err failed, was_cancelled;
	struct operation *a = operation_begin(ops, "pull", NULL, NULL, NULL);
	struct operation *b = operation_begin(ops, "start", "web", NULL, NULL);

	err_set(&failed, -ENOSPC, "no room");
	err_set(&was_cancelled, -ECANCELED, "stopped");
	operation_end(a, &failed);
	operation_end(b, &was_cancelled);
	/* The errors are the operations' own. */
	memset(&failed, 0, sizeof(failed));
	memset(&was_cancelled, 0, sizeof(was_cancelled));
	assert_int_equal(operation_state(a), OPERATION_FAILED);
	assert_int_equal(operation_error(a)->code, -ENOSPC);
	assert_member(a, "error", "no room");
	assert_member(a, "state", "failed");
	assert_member(a, "vm", NULL);
	assert_int_equal(operation_state(b), OPERATION_CANCELLED);
	assert_member(b, "state", "cancelled");
	assert_member(b, "error", "stopped");
}

static void test_cancel(void **state)
{
	struct operation *op = operation_begin(ops, "start", "web", cancel, &cancelled);
	struct operation *deaf = operation_begin(ops, "stop", "web", NULL, NULL);
	struct err err;

	cancelled = 0;
	assert_int_equal(operation_cancel(op, &err), 0);
	assert_int_equal(cancelled, 1);
	/* It is for its owner to end it; asking again asks again. */
	assert_int_equal(operation_state(op), OPERATION_RUNNING);
	assert_int_equal(operation_cancel(deaf, &err), -ENOTSUP);
	assert_string_equal(err.msg, "stop cannot be cancelled");
	/* It was done before the cancelling reached it. */
	operation_end(op, NULL);
	assert_int_equal(operation_state(op), OPERATION_DONE);
	assert_int_equal(operation_cancel(op, &err), -EBADFD);
	assert_string_equal(err.msg, "operation 1 has ended");
	assert_int_equal(cancelled, 1);
	operation_end(deaf, NULL);
}

/* All are told, once; one may take another out, or begin and end the next, in its turn. */
static void test_waiters(void **state)
{
	struct operation *op = operation_begin(ops, "start", "web", NULL, NULL);
	struct waiter w[5];

	for (size_t i = 0; i < 5; i++)
		wait_for(&w[i], op);
	operation_unwait(&w[0].wait);
	operation_unwait(&w[0].wait);
	w[1].victim = &w[2].wait;
	w[3].begins = true;
	operation_end(op, NULL);
	assert_int_equal(w[0].told, 0);
	assert_int_equal(w[1].told, 1);
	assert_int_equal(w[1].state, OPERATION_DONE);
	assert_int_equal(w[2].told, 0);
	assert_int_equal(w[3].told, 1);
	assert_int_equal(w[4].told, 1);
	assert_non_null(operation_find(ops, 2));
	/* Too late to be taken out is no harm. */
	operation_unwait(&w[4].wait);
}

/* The last hundred that ended are there; one that runs is never forgotten. */
static void test_history(void **state)
{
	struct operation *runs = operation_begin(ops, "start", "long", NULL, NULL);
	uint64_t first = 0, last = 0;
	json_t *all;

	for (unsigned i = 0; i < 150; i++) {
		struct operation *op = operation_begin(ops, "start", "web", NULL, NULL);

		last = id_of(op);
		first = first == 0 ? last : first;
		operation_end(op, NULL);
	}
	assert_int_equal(last - first, 149);
	assert_null(operation_find(ops, first));
	assert_null(operation_find(ops, last - 100));
	assert_non_null(operation_find(ops, last - 99));
	assert_non_null(operation_find(ops, last));
	assert_ptr_equal(operation_find(ops, id_of(runs)), runs);
	assert_null(operation_find(ops, last + 1));
	assert_null(operation_find(ops, 0));
	all = operations_json(ops);
	assert_int_equal(json_array_size(all), 101);
	/* Oldest first, those that run at the end. */
	assert_int_equal(json_int(json_array_get(all, 0), "id", 0), last - 99);
	assert_int_equal(json_int(json_array_get(all, 99), "id", 0), last);
	assert_int_equal(json_int(json_array_get(all, 100), "id", 0), id_of(runs));
	json_decref(all);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_many_within),
		T(test_life),
		T(test_outcomes),
		T(test_cancel),
		T(test_waiters),
		T(test_history),
	};

	return cmocka_run_group_tests_name("operation", tests, NULL, NULL);
}

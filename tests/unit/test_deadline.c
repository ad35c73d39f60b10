/* The timer that is armed, moved and cancelled freely. */
#include "tests/unit/rig.h"

#include <time.h>
#include "lib/clock.h"
#include "lib/deadline.h"
#include "lib/list.h"

struct owner {
	struct deadline d;
	unsigned fired, closed;
	bool news, gone;
	unsigned again; /* how often the callback arms it once more */
	bool close_inside;
};

static void closed(void *arg)
{
	struct owner *o = arg;

	o->closed++;
	o->gone = true;
}

static void fired(void *arg)
{
	struct owner *o = arg;

	o->fired++;
	o->news = true;
	assert_false(deadline_armed(&o->d));
	if (o->again > 0) {
		o->again--;
		deadline_set(&o->d, 1);
	}
	if (o->close_inside)
		deadline_close(&o->d, closed);
}

static void finish(struct owner *o, uv_loop_t *loop)
{
	deadline_close(&o->d, closed);
	assert_int_equal(o->closed, 0);
	rig_run_until(loop, &o->gone);
	assert_int_equal(o->closed, 1);
	rig_loop_finish(loop);
}

static void fires_once_for_each_set(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct owner o = { .again = 2 };

	assert_int_equal(deadline_init(&o.d, loop, fired, &o), 0);
	assert_false(deadline_armed(&o.d));
	deadline_set(&o.d, 0);
	assert_true(deadline_armed(&o.d));
	/* Not from within the call. */
	assert_int_equal(o.fired, 0);
	while (o.again > 0 || deadline_armed(&o.d)) {
		o.news = false;
		rig_run_until(loop, &o.news);
	}
	assert_int_equal(o.fired, 3);
	rig_run_for(loop, 20);
	assert_int_equal(o.fired, 3);
	finish(&o, loop);
}

static void moves_and_cancels(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct owner near = { 0 }, far = { 0 };

	assert_int_equal(deadline_init(&near.d, loop, fired, &near), 0);
	assert_int_equal(deadline_init(&far.d, loop, fired, &far), 0);
	/* Away from an expiry that is due, and back from one that never comes. */
	deadline_set(&near.d, 0);
	deadline_set(&near.d, 3600000);
	deadline_set(&far.d, 3600000);
	deadline_set(&far.d, 0);
	rig_run_until(loop, &far.news);
	rig_run_for(loop, 20);
	assert_int_equal(near.fired, 0);
	assert_true(deadline_armed(&near.d));
	deadline_cancel(&near.d);
	assert_false(deadline_armed(&near.d));
	deadline_cancel(&near.d);
	/* Armed again after all that it still works. */
	deadline_set(&near.d, 1);
	rig_run_until(loop, &near.news);
	assert_int_equal(near.fired, 1);
	deadline_close(&near.d, NULL);
	assert_false(deadline_armed(&near.d));
	deadline_cancel(&near.d);
	finish(&far, loop);
}

/* libuv's now is that of the turn's begin: a turn that takes long must not eat the time. */
static void a_long_turn_does_not_cut_it_short(void **state)
{
	struct timespec nap = { .tv_nsec = 120 * 1000 * 1000 };
	uv_loop_t *loop = rig_loop();
	struct owner o = { 0 };
	uint64_t begin;

	assert_int_equal(deadline_init(&o.d, loop, fired, &o), 0);
	uv_update_time(loop);
	nanosleep(&nap, NULL);
	begin = clock_mono_ms();
	deadline_set(&o.d, 100);
	rig_run_until(loop, &o.news);
	/* Both clocks are cut to whole milliseconds. */
	assert_true(clock_mono_ms() - begin >= 98);
	finish(&o, loop);
}

static void closing_stops_it(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct owner o = { 0 }, inside = { .close_inside = true };

	assert_int_equal(deadline_init(&inside.d, loop, fired, &inside), 0);
	assert_int_equal(deadline_init(&o.d, loop, fired, &o), 0);
	deadline_set(&inside.d, 0);
	rig_run_until(loop, &inside.gone);
	assert_int_equal(inside.fired, 1);
	assert_int_equal(inside.closed, 1);
	deadline_set(&o.d, 0);
	finish(&o, loop);
	assert_int_equal(o.fired, 0);
}

static void one_that_was_never_made_closes_at_once(void **state)
{
	struct owner o = { 0 };

	o.d.arg = &o;
	assert_false(deadline_armed(&o.d));
	deadline_cancel(&o.d);
	deadline_close(&o.d, NULL);
	deadline_close(&o.d, closed);
	assert_int_equal(o.closed, 1);
}

/* lib/list.h, by which owners of all kinds are kept. */
struct item {
	int n;
	struct list link;
};

static int sum_in_order(struct list *head)
{
	struct item *i;
	int sum = 0;

	list_for_each_entry (i, head, link)
		sum = sum * 10 + i->n;
	return sum;
}

static void lists_keep_their_order(void **state)
{
	struct item v[6] = { { 0 } }, *i, *tmp;
	struct list a, b, none;

	list_init(&a);
	list_init(&b);
	list_init(&none);
	assert_true(list_empty(&a));
	assert_null(list_first(&a, struct item, link));
	for (int n = 0; n < 6; n++)
		v[n].n = n + 1;
	list_append(&a, &v[1].link);
	list_append(&a, &v[2].link);
	list_prepend(&a, &v[0].link);
	list_append(&b, &v[5].link);
	list_add_before(&v[5].link, &v[4].link);
	list_add_before(&v[4].link, &v[3].link);
	assert_int_equal(sum_in_order(&a), 123);
	assert_int_equal(sum_in_order(&b), 456);
	assert_ptr_equal(list_first(&b, struct item, link), &v[3]);
	list_splice(&a, &b);
	assert_true(list_empty(&b));
	assert_int_equal(sum_in_order(&a), 123456);
	list_splice(&a, &b);
	list_splice(&a, &none);
	assert_int_equal(sum_in_order(&a), 123456);
	/* And backwards, along the other links. */
	assert_ptr_equal(a.prev, &v[5].link);
	assert_ptr_equal(v[3].link.prev, &v[2].link);
	list_splice(&b, &a);
	assert_true(list_empty(&a));
	assert_int_equal(sum_in_order(&b), 123456);
	list_for_each_entry_safe (i, tmp, &b, link) {
		if (i->n % 2 == 0)
			list_remove(&i->link);
	}
	assert_int_equal(sum_in_order(&b), 135);
	/* A second time it does no harm, also while others are there. */
	list_remove(&v[1].link);
	list_remove(&v[0].link);
	list_remove(&v[0].link);
	assert_int_equal(sum_in_order(&b), 35);
	/* Popped until it is empty. */
	while ((i = list_first(&b, struct item, link)) != NULL)
		list_remove(&i->link);
	assert_true(list_empty(&b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fires_once_for_each_set),
		cmocka_unit_test(moves_and_cancels),
		cmocka_unit_test(a_long_turn_does_not_cut_it_short),
		cmocka_unit_test(closing_stops_it),
		cmocka_unit_test(one_that_was_never_made_closes_at_once),
		cmocka_unit_test(lists_keep_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/util.h"
#include "netcfg/link.h"
#include "netcfg/linkdel.h"
#include "tests/unit/netns.h"

struct fixture {
	uv_loop_t *loop;
	struct link_deleter *d;
	unsigned done, failed;
	int last_code;
	unsigned wanted;
	bool all, closed;
};

static void setup(struct fixture *f)
{
	struct err err;

	memset(f, 0, sizeof(*f));
	netns_enter();
	f->loop = rig_loop();
	assert_int_equal(link_deleter_create(&f->d, f->loop, &err), 0);
}

static void closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void finish(struct fixture *f)
{
	if (!f->closed) {
		link_deleter_destroy(f->d, closed, f);
		rig_run_until(f->loop, &f->closed);
	}
	rig_loop_finish(f->loop);
}

static void deleted(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	if (err != NULL) {
		f->failed++;
		f->last_code = err->code;
	}
	f->all = ++f->done == f->wanted;
}

static void make_tap(const char *name)
{
	struct err err;
	int fd = -1;

	assert_int_equal(tap_open(name, 0, &fd, &err), 0);
	close(fd);
}

static void many_go_together(void **state)
{
	struct fixture f;
	char name[16];

	setup(&f);
	f.wanted = 41;
	make_tap("other");
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "tap%u", i);
		make_tap(name);
		assert_int_equal(link_deleter_tap(f.d, name, deleted, &f, NULL), 0);
	}
	assert_int_equal(link_deleter_tap(f.d, "missing", deleted, &f, NULL), 0);
	assert_int_equal(f.done, 0);
	rig_run_until(f.loop, &f.all);
	assert_int_equal(f.failed, 0);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "tap%u", i);
		assert_false(link_exists(name));
	}
	assert_true(link_exists("other"));
	finish(&f);
}

static void only_the_wrong_one_fails(void **state)
{
	struct fixture f;
	int fd = -1;

	setup(&f);
	f.wanted = 3;
	make_tap("tap0");
	/* One whose queue is open, as that of a hypervisor that is still there. */
	assert_int_equal(tap_open("tap1", 0, &fd, NULL), 0);
	sh("ip link add name br0 type bridge");
	assert_int_equal(link_deleter_tap(f.d, "tap0", deleted, &f, NULL), 0);
	assert_int_equal(link_deleter_tap(f.d, "br0", deleted, &f, NULL), 0);
	assert_int_equal(link_deleter_tap(f.d, "tap1", deleted, &f, NULL), 0);
	rig_run_until(f.loop, &f.all);
	assert_int_equal(f.failed, 1);
	assert_int_equal(f.last_code, -EBUSY);
	assert_true(link_exists("br0"));
	assert_false(link_exists("tap0") || link_exists("tap1"));
	close(fd);
	assert_int_equal(link_deleter_tap(f.d, "a-name-too-long-", deleted, &f, NULL), -EINVAL);
	finish(&f);
}

static void again(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	deleted(f, err);
	make_tap("second");
	assert_int_equal(link_deleter_tap(f->d, "second", deleted, f, NULL), 0);
}

static void a_callback_may_ask_for_more(void **state)
{
	struct fixture f;

	setup(&f);
	f.wanted = 2;
	make_tap("first");
	assert_int_equal(link_deleter_tap(f.d, "first", again, &f, NULL), 0);
	rig_run_until(f.loop, &f.all);
	assert_int_equal(f.failed, 0);
	assert_false(link_exists("first") || link_exists("second"));
	finish(&f);
}

static void the_end_cancels_what_waits(void **state)
{
	struct fixture f;

	setup(&f);
	f.wanted = 1;
	make_tap("tap0");
	assert_int_equal(link_deleter_tap(f.d, "tap0", deleted, &f, NULL), 0);
	link_deleter_destroy(f.d, closed, &f);
	assert_int_equal(f.done, 0);
	rig_run_until(f.loop, &f.closed);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.last_code, -ECANCELED);
	assert_true(link_exists("tap0"));
	finish(&f);
}

static void the_end_waits_for_what_runs(void **state)
{
	struct fixture f;

	setup(&f);
	f.wanted = 1;
	make_tap("tap0");
	assert_int_equal(link_deleter_tap(f.d, "tap0", deleted, &f, NULL), 0);
	/* One turn starts the work; its end is another turn's. */
	uv_run(f.loop, UV_RUN_NOWAIT);
	uv_run(f.loop, UV_RUN_NOWAIT);
	link_deleter_destroy(f.d, closed, &f);
	rig_run_until(f.loop, &f.closed);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.failed, 0);
	assert_false(link_exists("tap0"));
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_go_together),
		cmocka_unit_test(only_the_wrong_one_fails),
		cmocka_unit_test(a_callback_may_ask_for_more),
		cmocka_unit_test(the_end_cancels_what_waits),
		cmocka_unit_test(the_end_waits_for_what_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Whoever touches our table is noticed; what happens to other tables, and to elements, is not. */
#include "tests/unit/netns.h"

#include <stdlib.h>
#include "lib/str.h"
#include "netcfg/nft-monitor.h"

struct fixture {
	uv_loop_t *loop;
	struct nft_monitor *m;
	unsigned touched;
	bool news, closed, destroy;
};

static void closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void touched(void *arg)
{
	struct fixture *f = arg;

	f->touched++;
	f->news = true;
	if (f->destroy)
		nft_monitor_destroy(f->m, closed, f);
}

static struct fixture setup(void)
{
	netns_enter();
	return (struct fixture){ .loop = rig_loop() };
}

static void watch(struct fixture *f)
{
	struct err err;

	if (nft_monitor_create(&f->m, f->loop, touched, f, &err) < 0)
		fail_msg("%s", err.msg);
}

static void finish(struct fixture *f)
{
	if (!f->destroy)
		nft_monitor_destroy(f->m, closed, f);
	assert_false(f->closed && !f->destroy);
	rig_run_until(f->loop, &f->closed);
	rig_loop_finish(f->loop);
}

static void await(struct fixture *f, const char *command)
{
	/* All that was before. */
	do {
		f->news = false;
		uv_run(f->loop, UV_RUN_NOWAIT);
	} while (f->news);
	sh("nft '%s'", command);
	rig_run_until(f->loop, &f->news);
}

static void every_change_of_ours_is_told(void **state)
{
	static const char *const commands[] = {
		"add table inet drover",
		"add chain inet drover input { type filter hook input priority 0; }",
		"add chain inet drover input { policy drop; }",
		"add rule inet drover input counter",
		"add set inet drover s { type ipv4_addr; }; add chain inet drover c",
		"delete set inet drover s",
		"add table inet drover { flags dormant; }",
		"flush chain inet drover input",
		"delete chain inet drover c",
		"flush table inet drover; add rule inet drover input accept",
		"flush ruleset",
	};
	struct fixture f = setup();

	watch(&f);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		await(&f, commands[i]);
	finish(&f);
}

/* A change of ours comes after the others: it is the first that is told. */
static void others_and_elements_are_not_told(void **state)
{
	struct fixture f = setup();

	sh("nft 'add table inet drover; add set inet drover s { type ipv4_addr; }'");
	watch(&f);
	sh("nft 'add element inet drover s { 10.0.0.1 }; delete element inet drover s { 10.0.0.1 }'");
	sh("nft 'add table inet drover2; add chain inet drover2 c; add rule inet drover2 c accept'");
	sh("nft 'add table inet drove; add table ip drover; add chain ip drover c'");
	sh("nft 'add table bridge drover; delete table bridge drover; delete table inet drover2'");
	/* Everything that came is read, several batches of it. */
	for (int i = 0; i < 100; i++)
		uv_run(f.loop, UV_RUN_NOWAIT);
	assert_int_equal(f.touched, 0);
	await(&f, "add chain inet drover c");
	finish(&f);
}

/* Several are told as one, but the last is told after it happened. */
static void a_storm_is_no_many_calls(void **state)
{
	struct fixture f = setup();

	sh("nft 'add table inet drover; add chain inet drover c'");
	watch(&f);
	sh("for i in $(seq 300); do echo add rule inet drover c counter; done | nft -f -");
	rig_run_until(f.loop, &f.news);
	for (int i = 0; i < 100; i++)
		uv_run(f.loop, UV_RUN_NOWAIT);
	assert_in_range(f.touched, 1, 20);
	finish(&f);
}

/*
 * More than the socket holds: something was lost, so it must be looked at. Told when there is room
 * again, so that nothing is missed from then on.
 */
static void lost_events_count_as_a_touch(void **state)
{
	struct fixture f = setup();

	sh("nft 'add table inet other; add chain inet other c'");
	watch(&f);
	sh("for i in $(seq 60000); do echo add rule inet other c counter; done | nft -f -");
	rig_run_until(f.loop, &f.news);
	await(&f, "add table inet drover");
	finish(&f);
}

static void its_callback_may_destroy_it(void **state)
{
	struct fixture f = setup();

	watch(&f);
	f.destroy = true;
	sh("nft 'add table inet drover'; nft 'add chain inet drover c'");
	finish(&f);
	assert_int_equal(f.touched, 1);
}

static void none_is_destroyed_at_once(void **state)
{
	struct fixture f = { 0 };

	nft_monitor_destroy(NULL, NULL, NULL);
	nft_monitor_destroy(NULL, closed, &f);
	assert_true(f.closed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_change_of_ours_is_told),
		cmocka_unit_test(others_and_elements_are_not_told),
		cmocka_unit_test(a_storm_is_no_many_calls),
		cmocka_unit_test(lost_events_count_as_a_touch),
		cmocka_unit_test(its_callback_may_destroy_it),
		cmocka_unit_test(none_is_destroyed_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

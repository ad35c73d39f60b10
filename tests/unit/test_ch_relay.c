/* The way of a guest from one cloud-hypervisor to another, where its ends are not as they should be. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/ch-relay.h"
#include "lib/file.h"

struct side {
	bool done, closed;
	int code;
};

static void on_done(void *arg, const struct err *err)
{
	struct side *s = arg;

	s->done = true;
	s->code = err != NULL ? err->code : 0;
}

static void on_held(void *arg)
{
	fail_msg("nothing was sent");
}

static void on_closed(void *arg)
{
	((struct side *)arg)->closed = true;
}

/* The hypervisor connects while no descriptor is left for it. */
static void test_no_descriptor(void **state)
{
	struct side s = { false };
	char path[64];
	uv_loop_t *loop = rig_loop();
	struct ch_relay_opts o = { .path = path, .held = on_held, .done = on_done, .arg = &s };
	struct ch_relay *r;
	struct err err;
	int pair[2], fd;

	snprintf(path, sizeof(path), "/tmp/drover-relay-%d.sock", (int)getpid());
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	o.fd = pair[0];
	assert_int_equal(ch_relay_create(&r, loop, &o, &err), 0);
	assert_int_equal(unix_connect(path, &fd, &err), 0);
	rig_descriptors(false);
	assert_true(rig_turns(loop, 300) < 100);
	rig_descriptors(true);
	assert_false(s.done);
	/* It is heard of now: its end is one of the stream. */
	close(fd);
	rig_run_until(loop, &s.done);
	assert_int_equal(s.code, -ECONNRESET);
	assert_int_equal(access(path, F_OK), -1);
	ch_relay_destroy(r, on_closed, &s);
	rig_run_until(loop, &s.closed);
	close(pair[1]);
	rig_loop_finish(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The listening socket in the loop: who comes is let in, and no descriptor to spare is no busy loop. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/door.h"
#include "lib/file.h"

struct host {
	struct door d;
	char path[64];
	unsigned guests, awaited;
	bool came, gone; /* as many as are awaited */
	bool shuts;      /* behind the first */
};

static void came(void *arg, int fd)
{
	struct host *h = arg;

	h->guests++;
	h->came = h->guests >= h->awaited;
	close(fd);
	if (h->shuts)
		door_shut(&h->d);
}

static void gone(void *arg)
{
	((struct host *)arg)->gone = true;
}

static uv_loop_t *open_door(struct host *h)
{
	uv_loop_t *loop = rig_loop();
	struct err err;
	int fd;

	snprintf(h->path, sizeof(h->path), "/tmp/drover-door-%d.sock", (int)getpid());
	assert_int_equal(unix_listen(h->path, 0600, 16, &fd, &err), 0);
	assert_int_equal(door_open(&h->d, loop, fd, came, h), 0);
	return loop;
}

static int come(const struct host *h)
{
	struct err err;
	int fd;

	assert_int_equal(unix_connect(h->path, &fd, &err), 0);
	return fd;
}

static void finish(struct host *h, uv_loop_t *loop)
{
	door_close(&h->d, gone, h);
	assert_false(h->gone);
	rig_run_until(loop, &h->gone);
	unlink(h->path);
	rig_loop_finish(loop);
}

static void lets_in(void **state)
{
	struct host h = { .awaited = 2 };
	uv_loop_t *loop = open_door(&h);
	int a = come(&h), b = come(&h), c;

	rig_run_until(loop, &h.came);
	assert_int_equal(h.guests, 2);
	door_hold(&h.d);
	c = come(&h);
	h.came = false;
	h.awaited = 3;
	rig_run_for(loop, 20);
	assert_false(h.came);
	door_let_in(&h.d);
	rig_run_until(loop, &h.came);
	close(a);
	close(b);
	close(c);
	finish(&h, loop);
}

static void does_not_spin(void **state)
{
	struct host h = { 0 };
	uv_loop_t *loop = open_door(&h);
	int fd = come(&h);

	rig_descriptors(false);
	assert_true(rig_turns(loop, 300) < 100);
	assert_false(h.came);
	rig_descriptors(true);
	rig_run_until(loop, &h.came);
	close(fd);
	finish(&h, loop);
}

/* Whoever holds the listening socket, too (a child that was spawned meanwhile), keeps nobody waiting. */
static void shut_from_within(void **state)
{
	struct host h = { .shuts = true };
	uv_loop_t *loop = open_door(&h);
	int a = come(&h), copy = dup(h.d.fd), b;
	struct err err;

	rig_run_until(loop, &h.came);
	assert_int_equal(unix_connect(h.path, &b, &err), -ECONNREFUSED);
	rig_run_for(loop, 20);
	assert_int_equal(h.guests, 1);
	close(a);
	close(copy);
	finish(&h, loop);
}

static void one_that_was_never_open_closes_at_once(void **state)
{
	struct host h = { 0 };

	door_hold(&h.d);
	door_let_in(&h.d);
	door_shut(&h.d);
	door_close(&h.d, gone, &h);
	assert_true(h.gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lets_in),
		cmocka_unit_test(does_not_spin),
		cmocka_unit_test(shut_from_within),
		cmocka_unit_test(one_that_was_never_open_closes_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

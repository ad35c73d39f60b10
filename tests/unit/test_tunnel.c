/* What disks are copied through: two sockets that are one, whoever is slow and whoever ends it. */
#include "tests/unit/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/str.h"
#include "supervisor/tunnel.h"
#include "supervisor/wire.h"

#define MUCH (8 * 1024 * 1024)
#define ID   "0123456789abcdef0123456789abcdef"
#define MORE "fedcba9876543210fedcba9876543210"

struct rig {
	uv_loop_t loop;
	struct tunnel *t;
	char path[64];
	int near, far; /* the ends that are the test's */
};

static void finish(struct rig *r)
{
	tunnel_destroy(r->t);
	if (r->near >= 0)
		close(r->near);
	if (r->far >= 0)
		close(r->far);
	assert_int_equal(uv_run(&r->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&r->loop), 0);
	assert_int_equal(access(r->path, F_OK), -1);
}

static void init(struct rig *r)
{
	struct err err;

	*r = (struct rig){ .near = -1, .far = -1 };
	uv_loop_init(&r->loop);
	snprintf(r->path, sizeof(r->path), "/tmp/drover-tunnel-%d-%p.sock", (int)getpid(),
		(void *)r);
	assert_int_equal(tunnel_create(&r->t, &r->loop, &err), 0);
}

static int far_end(struct rig *r)
{
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	/* The lower number, which one that was closed too early had, is the tunnel's. */
	r->far = fds[1];
	return fds[0];
}

static int come(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Offered, listened for, and found. */
static void connected(struct rig *r)
{
	struct err err;

	init(r);
	assert_int_equal(tunnel_offer(r->t, far_end(r), &err), 0);
	assert_int_equal(tunnel_listen(r->t, r->path, &err), 0);
	r->near = come(r->path);
	assert_true(r->near >= 0);
}

/* More than fits anywhere, read in pieces by somebody slow. */
static void pass(struct rig *r, int from, int to)
{
	static char buf[50000];
	size_t written = 0, got = 0;
	unsigned idle = 0;

	while (got < MUCH) {
		size_t left = MUCH - written, want = left < sizeof(buf) ? left : sizeof(buf);
		ssize_t n;

		for (size_t i = 0; i < want; i++)
			buf[i] = (char)((written + i) % 251);
		n = want > 0 ? send(from, buf, want, MSG_NOSIGNAL) : 0;
		written += n > 0 ? (size_t)n : 0;
		uv_run(&r->loop, UV_RUN_NOWAIT);
		n = recv(to, buf, 30000, 0);
		assert_int_not_equal(n, 0);
		assert_true(n > 0 || errno == EAGAIN);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], (char)((got + (size_t)i) % 251));
		got += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		if (idle > 100)
			usleep(1000);
		assert_true(idle < 30000);
	}
}

static void ends(struct rig *r, int fd)
{
	ssize_t n = -1;
	char c;

	for (unsigned i = 0; i < 30000 && n < 0; i++) {
		uv_run(&r->loop, UV_RUN_NOWAIT);
		n = recv(fd, &c, 1, 0);
		if (n < 0)
			usleep(1000);
	}
	assert_int_equal(n, 0);
}

static void test_both_ways(void **state)
{
	struct rig r;

	connected(&r);
	pass(&r, r.near, r.far);
	pass(&r, r.far, r.near);
	/* Who was offered is found once. */
	assert_int_equal(come(r.path), -1);
	finish(&r);
}

static void test_ends(void **state)
{
	struct rig r;

	connected(&r);
	pass(&r, r.near, r.far);
	close(r.near);
	r.near = -1;
	ends(&r, r.far);
	finish(&r);

	connected(&r);
	pass(&r, r.near, r.far);
	close(r.far);
	r.far = -1;
	ends(&r, r.near);
	finish(&r);

	connected(&r);
	pass(&r, r.near, r.far);
	tunnel_destroy(r.t);
	r.t = NULL;
	ends(&r, r.near);
	ends(&r, r.far);
	finish(&r);
}

static void test_join(void **state)
{
	struct rig r;
	struct err err;
	int listener;

	init(&r);
	assert_int_equal(tunnel_join(r.t, far_end(&r), r.path, &err), -ENOENT);
	ends(&r, r.far);
	close(r.far);
	listener = tunnel_socket(r.path, &err);
	assert_true(listener >= 0);
	assert_int_equal(tunnel_join(r.t, far_end(&r), r.path, &err), 0);
	r.near = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(r.near >= 0);
	pass(&r, r.far, r.near);
	close(listener);
	unlink(r.path);
	finish(&r);
}

/* Nobody comes for what is offered. */
static void test_unwanted(void **state)
{
	struct rig r;
	struct err err;

	init(&r);
	assert_int_equal(tunnel_offer(r.t, far_end(&r), &err), 0);
	assert_int_equal(tunnel_listen(r.t, r.path, &err), 0);
	tunnel_destroy(r.t);
	r.t = NULL;
	ends(&r, r.far);
	finish(&r);
}

/* Who comes while no descriptor is left waits for one, and the loop for both of them. */
static void test_no_descriptor(void **state)
{
	struct rig r;

	connected(&r);
	rig_descriptors(false);
	assert_true(rig_turns(&r.loop, 300) < 100);
	rig_descriptors(true);
	pass(&r, r.near, r.far);
	finish(&r);
}

/*
 * A hypervisor that was spawned meanwhile may hold the listening socket, too: whoever connects behind
 * the last that was offered is refused, instead of waiting in a queue that nobody looks at; and the
 * loop, whose epoll descriptor knows the socket as long as anybody has it open, does not turn for it.
 */
static void test_door_is_held(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct rig r;
	struct err err;
	int copy = -1, late;

	init(&r);
	assert_int_equal(tunnel_offer(r.t, far_end(&r), &err), 0);
	assert_int_equal(tunnel_listen(r.t, r.path, &err), 0);
	for (int fd = 3; fd < 100 && copy < 0; fd++) {
		socklen_t len = sizeof(un);
		int listens = 0, size = sizeof(listens);

		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, (socklen_t *)&size) == 0 &&
			listens && getsockname(fd, (struct sockaddr *)&un, &len) == 0 &&
			strcmp(un.sun_path, r.path) == 0)
			copy = dup(fd);
	}
	assert_true(copy >= 0);
	r.near = come(r.path);
	/* In the queue already when the door is shut. */
	late = come(r.path);
	assert_true(r.near >= 0 && late >= 0);
	pass(&r, r.near, r.far);
	ends(&r, late);
	close(late);
	assert_true(rig_turns(&r.loop, 300) < 100);
	close(copy);
	finish(&r);
}

/*
 * A tunnel whose door is shut goes while another one is at work in the same loop: what it takes out of
 * epoll is its own, and no descriptor that has got the same number since.
 */
static void test_two_in_a_loop(void **state)
{
	struct rig a, b = { .near = -1, .far = -1 };
	struct err err;

	connected(&a);
	pass(&a, a.near, a.far);
	assert_int_equal(come(a.path), -1);
	snprintf(b.path, sizeof(b.path), "%s", a.path);
	assert_int_equal(tunnel_create(&b.t, &a.loop, &err), 0);
	assert_int_equal(tunnel_offer(b.t, far_end(&b), &err), 0);
	assert_int_equal(tunnel_listen(b.t, b.path, &err), 0);
	b.near = come(b.path);
	assert_true(b.near >= 0);
	pass(&a, b.near, b.far);
	tunnel_destroy(a.t);
	uv_run(&a.loop, UV_RUN_NOWAIT);
	pass(&a, b.far, b.near);
	pass(&a, b.near, b.far);
	a.t = b.t;
	close(b.near);
	close(b.far);
	finish(&a);
}

/* ---- a receiver that takes more connections than one ---- */

static unsigned mains, others;
static int others_fd = -1;

static void on_main(void *arg, int fd, const struct err *err)
{
	assert_null(err);
	mains++;
	close(fd);
}

static void on_more(void *arg, int fd)
{
	others++;
	if (others_fd >= 0)
		close(others_fd);
	others_fd = fd;
}

static void on_sent(void *arg, int fd, const struct err *err)
{
	assert_null(err);
	close(fd);
}

static void turn_until(uv_loop_t *loop, const unsigned *n, unsigned want)
{
	for (unsigned i = 0; i < 30000 && *n < want; i++) {
		uv_run(loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_int_equal(*n, want);
}

static void test_more(void **state)
{
	struct wire *listener, *sender;
	char *actual = NULL;
	uv_loop_t loop;
	struct err err;

	netns_enter();
	uv_loop_init(&loop);
	assert_int_equal(
		wire_listen(&listener, &loop, "tcp:127.0.0.1:0", ID, &actual, on_main, NULL, &err),
		0);
	wire_more(listener, MORE, on_more);
	for (unsigned i = 1; i <= 12; i++) {
		assert_int_equal(
			wire_connect(&sender, &loop, actual, MORE, 30000, on_sent, NULL, &err), 0);
		turn_until(&loop, &others, i);
		if (i == 6) {
			assert_int_equal(wire_connect(&sender, &loop, actual, ID, 30000, on_sent,
						 NULL, &err),
				0);
			turn_until(&loop, &mains, 1);
		}
	}
	/* The first id has been said, and is nobody else's. */
	assert_int_equal(wire_connect(&sender, &loop, actual, ID, 30000, on_sent, NULL, &err), 0);
	assert_int_equal(wire_connect(&sender, &loop, actual, MORE, 30000, on_sent, NULL, &err), 0);
	turn_until(&loop, &others, 13);
	assert_int_equal(mains, 1);
	close(others_fd);
	wire_destroy(listener);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	free(actual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_unwanted),
		cmocka_unit_test(test_no_descriptor),
		cmocka_unit_test(test_door_is_held),
		cmocka_unit_test(test_two_in_a_loop),
		cmocka_unit_test(test_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

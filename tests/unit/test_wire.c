/* The connection over which a guest migrates: who knows the id gets it, nobody else does. */
#include "tests/unit/netns.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/str.h"
#include "lib/file.h"
#include "supervisor/tunnel.h"
#include "supervisor/wire.h"

#define ID    "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"

struct side {
	int fd, code;
	bool done;
};

static void on_done(void *arg, int fd, const struct err *err)
{
	struct side *s = arg;

	assert_false(s->done);
	s->done = true;
	s->fd = fd;
	s->code = err != NULL ? err->code : 0;
}

static void turn(uv_loop_t *loop)
{
	uv_run(loop, UV_RUN_NOWAIT);
	usleep(1000);
}

static void until(uv_loop_t *loop, const bool *flag)
{
	for (unsigned i = 0; i < 30000 && !*flag; i++)
		turn(loop);
	assert_true(*flag);
}

static void finish(uv_loop_t *loop)
{
	assert_int_equal(uv_run(loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(loop), 0);
}

/* What one side writes the other one reads, from the first byte on. */
static void talk(int a, int b)
{
	char buf[8] = "";

	assert_int_equal(write(a, "guest", 5), 5);
	for (unsigned i = 0; i < 1000 && read(b, buf, sizeof(buf)) < 0; i++)
		usleep(1000);
	assert_string_equal(buf, "guest");
}

static void meet(const char *address)
{
	struct side in = { .fd = -1 }, out = { .fd = -1 };
	struct wire *listener, *sender;
	char *actual = NULL;
	uv_loop_t loop;
	struct err err;

	uv_loop_init(&loop);
	if (wire_listen(&listener, &loop, address, ID, &actual, on_done, &in, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(wire_connect(&sender, &loop, actual, ID, 30000, on_done, &out, &err), 0);
	until(&loop, &in.done);
	until(&loop, &out.done);
	assert_int_equal(in.code, 0);
	assert_int_equal(out.code, 0);
	talk(out.fd, in.fd);
	close(in.fd);
	close(out.fd);
	free(actual);
	finish(&loop);
}

static char *socket_path(void)
{
	return str_printf("unix:/tmp/drover-wire-%d.sock", (int)getpid());
}

static void test_meet(void **state)
{
	char *path;

	netns_enter();
	path = socket_path();
	meet("tcp:127.0.0.1:0");
	meet("tcp:[::1]:0");
	meet(path);
	assert_int_equal(access(path + 5, F_OK), -1);
	free(path);
}

static int stranger(const char *actual)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(strrchr(actual, ':') + 1)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS);
	return fd;
}

static void until_sent_away(uv_loop_t *loop, int fd)
{
	char c;
	ssize_t n = -1;

	for (unsigned i = 0; i < 30000 && n < 0; i++) {
		turn(loop);
		n = read(fd, &c, 1);
		if (n < 0 && errno != EAGAIN)
			break;
	}
	assert_true(n == 0 || errno == ECONNRESET);
	close(fd);
}

/* More of them than there are places, with what is nearly the id. */
static void test_strangers(void **state)
{
	static const char *const said[] = { "0123456789abcdef0123456789abcdee\n",
		"0123456789abcdef0123456789abcdef0",
		"GET / HTTP/1.1\r\nHost: there.example\r\n\r\n" };
	struct side in = { .fd = -1 }, out = { .fd = -1 };
	struct wire *listener, *sender;
	char *actual = NULL;
	uv_loop_t loop;
	struct err err;

	uv_loop_init(&loop);
	assert_int_equal(
		wire_listen(&listener, &loop, "tcp:127.0.0.1:0", ID, &actual, on_done, &in, &err),
		0);
	for (unsigned i = 0; i < 30; i++) {
		const char *text = said[i % 3];
		int fd = stranger(actual);

		for (unsigned j = 0; j < 1000 && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0;
			j++)
			turn(&loop);
		until_sent_away(&loop, fd);
	}
	assert_false(in.done);
	assert_int_equal(wire_connect(&sender, &loop, actual, ID, 30000, on_done, &out, &err), 0);
	until(&loop, &in.done);
	until(&loop, &out.done);
	talk(in.fd, out.fd);
	close(in.fd);
	close(out.fd);
	free(actual);
	finish(&loop);
}

/* Nobody comes, or nobody is there. */
static void test_alone(void **state)
{
	struct side in = { .fd = -1 }, out = { .fd = -1 };
	struct wire *listener, *sender;
	char *actual = NULL, *path = socket_path();
	uv_loop_t loop;
	struct err err;

	uv_loop_init(&loop);
	assert_int_equal(
		wire_listen(&listener, &loop, "tcp:127.0.0.1:0", ID, &actual, on_done, &in, &err),
		0);
	wire_destroy(listener);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_false(in.done);
	if (wire_connect(&sender, &loop, actual, ID, 30000, on_done, &out, &err) == 0) {
		until(&loop, &out.done);
		assert_int_equal(out.code, -ECONNREFUSED);
	}
	assert_true(wire_connect(&sender, &loop, path, ID, 30000, on_done, &out, &err) < 0);
	free(path);
	free(actual);
	finish(&loop);
}

/* A slip of who names the address costs nobody a file. */
static void test_no_socket(void **state)
{
	struct side in = { .fd = -1 };
	struct wire *listener;
	char *actual = NULL, *address = socket_path();
	const char *path = address + strlen("unix:");
	uv_loop_t loop;
	struct err err;

	uv_loop_init(&loop);
	assert_int_equal(file_write_atomic(path, "mine", 4, 0600, false, &err), 0);
	assert_int_equal(wire_listen(&listener, &loop, address, ID, &actual, on_done, &in, &err),
		-EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	free(address);
	finish(&loop);
}

/* No descriptor is left for who connects: that is waited for, and not by turning without end. */
static void test_no_descriptor(void **state)
{
	struct side in = { .fd = -1 }, out = { .fd = -1 };
	struct wire *listener, *sender;
	char *actual = NULL, *path = socket_path();
	uv_loop_t *loop = rig_loop();
	struct err err;

	assert_int_equal(wire_listen(&listener, loop, path, ID, &actual, on_done, &in, &err), 0);
	assert_int_equal(wire_connect(&sender, loop, actual, ID, 30000, on_done, &out, &err), 0);
	rig_descriptors(false);
	assert_true(rig_turns(loop, 300) < 100);
	rig_descriptors(true);
	rig_run_until(loop, &in.done);
	rig_run_until(loop, &out.done);
	talk(out.fd, in.fd);
	close(in.fd);
	close(out.fd);
	free(actual);
	free(path);
	rig_loop_finish(loop);
}

static unsigned others;

static void on_other(void *arg, int fd)
{
	others++;
	close(fd);
}

/* As many disks as a machine can have, which are connected while the receiver is busy elsewhere. */
static void meet_many(const char *address)
{
	enum {
		MANY = TUNNEL_MAX
	};
	struct side in = { .fd = -1 }, out[MANY] = { { .fd = -1 } };
	struct wire *listener, *sender;
	char *actual = NULL;
	uv_loop_t here, there;
	struct err err;

	others = 0;
	uv_loop_init(&here);
	uv_loop_init(&there);
	assert_int_equal(
		wire_listen(&listener, &there, address, ID, &actual, on_done, &in, &err), 0);
	wire_more(listener, OTHER, on_other);
	for (unsigned i = 0; i < MANY; i++) {
		if (wire_connect(&sender, &here, actual, OTHER, 30000, on_done, &out[i], &err) < 0)
			fail_msg("%u: %s", i, err.msg);
		until(&here, &out[i].done);
		assert_int_equal(out[i].code, 0);
	}
	for (unsigned i = 0; i < 30000 && others < MANY; i++)
		turn(&there);
	assert_int_equal(others, MANY);
	for (unsigned i = 0; i < MANY; i++)
		close(out[i].fd);
	wire_destroy(listener);
	free(actual);
	finish(&here);
	finish(&there);
}

static void test_many(void **state)
{
	char *path = socket_path();

	netns_enter();
	meet_many("tcp:127.0.0.1:0");
	meet_many(path);
	free(path);
}

/* They have all connected before the first of them says who it is. */
static void test_many_slow(void **state)
{
	enum {
		MANY = TUNNEL_MAX
	};
	struct side in = { .fd = -1 };
	struct wire *listener;
	char *actual = NULL;
	int fds[MANY];
	uv_loop_t loop;
	struct err err;

	netns_enter();
	others = 0;
	uv_loop_init(&loop);
	assert_int_equal(
		wire_listen(&listener, &loop, "tcp:127.0.0.1:0", ID, &actual, on_done, &in, &err),
		0);
	wire_more(listener, OTHER, on_other);
	for (unsigned i = 0; i < MANY; i++)
		fds[i] = stranger(actual);
	for (unsigned i = 0; i < 100; i++)
		turn(&loop);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(send(fds[i], OTHER "\n", strlen(OTHER) + 1, MSG_NOSIGNAL),
			strlen(OTHER) + 1);
	for (unsigned i = 0; i < 30000 && others < MANY; i++)
		turn(&loop);
	assert_int_equal(others, MANY);
	for (unsigned i = 0; i < MANY; i++)
		close(fds[i]);
	wire_destroy(listener);
	free(actual);
	finish(&loop);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = { "", "tcp:", "tcp:1", "tcp:host:1", "tcp:127.0.0.1:65536",
		"tcp:127.0.0.1:", "tcp:::1:1", "unix:relative", "http://there:1" };
	char path[200] = "unix:/";
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_true(wire_check(bad[i], &err) < 0);
	memset(path + 6, 'x', sizeof(path) - 7);
	assert_int_equal(wire_check(path, &err), -ENAMETOOLONG);
	assert_int_equal(wire_check("tcp:[fd00::1]:4444", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_meet),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_no_descriptor),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_many_slow),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

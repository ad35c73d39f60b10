/* The console's socket: drained always, written through a bounded queue, lost once. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hv/serial.h"
#include "lib/str.h"

struct fixture {
	uv_loop_t *loop;
	struct serial *c;
	int guest; /* the other end */
	unsigned fds;
	struct buf text;
	unsigned lost;
	bool news, gone, closed;
	bool destroy_at_data, destroy_at_lost;
};

static void closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct fixture *f = arg;

	assert_int_equal(f->lost, 0);
	assert_non_null(f->c);
	buf_add(&f->text, data, len);
	f->news = true;
	if (f->destroy_at_data) {
		serial_destroy(f->c, closed, f);
		f->c = NULL;
	}
}

static void on_lost(void *arg)
{
	struct fixture *f = arg;

	f->lost++;
	f->gone = true;
	if (f->destroy_at_lost) {
		serial_destroy(f->c, closed, f);
		f->c = NULL;
	}
}

static struct fixture setup(void)
{
	struct fixture f = { .loop = rig_loop() };

	f.fds = rig_count_fds();
	return f;
}

static void start(struct fixture *f)
{
	struct serial_callbacks cb = { on_data, on_lost, f };
	struct err err;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	f->guest = fd[1];
	if (serial_create(&f->c, f->loop, fd[0], &cb, &err) < 0)
		fail_msg("%s", err.msg);
}

static void finish(struct fixture *f)
{
	if (f->c != NULL) {
		serial_destroy(f->c, closed, f);
		/* Not from within the call. */
		assert_false(f->closed);
	}
	rig_run_until(f->loop, &f->closed);
	close(f->guest);
	assert_int_equal(rig_count_fds(), f->fds);
	rig_loop_finish(f->loop);
	buf_finish(&f->text);
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->guest, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void await(struct fixture *f, size_t len)
{
	while (f->text.len < len) {
		f->news = false;
		rig_run_until(f->loop, &f->news);
	}
}

static void both_directions(void **state)
{
	struct fixture f = setup();
	char text[10];

	start(&f);
	say(&f, "hel");
	await(&f, 3);
	say(&f, "lo\r\n");
	await(&f, 7);
	assert_string_equal(buf_str(&f.text), "hello\r\n");
	assert_int_equal(serial_write(f.c, "ls\r", 3), 0);
	assert_int_equal(recv(f.guest, text, sizeof(text), 0), 3);
	assert_memory_equal(text, "ls\r", 3);
	assert_int_equal(serial_write(f.c, "", 0), 0);
	finish(&f);
	assert_int_equal(f.lost, 0);
}

/* The last words and the end of it come in this order, once. */
static void the_last_words_come_before_the_end(void **state)
{
	struct fixture f = setup();

	start(&f);
	say(&f, "panic: ");
	say(&f, "the end");
	shutdown(f.guest, SHUT_RDWR);
	rig_run_until(f.loop, &f.gone);
	assert_string_equal(buf_str(&f.text), "panic: the end");
	assert_int_equal(serial_write(f.c, "x", 1), -ENOTCONN);
	serial_drain(f.c);
	rig_run_for(f.loop, 20);
	assert_int_equal(f.lost, 1);
	finish(&f);
}

/* Without the loop, for a guest whose process is gone. */
static void draining_reads_all_at_once(void **state)
{
	struct fixture f = setup();
	char *big = malloc(150000);
	int size = 1 << 20;
	ssize_t n;

	start(&f);
	memset(big, 'x', 150000);
	setsockopt(f.guest, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	n = send(f.guest, big, 150000, MSG_NOSIGNAL);
	assert_true(n > 70000);
	serial_drain(f.c);
	assert_int_equal(f.text.len, n);
	assert_int_equal(f.lost, 0);
	say(&f, "y");
	close(f.guest);
	f.guest = -1;
	serial_drain(f.c);
	assert_int_equal(f.text.len, n + 1);
	assert_int_equal(f.lost, 1);
	free(big);
	finish(&f);
}

/* A guest that does not read: what does not fit is refused whole, and nothing is lost or mixed. */
static void a_guest_that_does_not_read(void **state)
{
	struct fixture f = setup();
	char piece[1000], back[4096];
	size_t taken = 0, got = 0;
	int r;

	start(&f);
	do {
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = (char)((taken + i) % 251);
		r = serial_write(f.c, piece, sizeof(piece));
		if (r == 0)
			taken += sizeof(piece);
	} while (r == 0);
	assert_int_equal(r, -EAGAIN);
	assert_true(taken >= SERIAL_QUEUE_MAX - sizeof(piece));
	/* A smaller one may still fit; one that never could is refused as well. */
	assert_int_equal(serial_write(f.c, piece, SERIAL_QUEUE_MAX + 1), -EAGAIN);
	/* The other direction is drained all the same. */
	say(&f, "still printing");
	await(&f, 14);
	while (got < taken) {
		ssize_t n = recv(f.guest, back, sizeof(back), 0);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			uv_run(f.loop, UV_RUN_NOWAIT);
			continue;
		}
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal((unsigned char)back[i], (got + (size_t)i) % 251);
		got += (size_t)n;
	}
	assert_int_equal(serial_write(f.c, piece, sizeof(piece)), 0);
	finish(&f);
}

static void its_callbacks_may_destroy_it(void **state)
{
	struct fixture f = setup();

	f.destroy_at_data = true;
	start(&f);
	say(&f, "x");
	rig_run_until(f.loop, &f.closed);
	assert_null(f.c);
	finish(&f);
	assert_int_equal(f.lost, 0);
	f = setup();
	f.destroy_at_lost = true;
	start(&f);
	say(&f, "x");
	shutdown(f.guest, SHUT_WR);
	rig_run_until(f.loop, &f.closed);
	finish(&f);
	assert_int_equal(f.lost, 1);
	/* Within a drain too. */
	f = setup();
	f.destroy_at_data = true;
	start(&f);
	say(&f, "x");
	serial_drain(f.c);
	assert_null(f.c);
	finish(&f);
}

/* A guest that was killed with unread input: the connection is reset, which is an end as well. */
static void a_reset_is_an_end(void **state)
{
	struct fixture f = setup();

	start(&f);
	assert_int_equal(serial_write(f.c, "unread", 6), 0);
	say(&f, "last");
	close(f.guest);
	f.guest = -1;
	rig_run_until(f.loop, &f.gone);
	assert_string_equal(buf_str(&f.text), "last");
	finish(&f);
}

static void what_cannot_be_watched_is_closed(void **state)
{
	struct fixture f = setup();
	struct serial_callbacks cb = { on_data, on_lost, &f };
	int fd;
	struct err err;

	/* A plain file, which epoll refuses. */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	f.fds = rig_count_fds();
	assert_true(serial_create(&f.c, f.loop, fd, &cb, &err) < 0);
	assert_non_null(strstr(err.msg, "serial console: "));
	assert_null(f.c);
	assert_int_equal(rig_count_fds(), f.fds - 1);
	serial_destroy(NULL, closed, &f);
	assert_true(f.closed);
	rig_loop_finish(f.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions),
		cmocka_unit_test(the_last_words_come_before_the_end),
		cmocka_unit_test(draining_reads_all_at_once),
		cmocka_unit_test(a_guest_that_does_not_read),
		cmocka_unit_test(its_callbacks_may_destroy_it),
		cmocka_unit_test(a_reset_is_an_end),
		cmocka_unit_test(what_cannot_be_watched_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

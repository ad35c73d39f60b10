#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/console.h"

struct setup {
	uv_loop_t *loop;
	char *dir, *logs, *socket;
	struct console *console;
	struct buf input, lines;
	bool got_input;
	bool destroy_on_input;
};

static int on_input(void *arg, const char *data, size_t len)
{
	struct setup *s = arg;

	buf_add(&s->input, data, len);
	s->got_input = true;
	if (s->destroy_on_input)
		console_destroy(s->console);
	return 0;
}

static void on_line(void *arg, const char *line)
{
	struct setup *s = arg;

	buf_printf(&s->lines, "[%s]", line);
}

static void open_boot(struct setup *s, unsigned boot, uint64_t max_bytes)
{
	struct console_opts opts = { .log_dir = s->logs,
		.socket_path = s->socket,
		.boot = boot,
		.max_bytes = max_bytes,
		.input = on_input,
		.line = on_line,
		.arg = s };
	struct err err;

	if (console_create(&s->console, s->loop, &opts, &err) < 0)
		fail_msg("%s", err.msg);
}

static void setup(struct setup *s)
{
	*s = (struct setup){ .loop = rig_loop(), .dir = rig_tmp() };
	s->logs = path_join(s->dir, "a/logs");
	s->socket = path_join(s->dir, "console.sock");
}

static void finish(struct setup *s)
{
	rig_loop_finish(s->loop);
	rig_tmp_finish(s->dir);
	free(s->logs);
	free(s->socket);
	buf_finish(&s->input);
	buf_finish(&s->lines);
}

static void put(struct setup *s, const char *text)
{
	console_write(s->console, text, strlen(text));
}

static int connect_to(struct setup *s)
{
	unsigned before = console_clients(s->console);
	int fd = -1;
	struct err err;

	if (unix_connect(s->socket, &fd, &err) < 0)
		fail_msg("%s", err.msg);
	for (int i = 0; i < 1000 && console_clients(s->console) == before; i++)
		uv_run(s->loop, UV_RUN_ONCE);
	assert_int_equal(console_clients(s->console), before + 1);
	return fd;
}

static void assert_log(struct setup *s, int64_t boot, const char *text, unsigned number)
{
	struct buf log = { 0 };
	unsigned got = 0;
	struct err err;

	if (console_log_read(s->logs, boot, &log, &got, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(buf_str(&log), text);
	assert_int_equal(got, number);
	buf_finish(&log);
}

static void assert_read(int fd, const char *text)
{
	char data[256] = "";
	ssize_t n = recv(fd, data, sizeof(data) - 1, 0);

	assert_true(n >= 0);
	assert_string_equal(data, text);
}

static void test_readers_and_writers(void **state)
{
	struct setup s;
	struct stat st;
	int a, b, c;

	setup(&s);
	open_boot(&s, 1, 1 << 20);
	assert_int_equal(stat(s.socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	put(&s, "nobody reads this\n");
	a = connect_to(&s);
	b = connect_to(&s);
	put(&s, "hello\r\n");
	assert_read(a, "hello\r\n");
	assert_read(b, "hello\r\n");

	assert_int_equal(send(b, "ls\n", 3, 0), 3);
	rig_run_until(s.loop, &s.got_input);
	assert_string_equal(buf_str(&s.input), "ls\n");

	/* One that only closes its writing side goes on reading; one that goes is forgotten. */
	shutdown(a, SHUT_WR);
	close(b);
	for (int i = 0; i < 1000 && console_clients(s.console) == 2; i++)
		uv_run(s.loop, UV_RUN_ONCE);
	rig_run_for(s.loop, 20);
	assert_int_equal(console_clients(s.console), 1);
	put(&s, "more");
	assert_read(a, "more");
	close(a);
	put(&s, "\n");
	assert_int_equal(console_clients(s.console), 0);

	assert_log(&s, 0, "nobody reads this\nhello\r\nmore\n", 1);
	c = connect_to(&s);
	console_destroy(s.console);
	assert_read(c, "");
	close(c);
	assert_int_equal(access(s.socket, F_OK), -1);
	finish(&s);
}

/* The guest, the log and a quick reader do not notice one that never reads. */
static void test_slow_reader(void **state)
{
	char chunk[4096], sink[8192];
	struct setup s;
	size_t total = 0, seen = 0;
	int slow, quick;
	ssize_t n;

	memset(chunk, 'x', sizeof(chunk));
	setup(&s);
	open_boot(&s, 1, 64 << 20);
	slow = connect_to(&s);
	quick = connect_to(&s);
	while (console_clients(s.console) == 2 && total < 32u << 20) {
		console_write(s.console, chunk, sizeof(chunk));
		total += sizeof(chunk);
		uv_run(s.loop, UV_RUN_NOWAIT);
		while ((n = recv(quick, sink, sizeof(sink), MSG_DONTWAIT)) > 0)
			seen += (size_t)n;
	}
	assert_int_equal(console_clients(s.console), 1);
	/* Its queue and what the kernel's buffers hold, not more. */
	assert_true(total < 8u << 20);
	assert_true(total > 256u << 10);
	for (int i = 0; i < 1000 && seen < total; i++) {
		uv_run(s.loop, UV_RUN_NOWAIT);
		while ((n = recv(quick, sink, sizeof(sink), MSG_DONTWAIT)) > 0)
			seen += (size_t)n;
	}
	assert_int_equal(seen, total);
	close(slow);
	close(quick);
	console_destroy(s.console);
	finish(&s);
}

/* A reader that pauses gets all that was queued for it, in order. */
static void test_queue(void **state)
{
	struct setup s;
	struct buf sent = { 0 }, got = { 0 };
	char data[4096];
	ssize_t n;
	int fd;

	setup(&s);
	open_boot(&s, 1, 64 << 20);
	fd = connect_to(&s);
	for (unsigned i = 0; sent.len < 250u << 10; i++) {
		size_t from = sent.len;

		buf_printf(&sent, "line %u of many that are to come in order\n", i);
		console_write(s.console, sent.data + from, sent.len - from);
	}
	assert_int_equal(console_clients(s.console), 1);
	for (int i = 0; i < 10000 && got.len < sent.len; i++) {
		n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
		if (n > 0)
			buf_add(&got, data, (size_t)n);
		else
			uv_run(s.loop, UV_RUN_NOWAIT);
	}
	assert_string_equal(buf_str(&got), buf_str(&sent));
	close(fd);
	console_destroy(s.console);
	buf_finish(&sent);
	buf_finish(&got);
	finish(&s);
}

static off_t size_of(struct setup *s, const char *name)
{
	char *path = path_join(s->logs, name);
	struct stat st = { .st_size = -1 };

	if (stat(path, &st) < 0)
		st.st_size = -1;
	free(path);
	return st.st_size;
}

static void test_bound(void **state)
{
	struct setup s;
	struct buf log = { 0 };

	setup(&s);
	open_boot(&s, 3, 200);
	for (int i = 0; i < 1000; i++) {
		char line[16];

		snprintf(line, sizeof(line), "%08d\n", i);
		put(&s, line);
		assert_true(size_of(&s, "3.log") <= 100);
		assert_true(size_of(&s, "3.0.log") <= 100);
	}
	assert_int_equal(console_log_read(s.logs, 3, &log, NULL, NULL), 0);
	assert_true(log.len > 100 && log.len <= 200);
	assert_string_equal(buf_str(&log) + log.len - 18, "00000998\n00000999\n");
	buf_finish(&log);
	/* One write that is longer than the bound. */
	char *big = malloc(1001);

	memset(big, 'b', 1000);
	big[1000] = '\0';
	big[999] = 'e';
	put(&s, big);
	free(big);
	assert_int_equal(console_log_read(s.logs, 3, &log, NULL, NULL), 0);
	assert_true(log.len > 100 && log.len <= 200);
	assert_int_equal(log.data[log.len - 1], 'e');
	assert_null(strchr(log.data, '\n'));
	buf_finish(&log);
	console_destroy(s.console);
	finish(&s);
}

static void test_boots(void **state)
{
	struct setup s;
	struct buf log = { 0 };
	struct err err;

	setup(&s);
	assert_int_equal(console_log_read(s.logs, 0, &log, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "there is no console log yet");
	for (unsigned boot = 1; boot <= 13; boot++) {
		char text[32];

		open_boot(&s, boot, 8);
		snprintf(text, sizeof(text), "%u", boot);
		put(&s, text);
		if (boot == 2)
			put(&s, "a longer text, in two files");
		console_destroy(s.console);
		uv_run(s.loop, UV_RUN_NOWAIT);
	}
	assert_log(&s, 0, "13", 13);
	assert_log(&s, -1, "12", 12);
	assert_log(&s, 5, "5", 5);
	assert_log(&s, -9, "4", 4);
	assert_int_equal(console_log_read(s.logs, -10, &log, NULL, &err), -ENOENT);
	assert_int_equal(console_log_read(s.logs, 2, &log, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "there is no console log of boot 2: there are 4 to 13");
	assert_int_equal(size_of(&s, "2.0.log"), -1);
	/* An adopted machine's log goes on, and so do its last lines. */
	open_boot(&s, 13, 1 << 20);
	put(&s, " and on\n");
	assert_log(&s, 0, "13 and on\n", 13);
	console_destroy(s.console);
	finish(&s);
}

static void test_lines(void **state)
{
	struct setup s;
	struct buf many = { 0 };

	setup(&s);
	open_boot(&s, 1, 1 << 20);
	put(&s, "plain\r\nsplit ");
	put(&s, "in two\n\033[1;31mred\033[0m \033]0;title\007ok\033(B!\n");
	put(&s, "\033]0;other\033\\bell\a back\b tab\there\n\n");
	put(&s, "cut \033[12\nnext\n");
	assert_string_equal(buf_str(&s.lines),
		"[plain][split in two][red ok!][bell back tab here][][cut ][next]");
	buf_clear(&s.lines);
	for (int i = 0; i < 3000; i++)
		buf_adds(&many, "y");
	buf_adds(&many, "\nend\n");
	put(&s, buf_str(&many));
	assert_int_equal(s.lines.len, 1024 + 2 + 5);
	assert_string_equal(buf_str(&s.lines) + 1026, "[end]");
	buf_finish(&many);
	console_destroy(s.console);
	finish(&s);
}

static void test_tail(void **state)
{
	struct setup s;
	struct strv tail = { 0 };
	size_t bytes = 0;

	setup(&s);
	open_boot(&s, 1, 1 << 20);
	console_tail(s.console, 20, &tail);
	assert_int_equal(tail.n, 0);
	for (int i = 0; i < 5000; i++) {
		char line[32];

		snprintf(line, sizeof(line), "line %d\r\n", i);
		put(&s, line);
	}
	put(&s, "login: ");
	console_tail(s.console, 3, &tail);
	assert_int_equal(tail.n, 3);
	assert_string_equal(tail.v[0], "line 4998");
	assert_string_equal(tail.v[2], "login: ");
	strv_finish(&tail);
	console_tail(s.console, 1000, &tail);
	assert_int_equal(tail.n, 50);
	assert_string_equal(tail.v[0], "line 4951");
	strv_finish(&tail);

	/* The next daemon knows them too. */
	console_destroy(s.console);
	uv_run(s.loop, UV_RUN_NOWAIT);
	buf_clear(&s.lines);
	open_boot(&s, 1, 1 << 20);
	assert_int_equal(s.lines.len, 0);
	console_tail(s.console, 2, &tail);
	assert_int_equal(tail.n, 2);
	assert_string_equal(tail.v[0], "line 4999");
	assert_string_equal(tail.v[1], "login: ");
	strv_finish(&tail);

	/* Bounded in bytes too. */
	for (int i = 0; i < 60; i++) {
		char line[1002];

		memset(line, 'z', 1000);
		strcpy(line + 1000, "\n");
		put(&s, line);
	}
	console_tail(s.console, 50, &tail);
	for (size_t i = 0; i < tail.n; i++)
		bytes += strlen(tail.v[i]);
	assert_int_equal(tail.n, 4);
	assert_true(bytes <= 4096);
	strv_finish(&tail);
	console_destroy(s.console);
	finish(&s);
}

static struct follower {
	struct console_follow follow;
	struct buf text;
	unsigned ended;
} one, two;

static void follow_data(void *arg, const char *data, size_t len)
{
	struct follower *f = arg;

	if (data == NULL)
		f->ended++;
	else
		buf_add(&f->text, data, len);
	if (f == &two)
		console_unfollow(&f->follow);
}

static void test_followers(void **state)
{
	struct setup s;

	setup(&s);
	open_boot(&s, 1, 1 << 20);
	one.follow = (struct console_follow){ .data = follow_data, .arg = &one };
	two.follow = (struct console_follow){ .data = follow_data, .arg = &two };
	console_follow(s.console, &one.follow);
	console_follow(s.console, &two.follow);
	put(&s, "a");
	put(&s, "b");
	console_destroy(s.console);
	assert_string_equal(buf_str(&one.text), "ab");
	assert_int_equal(one.ended, 1);
	assert_string_equal(buf_str(&two.text), "a");
	assert_int_equal(two.ended, 0);
	console_unfollow(&one.follow);
	buf_finish(&one.text);
	buf_finish(&two.text);
	finish(&s);
}

/* The machine may end a console from within what it hears from it. */
static void test_destroy_inside(void **state)
{
	struct setup s;
	unsigned fds;
	int fd;

	setup(&s);
	uv_run(s.loop, UV_RUN_NOWAIT);
	fds = rig_count_fds();
	open_boot(&s, 1, 1 << 20);
	s.destroy_on_input = true;
	fd = connect_to(&s);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	rig_run_until(s.loop, &s.got_input);
	close(fd);
	uv_run(s.loop, UV_RUN_NOWAIT);
	assert_int_equal(rig_count_fds(), fds);
	finish(&s);
}

static void test_create_fails(void **state)
{
	struct console_opts opts = { .boot = 1, .max_bytes = 100 };
	struct console *c = NULL;
	char longer[200];
	unsigned fds;
	struct setup s;
	struct err err;

	setup(&s);
	fds = rig_count_fds();
	memset(longer, 'l', sizeof(longer) - 1);
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	opts.log_dir = s.logs;
	opts.socket_path = longer;
	assert_int_equal(console_create(&c, s.loop, &opts, &err), -ENAMETOOLONG);
	opts.log_dir = "/proc/nowhere";
	opts.socket_path = s.socket;
	assert_true(console_create(&c, s.loop, &opts, &err) < 0);
	assert_null(c);
	assert_int_equal(rig_count_fds(), fds);
	finish(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_and_writers),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_boots),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_followers),
		cmocka_unit_test(test_destroy_inside),
		cmocka_unit_test(test_create_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

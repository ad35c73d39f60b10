/* The monitor's client against a scripted peer on a socketpair. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/json-scan.h"
#include "hv/json-stream.h"
#include "hv/qmp.h"
#include "lib/str.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n"

struct peer {
	uv_loop_t *loop;
	struct qmp *q;
	int fd;           /* the monitor's end */
	struct buf got;   /* what the client sent */
	struct buf diary; /* one word a callback */
	struct err err;
	char *reply; /* the last */
	bool closed, replied, lost, ready, late;
	unsigned events;
	const char *destroy_at;
};

static void gone(void *arg)
{
	((struct peer *)arg)->closed = true;
}

static void word(struct peer *p, const char *w)
{
	buf_printf(&p->diary, "%s ", w);
	uv_stop(p->loop);
	if (p->destroy_at != NULL && p->q != NULL && strcmp(w, p->destroy_at) == 0) {
		qmp_destroy(p->q, gone, p);
		p->q = NULL;
	}
}

static void on_ready(void *arg, const json_t *greeting)
{
	struct peer *p = arg;

	assert_non_null(json_object_get(greeting, "version"));
	p->ready = true;
	word(p, "ready");
}

static void on_event(void *arg, const char *name, const json_t *event)
{
	struct peer *p = arg;

	p->events++;
	word(p, name);
}

static void on_late(void *arg, const char *command)
{
	struct peer *p = arg;

	p->late = true;
	word(p, "late");
}

static void on_lost(void *arg, const struct err *err)
{
	struct peer *p = arg;

	p->lost = true;
	p->err = *err;
	word(p, "lost");
}

static void on_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct peer *p = arg;

	free(p->reply);
	p->reply = reply != NULL ? json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	p->err = err != NULL ? *err : (struct err){ 0 };
	p->replied = true;
	word(p, err != NULL ? "error" : "reply");
}

static void init(struct peer *p)
{
	const struct qmp_callbacks cb = {
		.ready = on_ready, .event = on_event, .late = on_late, .lost = on_lost, .arg = p
	};
	int fds[2];

	*p = (struct peer){ .loop = rig_loop() };
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	p->fd = fds[1];
	assert_int_equal(qmp_create(&p->q, p->loop, fds[0], &cb, NULL), 0);
}

static void finish(struct peer *p)
{
	if (p->q != NULL) {
		qmp_destroy(p->q, gone, p);
		p->q = NULL;
	}
	rig_run_until(p->loop, &p->closed);
	rig_loop_finish(p->loop);
	if (p->fd >= 0)
		close(p->fd);
	buf_finish(&p->got);
	buf_finish(&p->diary);
	free(p->reply);
}

/* Sends all of it, running the loop where the socket is full. */
static void feed_n(struct peer *p, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(p->fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return; /* the client has hung up */
		if (n < 0) {
			uv_run(p->loop, UV_RUN_NOWAIT);
			continue;
		}
		data += n;
		len -= (size_t)n;
	}
}

static void feed(struct peer *p, const char *text)
{
	feed_n(p, text, strlen(text));
}

/* Runs the loop until the client has sent text. */
static void expect(struct peer *p, const char *text)
{
	char data[4096];

	for (int i = 0; i < 3000 && strstr(buf_str(&p->got), text) == NULL; i++) {
		ssize_t n = recv(p->fd, data, sizeof(data), 0);

		if (n > 0)
			buf_add(&p->got, data, (size_t)n);
		else
			rig_run_for(p->loop, 10);
	}
	if (strstr(buf_str(&p->got), text) == NULL)
		fail_msg("'%s' lacks '%s'", buf_str(&p->got), text);
	buf_clear(&p->got);
}

static void negotiate(struct peer *p)
{
	feed(p, GREETING);
	expect(p, "{\"execute\":\"qmp_capabilities\",\"id\":1}");
	feed(p, "{\"return\": {}, \"id\": 1}\r\n");
	rig_run_until(p->loop, &p->ready);
	buf_clear(&p->diary);
}

static void command(struct peer *p, const char *name, uint64_t timeout_ms)
{
	struct qmp_opts opts = { .timeout_ms = timeout_ms };

	p->replied = false;
	assert_int_equal(qmp_command(p->q, name, NULL, &opts, on_reply, p), 0);
	assert_false(p->replied);
}

static void test_negotiation(void **state)
{
	struct peer p;

	init(&p);
	/* A command given before it waits; nothing is sent before the greeting. */
	command(&p, "query-status", 0);
	rig_run_for(p.loop, 20);
	assert_int_equal(recv(p.fd, &(char){ 0 }, 1, 0), -1);
	feed(&p, GREETING);
	expect(&p, "{\"execute\":\"qmp_capabilities\",\"id\":2}");
	rig_run_for(p.loop, 20);
	assert_int_equal(recv(p.fd, &(char){ 0 }, 1, 0), -1);
	feed(&p, "{\"return\": {}, \"id\": 2}\r\n");
	expect(&p, "{\"execute\":\"query-status\",\"id\":1}");
	feed(&p, "{\"return\": {\"status\": \"running\"}, \"id\": 1}\r\n");
	rig_run_until(p.loop, &p.replied);
	assert_string_equal(p.reply, "{\"status\":\"running\"}");
	assert_string_equal(buf_str(&p.diary), "ready reply ");
	finish(&p);
}

/* Each byte alone, then everything at once. */
static void test_framing(void **state)
{
	static const char stream[] =
		"{\"event\": \"A\", \"data\": {\"s\": \"}{\\\"][\\\\\"}}\r\n"
		"{\"event\": \"B\", \"data\": [{}, [[]]]}  \r\n\r\n"
		"{\"return\": [1, {\"x\": \"\\u0000\"}], \"id\": 2}{\"event\": \"C\"}\n";
	struct peer p;

	for (int round = 0; round < 2; round++) {
		init(&p);
		negotiate(&p);
		command(&p, "x", 0);
		expect(&p, "\"x\"");
		if (round == 0) {
			for (size_t i = 0; i < sizeof(stream) - 1; i++) {
				feed_n(&p, stream + i, 1);
				uv_run(p.loop, UV_RUN_NOWAIT);
			}
		} else {
			feed(&p, stream);
		}
		while (p.events < 3)
			uv_run(p.loop, UV_RUN_ONCE);
		assert_string_equal(buf_str(&p.diary), "A B reply C ");
		assert_string_equal(p.reply, "[1,{\"x\":\"\\u0000\"}]");
		finish(&p);
	}
}

static void test_arguments(void **state)
{
	json_t *args = json_pack("{s:s}", "id", "a,b");
	json_t *cmd = json_pack("{s:s,s:o}", "execute", "y", "id", json_null());
	struct peer p;

	init(&p);
	negotiate(&p);
	assert_int_equal(qmp_command(p.q, "device_del", args, NULL, on_reply, &p), 0);
	expect(&p, "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"a,b\"},\"id\":2}");
	/* A foreign id is replaced, not in the caller's object. */
	assert_int_equal(qmp_send(p.q, cmd, NULL, NULL, NULL), 0);
	expect(&p, "{\"execute\":\"y\",\"id\":3}");
	assert_true(json_is_null(json_object_get(cmd, "id")));
	json_decref(args);
	json_decref(cmd);
	finish(&p);
}

static void test_errors(void **state)
{
	static const struct {
		const char *class;
		int code;
	} rows[] = { { "GenericError", -EIO }, { "CommandNotFound", -ENOTSUP },
		{ "DeviceNotFound", -ENOENT }, { "New", -EIO } };
	struct peer p;
	char text[200];

	init(&p);
	negotiate(&p);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		command(&p, "device_del", 0);
		expect(&p, "device_del");
		snprintf(text, sizeof(text),
			"{\"error\": {\"class\": \"%s\", \"desc\": \"Device 'x'\\nis not here\"}, "
			"\"id\": %zu}",
			rows[i].class, i + 2);
		feed(&p, text);
		rig_run_until(p.loop, &p.replied);
		assert_int_equal(p.err.code, rows[i].code);
		assert_string_equal(p.err.msg, "device_del: Device 'x' is not here");
	}
	finish(&p);
}

static void test_late_reply(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "slow", 50);
	expect(&p, "slow");
	rig_run_until(p.loop, &p.late);
	assert_int_equal(p.err.code, -ETIMEDOUT);
	assert_string_equal(buf_str(&p.diary), "error late ");
	/* The late one is not taken for the next one's. */
	command(&p, "next", 0);
	feed(&p, "{\"return\": \"late\", \"id\": 2}{\"return\": \"right\", \"id\": 3}");
	rig_run_until(p.loop, &p.replied);
	assert_string_equal(p.reply, "\"right\"");
	assert_string_equal(buf_str(&p.diary), "error late reply ");
	/* Neither are replies without an id, with a strange one, or with an unknown one. */
	command(&p, "third", 0);
	feed(&p, "{\"return\": 1}{\"return\": 2, \"id\": \"4\"}{\"return\": 3, \"id\": 99}"
		 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"parse\"}}"
		 "{\"return\": 4, \"id\": 4}");
	rig_run_until(p.loop, &p.replied);
	assert_string_equal(p.reply, "4");
	finish(&p);
}

static void test_replies_out_of_order(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "a", 0);
	command(&p, "b", 0);
	feed(&p, "{\"return\": \"b\", \"id\": 3}{\"return\": \"a\", \"id\": 2}");
	rig_run_until(p.loop, &p.replied);
	while (p.reply == NULL || strcmp(p.reply, "\"a\"") != 0)
		uv_run(p.loop, UV_RUN_ONCE);
	assert_string_equal(buf_str(&p.diary), "reply reply ");
	finish(&p);
}

static void test_garbage(void **state)
{
	static const char *const rows[] = { "garbage\r\n", "]", "{\"event\": }", "\"text\"", "{]",
		"{\"a\": \"\xff\xfe\"}" };
	struct peer p;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		init(&p);
		negotiate(&p);
		command(&p, "x", 0);
		expect(&p, "x");
		feed(&p, "{\"event\": \"E\"}\r\n");
		feed(&p, rows[i]);
		rig_run_until(p.loop, &p.lost);
		assert_string_equal(buf_str(&p.diary), "E error lost ");
		assert_int_equal(p.err.code, -EBADMSG);
		assert_non_null(strstr(p.err.msg, "garbage"));
		/* What comes after the end is refused in good order. */
		command(&p, "y", 0);
		rig_run_until(p.loop, &p.replied);
		assert_int_equal(p.err.code, -ECONNRESET);
		finish(&p);
	}
}

static void test_eof(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "x", 0);
	expect(&p, "x");
	/* What was said before the end is heard. */
	feed(&p, "{\"event\": \"SHUTDOWN\"}\r\n{\"event\": \"SHU");
	close(p.fd);
	p.fd = -1;
	rig_run_until(p.loop, &p.lost);
	assert_string_equal(buf_str(&p.diary), "SHUTDOWN error lost ");
	assert_int_equal(p.err.code, -ECONNRESET);
	assert_non_null(strstr(p.err.msg, "in the middle of a message"));
	finish(&p);
}

/* As QEMU when it is killed: the peer goes without having read what we sent. */
static void test_reset(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "x", 0);
	feed(&p, "{\"event\": \"SHUTDOWN\"}\r\n");
	close(p.fd);
	p.fd = -1;
	rig_run_until(p.loop, &p.lost);
	assert_string_equal(buf_str(&p.diary), "SHUTDOWN error lost ");
	finish(&p);
}

static void test_drain(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	feed(&p, "{\"event\": \"A\"}\r\n{\"event\": \"B\"}\r\n");
	close(p.fd);
	p.fd = -1;
	qmp_drain(p.q);
	assert_string_equal(buf_str(&p.diary), "A B lost ");
	finish(&p);
}

/* A message of len bytes in all. */
static void feed_big(struct peer *p, size_t len)
{
	static const char head[] = "{\"id\":2,\"return\":\"", tail[] = "\"}";
	size_t n = len - strlen(head) - strlen(tail);
	char *text = malloc(n);

	memset(text, 'x', n);
	feed(p, head);
	feed_n(p, text, n);
	free(text);
	feed(p, tail);
}

static void test_size_limit(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "big", 60000);
	expect(&p, "big");
	feed_big(&p, JSON_STREAM_MAX);
	rig_run_until(p.loop, &p.replied);
	assert_int_equal(p.err.code, 0);
	assert_true(strlen(p.reply) > JSON_STREAM_MAX - 100);
	finish(&p);

	init(&p);
	negotiate(&p);
	feed_big(&p, JSON_STREAM_MAX + 1);
	rig_run_until(p.loop, &p.lost);
	assert_int_equal(p.err.code, -EMSGSIZE);
	assert_non_null(strstr(p.err.msg, "longer than 10 MiB"));
	finish(&p);
}

/* The peer does not read: what is ours waits, expires, and does not break what follows. */
static void test_partial_writes(void **state)
{
	json_t *args = json_object();
	char *text = malloc(1 << 20);
	struct qmp_opts opts = { .timeout_ms = 50 };
	struct peer p;
	size_t total = 0;
	char *data = malloc(1 << 16);
	ssize_t n;

	memset(text, 'y', 1 << 20);
	json_object_set_new(args, "s", json_stringn(text, 1 << 20));
	init(&p);
	negotiate(&p);
	assert_int_equal(qmp_command(p.q, "half", args, &opts, on_reply, &p), 0);
	assert_int_equal(qmp_command(p.q, "never", NULL, &opts, on_reply, &p), 0);
	assert_int_equal(qmp_command(p.q, "last", NULL, NULL, on_reply, &p), 0);
	rig_run_until(p.loop, &p.late);
	while (strcmp(buf_str(&p.diary), "error late error late ") != 0)
		uv_run(p.loop, UV_RUN_ONCE);
	/* Half of it is out already, so the rest follows; the second was taken back. */
	while (memmem(p.got.data, p.got.len, "\"last\"", 6) == NULL) {
		n = recv(p.fd, data, 1 << 16, 0);
		if (n > 0) {
			buf_add(&p.got, data, (size_t)n);
			total += (size_t)n;
		}
		uv_run(p.loop, UV_RUN_NOWAIT);
	}
	assert_true(total > 1 << 20);
	assert_null(memmem(p.got.data, p.got.len, "never", 5));
	feed(&p, "{\"return\": 0, \"id\": 2}{\"return\": 7, \"id\": 4}");
	p.replied = false;
	rig_run_until(p.loop, &p.replied);
	assert_string_equal(p.reply, "7");
	json_decref(args);
	free(text);
	free(data);
	finish(&p);
}

static void test_sent_is_done(void **state)
{
	struct qmp_opts opts = { .sent_is_done = true };
	struct peer p;

	init(&p);
	negotiate(&p);
	assert_int_equal(qmp_command(p.q, "quit", NULL, &opts, on_reply, &p), 0);
	assert_false(p.replied);
	rig_run_until(p.loop, &p.replied);
	assert_int_equal(p.err.code, 0);
	expect(&p, "quit");
	feed(&p, "{\"return\": {}, \"id\": 2}");
	rig_run_for(p.loop, 20);
	assert_string_equal(buf_str(&p.diary), "reply ");
	finish(&p);
}

/* Receives one byte and the descriptor that comes with it, -1 for none. */
static int receive_fd(struct peer *p, char *byte)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = { byte, 1 };
	struct msghdr mh = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(p->fd, &mh, MSG_CMSG_CLOEXEC) != 1)
		return -2;
	c = CMSG_FIRSTHDR(&mh);
	if (c != NULL)
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

static void test_descriptors(void **state)
{
	unsigned before;
	struct qmp_opts opts = { 0 };
	struct peer p;
	int pipefd[2], fd;
	char byte;

	init(&p);
	negotiate(&p);
	before = rig_count_fds();
	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	opts.fd = pipefd[1];
	assert_int_equal(qmp_command(p.q, "getfd", NULL, &opts, on_reply, &p), 0);
	assert_int_equal(qmp_command(p.q, "second", NULL, &opts, on_reply, &p), 0);
	/* The client has its own copy. */
	close(pipefd[1]);
	rig_run_for(p.loop, 10);
	fd = receive_fd(&p, &byte);
	assert_true(fd >= 0);
	assert_int_equal(byte, '{');
	assert_int_equal(write(fd, "z", 1), 1);
	assert_int_equal(read(pipefd[0], &byte, 1), 1);
	assert_int_equal(byte, 'z');
	close(fd);
	/* QEMU would lose the first's descriptor if the second came too early. */
	expect(&p, "getfd");
	rig_run_for(p.loop, 10);
	assert_int_equal(receive_fd(&p, &byte), -2);
	feed(&p, "{\"return\": {}, \"id\": 2}");
	rig_run_until(p.loop, &p.replied);
	rig_run_for(p.loop, 10);
	fd = receive_fd(&p, &byte);
	assert_true(fd >= 0);
	close(fd);
	close(pipefd[0]);
	assert_int_equal(rig_count_fds(), before);
	finish(&p);
}

/* A descriptor that comes unasked is closed. */
static void test_unasked_descriptor(void **state)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { (char *)"{\"event\": \"E\"}", 14 };
	struct msghdr mh = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	struct peer p;
	unsigned before;

	init(&p);
	negotiate(&p);
	before = rig_count_fds();
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &(int){ 0 }, sizeof(int));
	assert_int_equal(sendmsg(p.fd, &mh, 0), 14);
	while (p.events == 0)
		uv_run(p.loop, UV_RUN_ONCE);
	assert_int_equal(rig_count_fds(), before);
	finish(&p);
}

static void test_destroy_in_callback(void **state)
{
	static const char *const words[] = { "ready", "E", "reply", "error", "late", "lost" };
	struct peer p;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct qmp_opts opts = { .timeout_ms = 100 };

		init(&p);
		p.destroy_at = words[i];
		/* These two are under way when it happens, and are forgotten. */
		assert_int_equal(qmp_command(p.q, "a", NULL, NULL, on_reply, &p), 0);
		feed(&p, GREETING);
		expect(&p, "qmp_capabilities");
		feed(&p, "{\"return\": {}, \"id\": 2}");
		rig_run_until(p.loop, &p.ready);
		if (p.q != NULL) {
			expect(&p, "\"a\"");
			assert_int_equal(qmp_command(p.q, "b", NULL, &opts, on_reply, &p), 0);
			feed(&p, "{\"event\": \"E\"}{\"return\": {}, \"id\": 1}{\"event\": \"F\"}");
		}
		if (p.q != NULL && i >= 4)
			rig_run_until(p.loop, i == 4 ? &p.closed : &p.late);
		if (p.q != NULL && i >= 3) {
			close(p.fd);
			p.fd = -1;
		}
		rig_run_until(p.loop, &p.closed);
		finish(&p);
	}
}

static void on_text(void *arg, const char *text, size_t len, const struct err *err)
{
	struct peer *p = arg;

	free(p->reply);
	p->reply = text != NULL ? strndup(text, len) : NULL;
	p->err = err != NULL ? *err : (struct err){ 0 };
	p->replied = true;
	word(p, err != NULL ? "error" : "text");
}

static void text(struct peer *p, const char *command)
{
	p->replied = false;
	assert_int_equal(qmp_send_text(p->q, command, strlen(command), -1, on_text, p), 0);
	assert_false(p->replied);
}

static void answered(struct peer *p, const char *reply)
{
	rig_run_until(p->loop, &p->replied);
	assert_string_equal(p->reply, reply);
}

/* Foreign commands: not a byte changes but the id's, and they are never late. */
static void test_text(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	text(&p,
		"{\"execute\":\"a\",\"arguments\":{\"u\":18446744073709551615,\"r\":1.50},\"id\":[0]}");
	expect(&p,
		"{\"execute\":\"a\",\"arguments\":{\"u\":18446744073709551615,\"r\":1.50},\"id\":2}");
	feed(&p, "{\"return\": {\"u\": 18446744073709551615, \"r\": 0.10}, \"id\": 2}\r\n");
	answered(&p, "{\"return\": {\"u\": 18446744073709551615, \"r\": 0.10}, \"id\": 2}");
	text(&p, "{\"execute\":\"b\"}");
	expect(&p, "{\"id\": 3, \"execute\":\"b\"}");
	feed(&p, "{\"id\": 3, \"error\": {\"class\": \"X\", \"desc\": \"no\"}}\r\n");
	answered(&p, "{\"id\": 3, \"error\": {\"class\": \"X\", \"desc\": \"no\"}}");

	/* What QEMU cannot parse is answered without an id: it is the oldest foreign one's. */
	command(&p, "own", 0);
	text(&p, "{\"execute\":\"c\"}");
	expect(&p, "\"c\"");
	feed(&p, "{\"event\": \"E\", \"data\": {\"error\": 1}}{\"error\": {\"class\": \"Y\"}}");
	answered(&p, "{\"error\": {\"class\": \"Y\"}}");
	p.replied = false;
	feed(&p, "{\"return\": {}, \"id\": 4}");
	answered(&p, "{}");

	/* With the connection all are told. */
	text(&p, "{\"execute\":\"d\"}");
	expect(&p, "\"d\"");
	close(p.fd);
	p.fd = -1;
	rig_run_until(p.loop, &p.lost);
	assert_string_equal(buf_str(&p.diary), "text text E text reply error lost ");
	finish(&p);
}

/* A client's slow command says nothing about the monitor; our own behind it does. */
static void test_text_is_never_late(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	text(&p, "{\"execute\":\"slow\"}");
	expect(&p, "slow");
	command(&p, "own", 30);
	rig_run_until(p.loop, &p.late);
	assert_string_equal(buf_str(&p.diary), "error late ");
	feed(&p, "{\"return\": {\"x\": 1}, \"id\": 2}{\"return\": {}, \"id\": 3}");
	p.replied = false;
	answered(&p, "{\"return\": {\"x\": 1}, \"id\": 2}");
	finish(&p);
}

/* QEMU's unsigned integers of 64 bits must not end the connection. */
static void test_large_integers(void **state)
{
	struct peer p;

	init(&p);
	negotiate(&p);
	command(&p, "x", 0);
	expect(&p, "\"x\"");
	feed(&p,
		"{\"return\": {\"big\": 18446744073709551615, \"small\": [7, -3, 0.5]}, \"id\": 2}");
	rig_run_until(p.loop, &p.replied);
	assert_string_equal(p.reply, "{\"big\":1.8446744073709552e19,\"small\":[7,-3,0.5]}");
	feed(&p, "{\"event\": \"E\", \"timestamp\": {\"seconds\": -9223372036854775809}}");
	while (p.events < 1)
		uv_run(p.loop, UV_RUN_ONCE);
	assert_false(p.lost);
	finish(&p);
}

/* Linear: a hundred times the bytes, and each looked at once. */
static void test_scanner(void **state)
{
	struct json_scan s = { 0 };
	const char *t = " {\"a\":\"\\\"}\"} \r\n{}x";
	size_t len = strlen(t);

	for (size_t n = 0; n < 12; n++) {
		assert_int_equal(json_scan(&s, t, n), 0);
		assert_int_equal(s.pos, n);
	}
	assert_int_equal(json_scan(&s, t, 12), 1);
	assert_int_equal(s.start, 1);
	assert_int_equal(s.pos, 12);
	json_scan_dropped(&s, 12);
	t += 12;
	len -= 12;
	assert_int_equal(json_scan(&s, t, len), 1);
	assert_int_equal(s.start, 3);
	assert_int_equal(s.pos, 5);
	assert_int_equal(json_scan(&s, t, len), -EBADMSG);
	assert_int_equal(t[s.pos], 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_late_reply),
		cmocka_unit_test(test_replies_out_of_order),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_eof),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_partial_writes),
		cmocka_unit_test(test_sent_is_done),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_unasked_descriptor),
		cmocka_unit_test(test_destroy_in_callback),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_is_never_late),
		cmocka_unit_test(test_large_integers),
		cmocka_unit_test(test_scanner),
	};

	return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}

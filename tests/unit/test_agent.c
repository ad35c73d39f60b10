/* The client of the guest agent against an agent that this test plays itself. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/agent.h"
#include "lib/file.h"
#include "lib/list.h"

struct rig {
	uv_loop_t *loop;
	char *dir, *path;
	int listener, fd; /* the agent's side */
	struct agent *a;
	struct buf in; /* what the agent has read */
	struct buf diary;
	unsigned replies, calls;
	bool closed;
};

struct call {
	struct rig *r;
	char name;
	bool destroys;
};

static void gone(void *arg)
{
	((struct rig *)arg)->closed = true;
}

static void replied(void *arg, const json_t *reply, const struct err *err)
{
	struct call *c = arg;
	struct rig *r = c->r;
	char *text = reply != NULL ? json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	r->replies++;
	if (err != NULL)
		buf_printf(&r->diary, "%c:%d(%s) ", c->name, err->code, err->msg);
	else
		buf_printf(&r->diary, "%c:%s ", c->name, text);
	free(text);
	if (c->destroys) {
		agent_destroy(r->a, gone, r);
		r->a = NULL;
	}
}

static void init(struct rig *r)
{
	struct err err;

	*r = (struct rig){ .fd = -1 };
	r->loop = rig_loop();
	r->dir = rig_tmp();
	r->path = path_join(r->dir, "agent.sock");
	if (unix_listen(r->path, 0600, 4, &r->listener, &err) < 0 ||
		agent_create(&r->a, r->loop, r->path, -1, &err) < 0)
		fail_msg("%s", err.msg);
}

static void finish(struct rig *r)
{
	if (r->a != NULL)
		agent_destroy(r->a, gone, r);
	rig_run_until(r->loop, &r->closed);
	rig_loop_finish(r->loop);
	if (r->fd >= 0)
		close(r->fd);
	close(r->listener);
	buf_finish(&r->in);
	buf_finish(&r->diary);
	rig_tmp_finish(r->dir);
	free(r->path);
}

static void call(struct rig *r, struct call *c, char name, const char *verb, uint64_t timeout_ms)
{
	json_t *cmd = json_pack("{s:s}", "execute", verb);
	unsigned before = r->replies;

	*c = (struct call){ .r = r, .name = name };
	uv_update_time(r->loop);
	assert_int_equal(agent_command(r->a, cmd, timeout_ms, replied, c), 0);
	json_decref(cmd);
	assert_int_equal(r->replies, before);
}

/* The agent reads until text has come; the loop runs meanwhile. */
static void expect(struct rig *r, const char *text)
{
	for (int i = 0; i < 3000 && strstr(buf_str(&r->in), text) == NULL; i++) {
		char chunk[4096];
		ssize_t n;

		rig_run_for(r->loop, 1);
		if (r->fd < 0)
			r->fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		n = r->fd >= 0 ? recv(r->fd, chunk, sizeof(chunk), MSG_DONTWAIT) : -1;
		if (n > 0)
			buf_add(&r->in, chunk, (size_t)n);
	}
	if (strstr(buf_str(&r->in), text) == NULL)
		fail_msg("'%s' lacks '%s'", buf_str(&r->in), text);
}

static void say(struct rig *r, const char *text, size_t len)
{
	assert_int_equal(send(r->fd, text, len, MSG_NOSIGNAL), len);
}

/* Answers the sync request that was read; the number in it. */
static long long sync_id(struct rig *r)
{
	const char *at;

	expect(r, "}}\n");
	at = strstr(buf_str(&r->in), "guest-sync-delimited\",\"arguments\":{\"id\":");
	assert_non_null(at);
	assert_int_equal((unsigned char)buf_str(&r->in)[0], 0xff);
	return strtoll(strrchr(at, ':') + 1, NULL, 10);
}

static void answer_sync(struct rig *r)
{
	char *text = str_printf("\xff{\"return\": %lld}\n", sync_id(r));

	buf_clear(&r->in);
	say(r, text, strlen(text));
	free(text);
}

static void until_replies(struct rig *r, unsigned n)
{
	for (int i = 0; i < 10000 && r->replies < n; i++)
		rig_run_for(r->loop, 1);
	assert_int_equal(r->replies, n);
}

static void test_in_order(void **state)
{
	struct call a, b;
	struct rig r;

	init(&r);
	call(&r, &a, 'a', "guest-ping", 0);
	call(&r, &b, 'b', "guest-info", 0);
	answer_sync(&r);
	expect(&r, "\n");
	/* One at a time. */
	assert_string_equal(buf_str(&r.in), "{\"execute\":\"guest-ping\"}\n");
	buf_clear(&r.in);
	say(&r, "{\"return\": {}}\n", 15);
	expect(&r, "\n");
	assert_string_equal(buf_str(&r.in), "{\"execute\":\"guest-info\"}\n");
	/* In pieces. */
	for (const char *p = "{\"return\": {\"version\": \"7.2\"}}\n"; *p != '\0'; p++) {
		say(&r, p, 1);
		rig_run_for(r.loop, 1);
	}
	until_replies(&r, 2);
	assert_string_equal(buf_str(&r.diary), "a:{} b:{\"version\":\"7.2\"} ");
	/* In step: no further sync. */
	buf_clear(&r.in);
	call(&r, &a, 'c', "guest-ping", 0);
	expect(&r, "\n");
	assert_string_equal(buf_str(&r.in), "{\"execute\":\"guest-ping\"}\n");
	say(&r,
		"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command guest-ping has "
		"been \\u001b[1m disabled\"}}\n",
		strlen("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command "
		       "guest-ping has been \\u001b[1m disabled\"}}\n"));
	until_replies(&r, 3);
	assert_non_null(
		strstr(buf_str(&r.diary), "c:-95(The command guest-ping has been  [1m disabled) "));
	finish(&r);
}

/* What was there before, half messages and other numbers' answers are passed over. */
static void test_out_of_step(void **state)
{
	struct call a;
	struct rig r;
	char *text;

	init(&r);
	call(&r, &a, 'a', "guest-ping", 0);
	text = str_printf("turn\": 5}\n{\"return\": {}}\n\xff{\"return\": 17}\n%%!x\xff[1]\xff"
			  "{\"error\": {\"desc\": \"x\"}}\n\xff{\"return\": %lld}\n",
		sync_id(&r));
	buf_clear(&r.in);
	for (size_t i = 0; i < strlen(text); i += 3) {
		say(&r, text + i, MIN(3, strlen(text) - i));
		rig_run_for(r.loop, 1);
	}
	free(text);
	expect(&r, "guest-ping");
	say(&r, "{\"return\": {}}\n", 15);
	until_replies(&r, 1);
	assert_string_equal(buf_str(&r.diary), "a:{} ");
	/* An answer to nobody: the next command begins with a sync. */
	say(&r, "{\"return\": {}}\n", 15);
	rig_run_for(r.loop, 20);
	buf_clear(&r.in);
	call(&r, &a, 'b', "guest-ping", 0);
	answer_sync(&r);
	expect(&r, "guest-ping");
	/* What is no JSON ends the connection. */
	say(&r, "hello\n", 6);
	until_replies(&r, 2);
	assert_non_null(strstr(buf_str(&r.diary), "b:-71(what the guest agent says is no JSON) "));
	finish(&r);
}

static void test_deadline(void **state)
{
	struct call a, b, c;
	struct rig r;

	init(&r);
	call(&r, &a, 'a', "guest-ping", 1000);
	call(&r, &b, 'b', "guest-ping", 10);
	until_replies(&r, 2);
	assert_string_equal(buf_str(&r.diary),
		"b:-110(the guest agent does not answer) a:-110(the guest agent does not answer) ");
	buf_clear(&r.diary);
	/* The connection was given up; the next command makes a new one, and asks anew. */
	call(&r, &a, 'a', "guest-one", 30000);
	expect(&r, "guest-sync");
	rig_run_for(r.loop, 20);
	close(r.fd);
	r.fd = -1;
	buf_clear(&r.in);
	answer_sync(&r);
	expect(&r, "guest-one");
	assert_int_equal(r.replies, 2);
	say(&r, "{\"return\": 1}\n", 14);
	until_replies(&r, 3);
	buf_clear(&r.in);
	/* Late for the one that was sent: the next gets its own answer, by a new connection. */
	call(&r, &b, 'b', "guest-two", 50);
	expect(&r, "guest-two");
	call(&r, &c, 'c', "guest-three", 30000);
	until_replies(&r, 4);
	send(r.fd, "{\"return\": 2}\n", 14, MSG_NOSIGNAL);
	close(r.fd);
	r.fd = -1;
	buf_clear(&r.in);
	answer_sync(&r);
	expect(&r, "guest-three");
	say(&r, "{\"return\": 3}\n", 14);
	until_replies(&r, 5);
	assert_string_equal(
		buf_str(&r.diary), "a:1 b:-110(the guest agent does not answer in time) c:3 ");
	finish(&r);
}

static void test_connection(void **state)
{
	struct call a, b;
	struct rig r;

	init(&r);
	/* No port at all. */
	unlink(r.path);
	call(&r, &a, 'a', "guest-ping", 0);
	call(&r, &b, 'b', "guest-ping", 0);
	until_replies(&r, 2);
	assert_string_equal(buf_str(&r.diary),
		"a:-2(the machine runs without a guest agent's port) "
		"b:-2(the machine runs without a guest agent's port) ");
	buf_clear(&r.diary);
	close(r.listener);
	assert_int_equal(unix_listen(r.path, 0600, 4, &r.listener, NULL), 0);
	/* Closed in the middle of a command. */
	call(&r, &a, 'a', "guest-ping", 0);
	answer_sync(&r);
	expect(&r, "guest-ping");
	close(r.fd);
	r.fd = -1;
	until_replies(&r, 3);
	assert_string_equal(buf_str(&r.diary), "a:-104(the guest agent's port was closed) ");
	/* Nobody listens any more. */
	close(r.listener);
	call(&r, &a, 'a', "guest-ping", 0);
	until_replies(&r, 4);
	assert_non_null(strstr(buf_str(&r.diary), "a:-111("));
	r.listener = dup(0);
	finish(&r);
}

static void test_forget(void **state)
{
	struct call a, b, c;
	struct rig r;

	init(&r);
	call(&r, &a, 'a', "guest-one", 0);
	call(&r, &b, 'b', "guest-two", 0);
	call(&r, &c, 'c', "guest-three", 0);
	answer_sync(&r);
	expect(&r, "guest-one");
	agent_forget(r.a, &a);
	agent_forget(r.a, &b);
	buf_clear(&r.in);
	say(&r, "{\"return\": 1}\n", 14);
	expect(&r, "guest-three");
	assert_null(strstr(buf_str(&r.in), "guest-two"));
	say(&r, "{\"return\": 3}\n", 14);
	until_replies(&r, 1);
	assert_string_equal(buf_str(&r.diary), "c:3 ");
	/* One that has failed already, but was not told. */
	close(r.fd);
	r.fd = -1;
	rig_run_for(r.loop, 20);
	unlink(r.path);
	call(&r, &a, 'a', "guest-one", 0);
	agent_forget(r.a, &a);
	rig_run_for(r.loop, 20);
	assert_int_equal(r.replies, 1);
	finish(&r);
}

static void test_destroy(void **state)
{
	struct call a, b;
	struct rig r;

	/* With commands under way; and from within a reply. */
	init(&r);
	call(&r, &a, 'a', "guest-one", 0);
	call(&r, &b, 'b', "guest-two", 0);
	expect(&r, "guest-sync");
	finish(&r);
	assert_int_equal(r.replies, 0);

	init(&r);
	call(&r, &a, 'a', "guest-one", 0);
	call(&r, &b, 'b', "guest-two", 0);
	a.destroys = true;
	answer_sync(&r);
	expect(&r, "guest-one");
	say(&r, "{\"return\": 1}{\"return\": 2}\n", 27);
	until_replies(&r, 1);
	finish(&r);
	assert_int_equal(r.replies, 1);

	init(&r);
	call(&r, &a, 'a', "guest-one", 10);
	call(&r, &b, 'b', "guest-two", 10);
	a.destroys = true;
	until_replies(&r, 1);
	finish(&r);
	agent_destroy(NULL, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_out_of_step),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_connection),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_destroy),
	};

	return cmocka_run_group_tests_name("guest agent", tests, NULL, NULL);
}

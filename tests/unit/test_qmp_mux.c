/* Many clients at one scripted monitor: hv/qmp-mux.h. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/json-scan.h"
#include "hv/qmp-mux.h"
#include "lib/file.h"
#include "lib/json.h"

#define CLIENTS 70
#define WAIT_MS 30000
#define VERSION "{\"qemu\": {\"major\": 9, \"minor\": 1, \"micro\": 2}, \"package\": \"p\"}"

struct client {
	int fd;
	struct buf in;
	bool eof;
};

static struct {
	uv_loop_t *loop;
	char *dir, *path;
	struct qmp *qmp;
	struct qmp_mux *mux;
	bool mux_closed, qmp_closed;
	int fd; /* the monitor's end; -1: it is gone */
	struct json_scan scan;
	struct buf in;
	struct buf
		seen; /* what the monitor was told: "NAME " for each, "NAME+fd " with descriptor */
	struct buf asked; /* the mux's record: "NAME ", "NAME! " refused */
	struct buf
		deeds;   /* "EFFECT:UID " of an intent, "EFFECT- " of one that failed, "EFFECT+ " */
	bool hold;       /* the monitor answers nothing by itself */
	struct buf held; /* the ids of what it has not answered, a blank behind each */
	const char *error_for;
	char *reply; /* of the API */
	int reply_code;
	bool replied;
	bool owed; /* the API is answered by the end at the latest */
	struct client c[CLIENTS];
} t;

static const struct hv_peer somebody = { .uid = 5, .pid = 6 };

/* ---- the monitor ---- */

static void mon_send(const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(t.fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n < 0) {
			uv_run(t.loop, UV_RUN_NOWAIT);
			continue;
		}
		text += n;
		len -= (size_t)n;
	}
}

static void mon_answer(long long id, const char *name)
{
	struct buf text = { 0 };

	if (t.error_for != NULL && strcmp(name, t.error_for) == 0)
		buf_printf(&text,
			"{\"id\": %lld, \"error\": {\"class\": \"X\", \"desc\": \"%s\"}}\r\n", id,
			name);
	else
		buf_printf(&text, "{\"return\": {\"name\": \"%s\"}, \"id\": %lld}\r\n", name, id);
	mon_send(buf_str(&text));
	buf_finish(&text);
}

static void mon_take(const char *text, size_t len, bool fd)
{
	json_t *j = json_loadb(text, len, JSON_DECODE_INT_AS_REAL, NULL);
	const char *name = json_str(j, "execute");
	long long id = (long long)json_number_value(json_object_get(j, "id"));

	assert_non_null(name);
	if (strcmp(name, "qmp_capabilities") == 0) {
		mon_answer(id, name);
	} else {
		buf_printf(&t.seen, "%s%s ", name, fd ? "+fd" : "");
		if (t.hold)
			buf_printf(&t.held, "%lld ", id);
		else
			mon_answer(id, name);
	}
	json_decref(j);
}

/* Answers what is held, the first first. */
static void mon_release(void)
{
	char *p = t.held.data;

	t.hold = false;
	while (p != NULL && *p != '\0')
		mon_answer(strtoll(p, &p, 10), "held"), p += strspn(p, " ");
	buf_clear(&t.held);
}

static bool mon_read(void)
{
	union {
		char buf[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	static char data[65536];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr mh = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	ssize_t n = t.fd >= 0 ? recvmsg(t.fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) : -1;
	bool fd = false;

	if (n <= 0)
		return false;
	c = CMSG_FIRSTHDR(&mh);
	if (c != NULL) {
		int got;

		memcpy(&got, CMSG_DATA(c), sizeof(got));
		close(got);
		fd = true;
	}
	buf_add(&t.in, data, (size_t)n);
	while (json_scan(&t.scan, t.in.data, t.in.len) == 1) {
		mon_take(t.in.data + t.scan.start, t.scan.pos - t.scan.start, fd);
		fd = false;
	}
	if (t.scan.depth == 0) {
		buf_clear(&t.in);
		t.scan = (struct json_scan){ 0 };
	}
	return true;
}

static void turn(void)
{
	bool busy = mon_read();

	for (size_t i = 0; i < CLIENTS; i++) {
		static char data[65536];
		ssize_t n = t.c[i].fd >= 0 ? recv(t.c[i].fd, data, sizeof(data), MSG_DONTWAIT) : -1;

		if (n > 0)
			buf_add(&t.c[i].in, data, (size_t)n);
		else if (n == 0 || (t.c[i].fd >= 0 && errno == ECONNRESET))
			t.c[i].eof = true;
		busy = busy || n > 0;
	}
	uv_run(t.loop, UV_RUN_NOWAIT);
	if (!busy)
		usleep(200);
}

#define UNTIL(condition)                                                                           \
	do {                                                                                       \
		uint64_t end_ = uv_hrtime() + WAIT_MS * 1000000ull;                                \
		while (!(condition)) {                                                             \
			turn();                                                                    \
			if (uv_hrtime() > end_)                                                    \
				fail_msg("waited in vain for %s", #condition);                     \
		}                                                                                  \
	} while (0)

/* As many turns as it takes everything that is under way to come to rest. */
static void settle(void)
{
	for (int i = 0; i < 20; i++)
		turn();
}

/* ---- the mux's owner ---- */

static int on_send(
	void *arg, const char *text, size_t len, int fd, qmp_text_fn *reply, void *reply_arg)
{
	return t.qmp != NULL ? qmp_send_text(t.qmp, text, len, fd, reply, reply_arg) : -ENOTCONN;
}

static void on_intent(void *arg, const struct qmp_ask *ask, const struct hv_peer *who)
{
	buf_printf(&t.deeds, "%d:%d ", (int)ask->effect, (int)who->uid);
}

static void on_answered(void *arg, enum qmp_effect effect, bool good)
{
	buf_printf(&t.deeds, "%d%c ", (int)effect, good ? '+' : '-');
}

static void on_asked(void *arg, const struct qmp_ask *ask, const struct hv_peer *who, bool refused)
{
	assert_true(who->pid == getpid() || who->pid == somebody.pid);
	buf_printf(&t.asked, "%s%s ", ask->name, refused ? "!" : "");
}

static void on_ready(void *arg, const json_t *greeting)
{
	qmp_mux_ready(t.mux, greeting);
}

static void on_event(void *arg, const char *text, size_t len)
{
	qmp_mux_event(t.mux, text, len);
}

static void flag(void *arg)
{
	*(bool *)arg = true;
}

static void on_lost(void *arg, const struct err *err)
{
	qmp_destroy(t.qmp, flag, &t.qmp_closed);
	t.qmp = NULL;
	qmp_mux_lost(t.mux);
}

static void monitor_connect(void)
{
	const struct qmp_callbacks cb = {
		.ready = on_ready, .event_text = on_event, .lost = on_lost
	};
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	t.fd = fds[1];
	t.qmp_closed = false;
	assert_int_equal(qmp_create(&t.qmp, t.loop, fds[0], &cb, NULL), 0);
}

static void monitor_greet(void)
{
	mon_send("{\"QMP\": {\"version\": " VERSION ", \"capabilities\": [\"oob\"]}}\r\n");
}

static int setup_silent(void **state)
{
	const struct qmp_mux_callbacks cb = {
		.send = on_send, .intent = on_intent, .answered = on_answered, .asked = on_asked
	};

	memset(&t, 0, sizeof(t));
	t.loop = rig_loop();
	t.dir = rig_tmp();
	t.path = path_join(t.dir, "qmp.sock");
	for (size_t i = 0; i < CLIENTS; i++)
		t.c[i].fd = -1;
	assert_int_equal(qmp_mux_create(&t.mux, t.loop, &cb, NULL), 0);
	assert_int_equal(qmp_mux_listen(t.mux, t.path, (gid_t)-1, NULL), 0);
	monitor_connect();
	return 0;
}

static int setup(void **state)
{
	setup_silent(state);
	monitor_greet();
	settle();
	return 0;
}

static int teardown(void **state)
{
	bool had_qmp = t.qmp != NULL;

	qmp_destroy(t.qmp, flag, &t.qmp_closed);
	t.qmp = NULL;
	if (had_qmp)
		qmp_mux_lost(t.mux);
	qmp_mux_destroy(t.mux, flag, &t.mux_closed);
	rig_run_until(t.loop, &t.mux_closed);
	rig_run_until(t.loop, &t.qmp_closed);
	assert_int_equal(access(t.path, F_OK), -1);
	assert_true(!t.owed || (t.replied && t.reply_code != 0));
	rig_loop_finish(t.loop);
	for (size_t i = 0; i < CLIENTS; i++) {
		if (t.c[i].fd >= 0)
			close(t.c[i].fd);
		buf_finish(&t.c[i].in);
	}
	if (t.fd >= 0)
		close(t.fd);
	buf_finish(&t.in);
	buf_finish(&t.seen);
	buf_finish(&t.asked);
	buf_finish(&t.deeds);
	buf_finish(&t.held);
	free(t.reply);
	free(t.path);
	rig_tmp_finish(t.dir);
	return 0;
}

/* ---- clients ---- */

static void dial(int i)
{
	assert_int_equal(unix_connect(t.path, &t.c[i].fd, NULL), 0);
}

static void hang_up(int i)
{
	close(t.c[i].fd);
	t.c[i].fd = -1;
	settle();
}

static void say_n(int i, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(t.c[i].fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			fail_msg("client %d: %s", i, strerror(errno));
		if (n < 0) {
			turn();
			continue;
		}
		text += n;
		len -= (size_t)n;
	}
}

static void say(int i, const char *text)
{
	say_n(i, text, strlen(text));
}

/* The next line that client i gets is that one. */
static void hear(int i, const char *wanted)
{
	struct client *c = &t.c[i];
	char *end;

	UNTIL(c->in.len > 0 && memchr(c->in.data, '\n', c->in.len) != NULL);
	end = memchr(c->in.data, '\n', c->in.len);
	assert_true(end > c->in.data && end[-1] == '\r');
	end[-1] = '\0';
	assert_string_equal(c->in.data, wanted);
	buf_drop(&c->in, (size_t)(end - c->in.data) + 1);
}

static void hear_nothing(int i)
{
	settle();
	assert_int_equal(t.c[i].in.len, 0);
}

static void join(int i)
{
	dial(i);
	say(i, "{\"execute\":\"qmp_capabilities\"}");
	hear(i, "{\"QMP\": {\"version\": " VERSION ", \"capabilities\": []}}");
	hear(i, "{\"return\": {}}");
}

static void refuse_of(int i, const char *command, const char *part)
{
	char *end;

	say(i, command);
	UNTIL(memchr(buf_str(&t.c[i].in), '\n', t.c[i].in.len) != NULL);
	end = strchr(t.c[i].in.data, '\n');
	*end = '\0';
	assert_true(str_starts(t.c[i].in.data, "{\"error\": {\"class\": \"GenericError\""));
	if (strstr(t.c[i].in.data, part) == NULL)
		fail_msg("'%s' lacks '%s'", t.c[i].in.data, part);
	buf_drop(&t.c[i].in, (size_t)(end - t.c[i].in.data) + 1);
}

/* ---- tests ---- */

static void test_negotiation(void **state)
{
	/* Before the monitor has said which version it is nobody is greeted. */
	dial(0);
	say(0, "{\"execute\":\"query-status\",\"id\":1}");
	hear_nothing(0);
	assert_int_equal(t.seen.len, 0);
	monitor_greet();
	hear(0, "{\"QMP\": {\"version\": " VERSION ", \"capabilities\": []}}");
	hear(0, "{\"id\": 1, \"error\": {\"class\": \"CommandNotFound\", \"desc\": "
		"\"Expecting capabilities negotiation with 'qmp_capabilities'\"}}");
	/* No events before the negotiation's end. */
	mon_send("{\"event\": \"EARLY\"}\r\n");
	hear_nothing(0);
	say(0, "{\"execute\":\"qmp_capabilities\",\"id\":null}");
	hear(0, "{\"return\": {}, \"id\": null}");
	mon_send("{\"timestamp\": {\"seconds\": 18446744073709551615},  \"event\": \"E\"}\r\n");
	hear(0, "{\"timestamp\": {\"seconds\": 18446744073709551615},  \"event\": \"E\"}");
	say(0, "{\"execute\":\"qmp_capabilities\",\"id\":2}");
	hear(0, "{\"id\": 2, \"error\": {\"class\": \"CommandNotFound\", \"desc\": "
		"\"Capabilities negotiation is already complete, command ignored\"}}");
	assert_int_equal(t.seen.len, 0);
}

/* Ids of every type, colliding, and none; what is refused here comes in its place. */
static void test_ids_and_order(void **state)
{
	join(0);
	join(1);
	t.hold = true;
	say(0, "{\"execute\":\"query-a\",\"id\":1}{\"execute\":\"query-b\"}nonsense\n"
	       "{\"execute\":\"query-c\",\"id\":null}{\"execute\":\"stop\",\"id\":[1.50]}"
	       "{\"execute\":\"query-d\",\"id\":{\"id\": 18446744073709551615}}");
	say(1, "{\"execute\":\"query-x\",\"id\":1}{\"execute\":\"query-y\",\"id\":1}");
	settle();
	hear_nothing(0);
	/* Two of each client at a time, and in turns. */
	assert_string_equal(buf_str(&t.seen), "query-a query-b query-x query-y ");
	mon_release();
	hear(0, "{\"return\": {\"name\": \"held\"}, \"id\": 1}");
	hear(0, "{\"return\": {\"name\": \"held\"}}");
	hear(0, "{\"error\": {\"class\": \"GenericError\", \"desc\": "
		"\"JSON parse error, invalid token near 'nonsense'\"}}");
	hear(0, "{\"return\": {\"name\": \"query-c\"}, \"id\": null}");
	hear(0, "{\"id\": [1.50], \"error\": {\"class\": \"GenericError\", \"desc\": \"'stop' changes the "
		"machine, and this socket only reads: set `qmp_write = yes` for the machine, or use "
		"`drover qmp --write`\"}}");
	hear(0, "{\"return\": {\"name\": \"query-d\"}, \"id\": {\"id\": 18446744073709551615}}");
	hear(1, "{\"return\": {\"name\": \"held\"}, \"id\": 1}");
	hear(1, "{\"return\": {\"name\": \"held\"}, \"id\": 1}");
	assert_string_equal(buf_str(&t.seen), "query-a query-b query-x query-y query-c query-d ");
	assert_non_null(strstr(buf_str(&t.asked), "stop! "));
	assert_int_equal(t.deeds.len, 0);
}

static void test_write(void **state)
{
	join(0);
	refuse_of(0, "{\"execute\":\"eject\"}", "`qmp_write = yes`");
	refuse_of(0, "{\"exec-oob\":\"query-a\"}", "out-of-band");
	qmp_mux_set_write(t.mux, true);
	t.error_for = "quit";
	say(0, "{\"execute\":\"stop\"}{\"execute\":\"quit\"}{\"execute\":\"eject\"}");
	hear(0, "{\"return\": {\"name\": \"stop\"}}");
	hear(0, "{\"error\": {\"class\": \"X\", \"desc\": \"quit\"}}");
	hear(0, "{\"return\": {\"name\": \"eject\"}}");
	UNTIL(strstr(buf_str(&t.deeds), "3-") != NULL);
	assert_int_equal(t.deeds.data[0], '1');
	assert_non_null(strstr(t.deeds.data, "1+ "));
	assert_string_equal(buf_str(&t.asked), "eject! stop quit eject ");
	qmp_mux_set_write(t.mux, false);
	refuse_of(0, "{\"execute\":\"eject\"}", "`qmp_write = yes`");
}

/* One who does not read is not read from, and goes when events pile up; nobody else notices. */
static void test_slow_reader(void **state)
{
	struct buf event = { 0 };
	int deaf = -1;

	join(0);
	assert_int_equal(unix_connect(t.path, &deaf, NULL), 0);
	assert_int_equal(send(deaf, "{\"execute\":\"qmp_capabilities\"}", 30, 0), 30);
	settle();
	for (int i = 0; i < 100000; i++)
		if (send(deaf, "{\"execute\":\"query-a\"}", 21, MSG_DONTWAIT | MSG_NOSIGNAL) < 21)
			break;
	settle();
	say(0, "{\"execute\":\"query-b\"}");
	hear(0, "{\"return\": {\"name\": \"query-b\"}}");
	buf_adds(&event, "{\"event\": \"E\", \"data\": \"");
	for (int i = 0; i < 4096; i++)
		buf_adds(&event, "x");
	buf_adds(&event, "\"}\r\n");
	for (int i = 0; i < 2000; i++) {
		mon_send(buf_str(&event));
		turn();
		buf_clear(&t.c[0].in);
	}
	settle();
	assert_false(t.c[0].eof);
	buf_clear(&t.c[0].in);
	/* What is left for it to read ends. */
	for (ssize_t n = 1; n > 0;) {
		static char data[65536];

		n = recv(deaf, data, sizeof(data), MSG_DONTWAIT);
		if (n < 0)
			assert_int_equal(errno, ECONNRESET);
	}
	close(deaf);
	buf_finish(&event);
	say(0, "{\"execute\":\"query-c\"}");
	hear(0, "{\"return\": {\"name\": \"query-c\"}}");
}

/* Many events to many clients: all of them, in order. */
static void test_events_to_all(void **state)
{
	enum {
		N = 10,
		EVENTS = 5000
	};
	size_t at[N] = { 0 };
	struct buf all = { 0 };

	for (int i = 0; i < N; i++)
		join(i);
	for (int i = 0; i < EVENTS; i++)
		buf_printf(&all, "{\"event\": \"E\", \"data\": {\"n\": %d}}\r\n", i);
	for (const char *p = all.data; *p != '\0';) {
		size_t len = MIN(strlen(p), (size_t)30000);
		char *piece = strndup(p, len);

		mon_send(piece);
		turn();
		free(piece);
		p += len;
	}
	for (int i = 0; i < N; i++) {
		UNTIL(t.c[i].in.len >= all.len);
		assert_string_equal(buf_str(&t.c[i].in), buf_str(&all));
		at[i] = t.c[i].in.len;
		buf_clear(&t.c[i].in);
		assert_int_equal(at[i], all.len);
	}
	buf_finish(&all);
}

/* A megabyte each way, in pieces; 10 MiB is the end of it. */
static void test_large(void **state)
{
	size_t len = 1 << 20;
	struct buf text = { 0 };
	char *id = malloc(len + 1);

	memset(id, 'i', len);
	id[len] = '\0';
	join(0);
	buf_printf(&text, "{\"execute\":\"query-a\",\"id\":\"%s\"}", id);
	for (size_t off = 0; off < text.len; off += 100000)
		say_n(0, text.data + off, MIN(text.len - off, (size_t)100000));
	buf_clear(&text);
	buf_printf(&text, "{\"return\": {\"name\": \"query-a\"}, \"id\": \"%s\"}", id);
	hear(0, text.data);
	memset(id, ' ', len);
	join(1);
	say(1, "{\"execute\":");
	for (int i = 0; i < 11 && !t.c[1].eof; i++)
		if (send(t.c[1].fd, id, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
			break;
		else
			settle();
	UNTIL(t.c[1].eof || send(t.c[1].fd, id, len, MSG_NOSIGNAL | MSG_DONTWAIT) == 0);
	say(0, "{\"execute\":\"query-b\"}");
	hear(0, "{\"return\": {\"name\": \"query-b\"}}");
	free(id);
	buf_finish(&text);
}

/* Replies for the dead go nowhere; one that only ended its own writing still gets his. */
static void test_ends(void **state)
{
	for (int i = 0; i < 3; i++)
		join(i);
	t.hold = true;
	say(0, "{\"execute\":\"query-a\"}{\"execute\":\"query-a\"}{\"execute\":\"query-never\"}");
	say(1, "{\"execute\":\"query-b\",\"id\":5}");
	say(2, "{\"execute\":\"query-c\"}{\"execute\":\"query-d\"}{\"execute\":\"query-e\"}");
	shutdown(t.c[2].fd, SHUT_WR);
	settle();
	hang_up(0);
	mon_release();
	hear(1, "{\"return\": {\"name\": \"held\"}, \"id\": 5}");
	hear(2, "{\"return\": {\"name\": \"held\"}}");
	hear(2, "{\"return\": {\"name\": \"held\"}}");
	hear(2, "{\"return\": {\"name\": \"query-e\"}}");
	UNTIL(t.c[2].eof);
	assert_null(strstr(buf_str(&t.seen), "query-never"));
	hear_nothing(1);
}

static void test_lost(void **state)
{
	join(0);
	t.hold = true;
	say(0, "{\"execute\":\"query-a\",\"id\":1}{\"execute\":\"query-b\",\"id\":2}"
	       "{\"execute\":\"query-c\",\"id\":3}");
	settle();
	close(t.fd);
	t.fd = -1;
	for (int i = 1; i <= 3; i++) {
		char wanted[256];

		snprintf(wanted, sizeof(wanted),
			"{\"id\": %d, \"error\": {\"class\": \"GenericError\", \"desc\": "
			"\"The connection to the monitor is lost; try again when it is back\"}}",
			i);
		hear(0, wanted);
	}
	t.hold = false;
	/* Greeted all the same: its version does not change. */
	join(1);
	refuse_of(1, "{\"execute\":\"query-a\"}", "is lost");
	buf_clear(&t.held);
	monitor_connect();
	monitor_greet();
	settle();
	say(0, "{\"execute\":\"query-a\"}");
	hear(0, "{\"return\": {\"name\": \"query-a\"}}");
}

static void send_fd(int i, const char *text)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr mh = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &t.c[i].fd, sizeof(int));
	assert_int_equal(sendmsg(t.c[i].fd, &mh, 0), (ssize_t)strlen(text));
}

#define GETFD(name)   "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"" name "\"}}"
#define CLOSEFD(name) "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"" name "\"}}"

static void test_descriptors(void **state)
{
	unsigned fds;

	join(0);
	join(1);
	qmp_mux_set_write(t.mux, true);
	settle();
	fds = rig_count_fds();
	refuse_of(0, GETFD("a"), "No file descriptor supplied via SCM_RIGHTS");
	send_fd(0, GETFD("a"));
	hear(0, "{\"return\": {\"name\": \"getfd\"}}");
	assert_string_equal(buf_str(&t.seen), "getfd+fd ");
	/* Nobody else gets at the name, and none of ours are to be had. */
	send_fd(1, GETFD("a"));
	refuse_of(1, "", "is held by another client");
	refuse_of(1, CLOSEFD("a"), "is held by another client");
	refuse_of(1, CLOSEFD("drover-x"), "are the supervisor's");
	assert_non_null(strstr(buf_str(&t.asked), "getfd! closefd! closefd! "));
	send_fd(1, GETFD("drover-x"));
	refuse_of(1, "", "are the supervisor's");
	/* Its own holder may. */
	send_fd(0, GETFD("a"));
	hear(0, "{\"return\": {\"name\": \"getfd\"}}");
	say(0, CLOSEFD("a"));
	hear(0, "{\"return\": {\"name\": \"closefd\"}}");
	send_fd(1, GETFD("a"));
	hear(1, "{\"return\": {\"name\": \"getfd\"}}");
	/* A failed one holds nothing. */
	t.error_for = "getfd";
	send_fd(0, GETFD("b"));
	hear(0, "{\"error\": {\"class\": \"X\", \"desc\": \"getfd\"}}");
	t.error_for = NULL;
	send_fd(1, GETFD("b"));
	hear(1, "{\"return\": {\"name\": \"getfd\"}}");
	assert_int_equal(rig_count_fds(), fds);
	/* The names of the dead are closed: those that are given, and one on its way. */
	t.hold = true;
	send_fd(1, GETFD("c"));
	buf_clear(&t.seen);
	UNTIL(strcmp(buf_str(&t.seen), "getfd+fd ") == 0);
	hang_up(1);
	UNTIL(strcmp(buf_str(&t.seen), "getfd+fd closefd closefd ") == 0);
	mon_release();
	UNTIL(strcmp(buf_str(&t.seen), "getfd+fd closefd closefd closefd ") == 0);
	send_fd(0, GETFD("c"));
	hear(0, "{\"return\": {\"name\": \"getfd\"}}");
}

static void on_reply(void *arg, const char *text, size_t len, const struct err *err)
{
	t.replied = true;
	free(t.reply);
	t.reply = strdup(text != NULL ? text : err->msg);
	t.reply_code = err != NULL ? err->code : 0;
}

static void call(const char *text, bool write)
{
	t.replied = false;
	qmp_mux_execute(t.mux, &somebody, text, strlen(text), write, on_reply, NULL);
	assert_false(t.replied);
}

static void test_api(void **state)
{
	call("{\"execute\":\"query-a\",\"id\":\"x\"}", false);
	UNTIL(t.replied);
	assert_string_equal(t.reply, "{\"return\": {\"name\": \"query-a\"}, \"id\": \"x\"}");
	call("{\"execute\":\"stop\"}", false);
	UNTIL(t.replied);
	assert_int_equal(t.reply_code, -EACCES);
	assert_non_null(strstr(t.reply, "`drover qmp --write`"));
	call("{\"execute\":\"stop\"}", true);
	UNTIL(t.replied);
	assert_int_equal(t.reply_code, 0);
	assert_string_equal(buf_str(&t.deeds), "1:5 1+ ");
	call("{\"execute\":5}", true);
	UNTIL(t.replied);
	assert_string_equal(t.reply,
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input "
		"member 'execute' must be a string\"}}");
	t.hold = true;
	call("{\"execute\":\"query-a\"}", false);
	settle();
	close(t.fd);
	t.fd = -1;
	UNTIL(t.replied);
	assert_int_equal(t.reply_code, -ECONNRESET);
	call("{\"execute\":\"query-a\"}", false);
	UNTIL(t.replied);
	assert_int_equal(t.reply_code, -ENOTCONN);
}

/* An end in the middle of everything tells whoever waits, once. */
static void test_destroy(void **state)
{
	join(0);
	t.hold = true;
	say(0, "{\"execute\":\"query-a\"}{\"execute\":\"query-b\"}{\"execute\":\"query-c\"}");
	call("{\"execute\":\"query-a\"}", false);
	settle();
	assert_false(t.replied);
	t.owed = true;
}

static void test_too_many(void **state)
{
	for (int i = 0; i < 64; i++)
		join(i);
	dial(64);
	UNTIL(t.c[64].eof);
	hang_up(0);
	join(65);
	say(1, "{\"execute\":\"query-a\"}");
	hear(1, "{\"return\": {\"name\": \"query-a\"}}");
}

/* No client's flood keeps another from his turn: his comes within the next few. */
static void test_fairness(void **state)
{
	struct buf flood = { 0 };
	char *mine;
	unsigned before = 0;

	join(0);
	join(1);
	t.hold = true;
	for (int i = 0; i < 50; i++)
		buf_adds(&flood, "{\"execute\":\"query-flood\"}");
	say(0, buf_str(&flood));
	settle();
	say(1, "{\"execute\":\"query-mine\"}");
	settle();
	mon_release();
	UNTIL((mine = strstr(buf_str(&t.seen), "query-mine")) != NULL);
	for (const char *p = t.seen.data; p < mine; p = strchr(p, ' ') + 1)
		before++;
	assert_true(before <= 8);
	buf_finish(&flood);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_negotiation, setup_silent, teardown),
		TEST(test_ids_and_order),
		TEST(test_write),
		TEST(test_slow_reader),
		TEST(test_events_to_all),
		TEST(test_large),
		TEST(test_ends),
		TEST(test_lost),
		TEST(test_descriptors),
		TEST(test_api),
		TEST(test_destroy),
		TEST(test_too_many),
		TEST(test_fairness),
	};

	return cmocka_run_group_tests_name("qmp_mux", tests, NULL, NULL);
}

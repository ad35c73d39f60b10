#include "hv/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend.h"
#include "hv/json-scan.h"
#include "hv/json-stream.h"
#include "lib/deadline.h"
#include "lib/list.h"
#include "lib/log.h"

#define NO_DEADLINE UINT64_MAX

enum outcome {
	WAITING,
	WRITTEN, /* and that is all its owner wants */
	FAILED
};

struct command {
	struct list list; /* in queued or sent */
	uint64_t id, due; /* due in the loop's time */
	enum outcome outcome;
	struct err *why; /* of FAILED */
	char name[48];
	char *text; /* until it is written */
	size_t len, off;
	int fd;
	bool had_fd;
	bool abandoned; /* timed out half written: the rest must follow, the reply is dropped */
	bool sent_is_done;
	qmp_reply_fn *reply;
	qmp_text_fn *text_reply; /* in place of reply: the command is foreign text */
	void *arg;
};

enum state {
	QMP_GREETING,
	QMP_NEGOTIATING,
	QMP_READY,
	QMP_LOST,
	QMP_CLOSING
};

struct qmp {
	struct json_stream *stream; /* NULL once the connection has ended */
	struct deadline timer;      /* the earliest due of all commands */
	uv_loop_t *loop;
	struct qmp_callbacks cb;
	enum state state;
	uint64_t next_id;
	struct list queued, sent; /* in the order of the calls */
	struct command *greet;    /* qmp_capabilities, the only one to go before QMP_READY */
	json_t *greeting;
	bool write_broken;
	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static void flush(struct qmp *q);

static bool usable(const struct qmp *q)
{
	return q->state == QMP_GREETING || q->state == QMP_NEGOTIATING || q->state == QMP_READY;
}

static void command_free(struct command *c)
{
	list_remove(&c->list);
	if (c->fd >= 0)
		close(c->fd);
	free(c->why);
	free(c->text);
	free(c);
}

/* Frees c, then calls its owner, who may destroy the client. */
static void complete(struct command *c, const json_t *reply, const struct err *err)
{
	qmp_reply_fn *fn = c->reply;
	qmp_text_fn *text_fn = c->text_reply;
	void *arg = c->arg;

	command_free(c);
	if (text_fn != NULL)
		text_fn(arg, NULL, 0, err);
	else if (fn != NULL)
		fn(arg, reply, err);
}

/* Deadlines */

static struct command *earliest(struct qmp *q)
{
	struct command *c, *first = NULL;

	list_for_each_entry (c, &q->queued, list)
		if (!c->abandoned && (first == NULL || c->due < first->due))
			first = c;
	list_for_each_entry (c, &q->sent, list)
		if (first == NULL || c->due < first->due)
			first = c;
	return first;
}

static void arm_timer(struct qmp *q)
{
	struct command *c = earliest(q);
	uint64_t now = uv_now(q->loop);

	if (c == NULL || c->due == NO_DEADLINE)
		deadline_cancel(&q->timer);
	else
		deadline_set(&q->timer, c->due > now ? c->due - now : 0);
}

/* The outcome of a command of which no reply will be taken any more. */
static void give_up(struct command *c)
{
	qmp_reply_fn *fn = c->reply;
	struct err err;

	if (c->outcome == WRITTEN) {
		complete(c, NULL, NULL);
		return;
	}
	if (c->outcome == FAILED && c->why != NULL)
		err = *c->why;
	else if (c->outcome == FAILED)
		err_nomem(&err);
	else
		err_set(&err, -ETIMEDOUT, "%s: the monitor does not answer in time", c->name);
	if (c->text == NULL || c->off == 0) {
		complete(c, NULL, &err);
		return;
	}
	c->abandoned = true;
	c->reply = NULL;
	if (fn != NULL)
		fn(c->arg, NULL, &err);
}

static void timer_fired(void *arg)
{
	struct qmp *q = arg;
	struct command *c;

	while (q->state != QMP_CLOSING && (c = earliest(q)) != NULL && c->due <= uv_now(q->loop)) {
		bool late = c->outcome == WAITING;
		char name[sizeof(c->name)];

		memcpy(name, c->name, sizeof(name));
		give_up(c);
		if (late && usable(q) && q->cb.late != NULL)
			q->cb.late(q->cb.arg, name);
	}
	if (q->state != QMP_CLOSING)
		arm_timer(q);
}

/* The end of the connection */

static void handle_closed(struct qmp *q)
{
	void (*closed)(void *arg) = q->closed;
	void *arg = q->closed_arg;

	if (--q->handles > 0)
		return;
	/* Only qmp_destroy() closes the timer, so the last handle is closed after it. */
	json_decref(q->greeting);
	free(q);
	if (closed != NULL)
		closed(arg);
}

static void part_closed(void *arg)
{
	handle_closed(arg);
}

static void close_stream(struct qmp *q)
{
	struct json_stream *stream = q->stream;

	q->stream = NULL;
	if (stream != NULL)
		json_stream_close(stream, part_closed, q);
}

static void lose(struct qmp *q, const struct err *err)
{
	if (!usable(q))
		return;
	q->state = QMP_LOST;
	close_stream(q);
	while (q->state == QMP_LOST && (!list_empty(&q->queued) || !list_empty(&q->sent))) {
		struct list *from = !list_empty(&q->sent) ? &q->sent : &q->queued;
		struct command *c = list_first(from, struct command, list);
		struct err why;

		if (c->outcome == WAITING)
			why = *err;
		else if (c->outcome == FAILED && c->why != NULL)
			why = *c->why; /* which goes with c */
		else
			err_nomem(&why);
		complete(c, NULL, c->outcome == WRITTEN ? NULL : &why);
	}
	if (q->state == QMP_LOST && q->cb.lost != NULL)
		q->cb.lost(q->cb.arg, err);
}

static void fail(struct qmp *q, int code, const char *msg)
{
	struct err err;

	err_set(&err, code, "monitor: %s", msg);
	lose(q, &err);
}

static void stream_broken(void *arg, const struct err *err)
{
	fail(arg, err->code, err->msg);
}

/* Messages */

static int error_code(const char *class)
{
	static const struct {
		const char *class;
		int code;
	} codes[] = {
		{ "CommandNotFound", -ENOTSUP },
		{ "DeviceNotFound", -ENOENT },
		{ "DeviceNotActive", -EBADFD },
		{ "KVMMissingCap", -ENOTSUP },
	};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (str_eq(class, codes[i].class))
			return codes[i].code;
	return -EIO;
}

/* NULL: it is late, or not ours. */
static struct command *find_sent(struct qmp *q, uint64_t id)
{
	struct command *c;

	list_for_each_entry (c, &q->sent, list)
		if (c->id == id)
			return c;
	return NULL;
}

/* QEMU answers what it cannot parse in its turn, without the id: whose turn it is tells. */
static struct command *oldest_text(struct qmp *q)
{
	struct command *c;

	list_for_each_entry (c, &q->sent, list)
		if (c->text_reply != NULL)
			return c;
	return NULL;
}

/* Whether the message answers a foreign command: then it is passed on without being taken apart. */
static bool handle_text_reply(struct qmp *q, const char *data, size_t len)
{
	struct json_member m;
	struct command *c;
	qmp_text_fn *fn;
	void *arg;

	if (q->state != QMP_READY || oldest_text(q) == NULL)
		return false;
	/* An event may carry anything in its data, but has no id beside it. */
	if (json_find(data, len, "id", &m))
		c = find_sent(q, strtoull(data + m.value, NULL, 10));
	else
		c = json_find(data, len, "error", &m) ? oldest_text(q) : NULL;
	if (c == NULL || c->text_reply == NULL)
		return false;
	fn = c->text_reply;
	arg = c->arg;
	command_free(c);
	fn(arg, data, len, NULL);
	return true;
}

static void handle_reply(struct qmp *q, const json_t *msg)
{
	const json_t *error = json_object_get(msg, "error");
	const json_t *id = json_object_get(msg, "id");
	const char *desc;
	struct command *c;
	struct err err;

	c = json_is_integer(id) ? find_sent(q, (uint64_t)json_integer_value(id)) : NULL;
	if (c == NULL)
		return; /* late: its owner was told so already */
	if (error == NULL) {
		complete(c, json_object_get(msg, "return"), NULL);
		return;
	}
	desc = json_string_value(json_object_get(error, "desc"));
	err_set(&err, error_code(json_string_value(json_object_get(error, "class"))), "%s: %s",
		c->name, desc != NULL ? desc : "refused without a word");
	hv_clean_text(err.msg);
	complete(c, NULL, &err);
}

static void negotiated(void *arg, const json_t *reply, const struct err *err)
{
	struct qmp *q = arg;

	q->greet = NULL;
	if (!usable(q))
		return; /* lose() tells */
	if (err != NULL) {
		fail(q, -EPROTO, err->msg);
		return;
	}
	q->state = QMP_READY;
	if (q->cb.ready != NULL)
		q->cb.ready(q->cb.arg, q->greeting);
}

static struct command *command_new(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg);

static void handle_greeting(struct qmp *q, json_t *greeting)
{
	json_t *cmd = json_pack("{s:s}", "execute", "qmp_capabilities");
	struct command *c = cmd != NULL ? command_new(q, cmd, NULL, negotiated, q) : NULL;

	json_decref(cmd);
	if (c == NULL) {
		fail(q, -ENOMEM, "out of memory");
		return;
	}
	/* How long a hypervisor may take until it answers is its owner's business. */
	c->due = NO_DEADLINE;
	list_prepend(&q->queued, &c->list);
	q->greet = c;
	q->greeting = json_incref(greeting);
	q->state = QMP_NEGOTIATING;
	flush(q);
}

static void garbage(struct qmp *q, const char *what, const char *data, size_t len)
{
	char msg[512];

	snprintf(msg, sizeof(msg), "%s: %s", what, quote_n(data, MIN(len, (size_t)80)));
	fail(q, -EBADMSG, msg);
}

/* What was an integer before JSON_DECODE_INT_AS_REAL, as far as that can be known. */
static json_t *integers_back(json_t *v)
{
	double real = json_is_real(v) ? json_real_value(v) : 0.5;
	const char *key;
	json_t *e;
	size_t i;

	if (json_is_object(v)) {
		json_object_foreach (v, key, e)
			json_object_set_new(v, key, integers_back(json_incref(e)));
	} else if (json_is_array(v)) {
		json_array_foreach (v, i, e)
			json_array_set_new(v, i, integers_back(json_incref(e)));
	} else if (real > -9e15 && real < 9e15 && real == (double)(json_int_t)real) {
		json_decref(v);
		return json_integer((json_int_t)real);
	}
	return v;
}

/* QEMU has unsigned integers of 64 bits, which jansson refuses: such a message keeps its others. */
static json_t *parse(const char *data, size_t len)
{
	json_error_t error;
	json_t *msg = json_loadb(data, len, JSON_ALLOW_NUL, &error);

	if (msg == NULL && json_error_code(&error) == json_error_numeric_overflow)
		msg = integers_back(
			json_loadb(data, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL));
	return msg;
}

static void tell_event(
	struct qmp *q, const char *name, const json_t *event, const char *data, size_t len)
{
	if (q->cb.event_text != NULL)
		q->cb.event_text(q->cb.arg, data, len);
	if (usable(q) && q->cb.event != NULL)
		q->cb.event(q->cb.arg, name, event);
}

static void handle_parsed(struct qmp *q, const char *data, size_t len)
{
	json_t *msg = parse(data, len);
	json_t *greeting = json_object_get(msg, "QMP");
	const char *event = json_string_value(json_object_get(msg, "event"));

	if (msg == NULL) {
		garbage(q, "garbage", data, len);
		return;
	}
	if (q->state == QMP_GREETING) {
		if (greeting != NULL)
			handle_greeting(q, greeting);
		else
			garbage(q, "no greeting, but", data, len);
	} else if (event != NULL) {
		tell_event(q, event, msg, data, len);
	} else {
		handle_reply(q, msg);
	}
	json_decref(msg);
}

static void handle_message(void *arg, const char *data, size_t len)
{
	struct qmp *q = arg;

	if (q->cb.alive != NULL)
		q->cb.alive(q->cb.arg);
	if (usable(q) && !handle_text_reply(q, data, len))
		handle_parsed(q, data, len);
	/* A reply may have opened the way for what is queued. */
	if (usable(q) && !list_empty(&q->queued))
		flush(q);
}

void qmp_drain(struct qmp *q)
{
	if (q->stream != NULL)
		json_stream_drain(q->stream);
}

/* Writing */

/*
 * QEMU keeps the descriptors of one message until the next that has some: a second command with a
 * descriptor must not follow before the first is answered.
 */
static bool may_write(struct qmp *q, const struct command *next)
{
	struct command *c;

	if (q->state != QMP_READY)
		return next == q->greet;
	if (next->had_fd && next->off == 0)
		list_for_each_entry (c, &q->sent, list)
			if (c->had_fd)
				return false;
	return true;
}

static void written(struct qmp *q, struct command *c)
{
	free(c->text);
	c->text = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	list_remove(&c->list);
	list_append(&q->sent, &c->list);
	if (c->abandoned) {
		command_free(c);
	} else if (c->sent_is_done) {
		c->outcome = WRITTEN;
		c->due = uv_now(q->loop);
	}
}

/* Writes what can be written now. Calls nobody. */
static void flush(struct qmp *q)
{
	struct command *c;

	while (usable(q) && !q->write_broken &&
		(c = list_first(&q->queued, struct command, list)) != NULL && may_write(q, c)) {
		ssize_t n = json_stream_write(
			q->stream, c->text + c->off, c->len - c->off, c->off == 0 ? c->fd : -1);

		if (n == 0)
			break;
		if (n < 0)
			q->write_broken = true; /* what it still has to say is read first */
		else if ((c->off += (size_t)n) == c->len)
			written(q, c);
	}
	arm_timer(q);
}

static void stream_writable(void *arg)
{
	flush(arg);
}

/* Takes text over, also when it fails; NULL without memory. */
static struct command *command_of_text(struct qmp *q, uint64_t id, char *text)
{
	struct command *c = text != NULL ? calloc(1, sizeof(*c)) : NULL;

	if (c == NULL) {
		free(text);
		return NULL;
	}
	list_init(&c->list);
	c->id = id;
	c->text = text;
	c->len = strlen(text);
	c->fd = -1;
	return c;
}

static struct command *command_new(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg)
{
	const char *name = json_string_value(json_object_get(cmd, "execute"));
	uint64_t timeout = opts != NULL && opts->timeout_ms > 0 ? opts->timeout_ms : QMP_TIMEOUT_MS;
	json_t *full = json_copy((json_t *)(uintptr_t)cmd);
	struct command *c;
	char *text = NULL;

	if (full != NULL &&
		json_object_set_new(full, "id", json_integer((json_int_t)++q->next_id)) == 0)
		text = json_dumps(full, JSON_COMPACT);
	json_decref(full);
	c = command_of_text(q, q->next_id, text);
	if (c == NULL)
		return NULL;
	if (name == NULL)
		name = json_string_value(json_object_get(cmd, "exec-oob"));
	snprintf(c->name, sizeof(c->name), "%s", name != NULL ? name : "command");
	c->due = uv_now(q->loop) + timeout;
	c->sent_is_done = opts != NULL && opts->sent_is_done;
	c->reply = reply;
	c->arg = arg;
	return c;
}

static void PRINTF(4, 5) refuse(struct qmp *q, struct command *c, int code, const char *fmt, ...)
{
	char msg[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	c->outcome = FAILED;
	c->why = malloc(sizeof(*c->why));
	if (c->why != NULL)
		err_set(c->why, code, "%s: %s", c->name, msg);
	/* A text that will never be written must not stop those behind it. */
	free(c->text);
	c->text = NULL;
	c->due = 0;
	list_append(&q->sent, &c->list);
}

/* Takes c over, with a copy of fd (-1: none). */
static void queue(struct qmp *q, struct command *c, int fd)
{
	if (fd >= 0) {
		c->had_fd = true;
		c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (c->fd < 0)
			refuse(q, c, -errno, "cannot pass the descriptor: %s", strerror(errno));
	}
	if (c->outcome == WAITING && !usable(q))
		refuse(q, c, -ECONNRESET, "the connection to the monitor was closed");
	if (c->outcome == WAITING)
		list_append(&q->queued, &c->list);
	flush(q);
}

int qmp_send(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts, qmp_reply_fn *reply,
	void *arg)
{
	struct command *c;

	uv_update_time(q->loop);
	c = command_new(q, cmd, opts, reply, arg);
	if (c == NULL)
		return -ENOMEM;
	queue(q, c, opts != NULL && opts->fd > 0 ? opts->fd : -1);
	return 0;
}

int qmp_send_text(
	struct qmp *q, const char *text, size_t len, int fd, qmp_text_fn *reply, void *arg)
{
	struct buf full = { 0 };
	char id[24];
	struct command *c;

	uv_update_time(q->loop);
	snprintf(id, sizeof(id), "%llu", (unsigned long long)++q->next_id);
	json_splice(&full, text, len, "id", id);
	c = command_of_text(q, q->next_id, buf_steal(&full));
	if (c == NULL)
		return -ENOMEM;
	snprintf(c->name, sizeof(c->name), "command");
	c->due = NO_DEADLINE;
	c->text_reply = reply;
	c->arg = arg;
	queue(q, c, fd);
	return 0;
}

int qmp_command(struct qmp *q, const char *name, const json_t *args, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg)
{
	json_t *cmd = json_pack("{s:s}", "execute", name);
	int r = cmd == NULL ? -ENOMEM : 0;

	if (r == 0 && args != NULL &&
		json_object_set(cmd, "arguments", (json_t *)(uintptr_t)args) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = qmp_send(q, cmd, opts, reply, arg);
	json_decref(cmd);
	return r;
}

int qmp_create(
	struct qmp **out, uv_loop_t *loop, int fd, const struct qmp_callbacks *cb, struct err *err)
{
	struct qmp *q = calloc(1, sizeof(*q));
	const struct json_stream_callbacks scb = { .message = handle_message,
		.writable = stream_writable,
		.broken = stream_broken,
		.arg = q };
	int r;

	if (q == NULL) {
		close(fd);
		return err_nomem(err);
	}
	r = json_stream_create(&q->stream, loop, fd, &scb, err);
	if (r < 0) {
		free(q);
		return err_wrap(err, "monitor");
	}
	deadline_init(&q->timer, loop, timer_fired, q);
	list_init(&q->queued);
	list_init(&q->sent);
	q->handles = 2;
	q->loop = loop;
	q->cb = *cb;
	*out = q;
	return 0;
}

void qmp_destroy(struct qmp *q, void (*closed)(void *arg), void *arg)
{
	if (q == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	q->state = QMP_CLOSING;
	q->closed = closed;
	q->closed_arg = arg;
	while (!list_empty(&q->queued))
		command_free(list_first(&q->queued, struct command, list));
	while (!list_empty(&q->sent))
		command_free(list_first(&q->sent, struct command, list));
	close_stream(q);
	deadline_close(&q->timer, part_closed);
}

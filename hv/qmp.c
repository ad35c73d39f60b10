#include "hv/qmp-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend.h"
#include "hv/json-scan.h"
#include "lib/log.h"

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
	if (!qmp_usable(q))
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
		qmp_complete(c, NULL, c->outcome == WRITTEN ? NULL : &why);
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
	qmp_command_free(c);
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
		qmp_complete(c, json_object_get(msg, "return"), NULL);
		return;
	}
	desc = json_string_value(json_object_get(error, "desc"));
	err_set(&err, error_code(json_string_value(json_object_get(error, "class"))), "%s: %s",
		c->name, desc != NULL ? desc : "refused without a word");
	hv_clean_text(err.msg);
	qmp_complete(c, NULL, &err);
}

static void negotiated(void *arg, const json_t *reply, const struct err *err)
{
	struct qmp *q = arg;

	q->greet = NULL;
	if (!qmp_usable(q))
		return; /* lose() tells */
	if (err != NULL) {
		fail(q, -EPROTO, err->msg);
		return;
	}
	q->state = QMP_READY;
	if (q->cb.ready != NULL)
		q->cb.ready(q->cb.arg, q->greeting);
}

static void handle_greeting(struct qmp *q, json_t *greeting)
{
	json_t *cmd = json_pack("{s:s}", "execute", "qmp_capabilities");
	struct command *c = cmd != NULL ? qmp_command_new(q, cmd, NULL, negotiated, q) : NULL;

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
	qmp_flush(q);
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
	if (qmp_usable(q) && q->cb.event != NULL)
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
	if (qmp_usable(q) && !handle_text_reply(q, data, len))
		handle_parsed(q, data, len);
	/* A reply may have opened the way for what is queued. */
	if (qmp_usable(q) && !list_empty(&q->queued))
		qmp_flush(q);
}

void qmp_drain(struct qmp *q)
{
	if (q->stream != NULL)
		json_stream_drain(q->stream);
}

static void stream_writable(void *arg)
{
	qmp_flush(arg);
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
	deadline_init(&q->timer, loop, qmp_timer_fired, q);
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
		qmp_command_free(list_first(&q->queued, struct command, list));
	while (!list_empty(&q->sent))
		qmp_command_free(list_first(&q->sent, struct command, list));
	close_stream(q);
	deadline_close(&q->timer, part_closed);
}

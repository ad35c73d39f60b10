#include "hv/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend.h"
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
	void *arg = c->arg;

	command_free(c);
	if (fn != NULL)
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

		if (c->outcome == WAITING)
			complete(c, NULL, err);
		else
			complete(c, NULL, c->outcome == FAILED ? c->why : NULL);
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

static void handle_reply(struct qmp *q, const json_t *msg)
{
	const json_t *error = json_object_get(msg, "error");
	const json_t *id = json_object_get(msg, "id");
	const char *desc;
	struct command *c;
	struct err err;

	list_for_each_entry (c, &q->sent, list)
		if (json_is_integer(id) && (uint64_t)json_integer_value(id) == c->id)
			break;
	if (&c->list == &q->sent)
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

static void handle_message(void *arg, const char *data, size_t len)
{
	struct qmp *q = arg;
	json_t *msg = json_loadb(data, len, JSON_ALLOW_NUL, NULL);
	json_t *greeting = json_object_get(msg, "QMP");
	const char *event = json_string_value(json_object_get(msg, "event"));

	if (msg == NULL) {
		garbage(q, "garbage", data, len);
		return;
	}
	if (q->cb.alive != NULL)
		q->cb.alive(q->cb.arg);
	if (!usable(q)) {
		;
	} else if (q->state == QMP_GREETING) {
		if (greeting != NULL)
			handle_greeting(q, greeting);
		else
			garbage(q, "no greeting, but", data, len);
	} else if (event != NULL) {
		if (q->cb.event != NULL)
			q->cb.event(q->cb.arg, event, msg);
	} else {
		handle_reply(q, msg);
	}
	json_decref(msg);
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

static struct command *command_new(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg)
{
	const char *name = json_string_value(json_object_get(cmd, "execute"));
	struct command *c = calloc(1, sizeof(*c));
	uint64_t timeout = opts != NULL && opts->timeout_ms > 0 ? opts->timeout_ms : QMP_TIMEOUT_MS;
	json_t *full = json_copy((json_t *)(uintptr_t)cmd);
	char *text = NULL;

	if (c != NULL && full != NULL &&
		json_object_set_new(full, "id", json_integer((json_int_t)++q->next_id)) == 0)
		text = json_dumps(full, JSON_COMPACT);
	json_decref(full);
	if (text == NULL) {
		free(c);
		return NULL;
	}
	list_init(&c->list);
	if (name == NULL)
		name = json_string_value(json_object_get(cmd, "exec-oob"));
	snprintf(c->name, sizeof(c->name), "%s", name != NULL ? name : "command");
	c->id = q->next_id;
	c->due = uv_now(q->loop) + timeout;
	c->text = text;
	c->len = strlen(text);
	c->fd = -1;
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

int qmp_send(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts, qmp_reply_fn *reply,
	void *arg)
{
	struct command *c;

	uv_update_time(q->loop);
	c = command_new(q, cmd, opts, reply, arg);
	if (c == NULL)
		return -ENOMEM;
	if (opts != NULL && opts->fd > 0) {
		c->had_fd = true;
		c->fd = fcntl(opts->fd, F_DUPFD_CLOEXEC, 3);
		if (c->fd < 0)
			refuse(q, c, -errno, "cannot pass the descriptor: %s", strerror(errno));
	}
	if (c->outcome == WAITING && !usable(q))
		refuse(q, c, -ECONNRESET, "the connection to the monitor was closed");
	if (c->outcome == WAITING)
		list_append(&q->queued, &c->list);
	flush(q);
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

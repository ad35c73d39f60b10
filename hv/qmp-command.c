#include "hv/qmp-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/json-scan.h"

void qmp_command_free(struct command *c)
{
	list_remove(&c->list);
	if (c->fd >= 0)
		close(c->fd);
	free(c->why);
	free(c->text);
	free(c);
}

void qmp_complete(struct command *c, const json_t *reply, const struct err *err)
{
	qmp_reply_fn *fn = c->reply;
	qmp_text_fn *text_fn = c->text_reply;
	void *arg = c->arg;

	qmp_command_free(c);
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
		qmp_complete(c, NULL, NULL);
		return;
	}
	if (c->outcome == FAILED && c->why != NULL)
		err = *c->why;
	else if (c->outcome == FAILED)
		err_nomem(&err);
	else
		err_set(&err, -ETIMEDOUT, "%s: the monitor does not answer in time", c->name);
	if (c->text == NULL || c->off == 0) {
		qmp_complete(c, NULL, &err);
		return;
	}
	c->abandoned = true;
	c->reply = NULL;
	if (fn != NULL)
		fn(c->arg, NULL, &err);
}

void qmp_timer_fired(void *arg)
{
	struct qmp *q = arg;
	struct command *c;

	while (q->state != QMP_CLOSING && (c = earliest(q)) != NULL && c->due <= uv_now(q->loop)) {
		bool late = c->outcome == WAITING;
		char name[sizeof(c->name)];

		memcpy(name, c->name, sizeof(name));
		give_up(c);
		if (late && qmp_usable(q) && q->cb.late != NULL)
			q->cb.late(q->cb.arg, name);
	}
	if (q->state != QMP_CLOSING)
		arm_timer(q);
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
		qmp_command_free(c);
	} else if (c->sent_is_done) {
		c->outcome = WRITTEN;
		c->due = uv_now(q->loop);
	}
}

void qmp_flush(struct qmp *q)
{
	struct command *c;

	while (qmp_usable(q) && !q->write_broken &&
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

struct command *qmp_command_new(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts,
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
	if (c->outcome == WAITING && !qmp_usable(q))
		refuse(q, c, -ECONNRESET, "the connection to the monitor was closed");
	if (c->outcome == WAITING)
		list_append(&q->queued, &c->list);
	qmp_flush(q);
}

int qmp_send(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts, qmp_reply_fn *reply,
	void *arg)
{
	struct command *c;

	uv_update_time(q->loop);
	c = qmp_command_new(q, cmd, opts, reply, arg);
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

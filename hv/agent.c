#include "hv/agent.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/backend.h"
#include "hv/json-scan.h"
#include "lib/deadline.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/list.h"

#define READ_SIZE 8192
#define SENTINEL  '\xff'

struct command {
	struct list list;
	char *text;
	uint64_t due; /* in the loop's time */
	agent_reply_fn *reply;
	void *arg;
};

/* A connection lives on for a moment after it was dropped. */
struct link {
	uv_poll_t poll;
	struct agent *a;
	int fd;
};

enum phase {
	IDLE,
	SYNCING, /* guest-sync-delimited was sent for the first of the queue */
	SENT     /* the first of the queue was sent */
};

struct agent {
	uv_loop_t *loop;
	char *path;
	struct link *link;
	struct list queue;
	enum phase phase;
	struct err *broken;    /* why the first of the queue fails at once */
	struct deadline timer; /* the earliest due */
	bool synced;
	bool hunting; /* for the sentinel: all before it is dropped */
	int64_t sync_id;
	struct buf in, out;
	struct json_scan scan;
	bool closing;
	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static void next_command(struct agent *a);

/* ---- memory ---- */

static void command_free(struct command *c)
{
	list_remove(&c->list);
	free(c->text);
	free(c);
}

static void part_closed(void *arg)
{
	struct agent *a = arg;
	void (*closed)(void *arg) = a->closed;
	void *closed_arg = a->closed_arg;

	if (--a->handles > 0)
		return;
	buf_finish(&a->in);
	buf_finish(&a->out);
	free(a->broken);
	free(a->path);
	free(a);
	if (closed != NULL)
		closed(closed_arg);
}

static void poll_closed(uv_handle_t *handle)
{
	struct link *link = container_of((uv_poll_t *)handle, struct link, poll);
	struct agent *a = link->a;

	free(link);
	part_closed(a);
}

static void drop_link(struct agent *a)
{
	struct link *link = a->link;

	a->link = NULL;
	a->synced = false;
	buf_finish(&a->in);
	buf_finish(&a->out);
	a->scan = (struct json_scan){ 0 };
	if (link == NULL)
		return;
	uv_poll_stop(&link->poll);
	uv_close((uv_handle_t *)&link->poll, poll_closed);
	close(link->fd);
}

/* ---- ends of commands ---- */

static void arm_timer(struct agent *a)
{
	uint64_t now = uv_now(a->loop), due = UINT64_MAX;
	struct command *c;

	list_for_each_entry (c, &a->queue, list)
		due = MIN(due, c->due);
	if (a->broken != NULL)
		due = 0;
	if (due == UINT64_MAX)
		deadline_cancel(&a->timer);
	else
		deadline_set(&a->timer, due > now ? due - now : 0);
}

/* Its owner may destroy the client. */
static void complete(struct command *c, const json_t *reply, const struct err *err)
{
	agent_reply_fn *fn = c->reply;
	void *arg = c->arg;

	command_free(c);
	if (fn != NULL)
		fn(arg, reply, err);
}

static void complete_first(struct agent *a, const json_t *reply, const struct err *err)
{
	struct command *c = list_first(&a->queue, struct command, list);

	a->phase = IDLE;
	if (c != NULL)
		complete(c, reply, err);
	if (!a->closing)
		next_command(a);
}

/* The connection is of no more use. */
static void lose(struct agent *a, int code, const char *why)
{
	bool busy = a->phase != IDLE;
	struct err err;

	drop_link(a);
	if (!busy)
		return;
	err_set(&err, code, "%s", why);
	complete_first(a, NULL, &err);
}

static struct command *late_one(struct agent *a)
{
	uint64_t now = uv_now(a->loop);
	struct command *c;

	list_for_each_entry (c, &a->queue, list) {
		if (c->due <= now)
			return c;
	}
	return NULL;
}

static void expired(void *arg)
{
	struct agent *a = arg;
	struct err *broken = a->broken;
	struct command *c;
	struct err err;

	a->broken = NULL;
	if (broken != NULL) {
		err = *broken;
		free(broken);
		complete_first(a, NULL, &err);
		return;
	}
	while (!a->closing && (c = late_one(a)) != NULL) {
		bool first = a->phase != IDLE && &c->list == a->queue.next;

		err_set(&err, -ETIMEDOUT, "the guest agent does not answer%s",
			first && a->phase == SENT ? " in time" : "");
		/* What it may still say must not be taken for an answer to the next one. */
		if (first) {
			a->phase = IDLE;
			drop_link(a);
		}
		complete(c, NULL, &err);
	}
	if (!a->closing)
		next_command(a);
}

/* ---- what the agent says ---- */

static void failed_reply(const json_t *error, struct err *err)
{
	const char *desc = json_str(error, "desc");
	const char *class = json_str(error, "class");
	int code = str_eq(class, "CommandNotFound") ? -ENOTSUP : -EIO;

	err_set(err, code, "%s", desc != NULL ? desc : "the guest agent failed");
	hv_clean_text(err->msg);
}

static void hunt(struct agent *a)
{
	a->hunting = true;
	a->scan = (struct json_scan){ 0 };
}

static void take_message(struct agent *a, const json_t *msg)
{
	const json_t *value = json_object_get(msg, "return");
	const json_t *error = json_obj(msg, "error");
	struct err err;

	switch (a->phase) {
	case SYNCING:
		if (!json_is_integer(value) || json_integer_value(value) != a->sync_id) {
			hunt(a); /* an older one's */
			break;
		}
		a->synced = true;
		a->phase = IDLE;
		next_command(a);
		break;
	case SENT:
		if (error != NULL)
			failed_reply(error, &err);
		if (error != NULL || value != NULL)
			complete_first(a, value, error != NULL ? &err : NULL);
		break;
	case IDLE:
		/* Nobody has asked: whatever that is, the next command begins anew. */
		a->synced = false;
		break;
	}
}

/* Drops all up to the sentinel; false when it has not come. */
static bool find_sentinel(struct agent *a)
{
	const char *at = a->in.len > 0 ? memrchr(a->in.data, SENTINEL, a->in.len) : NULL;

	buf_drop(&a->in, at != NULL ? (size_t)(at + 1 - a->in.data) : a->in.len);
	a->hunting = at == NULL;
	return at != NULL;
}

static bool take_one(struct agent *a)
{
	json_t *msg = NULL;
	struct err err;
	int r;

	if (a->in.len == 0 || (a->hunting && !find_sentinel(a)))
		return false;
	r = json_scan(&a->scan, a->in.data, a->in.len);
	if (r == 0 && a->in.len <= AGENT_MESSAGE_MAX)
		return false;
	if (r > 0)
		r = json_parse(a->in.data + a->scan.start, a->scan.pos - a->scan.start, &msg, &err);
	if (r == 0 && msg != NULL) {
		buf_drop(&a->in, a->scan.pos);
		a->scan = (struct json_scan){ 0 };
		take_message(a, msg);
		json_decref(msg);
		return !a->closing;
	}
	if (a->phase == SYNCING && a->in.len <= AGENT_MESSAGE_MAX) {
		hunt(a);
		return true;
	}
	lose(a, -EPROTO, "what the guest agent says is no JSON");
	return false;
}

static void readable(struct agent *a)
{
	char chunk[READ_SIZE];
	ssize_t n = recv(a->link->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		lose(a, -ECONNRESET, "the guest agent's port was closed");
		return;
	}
	if (n < 0)
		return;
	buf_add(&a->in, chunk, (size_t)n);
	if (a->in.bad) {
		lose(a, -ENOMEM, "no memory for what the guest agent says");
		return;
	}
	while (take_one(a))
		;
}

/* ---- what it is told ---- */

static void socket_ready(uv_poll_t *poll, int status, int events);

static void flush(struct agent *a)
{
	ssize_t n;

	while (a->out.len > 0) {
		n = send(a->link->fd, a->out.data, a->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* full; or broken, which reading will tell */
		buf_drop(&a->out, (size_t)n);
	}
	uv_poll_start(
		&a->link->poll, UV_READABLE | (a->out.len > 0 ? UV_WRITABLE : 0), socket_ready);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
	struct link *link = container_of(poll, struct link, poll);
	struct agent *a = link->a;

	if (status < 0 || (events & UV_READABLE))
		readable(a);
	if (!a->closing && a->link == link && status >= 0 && (events & UV_WRITABLE))
		flush(a);
}

static int take_link(struct agent *a, int fd, struct err *err)
{
	struct link *link = calloc(1, sizeof(*link));
	int r = link == NULL ? -ENOMEM : uv_poll_init(a->loop, &link->poll, fd);

	if (r < 0) {
		free(link);
		close(fd);
		return err_errno(err, r, "guest agent");
	}
	link->a = a;
	link->fd = fd;
	a->link = link;
	a->handles++;
	uv_poll_start(&link->poll, UV_READABLE, socket_ready);
	return 0;
}

static int get_link(struct agent *a, struct err *err)
{
	int fd, r;

	if (a->link != NULL)
		return 0;
	r = unix_connect(a->path, &fd, err);
	if (r == -ENOENT)
		return err_set(err, -ENOENT, "the machine runs without a guest agent's port");
	/* Earlier connections still wait for the hypervisor to take them. */
	if (r == -EAGAIN)
		return err_set(err, -ETIMEDOUT, "guest agent: the hypervisor takes no connection");
	return r < 0 ? err_wrap(err, "guest agent") : take_link(a, fd, err);
}

static void sync_first(struct agent *a)
{
	uint32_t id = 0;

	/* Numbers of earlier daemons may still be under way. */
	if (getrandom(&id, sizeof(id), GRND_NONBLOCK) < 0)
		id = (uint32_t)uv_hrtime();
	a->sync_id = id;
	a->phase = SYNCING;
	hunt(a);
	buf_printf(&a->out,
		"%c{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n", SENTINEL,
		(long long)a->sync_id);
}

static void next_command(struct agent *a)
{
	struct command *c = list_first(&a->queue, struct command, list);
	struct err err;
	int r;

	if (c != NULL && a->phase == IDLE && a->broken == NULL) {
		r = get_link(a, &err);
		if (r == 0 && !a->synced) {
			sync_first(a);
		} else if (r == 0) {
			a->phase = SENT;
			buf_adds(&a->out, c->text);
		}
		if (r == 0 && a->out.bad)
			r = err_nomem(&err);
		if (r == 0) {
			flush(a);
		} else {
			a->phase = IDLE;
			drop_link(a);
			a->broken = malloc(sizeof(err));
			if (a->broken != NULL)
				*a->broken = err;
			else
				c->due = 0;
		}
	}
	arm_timer(a);
}

/* ---- the client ---- */

int agent_create(struct agent **out, uv_loop_t *loop, const char *path, int fd, struct err *err)
{
	struct agent *a = calloc(1, sizeof(*a));
	int r = 0;

	if (a != NULL)
		a->path = strdup(path);
	if (a == NULL || a->path == NULL) {
		free(a);
		if (fd >= 0)
			close(fd);
		return err_nomem(err);
	}
	a->loop = loop;
	list_init(&a->queue);
	deadline_init(&a->timer, loop, expired, a);
	a->handles = 1;
	if (fd >= 0)
		r = take_link(a, fd, err);
	if (r < 0) {
		agent_destroy(a, NULL, NULL);
		return r;
	}
	*out = a;
	return 0;
}

int agent_command(
	struct agent *a, const json_t *cmd, uint64_t timeout_ms, agent_reply_fn *reply, void *arg)
{
	struct command *c = calloc(1, sizeof(*c));
	char *text = json_text(cmd);

	if (c != NULL && text != NULL)
		c->text = str_printf("%s\n", text);
	free(text);
	if (c == NULL || c->text == NULL) {
		free(c);
		return -ENOMEM;
	}
	c->due = uv_now(a->loop) + (timeout_ms > 0 ? timeout_ms : AGENT_TIMEOUT_MS);
	c->reply = reply;
	c->arg = arg;
	list_append(&a->queue, &c->list);
	next_command(a);
	return 0;
}

void agent_forget(struct agent *a, const void *arg)
{
	struct command *c, *tmp;

	list_for_each_entry_safe (c, tmp, &a->queue, list) {
		if (c->arg != arg)
			continue;
		/* The one under way stays until it is answered, so that the next is not. */
		if (&c->list == a->queue.next && (a->phase != IDLE || a->broken != NULL))
			c->reply = NULL;
		else
			command_free(c);
	}
	arm_timer(a);
}

void agent_destroy(struct agent *a, void (*closed)(void *arg), void *arg)
{
	struct command *c;

	if (a == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	a->closing = true;
	a->closed = closed;
	a->closed_arg = arg;
	while ((c = list_first(&a->queue, struct command, list)) != NULL)
		command_free(c);
	drop_link(a);
	deadline_close(&a->timer, part_closed);
}

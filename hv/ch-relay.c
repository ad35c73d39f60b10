/* hv/ch-relay.c - bytes of a migration from one connection to another: hv/ch-relay.h. */
#include "hv/ch-relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/ch-wire.h"
#include "lib/deadline.h"
#include "lib/door.h"
#include "lib/file.h"
#include "lib/str.h"

#define BUFFER        (256 * 1024)
#define AT_ONCE       16 /* buffers, then the rest of the loop has its turn */
#define PACE_MS       10
#define DIAL_FIRST_MS 2
#define DIAL_MAX_MS   20
#define TELL_EACH     (1u << 20)

struct end {
	uv_poll_t poll;
	struct ch_relay *r;
	int fd, events;
	bool is_init;
};

struct ch_relay {
	uv_loop_t *loop;
	struct ch_relay_opts o;
	char *path;
	struct end from, to; /* of the requests */
	struct door door;    /* where the sender comes */
	struct deadline dial, pace;
	uint64_t dial_ms;
	struct ch_wire wire;
	char *buf; /* what has come: len bytes, of which pass may go on */
	size_t cap, at, len, pass;
	char *own; /* what goes on before that */
	size_t own_len, own_at;
	struct buf answers;        /* of the receiver that are to go back, */
	char half[CH_WIRE_HEADER]; /* and one that has begun */
	size_t nhalf;
	int64_t budget; /* bytes until the next pause; negative: pausing */
	uint64_t told;
	enum ch_wire_command told_at;
	bool is_told, held, released, over, closing;
	unsigned handles;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* ---- the end of it ---- */

static void part_closed(void *arg)
{
	struct ch_relay *r = arg;
	void (*closed)(void *arg) = r->closed;
	void *closed_arg = r->closed_arg;

	if (--r->handles > 0)
		return;
	buf_finish(&r->answers);
	free(r->buf);
	free(r->own);
	free(r->path);
	free(r);
	if (closed != NULL)
		closed(closed_arg);
}

static void end_closed(uv_handle_t *handle)
{
	struct end *e = container_of((uv_poll_t *)handle, struct end, poll);

	close(e->fd);
	part_closed(e->r);
}

static void end_drop(struct end *e)
{
	/* Whoever holds a copy of the descriptor, too, is to hear of it now. */
	if (e->fd >= 0)
		shutdown(e->fd, SHUT_RDWR);
	if (e->is_init)
		uv_close((uv_handle_t *)&e->poll, end_closed);
	else if (e->fd >= 0)
		close(e->fd);
	e->is_init = false;
}

static void stop(struct ch_relay *r)
{
	deadline_cancel(&r->dial);
	deadline_cancel(&r->pace);
	if (r->from.is_init)
		uv_poll_stop(&r->from.poll);
	if (r->to.is_init)
		uv_poll_stop(&r->to.poll);
	r->from.events = r->to.events = 0;
}

static void done(struct ch_relay *r, const struct err *err)
{
	if (r->over)
		return;
	r->over = true;
	stop(r);
	r->o.done(r->o.arg, err);
}

/* The end of one side's stream, of which nobody was told before. */
static void broken(struct ch_relay *r, const char *who, int code)
{
	struct err err;

	if (r->wire.refused)
		err_set(&err, -EIO, "the receiving hypervisor refuses %s",
			ch_wire_name(r->wire.last));
	else if (code == 0)
		err_set(&err, -ECONNRESET, "the connection with %s was closed after %s", who,
			ch_wire_name(r->wire.last));
	else
		err_errno(&err, code, "the connection with %s", who);
	done(r, &err);
}

static const char *sender(const struct ch_relay *r)
{
	return r->o.receiving ? "the sending host" : "the hypervisor";
}

static const char *receiver(const struct ch_relay *r)
{
	return r->o.receiving ? "the hypervisor" : "the receiving host";
}

/* ---- what goes on ---- */

static void take_answers(struct ch_relay *r);
static void flush_answers(struct ch_relay *r);

/* It may have said why in the middle of what it could not use. */
static int cannot_put(struct ch_relay *r, int code)
{
	take_answers(r);
	if (!r->over && !r->closing)
		flush_answers(r);
	if (!r->over && !r->closing)
		broken(r, receiver(r), code);
	return -1;
}

/* 1: all of it, 0: not now, negative: told. */
static int put(struct ch_relay *r, const char *data, size_t len, size_t *n)
{
	ssize_t w;

	*n = 0;
	while (*n < len) {
		w = send(r->to.fd, data + *n, len - *n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (w < 0)
			return cannot_put(r, -errno);
		*n += (size_t)w;
		if (r->o.max_bytes > 0)
			r->budget -= w;
	}
	return 1;
}

static int flush(struct ch_relay *r)
{
	size_t n;
	int k;

	if (r->own != NULL) {
		k = put(r, r->own + r->own_at, r->own_len - r->own_at, &n);
		r->own_at += n;
		if (k <= 0)
			return k;
		free(r->own);
		r->own = NULL;
	}
	if (r->pass == 0)
		return 1;
	k = put(r, r->buf + r->at, r->pass, &n);
	r->at += n;
	r->len -= n;
	r->pass -= n;
	return k;
}

/* Whether it is to wait before any more goes on. */
static bool must_pause(struct ch_relay *r)
{
	if (r->o.max_bytes == 0 || r->budget > 0 || r->held)
		return false;
	if (!deadline_armed(&r->pace))
		deadline_set(&r->pace, PACE_MS);
	return true;
}

static void tell_progress(struct ch_relay *r)
{
	uint64_t memory = r->wire.memory;

	if (r->o.progress == NULL ||
		(memory < r->told + TELL_EACH && r->wire.last == r->told_at && r->is_told))
		return;
	r->is_told = true;
	r->told = memory;
	r->told_at = r->wire.last;
	r->o.progress(r->o.arg, memory, MAX(r->wire.first, memory));
}

/* ---- what has come ---- */

static int fail(struct ch_relay *r, const char *who, struct err *err)
{
	err_wrap(err, "%s", who);
	done(r, err);
	return -1;
}

/* Room for so many bytes of what has come. */
static int make_room(struct ch_relay *r, size_t want)
{
	char *more;
	struct err err;

	if (r->at > 0 && r->len > 0)
		memmove(r->buf, r->buf + r->at, r->len);
	r->at = 0;
	if (want <= r->cap)
		return 0;
	more = realloc(r->buf, want);
	if (more == NULL) {
		err_nomem(&err);
		done(r, &err);
		return -1;
	}
	r->buf = more;
	r->cap = want;
	return 0;
}

/* The sender's configuration, once all of it is here. 0: go on, 1: more is to come. */
static int replace_config(struct ch_relay *r)
{
	struct ch_wire after = r->wire;
	size_t whole = ch_wire_take(&after, r->buf + r->at), len;
	char *text;
	struct err err;

	if (r->len < whole)
		return make_room(r, whole) < 0 ? -1 : 1;
	text = r->o.config(r->o.arg, r->buf + r->at + CH_WIRE_HEADER, whole - CH_WIRE_HEADER, &err);
	if (text == NULL)
		return fail(r, "the guest's configuration", &err);
	len = strlen(text);
	r->own = malloc(CH_WIRE_HEADER + len);
	if (r->own != NULL) {
		ch_wire_header(r->own, CH_WIRE_CONFIG, len);
		memcpy(r->own + CH_WIRE_HEADER, text, len);
	}
	free(text);
	if (r->own == NULL) {
		err_nomem(&err);
		done(r, &err);
		return -1;
	}
	r->own_at = 0;
	r->own_len = CH_WIRE_HEADER + len;
	r->wire = after;
	r->at += whole;
	r->len -= whole;
	return 0;
}

/* How much of what has come may go on. 0: go on, 1: more is to come, or all has. */
static int look(struct ch_relay *r)
{
	enum ch_wire_stop at;
	struct err err;

	if (ch_wire_requests(&r->wire, r->buf + r->at, r->len, &r->pass, &at, &err) < 0)
		return fail(r, sender(r), &err);
	if (r->pass > 0)
		return 0;
	if (at == CH_WIRE_AT_CONFIG)
		return replace_config(r);
	if (at == CH_WIRE_AT_COMPLETE) {
		r->held = true;
		r->o.held(r->o.arg);
	}
	return 1;
}

/* 1: something came, 0: not now, negative: the end. */
static int take_in(struct ch_relay *r)
{
	ssize_t n;

	if (make_room(r, BUFFER) < 0)
		return -1;
	if (r->len == r->cap)
		return 0;
	do
		n = recv(r->from.fd, r->buf + r->len, r->cap - r->len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0) {
		broken(r, sender(r), n < 0 ? -errno : 0);
		return -1;
	}
	r->len += (size_t)n;
	return 1;
}

static void move(struct ch_relay *r)
{
	int k = 1;

	for (unsigned i = 0; i < AT_ONCE && k > 0; i++) {
		k = flush(r);
		if (k > 0)
			tell_progress(r);
		if (k <= 0 || r->over)
			return;
		if (r->released && !r->o.receiving) {
			done(r, NULL);
			return;
		}
		if (r->held || must_pause(r))
			return;
		k = look(r);
		if (k == 0)
			k = 1;
		else if (k > 0 && !r->held && !r->over && !r->closing)
			k = take_in(r);
		if (r->over || r->closing || r->held)
			return;
	}
}

/* ---- answers ---- */

static void flush_answers(struct ch_relay *r)
{
	ssize_t n;

	if (r->answers.len == 0 || r->from.fd < 0 || r->held)
		return;
	do
		n = send(r->from.fd, r->answers.data, r->answers.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		buf_drop(&r->answers, (size_t)n);
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		broken(r, sender(r), -errno);
}

/* Complete was obeyed, or not. */
static void answered_last(struct ch_relay *r)
{
	struct err err;

	if (!r->released || r->wire.waits)
		return;
	if (r->wire.refused)
		err_set(&err, -EIO, "the hypervisor could not let the guest run");
	done(r, r->wire.refused ? &err : NULL);
}

static void take_answers(struct ch_relay *r)
{
	size_t pass;
	struct err err;
	ssize_t n = recv(r->to.fd, r->half + r->nhalf, sizeof(r->half) - r->nhalf, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0) {
		broken(r, receiver(r), n < 0 ? -errno : 0);
		return;
	}
	r->nhalf += (size_t)n;
	if (ch_wire_answers(&r->wire, r->half, r->nhalf, &pass, &err) < 0) {
		fail(r, receiver(r), &err);
		return;
	}
	if (pass == 0)
		return;
	r->nhalf = 0;
	buf_add(&r->answers, r->half, pass);
	if (r->answers.bad) {
		err_nomem(&err);
		done(r, &err);
		return;
	}
	answered_last(r);
}

/* ---- the loop ---- */

static void on_ready(uv_poll_t *poll, int status, int events);

static void listen_to(struct end *e, int events)
{
	if (!e->is_init || e->events == events)
		return;
	e->events = events;
	if (events == 0)
		uv_poll_stop(&e->poll);
	else
		uv_poll_start(&e->poll, events, on_ready);
}

static void arm(struct ch_relay *r)
{
	bool blocked = r->own != NULL || r->pass > 0;

	if (r->over || r->closing || !r->from.is_init || !r->to.is_init)
		return;
	listen_to(&r->to, UV_READABLE | (blocked && !deadline_armed(&r->pace) ? UV_WRITABLE : 0));
	listen_to(&r->from, (!blocked && !r->held && !deadline_armed(&r->pace) ? UV_READABLE : 0) |
				    (r->answers.len > 0 && !r->held ? UV_WRITABLE : 0));
}

static void go_on(struct ch_relay *r)
{
	if (r->over || r->closing)
		return;
	flush_answers(r);
	if (!r->over && !r->closing)
		move(r);
	if (!r->closing)
		arm(r);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct end *e = container_of(poll, struct end, poll);
	struct ch_relay *r = e->r;

	/* An error shows itself at the next call. */
	if (e == &r->to && (status < 0 || (events & UV_READABLE) != 0))
		take_answers(r);
	go_on(r);
}

static void paced(void *arg)
{
	struct ch_relay *r = arg;
	int64_t more = (int64_t)MAX(r->o.max_bytes * PACE_MS / 1000, 1);

	r->budget = MIN(r->budget + more, more);
	if (r->budget <= 0)
		deadline_set(&r->pace, PACE_MS);
	else
		go_on(r);
}

static int end_open(struct ch_relay *r, struct end *e, int fd)
{
	e->fd = fd;
	if (uv_poll_init(r->loop, &e->poll, fd) < 0)
		return -1;
	e->is_init = true;
	r->handles++;
	return 0;
}

/* The hypervisor is there. */
static void begin(struct ch_relay *r, int fd)
{
	struct err err;
	int wire = r->o.fd;

	r->o.fd = -1;
	r->wire.apart = r->o.config != NULL;
	if (end_open(r, &r->from, r->o.receiving ? wire : fd) < 0 ||
		end_open(r, &r->to, r->o.receiving ? fd : wire) < 0) {
		err_set(&err, -EIO, "its connections cannot be watched");
		/* The one that was not taken in is closed with the other. */
		if (r->to.fd < 0)
			r->to.fd = r->o.receiving ? fd : wire;
		done(r, &err);
		return;
	}
	go_on(r);
}

static void knocked(void *arg, int fd)
{
	struct ch_relay *r = arg;

	door_shut(&r->door);
	unlink(r->path);
	begin(r, fd);
}

static void dial(void *arg)
{
	struct ch_relay *r = arg;
	struct err err;
	int fd, k = unix_connect(r->path, &fd, &err);

	if (k == 0) {
		begin(r, fd);
		return;
	}
	/* It makes its socket in its own time; that it does not is for its API to say. */
	if (k != -ENOENT && k != -ECONNREFUSED) {
		done(r, &err);
		return;
	}
	deadline_set(&r->dial, r->dial_ms);
	r->dial_ms = MIN(r->dial_ms * 2, DIAL_MAX_MS);
}

int ch_relay_create(
	struct ch_relay **out, uv_loop_t *loop, const struct ch_relay_opts *opts, struct err *err)
{
	struct ch_relay *r = calloc(1, sizeof(*r));
	int k = 0, fd = -1;

	if (r == NULL || (r->path = strdup(opts->path)) == NULL) {
		free(r);
		return err_nomem(err);
	}
	r->loop = loop;
	r->o = *opts;
	r->from.r = r->to.r = r;
	r->from.fd = r->to.fd = -1;
	r->dial_ms = DIAL_FIRST_MS;
	r->budget = 1;
	r->handles = 3;
	deadline_init(&r->dial, loop, dial, r);
	deadline_init(&r->pace, loop, paced, r);
	unlink(r->path);
	if (opts->receiving)
		deadline_set(&r->dial, 0);
	else
		k = unix_listen(r->path, 0600, 1, &fd, err);
	if (k == 0 && fd >= 0 && door_open(&r->door, loop, fd, knocked, r) < 0) {
		close(fd);
		k = err_set(err, -EIO, "%s cannot be watched", quote(r->path));
	}
	if (k < 0) {
		r->o.fd = -1;
		ch_relay_destroy(r, NULL, NULL);
		return k;
	}
	*out = r;
	return 0;
}

void ch_relay_release(struct ch_relay *r)
{
	char header[CH_WIRE_HEADER];

	if (!r->held || r->released || r->over)
		return;
	r->released = true;
	memcpy(header, r->buf + r->at, sizeof(header));
	r->pass = ch_wire_take(&r->wire, header);
	/* On another turn of the loop. */
	arm(r);
}

void ch_relay_destroy(struct ch_relay *r, void (*closed)(void *arg), void *arg)
{
	if (r == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	r->over = true;
	/*
	 * Its API may have said that it failed before the stream was looked at, which says why: the
	 * sender is to have that, and not a connection that breaks off.
	 */
	if (r->to.is_init && r->from.is_init) {
		take_answers(r);
		flush_answers(r);
	}
	r->closing = true;
	r->closed = closed;
	r->closed_arg = arg;
	unlink(r->path);
	end_drop(&r->from);
	end_drop(&r->to);
	door_close(&r->door, part_closed, r);
	if (r->o.fd >= 0) {
		shutdown(r->o.fd, SHUT_RDWR);
		close(r->o.fd);
	}
	r->o.fd = -1;
	deadline_close(&r->dial, part_closed);
	deadline_close(&r->pace, part_closed);
}

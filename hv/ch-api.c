/*
 * hv/ch-api.c - requests to cloud-hypervisor's HTTP API. The server answers them one after the other,
 * also those of further connections (its one thread hands them to the VMM's one thread), so they go
 * out one at a time, and the clock of each runs from then on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "hv/ch.h"
#include "lib/http.h"
#include "lib/json.h"

#define BASE "http://localhost/api/v1"

struct call {
	struct list list;
	struct ch_api *api;
	char *method, *path, *body;
	int fd;                     /* -1: none */
	uint64_t timeout_ms, begun; /* 0: its clock does not run */
	bool slow, told;
	ch_answer_fn *done;
	void *arg;
	struct err fail; /* it never went out */
};

struct ch_api {
	uv_loop_t *loop;
	char *socket;
	struct ch_api_callbacks cb;
	struct http_client *http;
	struct list queue;
	struct call *current;
	struct ch_fd_call *fd_call; /* current is one */
	struct deadline tick;
	bool closing;
	unsigned handles;
	void (*closed)(void *arg);
	void *closed_arg;
};

static void call_free(struct call *c)
{
	free(c->method);
	free(c->path);
	free(c->body);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static void tell(struct call *c, const struct ch_answer *a, const struct err *err)
{
	if (c->told)
		return;
	c->told = true;
	c->done(c->arg, a, err);
}

/* ---- an answer ---- */

static void next_soon(struct ch_api *a)
{
	if (!a->closing)
		deadline_set(&a->tick, 0);
}

static void answered(void *arg, const struct ch_answer *answer, const struct err *err)
{
	struct call *c = arg;
	struct ch_api *a = c->api;
	struct call *q;
	struct err mine;

	if (a->closing) {
		call_free(c);
		return;
	}
	a->current = NULL;
	a->fd_call = NULL;
	/* What waited behind a silent one has its time before it again. */
	list_for_each_entry (q, &a->queue, list)
		q->begun = 0;
	next_soon(a);
	if (err != NULL) {
		tell(c, NULL, err);
		if (!a->closing)
			a->cb.lost(a->cb.arg, err);
	} else {
		a->cb.alive(a->cb.arg);
		if (!a->closing && ch_error(answer->status, answer->text, answer->len, &mine) < 0)
			tell(c, answer, &mine);
		else if (!a->closing)
			tell(c, answer, NULL);
	}
	call_free(c);
}

static void http_done(void *arg, const struct http_result *res, const struct err *err)
{
	struct ch_answer answer;

	if (res != NULL)
		answer = (struct ch_answer){ res->status, res->body, res->len };
	answered(arg, res != NULL ? &answer : NULL, err);
}

/* ---- sending ---- */

static int send_now(struct ch_api *a, struct call *c, struct err *err)
{
	static const char *const json_headers[] = { "Content-Type: application/json", NULL };
	char *url = str_printf(BASE "%s", c->path);
	struct http_spec spec = { .method = c->method,
		.url = url,
		.unix_socket = a->socket,
		.headers = c->body != NULL ? json_headers : NULL,
		.body = c->body,
		.body_len = c->body != NULL ? strlen(c->body) : 0,
		.no_proxy = true };
	int r;

	if (url == NULL)
		return err_nomem(err);
	if (c->fd >= 0)
		r = ch_fd_call(&a->fd_call, a->loop, a->socket, c->method, c->path, c->body, c->fd,
			answered, c, err);
	else
		r = http_request(a->http, &spec, http_done, c, NULL, err);
	free(url);
	return r;
}

static void send_next(struct ch_api *a)
{
	struct call *c;
	struct err err;

	while (!a->closing && a->current == NULL &&
		(c = list_first(&a->queue, struct call, list)) != NULL) {
		list_remove(&c->list);
		c->begun = uv_now(a->loop) + 1;
		if (c->fail.code == 0 && send_now(a, c, &err) == 0) {
			a->current = c;
			return;
		}
		tell(c, NULL, c->fail.code != 0 ? &c->fail : &err);
		call_free(c);
	}
}

/* ---- time ---- */

static bool runs(const struct call *c)
{
	return c->begun != 0 && c->timeout_ms != UINT64_MAX && !c->told;
}

static uint64_t left(const struct call *c, uint64_t now)
{
	uint64_t end = c->begun + c->timeout_ms;

	return end > now ? end - now : 0;
}

static void too_late(struct call *c)
{
	struct err err;

	err_set(&err, -ETIMEDOUT, "no answer to %s %s within %llu ms", c->method, c->path,
		(unsigned long long)c->timeout_ms);
	tell(c, NULL, &err);
}

static void expire(struct ch_api *a, uint64_t now)
{
	struct call *c = a->current, *next;
	struct list mine;

	if (c != NULL && runs(c) && left(c, now) == 0) {
		/* It stays under way: the answer may come yet, and nothing else before it. */
		list_for_each_entry (next, &a->queue, list)
			next->begun = now;
		too_late(c);
		if (!a->closing && !c->slow)
			a->cb.late(a->cb.arg, c->path);
	}
	list_init(&mine);
	list_for_each_entry_safe (c, next, &a->queue, list) {
		if (runs(c) && left(c, now) == 0) {
			list_remove(&c->list);
			list_append(&mine, &c->list);
		}
	}
	while ((c = list_first(&mine, struct call, list)) != NULL) {
		list_remove(&c->list);
		if (!a->closing)
			too_late(c);
		call_free(c);
	}
}

static void arm(struct ch_api *a, uint64_t now)
{
	uint64_t least = UINT64_MAX;
	struct call *c = a->current;

	if (c != NULL && runs(c))
		least = left(c, now);
	list_for_each_entry (c, &a->queue, list)
		if (runs(c))
			least = MIN(least, left(c, now));
	if (least != UINT64_MAX)
		deadline_set(&a->tick, least + 1);
}

static void ticked(void *arg)
{
	struct ch_api *a = arg;
	uint64_t now;

	send_next(a);
	if (a->closing)
		return;
	now = uv_now(a->loop);
	expire(a, now);
	if (!a->closing)
		arm(a, now);
}

/* ---- from outside ---- */

static char *body_of(const struct ch_request *r, struct err *fail)
{
	char *text = r->body != NULL ? json_text(r->body) : NULL;

	if (r->body == NULL && r->text != NULL)
		text = strdup(r->text);
	if (text == NULL && (r->body != NULL || r->text != NULL))
		err_nomem(fail);
	return text;
}

void ch_api_send(struct ch_api *a, const struct ch_request *r)
{
	struct call *c = calloc(1, sizeof(*c)), *q;
	struct err err;

	if (c == NULL) {
		/* The one case where the answer comes from within the call: nothing can be kept. */
		err_nomem(&err);
		r->done(r->arg, NULL, &err);
		return;
	}
	c->api = a;
	c->method = strdup(r->method);
	c->path = strdup(r->path);
	c->body = body_of(r, &c->fail);
	c->fd = r->pass_fd > 0 ? fcntl(r->pass_fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (r->pass_fd > 0 && c->fd < 0)
		err_errno(&c->fail, -errno, "a descriptor for %s", r->path);
	if (c->method == NULL || c->path == NULL)
		err_nomem(&c->fail);
	c->timeout_ms = r->timeout_ms != 0 ? r->timeout_ms : HV_COMMAND_TIMEOUT_MS;
	c->slow = r->slow;
	c->done = r->done;
	c->arg = r->arg;
	q = a->current;
	/* Behind a silent one its own time runs at once. */
	if (q != NULL && q->told && !q->slow)
		c->begun = uv_now(a->loop) + 1;
	list_append(&a->queue, &c->list);
	if (q == NULL || c->begun != 0)
		deadline_set(&a->tick, 0);
}

bool ch_api_busy(const struct ch_api *a)
{
	return a->current != NULL && a->current->slow;
}

int ch_api_create(struct ch_api **out, uv_loop_t *loop, const char *socket,
	const struct ch_api_callbacks *cb, struct err *err)
{
	struct ch_api *a = calloc(1, sizeof(*a));
	int r;

	if (a != NULL)
		a->socket = strdup(socket);
	if (a == NULL || a->socket == NULL) {
		free(a);
		return err_nomem(err);
	}
	r = http_client_create(&a->http, loop, err);
	if (r < 0) {
		free(a->socket);
		free(a);
		return r;
	}
	a->loop = loop;
	a->cb = *cb;
	list_init(&a->queue);
	deadline_init(&a->tick, loop, ticked, a);
	a->handles = 2;
	*out = a;
	return 0;
}

static void part_closed(void *arg)
{
	struct ch_api *a = arg;
	void (*closed)(void *arg) = a->closed;
	void *closed_arg = a->closed_arg;

	if (--a->handles > 0)
		return;
	free(a->socket);
	free(a);
	if (closed != NULL)
		closed(closed_arg);
}

void ch_api_destroy(struct ch_api *a, void (*closed)(void *arg), void *arg)
{
	struct call *c;

	if (a == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	a->closing = true;
	a->closed = closed;
	a->closed_arg = arg;
	while ((c = list_first(&a->queue, struct call, list)) != NULL) {
		list_remove(&c->list);
		call_free(c);
	}
	if (a->fd_call != NULL) {
		ch_fd_abandon(a->fd_call);
		call_free(a->current);
	}
	/* One of libcurl's comes back as cancelled and is freed by its own callback. */
	deadline_close(&a->tick, part_closed);
	http_client_destroy(a->http, part_closed, a);
}

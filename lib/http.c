#include "lib/http.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/http-req.h"

/*
 * libcurl must not be entered from its own callbacks, and callers may do anything in theirs. So
 * requests are added, cancelled and completed only from `later`, a timer of zero length, or after
 * libcurl has returned; until then they wait in a list.
 */
struct http_client {
	uv_loop_t *loop;
	CURLM *multi;       /* NULL until the first request */
	uv_timer_t timeout; /* libcurl's */
	uv_timer_t later;
	struct list queued;   /* not yet given to libcurl */
	struct list active;   /* libcurl has them */
	struct list finished; /* done is still to be called */
	unsigned handles;     /* open libuv handles */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* A socket of libcurl's in the loop. */
struct watch {
	uv_poll_t poll;
	struct http_client *client;
	curl_socket_t fd;
	int events;
	bool removed;
};

static void on_later(uv_timer_t *t);
static void on_timeout(uv_timer_t *t);

int http_client_create(struct http_client **out, uv_loop_t *loop, struct err *err)
{
	struct http_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return err_nomem(err);
	c->loop = loop;
	list_init(&c->queued);
	list_init(&c->active);
	list_init(&c->finished);
	uv_timer_init(loop, &c->timeout);
	uv_timer_init(loop, &c->later);
	c->timeout.data = c->later.data = c;
	c->handles = 2;
	*out = c;
	return 0;
}

static void defer(struct http_client *c)
{
	uv_timer_start(&c->later, on_later, 0, 0);
}

static void finish(struct http_req *r, int code)
{
	if (r->code == 0)
		r->code = code;
	if (r->finished)
		return;
	r->finished = true;
	list_remove(&r->link);
	list_append(&r->client->finished, &r->link);
}

void http_cancel(struct http_req *r)
{
	r->code = -ECANCELED;
	finish(r, 0);
	defer(r->client);
}

void http_client_destroy(struct http_client *c, void (*closed)(void *arg), void *arg)
{
	struct http_req *r;

	if (c == NULL || c->closing)
		return;
	c->closing = true;
	c->closed = closed;
	c->closed_arg = arg;
	list_for_each_entry (r, &c->finished, link)
		r->code = -ECANCELED;
	while ((r = list_first(&c->queued, struct http_req, link)) != NULL)
		finish(r, -ECANCELED);
	while ((r = list_first(&c->active, struct http_req, link)) != NULL)
		finish(r, -ECANCELED);
	defer(c);
}

static void client_unref(struct http_client *c)
{
	if (--c->handles > 0)
		return;
	if (c->closed != NULL)
		c->closed(c->closed_arg);
	free(c);
}

static void on_timer_closed(uv_handle_t *h)
{
	client_unref(h->data);
}

static void complete(struct http_req *r)
{
	struct http_client *c = r->client;
	http_done_fn *done = r->done;
	void *arg = r->arg;
	long status = 0;
	struct err err;
	struct http_result res;

	list_remove(&r->link);
	if (r->added)
		curl_multi_remove_handle(c->multi, r->easy);
	if (r->code == 0 && r->body.bad)
		r->code = -ENOMEM;
	if (r->code == 0 && r->result == CURLE_OK && !r->head_ended)
		r->code = -ECONNRESET;
	if (r->code != 0 || r->result != CURLE_OK) {
		http_req_error(r, &err);
		http_req_free(r);
		done(arg, NULL, &err);
		return;
	}
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	res.status = (int)status;
	res.body = buf_str(&r->body);
	res.len = r->body.len;
	done(arg, &res, NULL);
	http_req_free(r);
}

/* Moves what libcurl has ended to the finished list and calls done for all of that list. */
static void deliver(struct http_client *c)
{
	struct http_req *r;
	CURLMsg *msg;
	int left;

	while (c->multi != NULL && (msg = curl_multi_info_read(c->multi, &left)) != NULL) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		if (!r->finished)
			r->result = msg->data.result;
		finish(r, 0);
	}
	while ((r = list_first(&c->finished, struct http_req, link)) != NULL)
		complete(r);
}

static void on_watch_closed(uv_handle_t *h)
{
	struct watch *w = container_of((uv_poll_t *)h, struct watch, poll);
	struct http_client *c = w->client;

	free(w);
	client_unref(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *w = container_of(poll, struct watch, poll);
	struct http_client *c = w->client;
	int flags = 0, running;

	if (status < 0)
		flags |= CURL_CSELECT_ERR | CURL_CSELECT_IN | CURL_CSELECT_OUT;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	curl_multi_socket_action(c->multi, w->fd, flags, &running);
	/* libuv stops a poll handle that reports an error. */
	if (status < 0 && !w->removed)
		uv_poll_start(&w->poll, w->events, on_poll);
	deliver(c);
}

static struct watch *watch_new(struct http_client *c, curl_socket_t fd)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->client = c;
	w->fd = fd;
	if (uv_poll_init(c->loop, &w->poll, fd) != 0) {
		free(w);
		return NULL;
	}
	c->handles++;
	curl_multi_assign(c->multi, fd, w);
	return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sockp)
{
	struct http_client *c = arg;
	struct watch *w = sockp;

	if (what == CURL_POLL_REMOVE) {
		if (w == NULL)
			return 0;
		w->removed = true;
		uv_poll_stop(&w->poll);
		uv_close((uv_handle_t *)&w->poll, on_watch_closed);
		curl_multi_assign(c->multi, fd, NULL);
		return 0;
	}
	if (w == NULL) {
		w = watch_new(c, fd);
		if (w == NULL)
			return -1; /* libcurl fails the transfers */
	}
	w->events = (what & CURL_POLL_IN ? UV_READABLE : 0) |
		    (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	return uv_poll_start(&w->poll, w->events, on_poll) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct http_client *c = arg;

	if (timeout_ms < 0)
		uv_timer_stop(&c->timeout);
	else
		uv_timer_start(&c->timeout, on_timeout, (uint64_t)timeout_ms, 0);
	return 0;
}

static void on_timeout(uv_timer_t *t)
{
	struct http_client *c = t->data;
	int running;

	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	deliver(c);
}

static void on_later(uv_timer_t *t)
{
	struct http_client *c = t->data;
	struct http_req *r;

	while ((r = list_first(&c->queued, struct http_req, link)) != NULL) {
		list_remove(&r->link);
		list_append(&c->active, &r->link);
		if (curl_multi_add_handle(c->multi, r->easy) == CURLM_OK)
			r->added = true;
		else
			finish(r, -ENOMEM);
	}
	deliver(c);
	if (!c->closing || uv_is_closing((uv_handle_t *)&c->later))
		return;
	curl_multi_cleanup(c->multi);
	c->multi = NULL;
	uv_close((uv_handle_t *)&c->timeout, on_timer_closed);
	uv_close((uv_handle_t *)&c->later, on_timer_closed);
}

/* libcurl is initialized here and not at start: it costs megabytes that most daemons never use. */
static int client_open(struct http_client *c, struct err *err)
{
	static bool initialized;

	if (!initialized) {
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
			return err_set(err, -EIO, "libcurl cannot be initialized");
		initialized = true;
	}
	if (c->multi != NULL)
		return 0;
	c->multi = curl_multi_init();
	if (c->multi == NULL)
		return err_nomem(err);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	return 0;
}

int http_request(struct http_client *c, const struct http_spec *spec, http_done_fn *done, void *arg,
	struct http_req **out, struct err *err)
{
	struct http_req *r;
	int ret;

	if (c->closing)
		return err_set(err, -ECANCELED, "the HTTP client is closing");
	ret = client_open(c, err);
	if (ret != 0)
		return ret;
	ret = http_req_create(&r, spec, err);
	if (ret != 0)
		return ret;
	r->client = c;
	r->done = done;
	r->arg = arg;
	list_append(&c->queued, &r->link);
	defer(c);
	if (out != NULL)
		*out = r;
	return 0;
}

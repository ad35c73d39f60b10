#include "supervisor/server-private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/log.h"
#include "lib/peer.h"

#define BODY_MAX (1u << 20)
/* The buffer for a connection's head and chunks; an idle connection costs about this much. */
#define CONNECTION_MEMORY 8192
#define CONNECTION_LIMIT  1000
#define IDLE_TIMEOUT_S    300
#define STOP_RUNS         64
/*
 * What one turn of the loop spends on requests: whoever sends many at once must not keep the death
 * of a hypervisor from being seen.
 */
#define TURN_NS    2000000
#define TURN_ADMIT 4

static void on_timer(uv_timer_t *t);
static void on_idle(uv_idle_t *idle);
static void on_check(uv_check_t *check);

/* Those that have waited longest. */
static void admit(struct server *s)
{
	struct request *rq;

	for (unsigned n = 0; n < TURN_ADMIT && !list_empty(&s->waiting); n++) {
		rq = list_first(&s->waiting, struct request, turn);
		list_remove(&rq->turn);
		rq->admitted = true;
		request_resume(rq);
	}
}

/* Whether the request has to wait for a later turn of the loop. */
static bool must_wait(struct request *rq)
{
	struct server *s = rq->server;

	if (rq->admitted || rq->left || s->closing)
		return false;
	return !list_empty(&s->waiting) || uv_hrtime() > s->turn_end;
}

static void run_next_turn(struct server *s)
{
	uv_idle_start(&s->idle, on_idle);
}

static void run_daemon(struct server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	MHD_run(s->daemon);
	if (!list_empty(&s->waiting))
		run_next_turn(s);
	if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
		uv_timer_stop(&s->timer);
	else if (ms == 0)
		run_next_turn(s);
	else
		uv_timer_start(&s->timer, on_timer, ms, 0);
	server_drain_look(s);
}

static void server_run(struct server *s)
{
	s->turn_end = uv_hrtime() + TURN_NS;
	admit(s);
	run_daemon(s);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct server *s = container_of(poll, struct server, poll);

	/* With requests that wait it runs once in each turn, from on_idle(). */
	if (!s->closing && list_empty(&s->waiting))
		server_run(s);
}

static void on_timer(uv_timer_t *t)
{
	struct server *s = container_of(t, struct server, timer);

	if (!s->closing && list_empty(&s->waiting))
		server_run(s);
}

/*
 * What happened in this turn's poll phase is told at its end, before timers and all else that the
 * next turn begins with. New requests have had their time of the turn: they wait for the next.
 */
static void on_check(uv_check_t *check)
{
	struct server *s = container_of(check, struct server, check);

	uv_check_stop(check);
	if (s->closing)
		return; /* on_idle() ends it */
	uv_idle_stop(&s->idle);
	run_daemon(s);
}

void server_kick(struct server *s)
{
	uv_check_start(&s->check, on_check);
	run_next_turn(s);
}

static void server_unref(struct server *s)
{
	if (--s->handles > 0)
		return;
	if (s->closed != NULL)
		s->closed(s->closed_arg);
	free(s);
}

static void on_handle_closed(uv_handle_t *h)
{
	server_unref(h->data);
}

static void on_watch_closed(uv_handle_t *h)
{
	struct gone_watch *w = container_of((uv_poll_t *)h, struct gone_watch, poll);
	struct server *s = w->server;

	close(w->fd);
	free(w);
	server_unref(s);
}

static void on_gone(uv_poll_t *handle, int status, int events)
{
	struct gone_watch *w = container_of(handle, struct gone_watch, poll);
	struct pollfd pfd = { .fd = w->fd };

	/*
	 * A client that has only shut down its writing side (nc -N) still waits for the answer.
	 * UV_PRIORITIZED never comes on a Unix socket, but with it a hang-up is still reported.
	 */
	if (status == 0 && poll(&pfd, 1, 0) == 0) {
		uv_poll_start(&w->poll, UV_PRIORITIZED, on_gone);
		return;
	}
	uv_poll_stop(&w->poll);
	w->rq->left = true;
	request_resume(w->rq);
}

/* Without a watch (no descriptor, no memory) a client that has left is noticed at the answer. */
static void watch_start(struct request *rq)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		rq->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct gone_watch *w;
	int fd = info != NULL ? fcntl(info->connect_fd, F_DUPFD_CLOEXEC, 3) : -1;

	if (fd < 0)
		return;
	w = calloc(1, sizeof(*w));
	if (w == NULL || uv_poll_init(rq->server->loop, &w->poll, fd) != 0) {
		free(w);
		close(fd);
		return;
	}
	w->server = rq->server;
	w->server->handles++;
	w->rq = rq;
	w->fd = fd;
	rq->watch = w;
	uv_poll_start(&w->poll, UV_DISCONNECT, on_gone);
}

void request_suspend(struct request *rq)
{
	MHD_suspend_connection(rq->conn);
	rq->suspended = true;
	/* A suspended connection is not in libmicrohttpd's epoll set and would never notice. */
	if (rq->watch == NULL)
		watch_start(rq);
}

void request_resume(struct request *rq)
{
	if (!rq->suspended)
		return;
	rq->suspended = false;
	MHD_resume_connection(rq->conn);
	server_kick(rq->server);
}

void request_free(struct request *rq)
{
	list_remove(&rq->link);
	list_remove(&rq->turn);
	buf_finish(&rq->body);
	for (size_t i = 0; i < rq->nquery; i++) {
		free(rq->query[i].name);
		free(rq->query[i].value);
	}
	free(rq->query);
	free(rq->path);
	free(rq);
}

static bool admitted(struct request *rq)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		rq->conn, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info != NULL && peer_credentials(info->connect_fd, &rq->peer) &&
	       peer_allowed(info->connect_fd, &rq->peer, rq->server->opts.group);
}

static struct request *request_begin(struct server *s, struct MHD_Connection *conn, const char *url)
{
	struct request *rq = calloc(1, sizeof(*rq));
	struct err err;

	if (rq == NULL)
		return NULL;
	rq->server = s;
	rq->conn = conn;
	server_connection_asks(s, conn);
	list_append(&s->requests, &rq->link);
	list_init(&rq->turn);
	if (!admitted(rq)) {
		char msg[128];

		snprintf(msg, sizeof(msg), "uid %d may not use this socket: only root, uid %d%s",
			(int)rq->peer.uid, (int)geteuid(),
			s->opts.group != (gid_t)-1 ? " and the members of drover's group" : "");
		request_refuse(rq, MHD_HTTP_FORBIDDEN, "denied", msg);
	} else if (request_parse(rq, url, &err) != 0) {
		request_refuse(rq, MHD_HTTP_BAD_REQUEST, err_word(err.code), err.msg);
	}
	return rq;
}

static void take_body(struct request *rq, const char *data, size_t len)
{
	if (rq->too_large || len > BODY_MAX - rq->body.len) {
		rq->too_large = true;
		buf_finish(&rq->body);
		return;
	}
	buf_add(&rq->body, data, len);
}

/*
 * libmicrohttpd calls this once when the head is there, then for each piece of the body, once
 * more at its end, and again whenever a suspended connection was resumed.
 */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url,
	const char *method, const char *version, const char *data, size_t *len, void **ctx)
{
	struct request *rq = *ctx;

	if (rq == NULL) {
		rq = *ctx = request_begin(arg, conn, url);
		return rq != NULL ? MHD_YES : MHD_NO;
	}
	if (*len > 0) {
		take_body(rq, data, *len);
		*len = 0;
		return MHD_YES;
	}
	if (!rq->dispatched && must_wait(rq)) {
		list_append(&rq->server->waiting, &rq->turn);
		request_suspend(rq);
		return MHD_YES;
	}
	if (!rq->dispatched && !rq->left && !rq->server->closing)
		request_dispatch(rq, method);
	if (rq->left || (rq->server->closing && rq->response == NULL))
		return MHD_NO;
	if (rq->response == NULL) {
		request_suspend(rq);
		return MHD_YES;
	}
	if (rq->queued)
		return MHD_YES;
	rq->queued = true;
	return MHD_queue_response(conn, (unsigned)rq->status, rq->response);
}

void request_tell_gone(struct request *rq)
{
	void (*gone)(void *arg) = rq->gone;

	if (!rq->held || gone == NULL)
		return;
	rq->held = false;
	gone(rq->gone_arg);
}

static void on_completed(
	void *arg, struct MHD_Connection *conn, void **ctx, enum MHD_RequestTerminationCode code)
{
	struct request *rq = *ctx;

	*ctx = NULL;
	if (rq == NULL)
		return;
	rq->conn = NULL;
	if (rq->watch != NULL) {
		rq->watch->rq = NULL;
		uv_close((uv_handle_t *)&rq->watch->poll, on_watch_closed);
		rq->watch = NULL;
	}
	if (rq->response != NULL)
		MHD_destroy_response(rq->response);
	rq->response = NULL;
	if (rq->stream != NULL)
		stream_detach(rq->stream);
	rq->stream = NULL;
	request_tell_gone(rq);
	if (rq->held) /* its handler does not want to know; the request ends with its answer */
		list_remove(&rq->link);
	else
		request_free(rq);
}

static void on_log(void *arg, const char *fmt, va_list ap)
{
	char msg[256];

	if (!log_enabled(LOG_LVL_DEBUG))
		return;
	vsnprintf(msg, sizeof(msg), fmt, ap);
	msg[strcspn(msg, "\n")] = '\0';
	log_debug("http: %s", msg);
}

/* Segments and the query are decoded by request_parse(), after they have been taken apart. */
static size_t keep_escapes(void *arg, struct MHD_Connection *conn, char *s)
{
	return strlen(s);
}

int server_create(struct server **out, uv_loop_t *loop, int listen_fd,
	const struct server_opts *opts, struct err *err)
{
	const union MHD_DaemonInfo *info;
	struct server *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_nomem(err);
	s->loop = loop;
	s->opts = *opts;
	list_init(&s->requests);
	list_init(&s->waiting);
	s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
		NULL, MHD_OPTION_NOTIFY_CONNECTION, server_connection, s,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTION_LIMIT,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	if (s->daemon == NULL) {
		free(s);
		return err_set(err, -EIO, "the HTTP server cannot be started");
	}
	info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL || uv_poll_init(loop, &s->poll, info->epoll_fd) != 0) {
		MHD_stop_daemon(s->daemon);
		free(s);
		return err_set(err, -EIO, "the HTTP server cannot be watched");
	}
	uv_timer_init(loop, &s->timer);
	uv_timer_init(loop, &s->drain);
	uv_idle_init(loop, &s->idle);
	uv_check_init(loop, &s->check);
	s->handles = 5;
	s->poll.data = s->timer.data = s->drain.data = s->idle.data = s->check.data = s;
	uv_poll_start(&s->poll, UV_READABLE, on_poll);
	*out = s;
	return 0;
}

/*
 * libmicrohttpd refuses to stop while a connection is suspended, so all are resumed first; the
 * runs in between send what the sockets take at once.
 */
static void server_stop(struct server *s)
{
	struct request *rq, *tmp;
	MHD_UNSIGNED_LONG_LONG ms;
	unsigned runs = 0;

	list_for_each_entry (rq, &s->requests, link)
		request_resume(rq);
	uv_idle_stop(&s->idle);
	uv_check_stop(&s->check);
	do
		MHD_run(s->daemon);
	while (++runs < STOP_RUNS && MHD_get_timeout(s->daemon, &ms) == MHD_YES && ms == 0);
	uv_poll_stop(&s->poll);
	MHD_stop_daemon(s->daemon);
	/* What is left belongs to handlers that still owe an answer. */
	list_for_each_entry_safe (rq, tmp, &s->requests, link)
		list_remove(&rq->link);
	uv_close((uv_handle_t *)&s->poll, on_handle_closed);
	uv_close((uv_handle_t *)&s->timer, on_handle_closed);
	uv_close((uv_handle_t *)&s->drain, on_handle_closed);
	uv_close((uv_handle_t *)&s->idle, on_handle_closed);
	uv_close((uv_handle_t *)&s->check, on_handle_closed);
}

static void on_idle(uv_idle_t *idle)
{
	struct server *s = container_of(idle, struct server, idle);

	uv_idle_stop(idle);
	uv_check_stop(&s->check);
	if (s->closing)
		server_stop(s);
	else
		server_run(s);
}

/* The rest is done at the next turn: the caller may be one of our own callbacks. */
void server_destroy(struct server *s, void (*closed)(void *arg), void *arg)
{
	struct request *rq, *tmp;

	if (s == NULL || s->closing)
		return;
	s->closing = true;
	s->drained = NULL;
	s->closed = closed;
	s->closed_arg = arg;
	list_for_each_entry_safe (rq, tmp, &s->requests, link) {
		if (rq->response == NULL && rq->dispatched)
			request_refuse(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable",
				"drover is stopping");
	}
	server_kick(s);
}

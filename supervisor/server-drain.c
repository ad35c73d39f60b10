/* The end of accepting: what is under way is answered before the socket goes to somebody else. */
#include "supervisor/server-private.h"

#include <stdlib.h>

/* Of a connection; libmicrohttpd keeps it. */
struct connection {
	bool asked; /* a request has begun */
};

void server_connection(void *arg, struct MHD_Connection *conn, void **ctx,
	enum MHD_ConnectionNotificationCode code)
{
	struct server *s = arg;
	struct connection *c = *ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*ctx = c = calloc(1, sizeof(*c));
		s->fresh += c != NULL;
		return;
	}
	if (c != NULL && !c->asked)
		s->fresh--;
	free(c);
	*ctx = NULL;
}

void server_connection_asks(struct server *s, struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *c = info != NULL ? info->socket_context : NULL;

	if (c == NULL || c->asked)
		return;
	c->asked = true;
	s->fresh--;
}

/* Streams have no end, and what a handler still owes can take as long as a machine's start. */
static bool is_drained(const struct server *s)
{
	const struct request *rq;

	list_for_each_entry (rq, &s->requests, link) {
		if (rq->conn != NULL && rq->stream == NULL && (!rq->suspended || !rq->dispatched))
			return false;
	}
	return s->fresh == 0;
}

static void finish(struct server *s)
{
	void (*drained)(void *arg) = s->drained;

	s->drained = NULL;
	uv_timer_stop(&s->drain);
	drained(s->drained_arg);
}

void server_drain_look(struct server *s)
{
	if (s->drained != NULL && is_drained(s))
		finish(s);
}

static void on_late(uv_timer_t *timer)
{
	finish(container_of(timer, struct server, drain));
}

int server_quiesce(struct server *s, uint64_t timeout_ms, void (*done)(void *arg), void *arg)
{
	int fd = MHD_quiesce_daemon(s->daemon);

	s->drained = done;
	s->drained_arg = arg;
	if (done != NULL) {
		uv_timer_start(&s->drain, on_late, timeout_ms, 0);
		server_kick(s);
	}
	return fd;
}

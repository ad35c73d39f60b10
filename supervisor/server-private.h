/* supervisor/server-private.h - what the files of the HTTP server share; nobody else includes it. */
#ifndef DROVER_SUPERVISOR_SERVER_PRIVATE_H
#define DROVER_SUPERVISOR_SERVER_PRIVATE_H

#include <microhttpd.h>
#include "lib/list.h"
#include "lib/str.h"
#include "supervisor/server.h"

#define PATH_SEGMENTS_MAX 16

struct server {
	uv_loop_t *loop;
	struct MHD_Daemon *daemon;
	uv_poll_t poll;   /* libmicrohttpd's epoll descriptor */
	uv_timer_t timer; /* its time-outs */
	uv_idle_t idle;   /* active while it is to run at the next turn, */
	uv_check_t check; /* and this one, while answers are to go out at the end of this one */
	uv_timer_t drain; /* of server_quiesce() */
	struct server_opts opts;
	struct list requests;
	struct list waiting; /* requests whose turn comes at a later turn of the loop, in order */
	uint64_t turn_end;   /* when this turn has spent enough on requests, in uv_hrtime() */
	unsigned handles;    /* open libuv handles, those of gone watches among them */
	bool closing;
	unsigned fresh; /* connections without a request so far */
	void (*drained)(void *arg);
	void *drained_arg;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* Of the query, decoded and owned. */
struct pair {
	char *name, *value;
};

struct param {
	const char *template; /* points at "{name}" in the route's path */
	const char *value;
};

/* Watches whether the client of a suspended connection has left. */
struct gone_watch {
	uv_poll_t poll;
	struct server *server;
	struct request *rq; /* NULL once the request has ended */
	int fd;             /* a dup: libmicrohttpd closes its own unasked */
};

struct request {
	struct list link;
	struct list turn; /* in waiting */
	struct server *server;
	struct MHD_Connection *conn; /* NULL once libmicrohttpd is done with it */
	struct ucred peer;
	struct buf body;
	bool too_large;
	bool admitted;   /* has waited for its turn */
	bool dispatched; /* a handler was called, or an answer stands without one */
	bool held;       /* the handler still owes an answer and may use the request */
	bool suspended;
	bool left; /* the client went away, or is to be cut off */
	bool queued;
	int status;
	struct MHD_Response *response;
	struct stream *stream;
	struct gone_watch *watch;
	void (*gone)(void *arg);
	void *gone_arg;
	char *path; /* holds the decoded segments */
	char *segments[PATH_SEGMENTS_MAX];
	size_t nsegments;
	struct param params[PATH_SEGMENTS_MAX];
	size_t nparams;
	struct pair *query;
	size_t nquery;
};

struct stream {
	struct request *rq; /* NULL once the request has ended */
	struct stream_opts opts;
	struct buf queue;
	size_t taken; /* bytes at the front of queue that are out */
	bool ended;   /* by stream_end() */
	bool dry;     /* drained was told */
};

/* Lets libmicrohttpd run at the next turn of the loop, never from within the caller. */
void server_kick(struct server *s);
/* libmicrohttpd tells of a connection's begin and end; its first request has begun. */
void server_connection(void *arg, struct MHD_Connection *conn, void **ctx,
	enum MHD_ConnectionNotificationCode code);
void server_connection_asks(struct server *s, struct MHD_Connection *conn);
/* Whether what server_quiesce() waits for has come. */
void server_drain_look(struct server *s);
/* Puts a suspended connection back to work. */
void request_resume(struct request *rq);
void request_suspend(struct request *rq);
void request_free(struct request *rq);
/* A gone client of a held request: tells the handler, who must let go of it. */
void request_tell_gone(struct request *rq);

/* Splits and decodes the path, -EINVAL for a malformed one; the query likewise. */
int request_parse(struct request *rq, const char *raw_path, struct err *err);
/* Calls the handler of the route that fits, or answers 404 or 405. */
void request_dispatch(struct request *rq, const char *method);
/* The handler's answer; the response is taken over. */
void request_answer(struct request *rq, int status, struct MHD_Response *response);
/* An answer that no handler gives. */
void request_refuse(struct request *rq, int status, const char *word, const char *message);

/* The request of a stream has ended; frees the stream unless its writer still holds it. */
void stream_detach(struct stream *st);

#endif

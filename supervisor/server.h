/*
 * supervisor/server.h - HTTP server on the loop: libmicrohttpd in external epoll mode, one uv_poll
 * on its descriptor and one timer (FACTS, "HTTP server on the loop", lists the traps). It knows
 * nothing of machines: it maps requests to the handlers of a table. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_SERVER_H
#define DROVER_SUPERVISOR_SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/err.h"

struct buf;

struct server;
struct request;

/*
 * Called when the request has arrived whole (its body at most 1 MiB, else 413). The handler, now
 * or later, answers exactly once with one of the reply functions, or begins a stream.
 */
typedef void route_fn(void *arg, struct request *rq);

struct route {
	const char *method; /* "GET" */
	const char *path;   /* "/vms/{name}/log": {x} matches one segment, percent-decoded */
	route_fn *fn;
};

struct server_opts {
	const struct route *routes;
	size_t nroutes;
	void *arg;
	gid_t group; /* besides root and our own uid, members of this group may connect; -1: none */
};

/* listen_fd: a listening Unix socket, which the server owns from now on. */
int server_create(struct server **out, uv_loop_t *loop, int listen_fd,
	const struct server_opts *opts, struct err *err);
/*
 * Accepts nothing more: the listening socket is the caller's again, and who connects waits in its
 * queue. done (may be NULL) fires, never before this returns, when all that was accepted has been
 * answered, but for streams and what handlers still owe; at the latest after timeout_ms; not after
 * server_destroy(). Once.
 */
int server_quiesce(struct server *s, uint64_t timeout_ms, void (*done)(void *arg), void *arg);
/*
 * Ends all connections (streams end, deferred requests get 503) and closes; closed fires when the
 * memory is gone. Takes NULL.
 */
void server_destroy(struct server *s, void (*closed)(void *arg), void *arg);

const char *request_param(const struct request *rq, const char *name); /* of the path; or NULL */
const char *request_query(const struct request *rq, const char *name); /* ?name=value; or NULL */
/* -EINVAL with a sentence for a malformed number; def when missing. */
int request_query_int(
	const struct request *rq, const char *name, int64_t def, int64_t *out, struct err *err);
const char *request_header(const struct request *rq, const char *name);
/* The body as it came, NUL-terminated behind len; never NULL. */
const char *request_body(const struct request *rq, size_t *len);
/* The body as JSON; -EINVAL (with the reason) when it is none; NULL *out when it is empty. */
int request_json(const struct request *rq, json_t **out, struct err *err);
uid_t request_uid(const struct request *rq);
pid_t request_pid(const struct request *rq);

/*
 * For a handler that answers later: gone fires if the client leaves before the answer, or the
 * server ends; then the request must not be touched any more. Without it the request stays valid
 * until it is answered, whether anybody hears that or not. NULL to clear.
 */
void request_on_gone(struct request *rq, void (*gone)(void *arg), void *arg);

/* body: the reference is taken over. NULL counts as no memory: 500. */
void reply_json(struct request *rq, int status, json_t *body);
/* One JSON text without its newline. Takes over what text holds. */
void reply_json_text(struct request *rq, int status, struct buf *text);
void reply_text(struct request *rq, int status, const char *type, const char *body, size_t len);
/* The error object, its HTTP status from err->code; vm and state may be NULL. */
void reply_err(struct request *rq, const struct err *err, const char *vm, const char *state);

/*
 * A stream: the answer's head goes out at once, data as it is written. What a slow client has not
 * taken is kept up to max_queue bytes (0: 1 MiB); beyond that the client is cut off.
 * drained (may be NULL) fires when the queue has become empty; gone exactly once when the stream
 * ended for whichever reason but stream_end(): then it must not be touched any more. Without gone
 * the stream stays valid until stream_end(). None of them fires from within the calls below.
 */
struct stream;
struct stream_opts {
	const char *type;
	size_t max_queue;
	void (*drained)(void *arg);
	void (*gone)(void *arg);
	void *arg;
};
/* Counts as the request's answer, even if NULL comes back (no memory, or nobody is there any more). */
struct stream *request_stream(struct request *rq, const struct stream_opts *opts);
/* -EPIPE once the client was cut off (gone follows). */
int stream_write(struct stream *st, const char *data, size_t len);
size_t stream_queued(const struct stream *st);
/* What is queued still goes out. */
void stream_end(struct stream *st);

#endif

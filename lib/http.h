/*
 * lib/http.h - HTTP client: libcurl's multi interface driven by a libuv loop. Loop thread.
 * libcurl is initialized at the first request, so that a daemon that makes none stays small.
 */
#ifndef DROVER_LIB_HTTP_H
#define DROVER_LIB_HTTP_H

#include <stdbool.h>
#include <uv.h>
#include "lib/str.h"

struct http_client;
struct http_req;

struct http_spec {
	const char *method;         /* NULL: GET */
	const char *url;            /* with unix_socket: http://localhost/path */
	const char *unix_socket;    /* NULL: TCP */
	const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
	const void *body;           /* copied; NULL: none */
	size_t body_len;
	uint64_t timeout_ms;         /* for the whole request; 0: none */
	uint64_t connect_timeout_ms; /* 0: 10 s */
	uint64_t stall_ms; /* fail when no byte came for so long; 0: off (rounded up to seconds) */
	size_t max_body;   /* of the answer when it is collected; 0: 16 MiB; -EFBIG beyond */
	unsigned max_redirects; /* 0: redirects are returned as they are */
	/*
	 * Authorization and Cookie headers are never sent on to another host. A redirect leads to
	 * https:// only; with this set, from an http:// URL also to http://.
	 */
	bool http_only_plain;
	const char *ca_file;  /* NULL: the system's */
	uint64_t resume_from; /* Range: bytes=N-; 0: none; the status tells if it was heeded */
	bool fresh;           /* a connection of its own, closed at the end */
	bool no_proxy;        /* whatever the environment says */
	/*
	 * When set, the answer's body goes here as it comes and is not collected; status is the
	 * final one. A return other than 0 aborts the request with that -errno.
	 */
	int (*on_data)(void *arg, int status, const char *data, size_t len);
	/* Each header line of the final answer, name in lower case; may be NULL. */
	void (*on_header)(void *arg, const char *name, const char *value);
};

struct http_result {
	int status;       /* HTTP status */
	const char *body; /* NUL-terminated; borrowed */
	size_t len;
};

/*
 * Exactly once, never before http_request() returns. err != NULL when there was no complete
 * answer (-ECONNREFUSED, -ETIMEDOUT, -ECANCELED, -EHOSTUNREACH, ...); any HTTP status is an
 * answer. res is NULL when err is not.
 */
typedef void http_done_fn(void *arg, const struct http_result *res, const struct err *err);

int http_client_create(struct http_client **out, uv_loop_t *loop, struct err *err);
/* Cancels what is under way (their done functions fire with -ECANCELED). closed may be NULL; it
 * fires when the memory is gone. Takes NULL. */
void http_client_destroy(struct http_client *c, void (*closed)(void *arg), void *arg);

/* Copies spec. out may be NULL. */
int http_request(struct http_client *c, const struct http_spec *spec, http_done_fn *done, void *arg,
	struct http_req **out, struct err *err);
/* done fires with -ECANCELED on a later turn of the loop. Not once done has begun. */
void http_cancel(struct http_req *r);

#endif

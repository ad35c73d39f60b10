/*
 * tests/unit/web.h - an HTTP server in threads of its own, on the loopback or a Unix socket, that
 * answers as a test's script says: whole, in pieces, cut off, or not at all. And a client that sends
 * what it is given, for the servers among drover's modules.
 */
#ifndef DROVER_TESTS_UNIT_WEB_H
#define DROVER_TESTS_UNIT_WEB_H

#include "tests/unit/rig.h"

#include <sys/types.h>
#include "lib/str.h"

struct web;

struct web_request {
	struct web *web;
	int fd;
	unsigned count; /* how often this method and path came, this one included */
	bool counted;   /* among those at once */
	char method[16], path[512];
	char head[8192]; /* the whole of it */
	struct buf body;
};

/* Answers through the functions below. The connection is closed afterwards. Any thread. */
typedef void web_fn(struct web_request *rq, void *arg);

/* path NULL: a free port of 127.0.0.1. */
struct web *web_start(const char *path, web_fn *fn, void *arg);
void web_stop(struct web *w);
unsigned web_port(const struct web *w);
/* "http://127.0.0.1:PORT" + path, malloc'd. */
char *web_url(const struct web *w, const char *path);
/* "METHOD PATH [NAME: VALUE of Authorization and Range]\n" for each request so far; malloc'd. */
char *web_log(struct web *w);
/* How many of the log's lines begin with this. */
unsigned web_count(struct web *w, const char *begin);
/*
 * The most requests that were under way at once. One that web_range() answers is over before its last
 * byte: who has that may be back before its thread is done.
 */
unsigned web_most(struct web *w);

/* Value of a header, "" without one; one of eight static buffers of the thread. */
const char *web_header(const struct web_request *rq, const char *name);
/* extra: more header lines, each with \r\n; "" for none. */
void web_head(struct web_request *rq, int status, const char *extra, size_t length);
void web_send(struct web_request *rq, const void *data, size_t len);
void web_answer(struct web_request *rq, int status, const char *extra, const char *body);
/* data from the byte that a Range header asks for: 206, or 200 without one. */
void web_range(struct web_request *rq, const void *data, size_t len);
/* Until the client hangs up or web_stop(). */
void web_stall(struct web_request *rq);
/* Until web_open() was called for this server. */
void web_wait_open(struct web_request *rq);
void web_open(struct web *w);

/* Sends the request to 127.0.0.1:port and reads all that comes, until the other end closes. */
struct buf web_ask(unsigned port, const char *request);
/* "GET path", with more header lines; the connection closes behind the answer. */
struct buf web_get(unsigned port, const char *path, const char *extra);
int web_status(const struct buf *answer);
/* Of an answer that is not chunked. */
const char *web_body(const struct buf *answer);

#endif

#include "supervisor/server-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define QUEUE_MAX (1u << 20)
#define BLOCK     16384

static size_t waiting(const struct stream *st)
{
	return st->queue.len - st->taken;
}

static size_t take(struct stream *st, char *to, size_t max)
{
	size_t n = MIN(max, waiting(st));

	memcpy(to, st->queue.data + st->taken, n);
	st->taken += n;
	/* Moving the rest to the front each time would be quadratic in the queue's length. */
	if (st->taken == st->queue.len)
		buf_clear(&st->queue);
	else if (st->taken >= st->queue.len / 2)
		buf_drop(&st->queue, st->taken);
	else
		return n;
	st->taken = 0;
	return n;
}

/* libmicrohttpd asks for more whenever the socket takes more. Zero without suspending would spin. */
static ssize_t on_read(void *arg, uint64_t pos, char *to, size_t max)
{
	struct stream *st = arg;

	if (st->rq == NULL || st->rq->left)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (waiting(st) == 0 && !st->dry && !st->ended) {
		st->dry = true;
		if (st->opts.drained != NULL)
			st->opts.drained(st->opts.arg);
	}
	if (waiting(st) > 0)
		return (ssize_t)take(st, to, max);
	if (st->ended || st->rq->server->closing)
		return MHD_CONTENT_READER_END_OF_STREAM;
	request_suspend(st->rq);
	return 0;
}

struct stream *request_stream(struct request *rq, const struct stream_opts *opts)
{
	struct stream *st;
	struct MHD_Response *response;
	struct err err;

	assert(rq->held);
	if (rq->conn == NULL || rq->response != NULL) {
		request_answer(rq, 0, NULL);
		return NULL;
	}
	st = calloc(1, sizeof(*st));
	response = st == NULL ? NULL
			      : MHD_create_response_from_callback(
					MHD_SIZE_UNKNOWN, BLOCK, on_read, st, NULL);
	if (response == NULL) {
		free(st);
		err_nomem(&err);
		reply_err(rq, &err, NULL, NULL);
		return NULL;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, opts->type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	st->opts = *opts;
	st->opts.type = NULL;
	st->dry = true;
	st->rq = rq;
	rq->stream = st;
	request_answer(rq, MHD_HTTP_OK, response);
	return st;
}

/* A client that does not read keeps libmicrohttpd waiting for its socket; shutdown ends that. */
static void cut_off(struct stream *st)
{
	struct request *rq = st->rq;
	const union MHD_ConnectionInfo *info;

	rq->left = true;
	buf_finish(&st->queue);
	st->taken = 0;
	if (rq->suspended) {
		request_resume(rq);
		return;
	}
	info = MHD_get_connection_info(rq->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info != NULL)
		shutdown(info->connect_fd, SHUT_RDWR);
	server_kick(rq->server);
}

int stream_write(struct stream *st, const char *data, size_t len)
{
	size_t max = st->opts.max_queue > 0 ? st->opts.max_queue : QUEUE_MAX;

	assert(!st->ended);
	if (st->rq == NULL || st->rq->left)
		return -EPIPE;
	if (len == 0)
		return 0;
	if (len > max - waiting(st)) {
		cut_off(st);
		return -EPIPE;
	}
	buf_add(&st->queue, data, len);
	if (st->queue.bad) {
		cut_off(st);
		return -EPIPE;
	}
	st->dry = false;
	request_resume(st->rq);
	return 0;
}

size_t stream_queued(const struct stream *st)
{
	return waiting(st);
}

static void stream_free(struct stream *st)
{
	buf_finish(&st->queue);
	free(st);
}

void stream_end(struct stream *st)
{
	st->ended = true;
	if (st->rq == NULL)
		stream_free(st);
	else
		request_resume(st->rq);
}

void stream_detach(struct stream *st)
{
	st->rq = NULL;
	if (st->ended) {
		stream_free(st);
	} else if (st->opts.gone != NULL) {
		st->opts.gone(st->opts.arg);
		stream_free(st);
	}
}

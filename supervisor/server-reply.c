#include "supervisor/server-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"

#define JSON_TYPE "application/json"

static const char no_memory[] =
	"{\"error\":{\"code\":\"no-memory\",\"message\":\"out of memory\",\"vm\":null,\"state\":null}}\n";

/* Takes over response; NULL closes the connection without an answer, the last resort. */
static void set_response(struct request *rq, int status, struct MHD_Response *response)
{
	rq->status = status;
	rq->response = response;
	rq->dispatched = true;
	if (response == NULL)
		rq->left = true;
	request_resume(rq);
}

/*
 * The handler's one answer. If the client has left meanwhile, or the server's end has answered in
 * its place, there is nobody to hear it.
 */
void request_answer(struct request *rq, int status, struct MHD_Response *response)
{
	assert(rq->held);
	rq->held = false;
	if (rq->conn != NULL && rq->response == NULL) {
		set_response(rq, status, response);
		return;
	}
	if (response != NULL)
		MHD_destroy_response(response);
	if (rq->conn == NULL)
		request_free(rq);
}

static struct MHD_Response *make(
	void *body, size_t len, enum MHD_ResponseMemoryMode mode, const char *type)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, body, mode);

	if (r == NULL && mode == MHD_RESPMEM_MUST_FREE)
		free(body);
	if (r != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	return r;
}

/* JSON texts end with a newline, for people who use curl. Takes over what text holds. */
static struct MHD_Response *make_json_text(struct buf *text, int *status)
{
	buf_adds(text, "\n");
	if (text->bad) {
		buf_finish(text);
		*status = MHD_HTTP_INTERNAL_SERVER_ERROR;
		return make(
			(void *)no_memory, strlen(no_memory), MHD_RESPMEM_PERSISTENT, JSON_TYPE);
	}
	return make(text->data, text->len, MHD_RESPMEM_MUST_FREE, JSON_TYPE);
}

static struct MHD_Response *make_json(json_t *body, int *status)
{
	struct buf text = { 0 };
	char *line = body != NULL ? json_text(body) : NULL;

	json_decref(body);
	if (line != NULL)
		buf_adds(&text, line);
	else
		text.bad = true;
	free(line);
	return make_json_text(&text, status);
}

static json_t *error_json(const char *word, const char *message, const char *vm, const char *state)
{
	json_t *body = json_object(), *e = json_object();

	if (json_put_str(e, "code", word) != 0 || json_put_str(e, "message", message) != 0 ||
		json_put_str(e, "vm", vm) != 0 || json_put_str(e, "state", state) != 0 ||
		json_object_set(body, "error", e) != 0) {
		json_decref(body);
		body = NULL;
	}
	json_decref(e);
	return body;
}

static int http_status(int code)
{
	static const struct {
		int code, status;
	} table[] = {
		{ ENOENT, MHD_HTTP_NOT_FOUND },
		{ EEXIST, MHD_HTTP_CONFLICT },
		{ EBUSY, MHD_HTTP_CONFLICT },
		{ EBADFD, MHD_HTTP_CONFLICT },
		{ EINVAL, MHD_HTTP_BAD_REQUEST },
		{ EPERM, MHD_HTTP_FORBIDDEN },
		{ EACCES, MHD_HTTP_FORBIDDEN },
		{ ENOTSUP, MHD_HTTP_NOT_IMPLEMENTED },
		{ ETIMEDOUT, MHD_HTTP_GATEWAY_TIMEOUT },
		{ EAGAIN, MHD_HTTP_SERVICE_UNAVAILABLE },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (table[i].code == -code)
			return table[i].status;
	}
	return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

void request_refuse(struct request *rq, int status, const char *word, const char *message)
{
	struct MHD_Response *r = make_json(error_json(word, message, NULL, NULL), &status);

	set_response(rq, status, r);
}

void reply_json(struct request *rq, int status, json_t *body)
{
	struct MHD_Response *r = make_json(body, &status);

	request_answer(rq, status, r);
}

void reply_json_text(struct request *rq, int status, struct buf *text)
{
	struct MHD_Response *r = make_json_text(text, &status);

	request_answer(rq, status, r);
}

void reply_text(struct request *rq, int status, const char *type, const char *body, size_t len)
{
	request_answer(rq, status, make((void *)body, len, MHD_RESPMEM_MUST_COPY, type));
}

void reply_err(struct request *rq, const struct err *err, const char *vm, const char *state)
{
	reply_json(
		rq, http_status(err->code), error_json(err_word(err->code), err->msg, vm, state));
}

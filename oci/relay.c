#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "lib/log.h"
#include "oci/digest.h"
#include "oci/relay-share.h"
#include "oci/relay.h"

#define CONNECTIONS_MAX 512
#define IDLE_TIMEOUT_S  300 /* longer than a reader may wait for an upstream that stalls */
#define STACK_SIZE      ((size_t)256 << 10)
#define BLOCK_SIZE      ((size_t)128 << 10)
#define HEADERS_MAX     ((size_t)64 << 10)

struct relay {
	char *upstream; /* without a slash at its end */
	int count_fd;
	struct fetcher *fetcher;
	struct shares *shares;
	struct MHD_Daemon *daemon;
};

struct request {
	char *target; /* path and query as they came */
	bool seen;    /* the handler was called for the headers */
};

/* What a response reads from, and who lets go of it at the end. */
struct source {
	struct relay *relay;
	struct fetch *fetch;
	struct share *share; /* NULL: the fetch is the request's own */
};

static void source_free(void *arg)
{
	struct source *src = arg;

	if (src->share != NULL)
		shares_leave(src->relay->shares, src->share);
	else
		fetch_release(src->fetch);
	free(src);
}

/* ---- what was asked ---- */

static enum MHD_Result take_header(
	void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	static const char *const not [] = { "Host", "Connection", "Keep-Alive", "Proxy-Connection",
		"Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
		"Content-Length" };
	struct strv *out = arg;

	for (size_t i = 0; i < ARRAY_LEN(not ); i++) {
		if (strcasecmp(name, not [i]) == 0)
			return MHD_YES;
	}
	if (value != NULL && *value != '\0')
		strv_addf(out, "%s: %s", name, value);
	return MHD_YES;
}

/* The digest of a blob's path, "/v2/NAME/blobs/DIGEST"; NULL: it is none. */
static const char *blob_of(const char *target)
{
	const char *digest = NULL;

	for (const char *p = target; (p = strstr(p, "/blobs/")) != NULL;)
		digest = p += strlen("/blobs/");
	return digest != NULL && digest_valid(digest) ? digest : NULL;
}

static bool wants_part(struct MHD_Connection *c)
{
	static const char *const names[] = { "Range", "If-Range", "If-Match", "If-None-Match",
		"If-Modified-Since", "If-Unmodified-Since" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (MHD_lookup_connection_value(c, MHD_HEADER_KIND, names[i]) != NULL)
			return true;
	}
	return false;
}

/* What is shared comes in one encoding, whatever this one would take. */
static void set_identity(struct strv *headers)
{
	for (size_t i = 0; i < headers->n; i++) {
		if (strncasecmp(headers->v[i], "Accept-Encoding:", 16) == 0)
			headers->v[i][16] = '\0'; /* libcurl sends no header without a value */
	}
	strv_add(headers, "Accept-Encoding: identity");
}

/* ---- answers ---- */

static enum MHD_Result say(
	struct MHD_Connection *c, int status, const char *code, const char *message)
{
	/* Distribution spec, "Error Codes". The messages are our own: nothing to escape. */
	char *text = str_printf(
		"{\"errors\":[{\"code\":\"%s\",\"message\":\"%s\"}]}\n", code, message);
	struct MHD_Response *resp;
	enum MHD_Result r;

	if (text == NULL)
		return MHD_NO;
	resp = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (resp == NULL) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(resp, "Content-Type", "application/json");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(resp, "Allow", "GET, HEAD");
	r = MHD_queue_response(c, (unsigned)status, resp);
	MHD_destroy_response(resp);
	return r;
}

static ssize_t read_source(void *arg, uint64_t pos, char *data, size_t max)
{
	struct source *src = arg;
	ssize_t n = fetch_read(src->fetch, pos, data, max);

	if (n > 0)
		return n;
	return n == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void add_headers(struct relay *r, struct MHD_Response *resp, const struct fetch_answer *a)
{
	size_t len = strlen(r->upstream);
	const char *to = a->location;

	for (size_t i = 0; i < a->headers.n; i++) {
		char *name = strdup(a->headers.v[i]), *colon;

		if (name != NULL && (colon = strchr(name, ':')) != NULL) {
			*colon = '\0';
			MHD_add_response_header(resp, name, str_trim(colon + 1));
		}
		free(name);
	}
	/* To the upstream itself it goes through us, and so with its Authorization. */
	if (to != NULL && strncmp(to, r->upstream, len) == 0 && str_starts(to + len, "/v2/"))
		to += len;
	if (to != NULL)
		MHD_add_response_header(resp, "Location", to);
}

/* Takes src over. */
static enum MHD_Result pass_on(
	struct MHD_Connection *c, struct source *src, const struct fetch_answer *a)
{
	bool empty = a->status == MHD_HTTP_NO_CONTENT || a->status == MHD_HTTP_NOT_MODIFIED;
	uint64_t size = a->length >= 0 ? (uint64_t)a->length : MHD_SIZE_UNKNOWN;
	struct MHD_Response *resp;
	enum MHD_Result r;

	resp = MHD_create_response_from_callback(
		empty ? 0 : size, BLOCK_SIZE, read_source, src, source_free);
	if (resp == NULL) {
		source_free(src);
		return MHD_NO;
	}
	add_headers(src->relay, resp, a);
	r = MHD_queue_response(c, (unsigned)a->status, resp);
	MHD_destroy_response(resp);
	return r;
}

/* ---- asking the upstream ---- */

/* Begins the request's own fetch, or, with spec, joins the others' of this blob. */
static int begin(struct relay *r, const struct request *rq, bool head, const struct strv *headers,
	struct share_spec *share, enum share_role *role, struct source *src, struct err *err)
{
	char *url = str_printf("%s%s", r->upstream, rq->target);
	char *what = str_printf(
		"%s %.*s", head ? "HEAD" : "GET", (int)strcspn(rq->target, "?"), rq->target);
	struct fetch_spec spec = { .url = url,
		.what = what,
		.headers = headers,
		.head = head,
		.follow = share != NULL,
		.counted = r->count_fd >= 0 && !head && blob_of(rq->target) != NULL,
		.count_fd = r->count_fd };
	int ret;

	if (url == NULL || what == NULL) {
		ret = err_nomem(err);
	} else if (share != NULL) {
		share->fetch = &spec;
		ret = shares_join(&src->share, role, r->shares, share, err);
		if (ret == 0)
			src->fetch = share_fetch(src->share);
	} else {
		ret = fetch_start(&src->fetch, r->fetcher, &spec, err);
	}
	free(url);
	free(what);
	return ret;
}

/* Whether the upstream would give this blob to who asks with these headers. */
static bool may_have(struct relay *r, const struct request *rq, const struct strv *headers)
{
	const struct fetch_answer *a;
	struct source src = { 0 };
	struct err err;
	bool may = false;

	if (begin(r, rq, true, headers, NULL, NULL, &src, &err) < 0)
		return false;
	if (fetch_answer(src.fetch, &a, &err) == 0)
		may = a->status >= 200 && a->status < 400;
	fetch_release(src.fetch);
	return may;
}

/* 1: src reads what others fetch, or will; 0: this request has to be made by itself. */
static int begin_shared(struct relay *r, struct MHD_Connection *c, const struct request *rq,
	struct strv *headers, struct source *src, struct err *err)
{
	struct share_spec spec = { .digest = blob_of(rq->target),
		.path = rq->target,
		.authorization = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization"),
		.fetcher = r->fetcher };
	const struct fetch_answer *a;
	enum share_role role;
	int ret;

	set_identity(headers);
	if (headers->bad)
		return err_nomem(err);
	ret = begin(r, rq, false, headers, &spec, &role, src, err);
	if (ret < 0)
		return ret;
	if (role == SHARE_FIRST)
		return 1;
	if ((role == SHARE_SAME || may_have(r, rq, headers)) &&
		fetch_answer(src->fetch, &a, err) == 0 && a->status == 200)
		return 1;
	shares_leave(r->shares, src->share);
	src->share = NULL;
	return 0;
}

static enum MHD_Result relay(
	struct relay *r, struct MHD_Connection *c, const struct request *rq, bool head)
{
	struct source *src = calloc(1, sizeof(*src));
	const struct fetch_answer *a = NULL;
	struct strv headers = { 0 };
	struct err err;
	int ret = 0;

	MHD_get_connection_values(c, MHD_HEADER_KIND, take_header, &headers);
	if (src == NULL || headers.bad) {
		free(src);
		strv_finish(&headers);
		return say(c, 500, "UNKNOWN", "the relay has no memory");
	}
	src->relay = r;
	if (!head && blob_of(rq->target) != NULL && !wants_part(c))
		ret = begin_shared(r, c, rq, &headers, src, &err);
	if (ret == 0)
		ret = begin(r, rq, head, &headers, NULL, NULL, src, &err);
	strv_finish(&headers);
	if (ret < 0) {
		free(src);
		log_error("%s", err.msg);
		return say(c, 500, "UNKNOWN", "the relay cannot fetch");
	}
	if (fetch_answer(src->fetch, &a, &err) < 0) {
		source_free(src);
		return say(c, MHD_HTTP_BAD_GATEWAY, "UNAVAILABLE", "the upstream does not answer");
	}
	return pass_on(c, src, a);
}

/* ---- the server ---- */

/* The target before the server decodes it. */
static void *begin_request(void *arg, const char *uri, struct MHD_Connection *c)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (rq != NULL)
		rq->target = strdup(uri);
	return rq;
}

static void end_request(
	void *arg, struct MHD_Connection *c, void **ctx, enum MHD_RequestTerminationCode why)
{
	struct request *rq = *ctx;

	if (rq != NULL)
		free(rq->target);
	free(rq);
	*ctx = NULL;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **ctx)
{
	bool head = strcmp(method, "HEAD") == 0;
	struct request *rq = *ctx;

	if (rq == NULL || rq->target == NULL)
		return MHD_NO;
	if (!rq->seen) {
		rq->seen = true;
		return MHD_YES;
	}
	if (*size > 0) {
		*size = 0;
		return MHD_YES;
	}
	if (!head && strcmp(method, "GET") != 0)
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "UNSUPPORTED", "only GET and HEAD");
	if (!str_starts(rq->target, "/v2/"))
		return say(c, MHD_HTTP_NOT_FOUND, "NAME_INVALID", "only what is below /v2/");
	return relay(arg, c, rq, head);
}

/* libmicrohttpd ends the process over one that is none. */
static int check_listener(int fd, struct err *err)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
		return err_set(err, -EINVAL, "descriptor %d is no listening socket", fd);
	return 0;
}

int relay_start(struct relay **out, const struct relay_opts *opts, struct err *err)
{
	struct relay *r = calloc(1, sizeof(*r));
	size_t len = strlen(opts->upstream);
	int ret;

	if (r == NULL)
		return err_nomem(err);
	while (len > 0 && opts->upstream[len - 1] == '/')
		len--;
	r->upstream = strndup(opts->upstream, len);
	r->count_fd = opts->count_fd;
	ret = r->upstream == NULL ? err_nomem(err)
				  : fetcher_create(&r->fetcher, opts->spool, opts->stall_ms, err);
	if (ret == 0)
		ret = check_listener(opts->listen_fd, err);
	if (ret == 0)
		ret = shares_create(&r->shares, opts->keep_ms, opts->keep_bytes, err);
	if (ret == 0) {
		r->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION |
						     MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL,
			0, NULL, NULL, handle, r, MHD_OPTION_LISTEN_SOCKET, opts->listen_fd,
			MHD_OPTION_URI_LOG_CALLBACK, begin_request, NULL,
			MHD_OPTION_NOTIFY_COMPLETED, end_request, NULL, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
			(unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS_MAX,
			MHD_OPTION_THREAD_STACK_SIZE, STACK_SIZE, MHD_OPTION_END);
		if (r->daemon == NULL)
			ret = err_set(err, -EIO, "the HTTP server cannot be started");
	}
	if (ret < 0) {
		relay_stop(r);
		return ret;
	}
	*out = r;
	return 0;
}

void relay_stop(struct relay *r)
{
	if (r == NULL)
		return;
	/* First the fetches, for which the readers wait, which the daemon waits for. */
	if (r->fetcher != NULL)
		fetcher_stop(r->fetcher);
	if (r->daemon != NULL)
		MHD_stop_daemon(r->daemon);
	shares_destroy(r->shares);
	fetcher_destroy(r->fetcher);
	free(r->upstream);
	free(r);
}

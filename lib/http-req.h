/*
 * lib/http-req.h - one request of the HTTP client as libcurl sees it: its options, its answer, its
 * error. Private to lib/http*.c.
 */
#ifndef DROVER_LIB_HTTP_REQ_H
#define DROVER_LIB_HTTP_REQ_H

#include <curl/curl.h>
#include "lib/http.h"
#include "lib/list.h"

struct http_req {
	struct list link; /* queued, active or finished */
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	bool added;    /* to the multi handle */
	bool finished; /* is in that list */
	int code;      /* -errno that overrides libcurl's result; 0: none */
	CURLcode result;
	char errbuf[CURL_ERROR_SIZE];
	char *what; /* "GET 'http://...'" for messages */
	size_t max_body;
	unsigned max_redirects;
	struct buf body;
	struct buf head;  /* header lines of the answer at hand */
	bool head_passed; /* on_header has had them */
	bool head_ended; /* of the answer at hand: libcurl takes one that is cut off in it for whole */
	bool redirects; /* the answer at hand names another place */
	int (*on_data)(void *arg, int status, const char *data, size_t len);
	void (*on_header)(void *arg, const char *name, const char *value);
	http_done_fn *done;
	void *arg;
};

/* A request with all its options set, not yet in the client's multi handle. */
int http_req_create(struct http_req **out, const struct http_spec *spec, struct err *err);
void http_req_free(struct http_req *r);
/* What went wrong, from the overriding code or libcurl's result. */
void http_req_error(const struct http_req *r, struct err *err);

#endif

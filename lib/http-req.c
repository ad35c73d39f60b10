#include "lib/http-req.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECT_TIMEOUT_MS 10000
#define MAX_BODY           (16u << 20)
#define MAX_HEADERS        (256u << 10)

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_req *r = arg;
	size_t len = size * n;
	long status = 0;
	int ret;

	if (r->finished)
		return 0;
	if (r->on_data != NULL) {
		curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
		ret = r->on_data(r->arg, (int)status, data, len);
		if (ret != 0 && r->code == 0)
			r->code = ret;
		return ret == 0 && !r->finished ? len : 0;
	}
	if (len > r->max_body - r->body.len) {
		r->code = -EFBIG;
		return 0;
	}
	buf_add(&r->body, data, len);
	return r->body.bad ? 0 : len;
}

/* Header lines are "Name: value"; the status line and what is malformed are passed over. */
static void pass_head(struct http_req *r)
{
	char *line, *save = NULL;

	for (line = strtok_r(r->head.data, "\r\n", &save); line != NULL && !r->finished;
		line = strtok_r(NULL, "\r\n", &save)) {
		char *colon = strchr(line, ':');

		if (colon == NULL || str_starts(line, "HTTP/"))
			continue;
		*colon = '\0';
		for (char *p = line; *p != '\0'; p++) {
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
		}
		r->on_header(r->arg, str_trim(line), str_trim(colon + 1));
	}
}

/*
 * libcurl gives the head of every answer (100 Continue, redirects, the final one) and trailers
 * line by line; on_header is to have the final head alone.
 */
static size_t on_head_line(char *data, size_t size, size_t n, void *arg)
{
	struct http_req *r = arg;
	size_t len = size * n;
	long status = 0;

	if (r->finished)
		return 0;
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0 && !r->head_passed) {
		buf_clear(&r->head);
		r->redirects = false;
	}
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
		r->head_ended = false;
	else if (data[0] == '\r' || data[0] == '\n')
		r->head_ended = true;
	if (r->on_header == NULL)
		return len;
	if (len >= 9 && strncasecmp(data, "location:", 9) == 0)
		r->redirects = r->max_redirects > 0;
	if (data[0] != '\r' && data[0] != '\n') {
		if (r->head.len + len <= MAX_HEADERS)
			buf_add(&r->head, data, len);
		return len;
	}
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	if (r->head_passed || status < 200 || (r->redirects && status >= 300 && status < 400))
		return len;
	r->head_passed = true;
	if (r->head.data != NULL && !r->head.bad)
		pass_head(r);
	return r->finished ? 0 : len;
}

/* Method and URL for messages, without a password and without the query, which may be a token. */
static char *describe(const char *method, const char *url)
{
	const char *host = strstr(url, "://"), *end = url + strcspn(url, "?#"), *at;
	size_t scheme;

	host = host != NULL && host < end ? host + 3 : url;
	scheme = (size_t)(host - url);
	at = memchr(host, '@', strcspn(host, "/?#"));
	if (at != NULL)
		host = at + 1;
	char *shown = str_printf("%.*s%.*s", (int)scheme, url, (int)(end - host), host);
	char *what = shown != NULL ? str_printf("%s %s", method, quote(shown)) : NULL;

	free(shown);
	return what;
}

static int add_header(struct http_req *r, const char *line)
{
	struct curl_slist *l = curl_slist_append(r->headers, line);

	if (l == NULL)
		return -ENOMEM;
	r->headers = l;
	return 0;
}

static int set_headers(struct http_req *r, const struct http_spec *spec)
{
	bool type = false;

	for (const char *const *h = spec->headers; h != NULL && *h != NULL; h++) {
		type = type || strncasecmp(*h, "content-type:", 13) == 0;
		if (add_header(r, *h) != 0)
			return -ENOMEM;
	}
	/* libcurl's own additions: a wait for 100 Continue, and a form's type for every body. */
	if (add_header(r, "Expect:") != 0 || (!type && add_header(r, "Content-Type:") != 0))
		return -ENOMEM;
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
	return 0;
}

static int set_body(struct http_req *r, const char *method, const struct http_spec *spec)
{
	CURL *e = r->easy;

	if (strcmp(method, "HEAD") == 0) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
		return 0;
	}
	/* These say "Content-Length: 0" where they have no body, RFC 9110 section 8.6. */
	if (spec->body != NULL || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
		strcmp(method, "PATCH") == 0) {
		curl_easy_setopt(e, CURLOPT_POST, 1L);
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
			(curl_off_t)(spec->body != NULL ? spec->body_len : 0));
		if (curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS,
			    spec->body != NULL ? spec->body : "") != CURLE_OK)
			return -ENOMEM;
	}
	if (curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

static int set_target(struct http_req *r, const struct http_spec *spec)
{
	CURL *e = r->easy;
	bool plain = spec->http_only_plain && strncasecmp(spec->url, "http://", 7) == 0;

	if (curl_easy_setopt(e, CURLOPT_URL, spec->url) != CURLE_OK)
		return -ENOMEM;
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, plain ? "http,https" : "https");
	if (spec->max_redirects > 0) {
		curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
		curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)spec->max_redirects);
	}
	if (spec->unix_socket != NULL || spec->no_proxy)
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	if (spec->unix_socket != NULL) {
		if (curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, spec->unix_socket) != CURLE_OK)
			return -ENAMETOOLONG;
	}
	if (spec->ca_file != NULL && curl_easy_setopt(e, CURLOPT_CAINFO, spec->ca_file) != CURLE_OK)
		return -ENOMEM;
	if (spec->fresh) {
		curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	}
	return 0;
}

static void set_limits(struct http_req *r, const struct http_spec *spec)
{
	CURL *e = r->easy;
	uint64_t connect = spec->connect_timeout_ms;

	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)spec->timeout_ms);
	curl_easy_setopt(
		e, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect > 0 ? connect : CONNECT_TIMEOUT_MS));
	if (spec->stall_ms > 0) {
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)((spec->stall_ms + 999) / 1000));
	}
	r->max_body = spec->max_body > 0 ? spec->max_body : MAX_BODY;
	r->max_redirects = spec->max_redirects;
}

static int req_setup(struct http_req *r, const struct http_spec *spec)
{
	const char *method = spec->method != NULL ? spec->method : "GET";
	char range[32];
	int ret;

	r->easy = curl_easy_init();
	r->what = describe(method, spec->url);
	if (r->easy == NULL || r->what == NULL)
		return -ENOMEM;
	curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->errbuf);
	curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_head_line);
	curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
	set_limits(r, spec);
	if (spec->resume_from > 0) {
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)spec->resume_from);
		if (curl_easy_setopt(r->easy, CURLOPT_RANGE, range) != CURLE_OK)
			return -ENOMEM;
	}
	ret = set_target(r, spec);
	if (ret == 0)
		ret = set_body(r, method, spec);
	return ret == 0 ? set_headers(r, spec) : ret;
}

void http_req_free(struct http_req *r)
{
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	buf_finish(&r->body);
	buf_finish(&r->head);
	free(r->what);
	free(r);
}

static int errno_of(CURLcode code, long os_errno)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return os_errno > 0 ? -(int)os_errno : -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
		return -ECONNRESET;
	case CURLE_TOO_MANY_REDIRECTS:
		return -ELOOP;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return -EINVAL;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

void http_req_error(const struct http_req *r, struct err *err)
{
	long os_errno = 0;
	const char *why;

	if (r->code == -ECANCELED) {
		err_set(err, -ECANCELED, "%s: cancelled", r->what);
		return;
	}
	if (r->code == -EFBIG && r->on_data == NULL) {
		err_set(err, -EFBIG, "%s: the answer is larger than %zu bytes", r->what,
			r->max_body);
		return;
	}
	if (r->code != 0) {
		err_errno(err, r->code, "%s", r->what);
		return;
	}
	curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &os_errno);
	why = r->errbuf[0] != '\0' ? r->errbuf : curl_easy_strerror(r->result);
	if (r->result == CURLE_COULDNT_CONNECT && os_errno > 0)
		why = strerror((int)os_errno);
	err_set(err, errno_of(r->result, os_errno), "%s: %s", r->what, why);
}

int http_req_create(struct http_req **out, const struct http_spec *spec, struct err *err)
{
	struct http_req *r = calloc(1, sizeof(*r));
	int ret;

	if (r == NULL)
		return err_nomem(err);
	r->on_data = spec->on_data;
	r->on_header = spec->on_header;
	list_init(&r->link);
	ret = req_setup(r, spec);
	if (ret != 0) {
		http_req_free(r);
		return err_errno(err, ret, "HTTP request");
	}
	*out = r;
	return 0;
}

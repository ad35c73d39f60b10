#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "lib/clock.h"
#include "lib/json.h"
#include "oci/transfer.h"

#define REDIRECTS_MAX   5
#define ERROR_BODY_MAX  4096
#define RETRY_AFTER_MAX 60000
#define BACKOFF_MIN     250
#define BACKOFF_MAX     8000

static void start_answer(struct transfer *t)
{
	t->status = 0;
	t->head_ended = false;
	t->content_type[0] = '\0';
	t->content_digest[0] = '\0';
	t->challenge[0] = '\0';
	t->range_start = UINT64_MAX;
	t->length = UINT64_MAX;
	t->etag[0] = '\0';
	t->last_modified[0] = '\0';
	t->retry_after_ms = 0;
	buf_clear(&t->error_body);
}

static uint64_t parse_retry_after(const char *value)
{
	uint64_t seconds;
	time_t date;

	if (parse_u64(value, 0, 86400, &seconds, NULL) == 0)
		return seconds * 1000;
	date = curl_getdate(value, NULL);
	if (date == (time_t)-1 || date <= time(NULL))
		return 0;
	return (uint64_t)(date - time(NULL)) * 1000;
}

static void take_header(struct transfer *t, const char *name, const char *value)
{
	if (strcasecmp(name, "content-type") == 0) {
		snprintf(t->content_type, sizeof(t->content_type), "%.*s",
			(int)strcspn(value, "; \t"), value);
	} else if (strcasecmp(name, "docker-content-digest") == 0) {
		snprintf(t->content_digest, sizeof(t->content_digest), "%s", value);
	} else if (strcasecmp(name, "www-authenticate") == 0) {
		if (t->challenge[0] == '\0' || strncasecmp(value, "bearer ", 7) == 0)
			snprintf(t->challenge, sizeof(t->challenge), "%s", value);
	} else if (strcasecmp(name, "retry-after") == 0) {
		t->retry_after_ms = parse_retry_after(value);
	} else if (strcasecmp(name, "content-length") == 0) {
		uint64_t length;

		if (t->status == 200 && parse_u64(value, 0, INT64_MAX, &length, NULL) == 0)
			t->length = length;
	} else if (strcasecmp(name, "content-range") == 0) {
		unsigned long long from, to, all;
		int n = sscanf(value, "bytes %llu-%llu/%llu", &from, &to, &all);

		if (n >= 1)
			t->range_start = from;
		if ((n == 3 || sscanf(value, "bytes */%llu", &all) == 1) && all <= INT64_MAX)
			t->length = all;
	} else if (strcasecmp(name, "etag") == 0 && strlen(value) < sizeof(t->etag)) {
		strcpy(t->etag, value);
	} else if (strcasecmp(name, "last-modified") == 0 &&
		   strlen(value) < sizeof(t->last_modified)) {
		strcpy(t->last_modified, value);
	}
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;
	char line[2200], *colon;

	if (len >= sizeof(line))
		return len;
	if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
		t->head_ended = true;
	memcpy(line, data, len);
	line[len] = '\0';
	if (strncmp(line, "HTTP/", 5) == 0) {
		const char *code = strchr(line, ' ');

		start_answer(t);
		t->status = code != NULL ? atoi(code + 1) : 0;
		return len;
	}
	colon = strchr(line, ':');
	if (colon != NULL) {
		*colon = '\0';
		take_header(t, line, str_trim(colon + 1));
	}
	return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;

	if (t->status != 200 && t->status != 206) {
		buf_add(&t->error_body, data, MIN(len, ERROR_BODY_MAX - t->error_body.len));
		return len;
	}
	if (t->body(t->arg, t, data, len, &t->body_err) != 0)
		return len == 0 ? 1 : 0;
	return len;
}

/* libcurl's own low-speed limit averages over several seconds; this is exact to about one. */
static int on_progress(
	void *arg, curl_off_t total, curl_off_t bytes, curl_off_t up_total, curl_off_t up)
{
	struct transfer *t = arg;
	uint64_t now = clock_mono_ms();

	if (bytes != t->last_bytes) {
		t->last_bytes = bytes;
		t->last_ms = now;
	}
	return now - t->last_ms > t->stall_ms;
}

bool url_is_loopback(const char *url)
{
	const char *host = strstr(url, "://"), *at;
	struct in_addr addr;
	char name[64];
	size_t len;

	host = host != NULL ? host + 3 : url;
	at = memrchr(host, '@', strcspn(host, "/?#"));
	host = at != NULL ? at + 1 : host;
	if (str_starts(host, "[::1]"))
		return strchr(":/?#", host[5]) != NULL;
	len = strcspn(host, ":/?#");
	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name)), host);
	return strcasecmp(name, "localhost") == 0 ||
	       (inet_pton(AF_INET, name, &addr) == 1 && ntohl(addr.s_addr) >> 24 == 127);
}

static int add_header(struct transfer *t, const char *name, const char *value)
{
	struct curl_slist *more;
	char *line;

	if (value == NULL)
		return 0;
	line = str_printf("%s: %s", name, value);
	if (line == NULL)
		return -ENOMEM;
	more = curl_slist_append(t->headers, line);
	free(line);
	if (more == NULL)
		return -ENOMEM;
	t->headers = more;
	return 0;
}

static void set_options(struct transfer *t, const struct transfer_spec *spec)
{
	CURL *c = t->easy;
	char range[32];

	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "drover");
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->curl_error);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)spec->connect_timeout_ms);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
	/* A byte now and then is no stall, but no use either. */
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 64L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(spec->stall_ms / 1000 + 30));
	/*
	 * Blob stores answer by redirects. libcurl leaves the Authorization header out once host or
	 * port differ from the first request's.
	 */
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
		str_starts(spec->url, "https:") ? "https" : "http,https");
	if (url_is_loopback(spec->url))
		curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	/* Not CURLOPT_RESUME_FROM: that fails when the server sends all from the start instead. */
	if (spec->from > 0) {
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)spec->from);
		curl_easy_setopt(c, CURLOPT_RANGE, range);
	}
}

int transfer_init(
	struct transfer *t, CURL *reuse, const struct transfer_spec *spec, struct err *err)
{
	*t = (struct transfer){ .easy = reuse, .body = spec->body, .arg = spec->arg };
	if (reuse != NULL)
		curl_easy_reset(reuse);
	else
		t->easy = curl_easy_init();
	t->stall_ms = spec->stall_ms;
	t->last_ms = clock_mono_ms();
	start_answer(t);
	if (t->easy == NULL || add_header(t, "Accept", spec->accept) < 0 ||
		add_header(t, "Authorization", spec->authorization) < 0 ||
		add_header(t, "If-Range", spec->if_range) < 0 ||
		add_header(t, "If-None-Match", spec->if_none_match) < 0 ||
		add_header(t, "If-Modified-Since", spec->if_modified_since) < 0)
		goto nomem;
	set_options(t, spec);
	if (curl_easy_setopt(t->easy, CURLOPT_URL, spec->url) != CURLE_OK)
		goto nomem;
	return 0;
nomem:
	curl_easy_cleanup(transfer_finish(t));
	return err_nomem(err);
}

CURL *transfer_finish(struct transfer *t)
{
	CURL *easy = t->easy;

	curl_slist_free_all(t->headers);
	buf_finish(&t->error_body);
	t->headers = NULL;
	t->easy = NULL;
	return easy;
}

/* The registry's own words, {"errors":[{"message":...}]} (distribution spec, "Error Codes"). */
static void said(const struct transfer *t, struct buf *out)
{
	const json_t *first;
	json_t *doc = NULL;
	const char *message;

	if (json_parse(buf_str(&t->error_body), t->error_body.len, &doc, NULL) < 0)
		return;
	first = json_array_get(json_arr(doc, "errors"), 0);
	message = json_str(first, "message");
	if (message == NULL)
		message = json_str(first, "code");
	if (message != NULL && *message != '\0')
		buf_printf(out, ", it says %s", quote(message));
	json_decref(doc);
}

static enum transfer_verdict judge_status(struct transfer *t, struct err *err)
{
	struct buf words = { 0 };
	enum transfer_verdict v = TRANSFER_FAIL;
	int code = -EIO;

	said(t, &words);
	switch (t->status) {
	case 401:
		v = TRANSFER_AUTH;
		code = -EACCES;
		break;
	case 403:
		code = -EACCES;
		break;
	case 404:
		code = -ENOENT;
		break;
	case 408:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		v = TRANSFER_RETRY;
		code = -EHOSTUNREACH;
		break;
	}
	err_set(err, code, "it answers %d%s", t->status, buf_str(&words));
	buf_finish(&words);
	return v;
}

static enum transfer_verdict judge_connect(struct transfer *t, struct err *err)
{
	long os_errno = 0;

	curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
	if (os_errno == ECONNREFUSED || os_errno == 0)
		err_set(err, -ECONNREFUSED, "connection refused");
	else
		err_set(err, -EHOSTUNREACH, "cannot connect: %s", strerror((int)os_errno));
	return TRANSFER_ABSENT;
}

static bool connected(struct transfer *t)
{
	curl_off_t us = 0;

	return curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &us) == CURLE_OK && us > 0;
}

enum transfer_verdict transfer_verdict(struct transfer *t, CURLcode code, struct err *err)
{
	const char *why = t->curl_error[0] != '\0' ? t->curl_error : curl_easy_strerror(code);

	if (t->body_err.code != 0) {
		*err = t->body_err;
		return TRANSFER_FAIL;
	}
	switch (code) {
	case CURLE_OK:
		/* libcurl takes it for an answer without a body. */
		if (!t->head_ended) {
			err_set(err, -EPIPE, "the connection broke off (within the headers)");
			return TRANSFER_RETRY;
		}
		if (t->status == 200 || t->status == 206)
			return TRANSFER_OK;
		return judge_status(t, err);
	case CURLE_COULDNT_CONNECT:
		return judge_connect(t, err);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		err_set(err, -EHOSTUNREACH, "the host's name cannot be resolved");
		return TRANSFER_ABSENT;
	case CURLE_ABORTED_BY_CALLBACK:
		err_set(err, -ETIMEDOUT, "it %s (nothing for %s)",
			t->last_bytes > 0 ? "stopped sending" : "does not answer",
			format_duration(t->stall_ms / 1000));
		return TRANSFER_RETRY;
	case CURLE_OPERATION_TIMEDOUT:
		if (!connected(t)) {
			err_set(err, -EHOSTUNREACH, "no connection (%s)", why);
			return TRANSFER_ABSENT;
		}
		err_set(err, -ETIMEDOUT, "it is too slow (%s)", why);
		return TRANSFER_RETRY;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		err_set(err, -EPIPE, "the connection broke off (%s)", why);
		return TRANSFER_RETRY;
	case CURLE_TOO_MANY_REDIRECTS:
		err_set(err, -ELOOP, "it redirects more than %d times", REDIRECTS_MAX);
		return TRANSFER_FAIL;
	case CURLE_SSL_CONNECT_ERROR:
		err_set(err, -EPROTO, "no TLS connection (%s); is it a plain-http registry?", why);
		return TRANSFER_FAIL;
	case CURLE_OUT_OF_MEMORY:
		err_nomem(err);
		return TRANSFER_FAIL;
	default:
		err_set(err, -EIO, "%s", why);
		return TRANSFER_FAIL;
	}
}

uint64_t transfer_backoff_ms(unsigned n, uint64_t retry_after_ms)
{
	uint64_t ms = BACKOFF_MIN;

	if (retry_after_ms > 0)
		return MIN(retry_after_ms, RETRY_AFTER_MAX);
	while (n-- > 1 && ms < BACKOFF_MAX)
		ms *= 2;
	/* Between 3/4 and 5/4, so that many who were turned away do not all come back at once. */
	return ms * 3 / 4 + (uint64_t)random() % (ms / 2 + 1);
}

/*
 * oci/transfer.h - one HTTP GET with libcurl, and what its outcome means. Part of drover-image;
 * who starts it drives it (curl_easy_perform, or curl's multi interface). Times in ms.
 */
#ifndef DROVER_OCI_TRANSFER_H
#define DROVER_OCI_TRANSFER_H

#include <curl/curl.h>
#include "lib/str.h"

struct transfer;

/* Body of an answer 200 or 206, as it comes. A return other than 0 ends the transfer. */
typedef int transfer_body_fn(
	void *arg, struct transfer *t, const char *data, size_t len, struct err *err);

struct transfer_spec {
	const char *url;           /* all strings are copied */
	const char *accept;        /* NULL: anything */
	const char *authorization; /* of the header; never sent to another host. NULL: none */
	uint64_t from;             /* Range: bytes=from-; 0: all */
	const char *if_range;      /* the range only of what this still names, else all; or NULL */
	const char *if_none_match; /* nothing (304) if it still has this entity tag; or NULL */
	const char *if_modified_since; /* or if it was not changed since then; or NULL */
	uint64_t stall_ms;             /* without a byte for so long it fails */
	uint64_t connect_timeout_ms;
	transfer_body_fn *body;
	void *arg;
};

struct transfer {
	CURL *easy;
	struct curl_slist *headers;
	transfer_body_fn *body;
	void *arg;
	char curl_error[CURL_ERROR_SIZE];
	struct err body_err;
	uint64_t stall_ms, last_ms; /* when a byte came last */
	int64_t last_bytes;
	/* Of the last answer, after redirects. */
	int status;
	bool head_ended; /* the headers came to their end */
	char content_type[128];
	char content_digest[160];
	char challenge[2048]; /* WWW-Authenticate, Bearer rather than others */
	uint64_t range_start; /* UINT64_MAX: no Content-Range */
	uint64_t length;      /* of the whole, by Content-Length or -Range; UINT64_MAX: unknown */
	char etag[160], last_modified[64];
	uint64_t retry_after_ms; /* 0: not said */
	struct buf error_body;   /* of another status than 200 and 206 */
};

/* reuse is an easy handle whose connection may be used again (it becomes t's), or NULL. */
int transfer_init(
	struct transfer *t, CURL *reuse, const struct transfer_spec *spec, struct err *err);
/* Returns the easy handle; the caller cleans it up or uses it again. */
CURL *transfer_finish(struct transfer *t);

enum transfer_verdict {
	TRANSFER_OK,     /* 200 or 206, body complete */
	TRANSFER_AUTH,   /* 401: see challenge */
	TRANSFER_RETRY,  /* may go better: 429, 5xx, stall, cut off */
	TRANSFER_ABSENT, /* nobody answers there: worth a short second try */
	TRANSFER_FAIL
};
/* err tells of everything but TRANSFER_OK. */
enum transfer_verdict transfer_verdict(struct transfer *t, CURLcode code, struct err *err);

/*
 * Whether the host of a URL, or a bare "host:port", is this machine: localhost, 127.x.y.z, [::1]. It
 * is never reached by way of a proxy that the environment names, and needs no TLS.
 */
bool url_is_loopback(const char *url);

/* How long to wait before try number n (from 1): backoff with jitter, or what the server said. */
uint64_t transfer_backoff_ms(unsigned n, uint64_t retry_after_ms);

#endif

/*
 * oci/relay-fetch.h - one request to the upstream of a relay, made in a thread of its own, whose
 * answer grows in an unlinked file while any number of readers follow it. Any thread; the calls
 * that wait are bounded by the stall limit. Part of drover-image. Times in ms.
 */
#ifndef DROVER_OCI_RELAY_FETCH_H
#define DROVER_OCI_RELAY_FETCH_H

#include <sys/types.h>
#include "lib/str.h"

/* What fetches share: the folder of their files, the limits, connections kept for the next. */
struct fetcher;
struct fetch;

int fetcher_create(struct fetcher **out, const char *spool_dir, uint64_t stall_ms, struct err *err);
/* Cuts off what is under way, within about a second, and refuses what comes. */
void fetcher_stop(struct fetcher *fr);
/* After fetcher_stop(), when no fetch is held any more. Waits for the threads. Takes NULL. */
void fetcher_destroy(struct fetcher *fr);

struct fetch_spec {
	const char *url;            /* copied, as the others are */
	const char *what;           /* for the log, "GET /v2/x/blobs/sha256:..." */
	const struct strv *headers; /* "Name: value" */
	bool head;
	/* Redirects are followed; Authorization does not go to another host (libcurl's rule). */
	bool follow;
	bool counted; /* a blob: that it came is written to count_fd (oci/cache-log.h) */
	int count_fd;
};

struct fetch_answer {
	int status;
	int64_t length;       /* -1: not said */
	struct strv headers;  /* "Name: value", end-to-end ones without Content-Length, Location */
	const char *location; /* absolute, of a redirect that was not followed; else NULL */
};

/* The caller holds *out once. */
int fetch_start(
	struct fetch **out, struct fetcher *fr, const struct fetch_spec *spec, struct err *err);
void fetch_hold(struct fetch *f);
/* When the last holder lets go, a fetch under way is cut off. Takes NULL. */
void fetch_release(struct fetch *f);
/* Waits for status and headers, which live as long as f. -errno when none came. */
int fetch_answer(struct fetch *f, const struct fetch_answer **out, struct err *err);
/* Bytes of the body from pos on; waits for the first of them. 0: that was all; -errno: cut off. */
ssize_t fetch_read(struct fetch *f, uint64_t pos, char *data, size_t max);

enum fetch_state {
	FETCH_ASKING, /* no answer yet */
	FETCH_BODY,
	FETCH_DONE,
	FETCH_FAILED
};
/* status (may be NULL) is 0 while there is no answer; bytes is what there is of the body. */
enum fetch_state fetch_state(struct fetch *f, int *status, uint64_t *bytes);

#endif

/*
 * ctl/api.h - calls of droverd's API over its Unix socket, several at once if need be. They block
 * in a loop of their own. Times in ms.
 */
#ifndef DROVER_CTL_API_H
#define DROVER_CTL_API_H

#include <jansson.h>
#include <uv.h>
#include "ctl/ctl.h"

struct api_call {
	/* Filled by the caller. */
	const char *method;     /* NULL: GET */
	struct buf path;        /* api_path(), api_query() */
	const json_t *body;     /* NULL: none */
	const char *no_machine; /* set by api_path(): a name that no path can carry */
	const char *body_text;  /* in its place, JSON as it is; NULL: none */
	const char *body_data;  /* or any bytes; NULL: none */
	size_t body_len;        /* of body_data */
	uint64_t timeout_ms;    /* 0: none */
	/* A successful answer's body as it comes, or each of its lines; both NULL: collected. */
	void (*data)(void *arg, const char *data, size_t len);
	void (*line)(void *arg, const char *line, size_t len);
	void (*done)(struct api_call *call); /* may be NULL */
	void *arg;

	/* The result. */
	int status;   /* of HTTP; 0: there was no answer */
	json_t *json; /* NULL where the answer is none */
	struct buf text;
	struct err err; /* code is 0 on success; else as the API told, or why there was no answer */
	struct ctl *ctl;
	struct http_req *req;
	bool ended;
};

/* Where droverd listens: the option, DROVER_SOCKET, the session's, the system's. malloc'd. */
char *api_socket(const struct ctl *c);

/*
 * Adds "/text" with each %s of fmt, the name of a machine, percent-encoded. A call whose path has one
 * that would make it another path ("", ".", "..") ends as for a machine that is not there.
 */
void api_path(struct api_call *call, const char *fmt, ...);
void api_query(struct api_call *call, const char *name, const char *value);
void api_query_int(struct api_call *call, const char *name, int64_t value);

/* Starts it; api_wait() runs until all n have ended. CTL_OK or the status to exit with. */
int api_start(struct ctl *c, struct api_call *call);
void api_wait(struct ctl *c, struct api_call *calls, size_t n);
/* Both for one, and prints what went wrong. */
int api_run(struct ctl *c, struct api_call *call);
/* The exit status for a call that has ended; prints "drover: MESSAGE" if it failed. */
int api_report(const struct api_call *call);
void api_finish(struct api_call *call);
void api_close(struct ctl *c);
/* The loop of a call that was started, for what else is to be waited for. */
uv_loop_t *api_loop(struct ctl *c);
/* Ends a call that was started; it ends with -ECANCELED on a later turn of the loop. */
void api_cancel(struct api_call *call);

/* GET of what answers quickly; *out is a new reference. */
int api_get(struct ctl *c, json_t **out, struct api_call *call);

#endif

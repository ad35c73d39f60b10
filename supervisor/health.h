/*
 * supervisor/health.h - the health checks of one running machine: rounds of probes, what they say
 * about it, when something is to be done. Loop thread. Times in ms.
 *
 * Every health_interval a round asks everything at once; it has passed if every check has. One timer
 * in all, and none where only the console is watched and has said its sign.
 */
#ifndef DROVER_SUPERVISOR_HEALTH_H
#define DROVER_SUPERVISOR_HEALTH_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>
#include "hv/hv.h"
#include "lib/http.h"

struct health;

enum health_state {
	HEALTH_STARTING, /* nothing is known yet, or it need not be well yet */
	HEALTH_HEALTHY,
	HEALTH_UNHEALTHY
};
const char *health_state_name(enum health_state s);

struct health_spec {
	const struct strv *checks; /* as in the configuration, at most HEALTH_CHECKS_MAX */
	uint64_t interval_ms, timeout_ms, start_period_ms;
	unsigned retries;
	/*
	 * The guest was booted some time ago, and what it said on its console may have been missed:
	 * then a sign that was not seen is no failure, but the machine is not ready either.
	 */
	bool late;
	bool ready; /* it has been ready since its boot */
	bool said; /* the signs on the console were seen: its memory is of a guest that was ready */
};

/* Each may destroy, pause or reset its health object. */
struct health_callbacks {
	void (*ready)(void *arg); /* all checks have passed, for the first time in this boot */
	/* To healthy and unhealthy and, once it was unhealthy, back. */
	void (*changed)(void *arg, enum health_state state);
	/* It has become unhealthy, or it still is so after as many more failures. */
	void (*act)(void *arg);
	/* The address at which a port of the machine is reached into out, and in *port another port,
	 * if it is; false: nowhere. */
	bool (*address)(void *arg, unsigned *port, char out[64]);
	/* As in probe.h. */
	void (*ping)(void *arg, uint64_t timeout_ms, hv_reply_fn *reply, void *reply_arg);
	void (*forget)(void *arg, const void *reply_arg);
	void *arg;
};

/* Copies spec and cb, begins at once. */
int health_create(struct health **out, uv_loop_t *loop, struct http_client *http,
	const struct health_spec *spec, const struct health_callbacks *cb, struct err *err);
/* No callback fires afterwards, the memory goes later. Takes NULL. */
void health_destroy(struct health *h);

/* A guest that does not run is not asked; the start period stands still meanwhile. */
void health_pause(struct health *h);
void health_resume(struct health *h);
/* The guest boots anew. */
void health_boot(struct health *h);

/* Whether it still looks for something on the console; what was said there. */
bool health_wants_console(const struct health *h);
void health_console(struct health *h, const char *line);

enum health_state health_state(const struct health *h);
bool health_ready(const struct health *h);
/* The check that failed first in the last round that failed, and why; "" without one. */
const char *health_failed_check(const struct health *h);
const char *health_failed_reason(const struct health *h);
/* {state, ready, checks: [{check, ok, error, last}]}; ok is null before the first answer. */
json_t *health_json(const struct health *h);

#endif

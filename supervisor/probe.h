/*
 * supervisor/probe.h - one try of a health check over the network or the guest agent. Loop thread.
 * Times in ms. It has no deadline of its own: its owner cancels it.
 */
#ifndef DROVER_SUPERVISOR_PROBE_H
#define DROVER_SUPERVISOR_PROBE_H

#include "hv/hv.h"
#include "lib/http.h"
#include "supervisor/health-check.h"

struct probe;

struct probe_target {
	uv_loop_t *loop;
	struct http_client *http;
	const char *address; /* of the machine, numeric; NULL: it has none */
	unsigned port;       /* there, in place of the check's; 0: that one */
	uint64_t timeout_ms; /* the owner's deadline, for those who can be told */
	/* guest-ping, as hv_agent() and hv_agent_forget(); NULL: there is no agent. */
	void (*ping)(void *arg, uint64_t timeout_ms, hv_reply_fn *reply, void *reply_arg);
	void (*forget)(void *arg, const void *reply_arg);
	void *arg;
};

/* Exactly once, never before probe_start() returns; err NULL: the check has passed. */
typedef void probe_done_fn(void *arg, const struct err *err);

/*
 * Everything is borrowed but ping, forget and their arg. Returns -errno when it failed at once:
 * then done does not fire. Not for a check of the console. *out is valid until done has fired.
 */
int probe_start(struct probe **out, const struct health_check *check, const struct probe_target *t,
	probe_done_fn *done, void *arg, struct err *err);
/* done does not fire any more. */
void probe_cancel(struct probe *p);

#endif

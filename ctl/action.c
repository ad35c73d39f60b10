/* drover start, stop, kill, restart, pause, resume, suspend, reset, nmi, rm: operations on machines. */
#include <stdio.h>
#include <stdlib.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

#define WAIT_MAX_S 3600 /* what the API takes at once */
#define ANSWER_MS  30000
#define NO_TIME    UINT64_MAX /* none was given */

struct action {
	const char *verb; /* as in the path; NULL: DELETE */
	const char *past; /* "started" */
	bool disks;
	bool stops; /* --timeout is the guest's, and the wait has an option of its own */
	bool discard;
};

static void prepare(const struct ctl *c, const struct action *a, struct api_call *call,
	const char *name, uint64_t wait_s, uint64_t guest_s)
{
	call->method = a->verb != NULL ? "POST" : "DELETE";
	api_path(call, "/vms/%s", name);
	if (a->verb != NULL)
		api_path(call, "/%s", a->verb);
	if (a->disks)
		api_query(call, "disks", "1");
	if (guest_s != NO_TIME)
		api_query_int(call, "timeout", (int64_t)guest_s);
	if (a->discard)
		api_query(call, "discard", "1");
	if (wait_s > 0)
		api_query_int(call, "wait", (int64_t)wait_s);
	call->timeout_ms = wait_s * 1000 + ANSWER_MS;
}

/* An operation that is still under way although it was waited for is a failure. */
static int report(const struct ctl *c, const struct action *a, const struct api_call *call,
	const char *name, uint64_t wait_s)
{
	const char *step = json_str(call->json, "step");
	const json_t *error = json_obj(call->json, "error");
	int ret = api_report(call);

	/* The machine is there (it has a state): what was not found is something that it needs. */
	if (ret == CTL_NOT_FOUND && json_str(error, "state") != NULL)
		ret = CTL_FAILED;
	if (ret != CTL_OK)
		return ret;
	if (call->status == 202 && wait_s > 0)
		return ctl_fail("vm %s: not yet %s after %llu s (operation %lld%s%s)", name,
			a->past, (unsigned long long)wait_s,
			(long long)json_int(call->json, "id", 0), step != NULL ? ", at " : "",
			step != NULL ? step : "");
	if (c->json)
		return CTL_OK;
	if (call->status == 202)
		printf("%s is being %s\n", name, a->past);
	else
		printf("%s %s\n", name, a->past);
	return CTL_OK;
}

static void print_all(const struct api_call *calls, size_t n)
{
	json_t *all = json_array();

	for (size_t i = 0; i < n; i++) {
		if (calls[i].err.code == 0 && calls[i].json != NULL)
			json_array_append(all, calls[i].json);
	}
	if (n > 1)
		print_json(all);
	else if (json_array_size(all) == 1)
		print_json(json_array_get(all, 0));
	json_decref(all);
}

/* All at once: machines wait for one another's sake in droverd, not here. */
static int act(struct ctl *c, const struct action *a)
{
	struct api_call *calls = calloc(c->args.n, sizeof(*calls));
	uint64_t wait_s, guest_s = NO_TIME;
	int ret = ctl_seconds(c, a->stops ? "wait-limit" : "timeout", WAIT_MAX_S, &wait_s);

	if (ret == CTL_OK && a->stops)
		ret = ctl_seconds(c, "timeout", NO_TIME, &guest_s);

	if (calls == NULL)
		ret = ctl_fail("out of memory");
	if (ret != CTL_OK) {
		free(calls);
		return ret;
	}
	wait_s = ctl_flag(c, "no-wait") ? 0 : MIN(MAX(wait_s, (uint64_t)1), (uint64_t)WAIT_MAX_S);
	for (size_t i = 0; i < c->args.n; i++) {
		prepare(c, a, &calls[i], c->args.v[i], wait_s, guest_s);
		api_start(c, &calls[i]);
	}
	if (c->api != NULL)
		api_wait(c, calls, c->args.n);
	for (size_t i = 0; i < c->args.n; i++) {
		int one = report(c, a, &calls[i], c->args.v[i], wait_s);

		if (ret == CTL_OK)
			ret = one;
		if (one == CTL_UNREACHABLE)
			break; /* the others would only say the same */
	}
	if (c->json)
		print_all(calls, c->args.n);
	for (size_t i = 0; i < c->args.n; i++)
		api_finish(&calls[i]);
	free(calls);
	return ret;
}

int verb_start(struct ctl *c)
{
	return act(c, &(struct action){ "start", "started", .discard = ctl_flag(c, "discard") });
}

int verb_stop(struct ctl *c)
{
	return act(c, &(struct action){ "stop", "stopped", .stops = true });
}

int verb_kill(struct ctl *c)
{
	return act(c, &(struct action){ "kill", "killed", .disks = false });
}

int verb_restart(struct ctl *c)
{
	return act(c, &(struct action){ "restart", "restarted", .disks = false });
}

int verb_pause(struct ctl *c)
{
	return act(c, &(struct action){ "pause", "paused", .disks = false });
}

int verb_resume(struct ctl *c)
{
	return act(c, &(struct action){ "resume", "resumed", .disks = false });
}

int verb_suspend(struct ctl *c)
{
	return act(c, &(struct action){ "suspend", "suspended", .disks = false });
}

int verb_reset(struct ctl *c)
{
	return act(c, &(struct action){ "reset", "reset", .disks = false });
}

int verb_nmi(struct ctl *c)
{
	return act(c, &(struct action){ "nmi", "interrupted", .disks = false });
}

int verb_rm(struct ctl *c)
{
	return act(c, &(struct action){ NULL, "removed", .disks = ctl_flag(c, "disks") });
}

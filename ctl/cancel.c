/* drover cancel: ends an operation that is under way. */
#include <stdlib.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

#define WAIT_MAX_S 3600 /* what the API takes at once */
#define ANSWER_MS  30000

/* The number of the operation that is under way for a machine. CTL_OK or what to exit with. */
static int find(struct ctl *c, const char *name, uint64_t *out)
{
	struct api_call call = { 0 };
	const json_t *op;
	json_t *vm;
	int ret;

	api_path(&call, "/vms/%s", name);
	ret = api_get(c, &vm, &call);
	if (ret != CTL_OK)
		return ret;
	op = json_obj(vm, "operation");
	*out = (uint64_t)json_int(op, "id", 0);
	if (op == NULL) {
		ctl_fail("vm %s: nothing is being done to it that could be cancelled", name);
		ret = CTL_WRONG_STATE;
	}
	json_decref(vm);
	return ret;
}

/* It may have come to its end all the same. */
static int report_cancel(struct ctl *c, const json_t *op, uint64_t wait_s, json_t *all)
{
	const char *state = json_str(op, "state"), *vm = json_str(op, "vm");
	const char *verb = json_str(op, "verb") != NULL ? json_str(op, "verb") : "?";
	const char *of = vm != NULL ? vm : "", *colon = vm != NULL ? ": " : "";

	if (c->json)
		json_array_append(all, (json_t *)(uintptr_t)op);
	if (str_eq(state, "running") && wait_s > 0)
		return ctl_fail("%s%s%s is not yet cancelled after %llu s", of, colon, verb,
			(unsigned long long)wait_s);
	if (str_eq(state, "done") || str_eq(state, "failed"))
		return ctl_fail("%s%s%s had ended before: it is %s", of, colon, verb, state);
	if (!c->json)
		printf("%s%s%s %s\n", of, colon, verb,
			str_eq(state, "running") ? "is being cancelled" : "cancelled");
	return CTL_OK;
}

static int cancel_one(struct ctl *c, uint64_t id, uint64_t wait_s, json_t *all)
{
	struct api_call call = { .method = "POST", .timeout_ms = wait_s * 1000 + ANSWER_MS };
	char text[24];
	int ret;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
	api_path(&call, "/operations/%s/cancel", text);
	if (wait_s > 0)
		api_query_int(&call, "wait", (int64_t)wait_s);
	ret = api_run(c, &call);
	if (ret == CTL_OK)
		ret = report_cancel(c, call.json, wait_s, all);
	api_finish(&call);
	return ret;
}

int verb_cancel(struct ctl *c)
{
	json_t *all = json_array();
	uint64_t wait_s;
	int ret = ctl_seconds(c, "timeout", WAIT_MAX_S, &wait_s);

	wait_s = ctl_flag(c, "no-wait") ? 0 : MIN(MAX(wait_s, (uint64_t)1), (uint64_t)WAIT_MAX_S);
	for (size_t i = 0; ret != CTL_USAGE && ret != CTL_UNREACHABLE && i < c->args.n; i++) {
		struct err err;
		uint64_t id;
		int one = CTL_OK;

		if (!ctl_flag(c, "id"))
			one = find(c, c->args.v[i], &id);
		else if (parse_u64(c->args.v[i], 0, INT64_MAX, &id, &err) < 0)
			one = ctl_usage(c, "operation: %s", err.msg);
		if (one == CTL_OK)
			one = cancel_one(c, id, wait_s, all);
		if (ret == CTL_OK || one == CTL_USAGE || one == CTL_UNREACHABLE)
			ret = one;
	}
	if (c->json && json_array_size(all) > 0)
		print_json(c->args.n > 1 ? all : json_array_get(all, 0));
	json_decref(all);
	return ret;
}

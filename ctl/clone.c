/* drover clone. */
#include <stdio.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

#define WAIT_MAX_S 3600 /* what the API takes at once */
#define ANSWER_MS  30000

static int report(struct ctl *c, const struct api_call *call, uint64_t wait_s)
{
	const char *vm = c->args.v[0], *name = c->args.v[1];
	const char *step = json_str(call->json, "step");

	if (call->status == 202 && wait_s > 0)
		return ctl_fail("vm %s: %s is not made after %llu s (operation %lld%s%s)", vm, name,
			(unsigned long long)wait_s, (long long)json_int(call->json, "id", 0),
			step != NULL ? ", at " : "", step != NULL ? step : "");
	if (c->json)
		print_json(call->json);
	else if (call->status == 202)
		printf("%s: is being made from %s\n", name, vm);
	else
		printf("%s: made from %s\n", name, vm);
	return CTL_OK;
}

int verb_clone(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	json_t *body = json_object();
	uint64_t wait_s;
	int ret = ctl_seconds(c, "timeout", WAIT_MAX_S, &wait_s);

	wait_s = ctl_flag(c, "no-wait") ? 0 : MIN(MAX(wait_s, (uint64_t)1), (uint64_t)WAIT_MAX_S);
	json_put_str(body, "name", c->args.v[1]);
	json_put_str(body, "from", ctl_opt(c, "from"));
	api_path(&call, "/vms/%s/clone", c->args.v[0]);
	if (wait_s > 0)
		api_query_int(&call, "wait", (int64_t)wait_s);
	call.timeout_ms = wait_s * 1000 + ANSWER_MS;
	call.body = body;
	if (ret == CTL_OK)
		ret = api_run(c, &call);
	if (ret == CTL_OK)
		ret = report(c, &call, wait_s);
	api_finish(&call);
	json_decref(body);
	return ret;
}

/* drover migrate. */
#include <stdio.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

#define WAIT_MAX_S 3600 /* what the API takes at once */
#define ANSWER_MS  30000

static int report(struct ctl *c, const struct api_call *call, const char *to, uint64_t wait_s)
{
	const char *vm = c->args.v[0], *step = json_str(call->json, "step");

	if (call->status == 202 && wait_s > 0)
		return ctl_fail("vm %s: it has not migrated after %llu s (operation %lld%s%s)", vm,
			(unsigned long long)wait_s, (long long)json_int(call->json, "id", 0),
			step != NULL ? ", at " : "", step != NULL ? step : "");
	if (c->json)
		print_json(call->json);
	else if (to == NULL)
		printf("%s: %s\n", vm,
			str_eq(ctl_opt(c, "resolve"), "keep") ? "stays here" : "is gone");
	else if (call->status == 202)
		printf("%s: is migrating to %s\n", vm, to);
	else
		printf("%s: migrated to %s\n", vm, to);
	return CTL_OK;
}

static int add_bandwidth(struct ctl *c, json_t *body)
{
	const char *text = ctl_opt(c, "max-bandwidth");
	uint64_t bytes;
	struct err err;

	if (text == NULL)
		return CTL_OK;
	if (parse_size(text, &bytes, &err) < 0 || bytes > INT64_MAX)
		return ctl_fail("--max-bandwidth: %s is no size", quote(text));
	json_put_int(body, "max_bandwidth", (int64_t)bytes);
	return CTL_OK;
}

int verb_migrate(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	const char *to = ctl_opt(c, "to"), *resolve = ctl_opt(c, "resolve");
	json_t *body;
	uint64_t wait_s;
	int ret;

	if ((to == NULL) == (resolve == NULL))
		return ctl_fail("say where to: --to unix:/PATH or --to http://HOST:PORT");
	ret = ctl_seconds(c, "timeout", WAIT_MAX_S, &wait_s);
	wait_s = ctl_flag(c, "no-wait") ? 0 : MIN(MAX(wait_s, (uint64_t)1), (uint64_t)WAIT_MAX_S);
	body = json_object();
	if (to != NULL)
		json_put_str(body, "to", to);
	if (resolve != NULL)
		json_put_str(body, "resolve", resolve);
	if (ctl_opt(c, "via") != NULL)
		json_put_str(body, "via", ctl_opt(c, "via"));
	if (ctl_flag(c, "copy-disks"))
		json_put_bool(body, "copy_disks", true);
	if (ret == CTL_OK)
		ret = add_bandwidth(c, body);
	api_path(&call, "/vms/%s/migrate", c->args.v[0]);
	if (wait_s > 0)
		api_query_int(&call, "wait", (int64_t)wait_s);
	call.timeout_ms = wait_s * 1000 + ANSWER_MS;
	call.body = body;
	if (ret == CTL_OK)
		ret = api_run(c, &call);
	if (ret == CTL_OK)
		ret = report(c, &call, to, wait_s);
	api_finish(&call);
	json_decref(body);
	return ret;
}

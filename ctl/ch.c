/* drover ch: requests to the API of a machine's cloud-hypervisor. */
#include <stdio.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

/* What it says of a failure, outermost first, in one line as everywhere. */
static int print_error(const json_t *answer)
{
	const json_t *error = json_object_get(answer, "error"), *e;
	struct buf text = { 0 };
	size_t i;
	int ret;

	json_array_foreach (error, i, e)
		if (json_is_string(e))
			buf_printf(&text, "%s%s", text.len > 0 ? ": " : "", json_string_value(e));
	if (json_is_string(error))
		buf_adds(&text, json_string_value(error));
	ret = ctl_fail("HTTP status %d%s%s", (int)json_int(answer, "status", 0),
		text.len > 0 ? ": " : "", buf_str(&text));
	buf_finish(&text);
	return ret;
}

int verb_ch(struct ctl *c)
{
	struct buf text = { 0 };
	struct api_call call = { .method = "POST" };
	json_t *answer = NULL;
	int ret;

	buf_printf(&text, "%s %s%s%s", c->args.v[1], c->args.v[2], c->args.n > 3 ? " " : "",
		c->args.n > 3 ? c->args.v[3] : "");
	/* No deadline: snapshots take their time, and Ctrl-C is there. */
	call.body_text = buf_str(&text);
	api_path(&call, "/vms/%s/ch", c->args.v[0]);
	if (ctl_flag(c, "write"))
		api_query(&call, "write", "1");
	ret = api_run(c, &call);
	if (ret == CTL_OK)
		answer = json_loadb(call.text.data, call.text.len, 0, NULL);
	/* What jansson has not, integers beyond 63 bits, is shown as good as can be. */
	if (ret == CTL_OK && answer == NULL)
		answer = json_loadb(call.text.data, call.text.len, JSON_DECODE_INT_AS_REAL, NULL);
	if (ret == CTL_OK && answer == NULL)
		ret = ctl_fail("the answer is no JSON");
	else if (ret == CTL_OK && json_object_get(answer, "error") != NULL)
		ret = print_error(answer);
	else if (ret == CTL_OK && c->json)
		puts(buf_str(&call.text));
	else if (ret == CTL_OK)
		print_json(json_object_get(answer, "return"));
	json_decref(answer);
	api_finish(&call);
	buf_finish(&text);
	return ret;
}

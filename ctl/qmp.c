/* drover qmp: commands to a machine's monitor. */
#include <string.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

#define ANSWER_MS 600000 /* snapshots and block jobs take their time */

/* JSON, or the bare name of a command without arguments. */
static int parse(const char *text, json_t **out)
{
	struct err err;
	json_t *v = NULL;

	if (text[0] != '{') {
		v = json_object();
		if (json_put_str(v, "execute", text) != 0) {
			json_decref(v);
			return ctl_fail("out of memory");
		}
		*out = v;
		return CTL_OK;
	}
	if (json_parse(text, strlen(text), out, &err) != 0) {
		ctl_fail("%s: %s", quote(text), err.msg);
		return CTL_USAGE;
	}
	return CTL_OK;
}

static int execute(struct ctl *c, const json_t *command)
{
	struct api_call call = { .method = "POST", .body = command, .timeout_ms = ANSWER_MS };
	int ret;

	api_path(&call, "/vms/%s/qmp", c->args.v[0]);
	ret = api_run(c, &call);
	if (ret == CTL_OK) {
		print_json(call.json);
		if (json_object_get(call.json, "error") != NULL)
			ret = CTL_FAILED;
	}
	api_finish(&call);
	return ret;
}

/* In order; the first that fails is the last. */
int verb_qmp(struct ctl *c)
{
	int ret = CTL_OK;

	for (size_t i = 1; i < c->args.n && ret == CTL_OK; i++) {
		json_t *command = NULL;

		ret = parse(c->args.v[i], &command);
		if (ret == CTL_OK)
			ret = execute(c, command);
		json_decref(command);
	}
	return ret;
}

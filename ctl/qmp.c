/* drover qmp, drover hmp: commands to a machine's monitor. */
#include <string.h>
#include "ctl/api.h"
#include "ctl/qmp-prompt.h"
#include "ctl/print.h"
#include "lib/json.h"

/* What QEMU has and jansson has not (integers beyond 63 bits) must not look like no answer. */
static json_t *answer_json(const struct api_call *call)
{
	return json_loadb(call->text.data, call->text.len, JSON_DECODE_INT_AS_REAL, NULL);
}

/* Of the list; an empty one is what the prompt makes do with. */
static void add_names(const json_t *answer, struct strv *out)
{
	const json_t *array = json_arr(answer, "return"), *e;
	size_t i;

	json_array_foreach (array, i, e)
		if (json_str(e, "name") != NULL)
			strv_add(out, json_str(e, "name"));
}

static int send_text(struct ctl *c, const char *text, struct api_call *call)
{
	/* No deadline: snapshots and block jobs take their time, and Ctrl-C is there. */
	*call = (struct api_call){ .method = "POST", .body_text = text };
	api_path(call, "/vms/%s/qmp", c->args.v[0]);
	if (ctl_flag(c, "write"))
		api_query(call, "write", "1");
	return api_run(c, call);
}

static void complete_names(struct ctl *c, struct strv *out)
{
	struct api_call call;
	json_t *j;

	if (send_text(c, "{\"execute\":\"query-commands\"}", &call) == CTL_OK) {
		j = answer_json(&call);
		add_names(j, out);
		json_decref(j);
	}
	api_finish(&call);
}

/* JSON, or the bare name of a command, or the name and its arguments as JSON. */
static int command_text(const char *text, struct buf *out)
{
	json_t *v = NULL, *name;
	size_t len = strcspn(text, " \t");
	const char *args = text + len + strspn(text + len, " \t");
	const char *json = text[0] == '{' ? text : args;
	struct err err;
	char *word;

	if (*json != '\0' && json_parse(json, strlen(json), &v, &err) != 0 &&
		strstr(err.msg, "too big integer") == NULL) {
		ctl_fail("%s: %s", quote(json), err.msg);
		return CTL_USAGE;
	}
	json_decref(v);
	if (text[0] == '{') {
		buf_adds(out, text);
	} else {
		name = json_stringn(text, len);
		word = json_dumps(name, JSON_ENCODE_ANY);
		buf_printf(out, "{\"execute\":%s", word != NULL ? word : "\"\"");
		if (*args != '\0')
			buf_printf(out, ",\"arguments\":%s", args);
		buf_adds(out, "}");
		free(word);
		json_decref(name);
	}
	return out->bad ? ctl_fail("out of memory") : CTL_OK;
}

static void print_line(struct buf *text)
{
	while (text->len > 0 && strchr("\r\n", text->data[text->len - 1]) != NULL)
		text->data[--text->len] = '\0';
	puts(buf_str(text));
	fflush(stdout);
}

static int execute(struct ctl *c, const char *command)
{
	struct buf text = { 0 };
	struct api_call call;
	json_t *j;
	int ret = command_text(command, &text);

	if (ret == CTL_OK) {
		ret = send_text(c, buf_str(&text), &call);
		if (ret == CTL_OK) {
			print_line(&call.text);
			j = answer_json(&call);
			if (json_object_get(j, "error") != NULL)
				ret = CTL_FAILED;
			json_decref(j);
		}
		api_finish(&call);
	}
	buf_finish(&text);
	return ret;
}

/* Line by line; what fails does not end it, but for a daemon or machine that is not there. */
static int from_input(struct ctl *c)
{
	struct prompt *p = prompt_open(c->args.v[0]);
	struct strv names = { 0 };
	int ret = CTL_OK;
	char *line;

	if (p == NULL)
		return ctl_fail("out of memory");
	if (prompt_completes(p)) {
		complete_names(c, &names);
		prompt_names(p, &names);
	}
	while ((line = prompt_line(p)) != NULL) {
		char *text = str_trim(line);
		int r = *text != '\0' ? execute(c, text) : CTL_OK;

		free(line);
		ret = r != CTL_OK ? r : ret;
		if (r == CTL_NOT_FOUND || r == CTL_UNREACHABLE)
			break;
	}
	prompt_close(p);
	strv_finish(&names);
	return ret;
}

/* In order; the first that fails is the last. */
int verb_qmp(struct ctl *c)
{
	int ret = CTL_OK;

	if (c->args.n == 1)
		return from_input(c);
	for (size_t i = 1; i < c->args.n && ret == CTL_OK; i++)
		ret = execute(c, c->args.v[i]);
	return ret;
}

static int print_hmp(const struct api_call *call)
{
	json_t *j = answer_json(call);
	const char *text = json_str(j, "return");
	const char *desc = json_str(json_obj(j, "error"), "desc");
	size_t len = text != NULL ? strlen(text) : 0;
	int ret = CTL_OK;

	if (text == NULL)
		ret = ctl_fail("%s", desc != NULL ? desc : "the monitor's answer has no text");
	/* It ends its lines as terminals do. */
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\r')
			putchar(text[i]);
	if (len > 0 && text[len - 1] != '\n')
		putchar('\n');
	json_decref(j);
	return ret;
}

/* The human monitor's commands, through QMP. */
int verb_hmp(struct ctl *c)
{
	struct buf line = { 0 };
	struct api_call call;
	json_t *cmd;
	char *text;
	int ret;

	for (size_t i = 1; i < c->args.n; i++)
		buf_printf(&line, "%s%s", i > 1 ? " " : "", c->args.v[i]);
	cmd = json_pack("{s:s,s:{s:s}}", "execute", "human-monitor-command", "arguments",
		"command-line", buf_str(&line));
	text = cmd != NULL ? json_text(cmd) : NULL;
	json_decref(cmd);
	buf_finish(&line);
	if (text == NULL)
		return ctl_fail("out of memory, or a command that is no UTF-8");
	ret = send_text(c, text, &call);
	if (ret == CTL_OK)
		ret = print_hmp(&call);
	api_finish(&call);
	free(text);
	return ret;
}

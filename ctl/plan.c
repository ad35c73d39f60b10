/* drover plan, reload, config, check: the configuration and what it asks for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/programs.h"
#include "ctl/show.h"
#include "ctl/table.h"
#include "lib/json.h"

/* The mistakes that a broken configuration has, one a line: FILE:LINE: MESSAGE. */
static void print_errors(const json_t *answer)
{
	/* Beside the error object, or in it. */
	const json_t *errors = json_arr(answer, "errors");
	struct buf text = { 0 };
	size_t i;
	json_t *e;

	if (errors == NULL)
		errors = json_arr(json_obj(answer, "error"), "errors");
	json_array_foreach (errors, i, e) {
		const char *file = json_str(e, "file"), *message = json_str(e, "message");
		int64_t line = json_int(e, "line", 0);

		if (file != NULL)
			add_clean(&text, file);
		if (file != NULL && line > 0)
			buf_printf(&text, ":%lld", (long long)line);
		if (file != NULL)
			buf_adds(&text, ": ");
		add_clean(&text, message != NULL ? message : "?");
		buf_adds(&text, "\n");
	}
	fputs(buf_str(&text), stderr);
	buf_finish(&text);
}

static int print_plan(struct ctl *c, const char *method, const char *path)
{
	struct api_call call = { .method = method, .timeout_ms = 120000 };
	struct buf text = { 0 };
	int ret;

	api_path(&call, path);
	ret = api_start(c, &call);
	if (ret == CTL_OK) {
		api_wait(c, &call, 1);
		print_errors(call.json);
		ret = api_report(&call);
	}
	if (ret == CTL_OK && c->json) {
		print_json(call.json);
	} else if (ret == CTL_OK) {
		show_actions(call.json, &text);
		print_text(&text);
	}
	api_finish(&call);
	return ret;
}

int verb_plan(struct ctl *c)
{
	return print_plan(c, "GET", "/plan");
}

int verb_reload(struct ctl *c)
{
	return print_plan(c, "POST", "/reload");
}

static void on_text(void *arg, const char *data, size_t len)
{
	print_now(data, len);
}

int verb_config(struct ctl *c)
{
	struct api_call call = { .timeout_ms = 30000, .data = on_text };
	int ret;

	api_path(&call, "/config");
	if (ctl_flag(c, "all"))
		api_query(&call, "all", "1");
	ret = api_run(c, &call);
	api_finish(&call);
	return ret;
}

/* droverd's messages and exit status are this verb's. */
int verb_check(struct ctl *c)
{
	char *droverd = find_droverd();
	char *argv[] = { droverd, "-n", c->args.n > 0 ? "-c" : NULL,
		c->args.n > 0 ? c->args.v[0] : NULL, NULL };

	if (droverd == NULL)
		return ctl_fail("droverd, which checks configurations, is neither beside drover "
				"nor in PATH");
	execv(droverd, argv);
	ctl_fail("%s: %s", quote(droverd), strerror(errno));
	free(droverd);
	return CTL_FAILED;
}

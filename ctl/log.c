/* drover log, events: what is stored, and what comes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "ctl/api.h"
#include "ctl/guest-text.h"
#include "ctl/print.h"
#include "ctl/show.h"
#include "ctl/term.h"
#include "lib/json.h"

static void on_log(void *arg, const char *data, size_t len)
{
	struct guest_text *g = arg;
	struct buf text = { 0 };

	/* A file or another program gets all of it as it is. */
	if (!term_output()) {
		print_now(data, len);
		return;
	}
	guest_text_add(g, data, len, &text);
	print_now(buf_str(&text), text.len);
	buf_finish(&text);
}

int verb_log(struct ctl *c)
{
	const char *boot = ctl_opt(c, "boot");
	struct guest_text shown = { 0 };
	struct api_call call = { .data = on_log, .arg = &shown };
	int ret = ctl_number(c, "boot");

	if (ret != CTL_OK)
		return ret;
	api_path(&call, "/vms/%s/log", c->args.v[0]);
	if (boot != NULL)
		api_query(&call, "boot", boot);
	if (ctl_flag(c, "follow"))
		api_query(&call, "follow", "1");
	ret = api_run(c, &call);
	api_finish(&call);
	return ret;
}

static void on_event(void *arg, const char *line, size_t len)
{
	const struct ctl *c = arg;
	struct buf text = { 0 };
	json_t *event = NULL;

	if (len == 0)
		return;
	if (!c->json && json_parse(line, len, &event, NULL) == 0) {
		show_event(event, &text);
	} else {
		buf_add(&text, line, len);
		buf_adds(&text, "\n");
	}
	print_now(buf_str(&text), text.len);
	buf_finish(&text);
	json_decref(event);
}

/* The number of the last event, so that following begins behind it. */
static void on_last(void *arg, const char *line, size_t len)
{
	json_t *event = NULL;

	if (json_parse(line, len, &event, NULL) == 0)
		*(int64_t *)arg = MAX(*(int64_t *)arg, json_int(event, "seq", 0));
	json_decref(event);
}

static int last_event(struct ctl *c, int64_t *out)
{
	struct api_call call = { .line = on_last, .arg = out, .timeout_ms = 30000 };
	int ret;

	*out = 0;
	api_path(&call, "/events");
	api_query(&call, "since", "-1");
	ret = api_run(c, &call);
	api_finish(&call);
	return ret;
}

int verb_events(struct ctl *c)
{
	const char *since = ctl_opt(c, "since");
	bool follow = ctl_flag(c, "follow");
	struct api_call call = { .line = on_event, .arg = c };
	int64_t last = 0;
	int ret = ctl_number(c, "since");

	if (ret == CTL_OK && follow && since == NULL)
		ret = last_event(c, &last);
	if (ret != CTL_OK)
		return ret;
	api_path(&call, "/events");
	if (since != NULL)
		api_query(&call, "since", since);
	else if (follow)
		api_query_int(&call, "since", last);
	if (c->args.n > 0)
		api_query(&call, "vm", c->args.v[0]);
	if (follow)
		api_query(&call, "follow", "1");
	ret = api_run(c, &call);
	api_finish(&call);
	return ret;
}

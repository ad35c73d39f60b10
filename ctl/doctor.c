/* drover doctor: what keeps machines from running well, and what differs from what should be. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl/api.h"
#include "ctl/doctor-fix.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

#define ANSWER_MS 120000

/* "ok", "info", "warn", "fail" or "unseen". */
static const char *verdict(const json_t *check)
{
	const char *result = json_str(check, "result");

	return result != NULL ? result : "?";
}

/* ---- what is shown ---- */

static void show_checks(const json_t *checks, struct buf *out)
{
	struct table t = { .columns = 3 };
	size_t i;
	json_t *check;

	table_cell(&t, "CHECK");
	table_cell(&t, "RESULT");
	table_cell(&t, "WHAT");
	json_array_foreach (checks, i, check) {
		const char *fix = json_str(check, "fix"), *message = json_str(check, "message");

		table_cell(&t, json_str(check, "check"));
		table_cell(&t, verdict(check));
		table_cellf(&t, "%s%s%s", message != NULL ? message : "",
			fix == NULL                                 ? ""
			: message != NULL && str_ends(message, "?") ? " Try: "
								    : "; try: ",
			fix != NULL ? fix : "");
	}
	table_format(&t, out);
}

static void show_differences(const json_t *differences, struct buf *out)
{
	struct table t = { .columns = 5 };
	size_t i;
	json_t *diff;

	if (json_array_size(differences) == 0) {
		buf_adds(out, "\nThe host is as it should be.\n");
		return;
	}
	buf_adds(out, "\n");
	table_cell(&t, "DIFFERENCE");
	table_cell(&t, "NAME");
	table_cell(&t, "OF");
	table_cell(&t, "WHAT");
	table_cell(&t, "ACTION");
	json_array_foreach (differences, i, diff) {
		table_cell(&t, json_str(diff, "kind"));
		table_cell(&t, json_str(diff, "name"));
		table_cell(&t, json_str(diff, "owner"));
		table_cell(&t, json_str(diff, "difference"));
		table_cell(&t, json_str(diff, "action"));
	}
	table_format(&t, out);
}

static size_t count(const json_t *checks, const char *result)
{
	size_t i, n = 0;
	json_t *check;

	json_array_foreach (checks, i, check)
		n += strcmp(verdict(check), result) == 0;
	return n;
}

static void show_summary(const json_t *checks, struct buf *out)
{
	size_t unseen = count(checks, "unseen");

	buf_printf(out, "\n%zu failed, %zu warnings, %zu well", count(checks, "fail"),
		count(checks, "warn"), count(checks, "ok"));
	if (unseen > 0)
		buf_printf(out, "; %zu could not be seen%s", unseen,
			geteuid() != 0 ? ", as root more of them can" : "");
	buf_adds(out, "\n");
}

static void show_report(const json_t *report, bool fixing)
{
	const json_t *checks = json_arr(report, "checks"), *changes = json_arr(report, "changes");
	struct buf text = { 0 };

	show_checks(checks, &text);
	if (json_arr(report, "differences") != NULL)
		show_differences(json_arr(report, "differences"), &text);
	show_summary(checks, &text);
	if (!fixing && json_array_size(changes) > 0)
		buf_printf(&text, "`drover doctor --fix` can do something about %zu of them.\n",
			json_array_size(changes));
	print_text(&text);
}

/* Whether nothing is left that a person should see to. */
static bool is_well(const json_t *report, bool fixed, bool strict)
{
	const json_t *checks = json_arr(report, "checks");
	size_t i;
	json_t *j;

	if (count(checks, "fail") > 0 || (strict && count(checks, "warn") > 0))
		return false;
	json_array_foreach (json_arr(report, "differences"), i, j) {
		if (!fixed || !json_flag(j, "mended", false))
			return false;
	}
	return true;
}

/* ---- where it comes from ---- */

struct doctor {
	const char *config;
	char *root; /* NULL: this host */
	bool fix, undo;
	json_t *report;
	bool of_daemon;
};

static void add_unreachable(json_t *report, const struct err *why)
{
	bool denied = why->code == -EACCES;
	json_t *j = json_object();

	json_put_str(j, "group", "drover");
	json_put_str(j, "check", "droverd");
	json_put_bool(j, "ok", false);
	json_put_str(j, "result", denied ? "unseen" : "warn");
	json_put_str(j, "level", denied ? "info" : "warning");
	json_put_str(j, "message", why->msg);
	json_put_str(j, "fix", denied ? "`sudo drover doctor`" : "`systemctl start droverd`");
	json_array_append_new(json_object_get(report, "checks"), j);
}

static int ask_local(struct doctor *doc, const struct err *why)
{
	struct err err;

	if (doctor_local(doc->root, doc->config, &doc->report, &err) < 0)
		return ctl_fail("%s", err.msg);
	if (why != NULL)
		add_unreachable(doc->report, why);
	return CTL_OK;
}

/* droverd sees more than an ordinary user, and knows what should be; without it we look ourselves. */
static int ask(struct ctl *c, struct doctor *doc, bool mend)
{
	struct api_call call = { .method = mend ? "POST" : "GET", .timeout_ms = ANSWER_MS };
	int ret;

	json_decref(doc->report);
	doc->report = NULL;
	if (doc->root != NULL || doc->config != NULL || doc->undo)
		return ask_local(doc, NULL);
	api_path(&call, "/doctor");
	if (mend)
		api_query(&call, "fix", "1");
	ret = api_start(c, &call);
	if (ret == CTL_OK) {
		api_wait(c, &call, 1);
		if (call.err.code != 0 && call.status == 0 && call.err.code != -ETIMEDOUT)
			ret = ask_local(doc, &call.err);
		else
			ret = api_report(&call);
	}
	if (ret == CTL_OK && doc->report == NULL) {
		doc->report = json_incref(call.json);
		doc->of_daemon = true;
	}
	if (ret == CTL_OK && doc->report == NULL)
		ret = ctl_fail("droverd's answer is not JSON");
	api_finish(&call);
	return ret;
}

/* ---- what is done ---- */

/*
 * The changes are those that our own droverd proposes, whoever answered: what runs here as root is
 * not for a daemon to say.
 */
static int make_changes(struct ctl *c, struct doctor *doc, struct fixing *f)
{
	json_t *own = NULL;
	struct err err;

	if (doc->of_daemon && doctor_local(NULL, NULL, &own, &err) < 0)
		return ctl_fail("%s", err.msg);
	doctor_make(f, json_arr(own != NULL ? own : doc->report, doc->undo ? "undo" : "changes"));
	json_decref(own);
	if (!c->json && f->done + f->left == 0)
		puts(doc->undo ? "There is nothing to undo."
			       : "There is nothing that drover could change about the host.");
	if (f->done > 0 && !c->json && !doc->undo)
		puts("\n`drover doctor --undo` takes that back.");
	return CTL_OK;
}

static int run_doctor(struct ctl *c, struct doctor *doc)
{
	struct fixing f = { .root = doc->root,
		.yes = ctl_flag(c, "yes"),
		.quiet = c->json,
		.results = json_array() };
	int ret = ask(c, doc, doc->fix);
	json_t *differences;

	if (ret == CTL_OK && !c->json && !doc->undo)
		show_report(doc->report, doc->fix);
	if (ret == CTL_OK && (doc->fix || doc->undo)) {
		ret = make_changes(c, doc, &f);
		/* What was mended of the differences is in the first report. */
		differences = json_incref(json_object_get(doc->report, "differences"));
		if (ret == CTL_OK && f.done > 0)
			ret = ask(c, doc, false);
		if (doc->report != NULL && differences != NULL)
			json_object_set(doc->report, "differences", differences);
		if (doc->report != NULL)
			json_object_set(doc->report, "results", f.results);
		json_decref(differences);
	}
	if (ret == CTL_OK && c->json)
		print_json(doc->report);
	/* Whoever said yes to all wants to know that it was not all. */
	if (ret == CTL_OK && (f.failed > 0 || (f.left > 0 && (f.yes || doc->undo))))
		ret = CTL_FAILED;
	else if (ret == CTL_OK && !doc->undo &&
		 !is_well(doc->report, doc->fix, ctl_flag(c, "strict")))
		ret = CTL_FAILED;
	json_decref(f.results);
	return ret;
}

int verb_doctor(struct ctl *c)
{
	struct doctor doc = { .fix = ctl_flag(c, "fix"), .undo = ctl_flag(c, "undo") };
	const char *root = ctl_opt(c, "root"), *config = ctl_opt(c, "config");
	char *file = config != NULL ? realpath(config, NULL) : NULL;
	int ret = CTL_OK;

	if (doc.fix && doc.undo)
		ret = ctl_usage(c, "--fix and --undo are opposites");
	else if (config != NULL && file == NULL)
		ret = ctl_fail("%s: %s", quote(config), strerror(errno));
	else if (root != NULL && (doc.root = realpath(root, NULL)) == NULL)
		ret = ctl_fail("%s: %s", quote(root), strerror(errno));
	doc.config = file;
	/* That of the host is no other tree. */
	if (doc.root != NULL && strcmp(doc.root, "/") == 0) {
		free(doc.root);
		doc.root = NULL;
	}
	if (ret == CTL_OK)
		ret = run_doctor(c, &doc);
	json_decref(doc.report);
	free(doc.root);
	free(file);
	return ret;
}

/* drover doctor: what keeps machines from running well, and what differs from what should be. */
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

#define ANSWER_MS 120000

static const char *verdict(const json_t *check)
{
	return json_flag(check, "ok", false) ? "ok" : json_str(check, "level");
}

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
			fix != NULL ? "; try: " : "", fix != NULL ? fix : "");
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

/* Whether something is left that a person should see to. */
static bool is_well(const json_t *report, bool fixed)
{
	const json_t *differences = json_arr(report, "differences");
	const json_t *checks = json_arr(report, "checks");
	size_t i;
	json_t *j;

	json_array_foreach (checks, i, j) {
		if (str_eq(verdict(j), "error"))
			return false;
	}
	json_array_foreach (differences, i, j) {
		if (!fixed || !json_flag(j, "mended", false))
			return false;
	}
	return true;
}

int verb_doctor(struct ctl *c)
{
	bool fix = ctl_flag(c, "fix");
	struct api_call call = { .method = fix ? "POST" : "GET", .timeout_ms = ANSWER_MS };
	struct buf text = { 0 };
	int ret;

	api_path(&call, "/doctor");
	if (fix)
		api_query(&call, "fix", "1");
	ret = api_run(c, &call);
	if (ret == CTL_OK && c->json) {
		print_json(call.json);
	} else if (ret == CTL_OK) {
		show_checks(json_arr(call.json, "checks"), &text);
		show_differences(json_arr(call.json, "differences"), &text);
		print_text(&text);
	}
	if (ret == CTL_OK && !is_well(call.json, fix))
		ret = CTL_FAILED;
	api_finish(&call);
	return ret;
}

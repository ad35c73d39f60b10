/* drover snapshot create, list, show, restore, delete. */
#include <stdio.h>
#include <time.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

#define WAIT_MAX_S 3600 /* what the API takes at once */
#define ANSWER_MS  30000

/* An operation: waits for its end unless --no-wait. past: "created". */
static int operate(struct ctl *c, struct api_call *call, const char *snap, const char *past)
{
	const char *vm = c->args.v[0], *step;
	uint64_t wait_s;
	int ret = ctl_seconds(c, "timeout", WAIT_MAX_S, &wait_s);

	wait_s = ctl_flag(c, "no-wait") ? 0 : MIN(MAX(wait_s, (uint64_t)1), (uint64_t)WAIT_MAX_S);
	if (wait_s > 0)
		api_query_int(call, "wait", (int64_t)wait_s);
	call->timeout_ms = wait_s * 1000 + ANSWER_MS;
	if (ret == CTL_OK)
		ret = api_run(c, call);
	if (ret != CTL_OK)
		goto out;
	step = json_str(call->json, "step");
	if (call->status == 202 && wait_s > 0)
		ret = ctl_fail("vm %s: snapshot %s is not yet %s after %llu s (operation %lld%s%s)",
			vm, snap, past, (unsigned long long)wait_s,
			(long long)json_int(call->json, "id", 0), step != NULL ? ", at " : "",
			step != NULL ? step : "");
	else if (c->json)
		print_json(call->json);
	else if (call->status == 202)
		printf("%s: snapshot %s is being %s\n", vm, snap, past);
	else
		printf("%s: snapshot %s %s\n", vm, snap, past);
out:
	api_finish(call);
	return ret;
}

/* One that was not named is named after the time, so that they sort by it. */
static const char *name_of(const struct ctl *c)
{
	static char name[32];
	time_t now = time(NULL);
	struct tm tm;

	if (c->args.n > 1)
		return c->args.v[1];
	gmtime_r(&now, &tm);
	strftime(name, sizeof(name), "%Y%m%d-%H%M%S", &tm);
	return name;
}

int verb_snapshot_create(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	const char *name = name_of(c);
	json_t *body = json_object();
	int ret;

	json_put_str(body, "name", name);
	json_put_str(body, "description", ctl_opt(c, "description"));
	json_put_bool(body, "disks", ctl_flag(c, "disks"));
	json_put_bool(body, "crash_consistent", ctl_flag(c, "crash-consistent"));
	api_path(&call, "/vms/%s/snapshots", c->args.v[0]);
	call.body = body;
	ret = operate(c, &call, name, "created");
	json_decref(body);
	return ret;
}

static int named(struct ctl *c, const char *method, const char *action, const char *past)
{
	struct api_call call = { .method = method };

	api_path(&call, "/vms/%s", c->args.v[0]);
	api_path(&call, "/snapshots/%s", c->args.v[1]);
	if (action != NULL)
		api_path(&call, "/%s", action);
	return operate(c, &call, c->args.v[1], past);
}

int verb_snapshot_restore(struct ctl *c)
{
	return named(c, "POST", "restore", "restored");
}

int verb_snapshot_delete(struct ctl *c)
{
	return named(c, "DELETE", NULL, "deleted");
}

int verb_snapshot_list(struct ctl *c)
{
	struct table t = { .columns = 5 };
	struct api_call call = { 0 };
	struct buf text = { 0 };
	json_t *all, *one;
	size_t i;
	int ret;

	api_path(&call, "/vms/%s/snapshots", c->args.v[0]);
	ret = api_get(c, &all, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(all);
	} else {
		table_cell(&t, "NAME");
		table_cell(&t, "CREATED");
		table_cell(&t, "KIND");
		table_cell(&t, "SIZE");
		table_cell(&t, "DESCRIPTION");
		json_array_foreach (all, i, one) {
			table_cell(&t, json_str(one, "name"));
			if (json_str(one, "broken") != NULL) {
				table_cell(&t, "-");
				table_cell(&t, "broken");
				table_cell(&t, "-");
				table_cell(&t, json_str(one, "broken"));
				continue;
			}
			table_cell(&t, json_str(one, "created"));
			table_cellf(
				&t, "%s (%s)", json_str(one, "kind"), json_str(one, "consistency"));
			table_cell(&t, format_size((uint64_t)json_int(one, "allocated", 0)));
			table_cell(&t, json_str(one, "description"));
		}
		table_format(&t, &text);
		print_text(&text);
	}
	json_decref(all);
	return CTL_OK;
}

static void show_files(const json_t *manifest, struct buf *out)
{
	struct table t = { .columns = 4 };
	const json_t *files = json_arr(manifest, "files"), *f;
	size_t i;

	table_cell(&t, "FILE");
	table_cell(&t, "SIZE");
	table_cell(&t, "ON DISK");
	table_cell(&t, "SHA256");
	json_array_foreach (files, i, f) {
		table_cell(&t, json_str(f, "name"));
		table_cell(&t, format_size((uint64_t)json_int(f, "size", 0)));
		table_cell(&t, format_size((uint64_t)json_int(f, "allocated", 0)));
		table_cell(&t, json_str(f, "sha256"));
	}
	table_format(&t, out);
}

int verb_snapshot_show(struct ctl *c)
{
	static const char *const keys[] = { "name", "vm", "created", "description", "kind",
		"consistency", "hypervisor_version", "accel", "host_cpu" };
	struct table t = { .columns = 2 };
	struct api_call call = { 0 };
	struct buf text = { 0 };
	const char *key;
	json_t *j, *value;
	int ret;

	api_path(&call, "/vms/%s", c->args.v[0]);
	api_path(&call, "/snapshots/%s", c->args.v[1]);
	ret = api_get(c, &j, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(j);
		json_decref(j);
		return CTL_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		table_cell(&t, keys[i]);
		table_cell(&t, json_str(j, keys[i]));
	}
	json_object_foreach (json_object_get(j, "config"), key, value) {
		table_cell(&t, key);
		table_cell(&t, json_string_value(value));
	}
	table_print(&t);
	show_files(j, &text);
	printf("\n");
	print_text(&text);
	json_decref(j);
	return CTL_OK;
}

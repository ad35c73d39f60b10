/* drover resize, dump, screendump, stats, disk: a machine's run while it lasts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/file.h"
#include "lib/json.h"

#define WAIT_S    3600
#define ANSWER_MS 30000

/* The operation that call asks for, until it has ended; past: "resized". */
static int run(struct ctl *c, struct api_call *call, const json_t *body, const char *past)
{
	int ret;

	call->body = body;
	call->timeout_ms = WAIT_S * 1000 + ANSWER_MS;
	api_query_int(call, "wait", WAIT_S);
	ret = api_run(c, call);
	if (ret == CTL_OK && call->status == 202)
		ret = ctl_fail("vm %s: not %s after %d s (operation %lld)", c->args.v[0], past,
			WAIT_S, (long long)json_int(call->json, "id", 0));
	if (ret == CTL_OK && c->json)
		print_json(call->json);
	return ret;
}

static int get(struct ctl *c, const char *what, json_t **out)
{
	struct api_call call = { 0 };

	api_path(&call, "/vms/%s", c->args.v[0]);
	api_path(&call, what);
	return api_get(c, out, &call);
}

static int size_arg(const struct ctl *c, json_t *body)
{
	const char *vcpus = ctl_opt(c, "vcpus"), *memory = ctl_opt(c, "memory");
	uint64_t bytes;
	struct err err;

	if (vcpus == NULL && memory == NULL)
		return ctl_usage(c, "neither --vcpus nor --memory is given");
	if (ctl_number(c, "vcpus") != CTL_OK)
		return CTL_USAGE;
	if (vcpus != NULL)
		json_put_int(body, "vcpus", strtoll(vcpus, NULL, 10));
	if (memory == NULL)
		return CTL_OK;
	if (parse_size(memory, &bytes, &err) < 0)
		return ctl_usage(c, "--memory: %s", err.msg);
	json_put_int(body, "memory", (int64_t)bytes);
	return CTL_OK;
}

int verb_resize(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	json_t *body = json_object();
	int ret = size_arg(c, body);

	if (ret == CTL_OK) {
		api_path(&call, "/vms/%s/resize", c->args.v[0]);
		ret = run(c, &call, body, "resized");
		if (ret == CTL_OK && !c->json)
			printf("%s resized\n", c->args.v[0]);
		api_finish(&call);
	}
	json_decref(body);
	return ret;
}

int verb_dump(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	json_t *vm = NULL;
	int ret;

	api_path(&call, "/vms/%s/dump", c->args.v[0]);
	ret = run(c, &call, NULL, "dumped");
	api_finish(&call);
	if (ret == CTL_OK && !c->json)
		ret = get(c, "", &vm);
	if (vm != NULL && json_str(vm, "core") != NULL)
		printf("%s\n", json_str(vm, "core"));
	json_decref(vm);
	return ret;
}

/* A picture has no business on a terminal; elsewhere "-" is standard output. */
int verb_screendump(struct ctl *c)
{
	const char *file = c->args.v[1];
	struct api_call call = { .timeout_ms = ANSWER_MS };
	struct err err;
	int ret;

	if (strcmp(file, "-") == 0 && isatty(STDOUT_FILENO))
		return ctl_usage(c, "the picture is not for a terminal: name a file");
	api_path(&call, "/vms/%s/screendump", c->args.v[0]);
	ret = api_run(c, &call);
	if (ret == CTL_OK && strcmp(file, "-") == 0)
		fwrite(call.text.data, 1, call.text.len, stdout);
	else if (ret == CTL_OK &&
		 file_write_atomic(file, call.text.data, call.text.len, 0644, false, &err) < 0)
		ret = ctl_fail("%s", err.msg);
	api_finish(&call);
	return ret;
}

static void print_counters(const json_t *disks)
{
	struct table t = { .columns = 6 };
	const json_t *disk;
	const char *id;

	for (size_t i = 0; i < t.columns; i++)
		table_cell(&t, ((const char *const[]){ "DISK", "READ", "READS", "WRITTEN", "WRITES",
				       "FLUSHES" })[i]);
	json_object_foreach ((json_t *)disks, id, disk) {
		table_cell(&t, id);
		table_cell(&t, format_size((uint64_t)json_int(disk, "read-bytes", 0)));
		table_cellf(&t, "%lld", (long long)json_int(disk, "read-operations", 0));
		table_cell(&t, format_size((uint64_t)json_int(disk, "write-bytes", 0)));
		table_cellf(&t, "%lld", (long long)json_int(disk, "write-operations", 0));
		table_cellf(&t, "%lld", (long long)json_int(disk, "flush-operations", 0));
	}
	table_print(&t);
}

int verb_stats(struct ctl *c)
{
	json_t *j = NULL;
	int ret = get(c, "/counters", &j);

	if (ret == CTL_OK && c->json)
		print_json(j);
	else if (ret == CTL_OK)
		print_counters(json_obj(j, "disks"));
	json_decref(j);
	return ret;
}

int verb_nic_list(struct ctl *c)
{
	static const char *const heads[] = { "ID", "NETWORK", "MAC", "TAP", "ADDRESS", "ADDED" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	const json_t *nics, *e;
	json_t *vm = NULL;
	int ret = get(c, "", &vm);
	size_t i;

	if (ret != CTL_OK)
		return ret;
	nics = json_arr(vm, "nics");
	if (c->json) {
		print_json(nics);
	} else {
		for (i = 0; i < ARRAY_LEN(heads); i++)
			table_cell(&t, heads[i]);
		json_array_foreach (nics, i, e) {
			const char *address = json_string_value(
				json_array_get(json_arr(e, "addresses"), 0));

			table_cell(&t, json_str(e, "name"));
			table_cell(&t, json_str(e, "network"));
			table_cell(&t, json_str(e, "mac"));
			table_cell(&t, json_str(e, "tap"));
			table_cell(&t, address != NULL ? address : "-");
			table_cell(&t, json_flag(e, "added", false) ? "yes" : "no");
		}
		table_print(&t);
	}
	json_decref(vm);
	return CTL_OK;
}

int verb_nic_add(struct ctl *c)
{
	struct api_call call = { .method = "POST" };
	json_t *body;
	int ret;

	if (ctl_opt(c, "network") == NULL)
		return ctl_usage(c, "--network is not given");
	body = json_object();
	json_put_str(body, "network", ctl_opt(c, "network"));
	if (ctl_opt(c, "mac") != NULL)
		json_put_str(body, "mac", ctl_opt(c, "mac"));
	api_path(&call, "/vms/%s/nics", c->args.v[0]);
	ret = run(c, &call, body, "given the nic");
	if (ret == CTL_OK && !c->json)
		printf("%s has got a nic on %s\n", c->args.v[0], ctl_opt(c, "network"));
	api_finish(&call);
	json_decref(body);
	return ret;
}

int verb_nic_remove(struct ctl *c)
{
	struct api_call call = { .method = "DELETE" };
	int ret;

	api_path(&call, "/vms/%s/nics/%s", c->args.v[0], c->args.v[1]);
	ret = run(c, &call, NULL, "rid of the nic");
	if (ret == CTL_OK && !c->json)
		printf("%s has let go of %s\n", c->args.v[0], c->args.v[1]);
	api_finish(&call);
	return ret;
}

int verb_disk_list(struct ctl *c)
{
	struct table t = { .columns = 4 };
	const json_t *added, *e;
	json_t *vm = NULL;
	int ret = get(c, "", &vm);
	size_t i;

	if (ret != CTL_OK)
		return ret;
	added = json_arr(vm, "added");
	if (c->json) {
		print_json(added);
	} else {
		table_cell(&t, "ID");
		table_cell(&t, "FORMAT");
		table_cell(&t, "MODE");
		table_cell(&t, "PATH");
		json_array_foreach (added, i, e) {
			table_cell(&t, json_str(e, "id"));
			table_cell(&t, json_str(e, "format"));
			table_cell(&t, json_flag(e, "readonly", false) ? "ro" : "rw");
			table_cell(&t, json_str(e, "path"));
		}
		table_print(&t);
	}
	json_decref(vm);
	return CTL_OK;
}

int verb_disk_add(struct ctl *c)
{
	static const char *const words[] = { "id", "format", "serial" };
	struct api_call call = { .method = "POST" };
	json_t *body = json_object();
	char *path = realpath(c->args.v[1], NULL);
	int ret;

	/* What is not there, droverd says better: it knows the machine. */
	json_put_str(body, "path", path != NULL ? path : c->args.v[1]);
	free(path);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (ctl_opt(c, words[i]) != NULL)
			json_put_str(body, words[i], ctl_opt(c, words[i]));
	if (ctl_flag(c, "readonly"))
		json_put_bool(body, "readonly", true);
	api_path(&call, "/vms/%s/disks", c->args.v[0]);
	ret = run(c, &call, body, "given the disk");
	if (ret == CTL_OK && !c->json)
		printf("%s has got the disk %s\n", c->args.v[0], c->args.v[1]);
	api_finish(&call);
	json_decref(body);
	return ret;
}

int verb_disk_remove(struct ctl *c)
{
	struct api_call call = { .method = "DELETE" };
	int ret;

	api_path(&call, "/vms/%s/disks/%s", c->args.v[0], c->args.v[1]);
	ret = run(c, &call, NULL, "rid of the disk");
	if (ret == CTL_OK && !c->json)
		printf("%s has let go of the disk %s\n", c->args.v[0], c->args.v[1]);
	api_finish(&call);
	return ret;
}

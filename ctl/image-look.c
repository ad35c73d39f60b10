/* drover image inspect, outdated, prune, verify. */
#include <stdio.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

/* Long ones: a pull may go before, or every blob is read. */
#define LOOK_TIMEOUT_MS 3600000

/* *out is a new reference. */
static int ask(
	struct ctl *c, const char *method, const char *what, const char *reference, json_t **out)
{
	struct api_call call = { .method = method, .timeout_ms = LOOK_TIMEOUT_MS };
	int ret;

	*out = NULL;
	api_path(&call, what);
	if (reference != NULL)
		api_query(&call, "reference", reference);
	ret = api_run(c, &call);
	if (ret == CTL_OK)
		*out = json_incref(call.json);
	api_finish(&call);
	return ret;
}

static void print_image(const json_t *image)
{
	static const char *const keys[] = { "ref", "digest", "os", "architecture", "layout", "boot",
		"format", "files", "kernel", "initrd", "disk" };
	const json_t *layer;
	size_t i;

	for (i = 0; i < ARRAY_LEN(keys); i++) {
		struct buf text = { 0 };

		if (json_object_get(image, keys[i]) == NULL)
			continue;
		format_value(&text, json_object_get(image, keys[i]));
		printf("%-13s %s\n", keys[i], buf_str(&text));
		buf_finish(&text);
	}
	json_array_foreach (json_arr(image, "layers"), i, layer)
		printf("%-13s %s %s\n", i == 0 ? "layers" : "", json_str(layer, "digest"),
			format_size((uint64_t)MAX(json_int(layer, "size", 0), (int64_t)0)));
}

int verb_image_inspect(struct ctl *c)
{
	int ret = CTL_OK;

	for (size_t i = 0; i < c->args.n && ret == CTL_OK; i++) {
		json_t *image;

		ret = ask(c, "POST", "/images/inspect", c->args.v[i], &image);
		if (ret == CTL_OK && c->json)
			print_json(image);
		else if (ret == CTL_OK)
			print_image(image);
		json_decref(image);
	}
	return ret;
}

int verb_image_outdated(struct ctl *c)
{
	struct table t = { .columns = 3 };
	const json_t *v;
	json_t *j;
	size_t i;
	int ret = ask(c, "POST", "/images/outdated", NULL, &j);

	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(j);
		json_decref(j);
		return CTL_OK;
	}
	table_cell(&t, "REFERENCE");
	table_cell(&t, "PINNED");
	table_cell(&t, "NOW");
	json_array_foreach (json_arr(j, "items"), i, v) {
		const char *now = json_str(v, "now"), *why = json_str(v, "message");

		table_cell(&t, json_str(v, "ref"));
		table_cellf(
			&t, "%.19s", json_str(v, "digest") != NULL ? json_str(v, "digest") : "");
		if (now != NULL)
			table_cellf(&t, "%.19s", now);
		else
			table_cellf(&t, "unknown: %s", why != NULL ? why : "?");
	}
	table_print(&t);
	json_decref(j);
	return CTL_OK;
}

int verb_image_prune(struct ctl *c)
{
	json_t *j;
	const json_t *v;
	size_t i;
	int ret = ask(c, "POST", "/images/prune", NULL, &j);

	if (ret == CTL_OK && c->json)
		print_json(j);
	else if (ret == CTL_OK) {
		json_array_foreach (json_arr(j, "items"), i, v)
			printf("%s removed (image_%s)\n", json_str(v, "ref"), json_str(v, "why"));
		printf("%s freed\n",
			format_size((uint64_t)MAX(json_int(j, "size", 0), (int64_t)0)));
		image_print_in_use(json_int(j, "in_use", 0));
	}
	json_decref(j);
	return ret;
}

int verb_image_verify(struct ctl *c)
{
	const json_t *v;
	json_t *j;
	size_t i;
	int ret = ask(c, "POST", "/images/verify", NULL, &j);

	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(j);
	} else {
		json_array_foreach (json_arr(j, "items"), i, v)
			printf("%s %s; removed\n", json_str(v, "digest"), json_str(v, "message"));
		printf("%lld blobs are what they should be, %lld are not\n",
			(long long)json_int(j, "good", 0), (long long)json_int(j, "damaged", 0));
	}
	ret = json_int(j, "damaged", 0) > 0 ? CTL_FAILED : CTL_OK;
	json_decref(j);
	return ret;
}

/* drover pull, image, registry. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "ctl/api.h"
#include "ctl/image.h"
#include "ctl/print.h"
#include "ctl/pull-progress.h"
#include "ctl/table.h"
#include "ctl/term.h"
#include "lib/clock.h"
#include "lib/json.h"

#define DRAW_MS 100

struct pull {
	const struct ctl *ctl;
	struct pull_progress progress;
	bool bars;
	unsigned drawn; /* lines of bars that stand above the cursor */
	uint64_t drawn_ms;
	int error; /* of its error line */
};

static void erase(struct pull *p, struct buf *out)
{
	if (p->drawn > 0)
		buf_printf(out, "\033[%uA\033[J", p->drawn);
	p->drawn = 0;
}

/* Plain lines scroll away above the bars, which are drawn anew at most ten times a second. */
static void draw(struct pull *p, const struct buf *plain, bool now)
{
	struct buf out = { 0 };
	unsigned columns, rows;

	if (!p->bars) {
		print_now(buf_str(plain), plain->len);
		return;
	}
	if (!now && plain->len == 0 && clock_mono_ms() - p->drawn_ms < DRAW_MS)
		return;
	erase(p, &out);
	buf_add(&out, buf_str(plain), plain->len);
	term_size(&columns, &rows);
	if (!now)
		p->drawn = pull_progress_draw(&p->progress, columns, rows, &out);
	p->drawn_ms = clock_mono_ms();
	print_now(buf_str(&out), out.len);
	buf_finish(&out);
}

static int status_of(const char *word)
{
	switch (word != NULL ? err_from_word(word) : -EIO) {
	case -ENOENT:
		return CTL_NOT_FOUND;
	case -EBUSY:
	case -EBADFD:
		return CTL_WRONG_STATE;
	default:
		return CTL_FAILED;
	}
}

static void on_line(void *arg, const char *line, size_t len)
{
	struct pull *p = arg;
	struct buf plain = { 0 };
	const char *what;
	json_t *event = NULL;

	if (len == 0 || json_parse(line, len, &event, NULL) != 0)
		return;
	what = json_str(event, "event");
	if (p->ctl->json) {
		print_now(line, len);
		print_now("\n", 1);
	}
	if (str_eq(what, "error")) {
		if (!p->ctl->json)
			draw(p, &plain, true);
		ctl_fail("%s",
			json_str(event, "message") != NULL ? json_str(event, "message") : "?");
		p->error = status_of(json_str(event, "code"));
	} else if (!p->ctl->json) {
		pull_progress_event(&p->progress, event, &plain);
		/* With bars the lines of layers say nothing new. */
		if (p->bars && str_eq(what, "layer"))
			buf_clear(&plain);
		draw(p, &plain, str_eq(what, "done"));
	}
	buf_finish(&plain);
	json_decref(event);
}

int image_follow(struct ctl *c, const char *path, json_t *body)
{
	struct pull p = { .ctl = c, .bars = term_output() && !c->json };
	struct api_call call = { .method = "POST", .body = body, .line = on_line, .arg = &p };
	int ret;

	api_path(&call, path);
	if (p.bars)
		term_hide_cursor();
	ret = api_run(c, &call);
	if (ret == CTL_OK)
		ret = p.error;
	api_finish(&call);
	json_decref(body);
	pull_progress_finish(&p.progress);
	return ret;
}

static int pull_one(struct ctl *c, const char *reference)
{
	json_t *body = json_object();
	const char *policy = ctl_opt(c, "policy");

	json_put_str(body, "reference", reference);
	if (policy != NULL)
		json_put_str(body, "policy", policy);
	return image_follow(c, "/images/pull", body);
}

int verb_pull(struct ctl *c)
{
	int ret = CTL_OK;

	for (size_t i = 0; i < c->args.n && ret != CTL_UNREACHABLE; i++) {
		int one = pull_one(c, c->args.v[i]);

		if (ret == CTL_OK || one == CTL_UNREACHABLE)
			ret = one;
	}
	return ret;
}

int verb_image_list(struct ctl *c)
{
	struct table t = { .columns = 5 };
	struct api_call call = { 0 };
	json_t *images, *image;
	size_t i;
	int ret;

	api_path(&call, "/images");
	ret = api_get(c, &images, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(images);
		json_decref(images);
		return CTL_OK;
	}
	for (i = 0; i < t.columns; i++)
		table_cell(&t, ((const char *const[]){
				       "REFERENCE", "DIGEST", "SIZE", "CREATED", "USED BY" })[i]);
	json_array_foreach (images, i, image) {
		const char *digest = json_str(image, "digest");
		struct buf users = { 0 };

		table_cell(&t, json_str(image, "reference"));
		if (digest != NULL)
			table_cellf(&t, "%.19s", digest);
		else
			table_cell(&t, NULL);
		table_cell(&t, format_size((uint64_t)MAX(json_int(image, "size", 0), (int64_t)0)));
		table_cell(&t, json_str(image, "created"));
		if (json_arr(image, "used_by") != NULL)
			format_value(&users, json_arr(image, "used_by"));
		table_cell(&t, buf_str(&users));
		buf_finish(&users);
	}
	table_print(&t);
	json_decref(images);
	return CTL_OK;
}

void image_print_in_use(int64_t stay)
{
	if (stay > 0)
		printf("%lld built disk%s in the store: disks of machines or snapshots lie above "
		       "%s\n",
			(long long)stay, stay == 1 ? " stays" : "s stay",
			stay == 1 ? "it" : "them");
}

static void print_removed(const char *reference, const json_t *result)
{
	printf("%s removed, %s freed\n", reference,
		format_size((uint64_t)MAX(json_int(result, "freed", 0), (int64_t)0)));
	image_print_in_use(json_int(result, "in_use", 0));
}

int verb_image_rm(struct ctl *c)
{
	int ret = CTL_OK;

	for (size_t i = 0; i < c->args.n; i++) {
		struct api_call call = { .method = "DELETE", .timeout_ms = 600000 };
		int one;

		api_path(&call, "/images");
		api_query(&call, "reference", c->args.v[i]);
		one = api_run(c, &call);
		if (one == CTL_OK && c->json)
			print_json(call.json);
		else if (one == CTL_OK)
			print_removed(c->args.v[i], call.json);
		if (ret == CTL_OK)
			ret = one;
		api_finish(&call);
		if (one == CTL_UNREACHABLE)
			break;
	}
	return ret;
}

/* "75% of 12": blobs that the upstream was not asked for, of those that the cache was asked for. */
static void put_hits(struct buf *text, const json_t *blobs)
{
	const json_t *rate = json_object_get(blobs, "hit_rate");

	if (json_is_real(rate))
		buf_printf(text, "%d%% of %lld", (int)(json_real_value(rate) * 100 + 1e-9),
			(long long)json_int(blobs, "asked", 0));
	else
		buf_adds(text, "-");
}

int verb_registry_list(struct ctl *c)
{
	static const char *const keys[] = { "name", "state", "mode", "size", "blobs", "upstream",
		"listen", "pid" };
	static const char *const heads[] = { "NAME", "STATE", "MODE", "SIZE", "HITS", "UPSTREAM",
		"LISTEN", "PID" };
	struct table t = { .columns = ARRAY_LEN(keys) };
	struct api_call call = { 0 };
	json_t *registries, *r;
	size_t i;
	int ret;

	api_path(&call, "/registries");
	ret = api_get(c, &registries, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(registries);
		json_decref(registries);
		return CTL_OK;
	}
	for (i = 0; i < ARRAY_LEN(heads); i++)
		table_cell(&t, heads[i]);
	json_array_foreach (registries, i, r) {
		for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
			struct buf text = { 0 };

			if (strcmp(keys[k], "size") == 0 && json_int(r, "size", -1) >= 0)
				buf_adds(&text, format_size((uint64_t)json_int(r, "size", 0)));
			else if (strcmp(keys[k], "blobs") == 0)
				put_hits(&text, json_obj(r, "blobs"));
			else if (json_object_get(r, keys[k]) != NULL)
				format_value(&text, json_object_get(r, keys[k]));
			table_cell(&t, buf_str(&text));
			buf_finish(&text);
		}
	}
	table_print(&t);
	json_decref(registries);
	return CTL_OK;
}

#include "ctl/pull-progress.h"

#include <stdlib.h>
#include <string.h>
#include "ctl/table.h"
#include "lib/json.h"

#define DIGEST_SHOWN 12
#define LABEL_WIDTH  13 /* of a digest, and "total" */
#define SIZES_WIDTH  18 /* "  1023.9M / 1023M" */

/* "sha256:0123..." → its first twelve digits. */
static void add_digest(struct buf *out, const char *digest)
{
	const char *colon = strchr(digest, ':');
	size_t len;

	digest = colon != NULL ? colon + 1 : digest;
	len = strlen(digest);
	buf_add(out, digest, MIN(len, (size_t)DIGEST_SHOWN));
}

static struct pull_layer *find(struct pull_progress *p, const char *digest)
{
	for (size_t i = 0; digest != NULL && i < p->nlayers; i++) {
		if (strcmp(p->layers[i].digest, digest) == 0)
			return &p->layers[i];
	}
	return NULL;
}

static struct pull_layer *add(struct pull_progress *p, const char *digest)
{
	struct pull_layer *l = find(p, digest), *grown;
	char *copy;

	if (l != NULL || digest == NULL)
		return l;
	copy = strdup(digest);
	grown = reallocarray(p->layers, p->nlayers + 1, sizeof(*grown));
	if (grown != NULL)
		p->layers = grown;
	if (copy == NULL || grown == NULL) {
		free(copy);
		p->bad = true;
		return NULL;
	}
	l = &p->layers[p->nlayers++];
	*l = (struct pull_layer){ .digest = copy };
	return l;
}

static void forget(struct pull_progress *p)
{
	for (size_t i = 0; i < p->nlayers; i++)
		free(p->layers[i].digest);
	p->nlayers = 0;
	p->build_done = p->build_size = 0;
}

static uint64_t total_size(const struct pull_progress *p)
{
	uint64_t total = 0;

	for (size_t i = 0; i < p->nlayers; i++)
		total += p->layers[i].size;
	return total;
}

static void on_start(struct pull_progress *p, const json_t *event, struct buf *plain)
{
	int64_t cached = json_int(event, "cached", 0);
	size_t i;
	json_t *layer;

	forget(p);
	json_array_foreach (json_arr(event, "layers"), i, layer) {
		struct pull_layer *l = add(p, json_str(layer, "digest"));

		if (l != NULL)
			l->size = (uint64_t)MAX(json_int(layer, "size", 0), (int64_t)0);
	}
	buf_printf(plain, "%s: %zu layer%s, %s", p->reference, p->nlayers,
		p->nlayers == 1 ? "" : "s", format_size(total_size(p)));
	if (cached > 0)
		buf_printf(plain, ", %lld already here", (long long)cached);
	buf_adds(plain, "\n");
}

static void on_layer(struct pull_progress *p, const json_t *event, struct buf *plain)
{
	struct pull_layer *l = add(p, json_str(event, "digest"));

	if (l == NULL || l->complete)
		return;
	l->complete = true;
	l->cached = json_flag(event, "cached", false);
	l->done = l->size;
	buf_printf(plain, "%s: ", p->reference);
	add_digest(plain, l->digest);
	buf_printf(plain, " %s\n", l->cached ? "is here already" : "done");
}

static void on_progress(struct pull_progress *p, const json_t *event)
{
	struct pull_layer *l = add(p, json_str(event, "digest"));

	if (l == NULL || l->complete)
		return;
	l->done = (uint64_t)MAX(json_int(event, "done", 0), (int64_t)0);
	l->size = (uint64_t)MAX(json_int(event, "size", (int64_t)l->size), (int64_t)0);
}

void pull_progress_event(struct pull_progress *p, const json_t *event, struct buf *plain)
{
	const char *what = json_str(event, "event"), *ref = json_str(event, "ref");
	struct buf text = { 0 };

	if (what == NULL)
		return;
	if (ref != NULL && !str_eq(ref, p->reference)) {
		free(p->reference);
		p->reference = strdup(ref);
		forget(p);
	}
	if (p->reference == NULL)
		p->reference = strdup("image");
	if (p->reference == NULL) {
		p->bad = true;
		return;
	}
	if (strcmp(what, "start") == 0) {
		on_start(p, event, &text);
	} else if (strcmp(what, "progress") == 0) {
		on_progress(p, event);
	} else if (strcmp(what, "layer") == 0) {
		on_layer(p, event, &text);
	} else if (strcmp(what, "build") == 0) {
		p->build_done = (uint64_t)MAX(json_int(event, "done", 0), (int64_t)0);
		p->build_size = (uint64_t)MAX(json_int(event, "size", 0), (int64_t)0);
	} else if (strcmp(what, "warning") == 0) {
		buf_printf(&text, "warning: %s\n",
			json_str(event, "message") != NULL ? json_str(event, "message") : "?");
	} else if (strcmp(what, "done") == 0) {
		buf_printf(&text, "%s: done", p->reference);
		if (json_str(event, "digest") != NULL)
			buf_printf(&text, ", %s", json_str(event, "digest"));
		buf_adds(&text, "\n");
	}
	/* Newlines are ours, everything else may be foreign. */
	if (text.len > 0) {
		text.data[--text.len] = '\0';
		add_clean(plain, text.data);
		buf_adds(plain, "\n");
	}
	buf_finish(&text);
}

static void draw_line(struct buf *out, unsigned columns, const char *label, uint64_t done,
	uint64_t size, const char *note)
{
	unsigned bar = columns > LABEL_WIDTH + SIZES_WIDTH + 10
			       ? columns - LABEL_WIDTH - SIZES_WIDTH - 2
			       : 0;
	struct buf sizes = { 0 };

	if (note != NULL)
		buf_adds(&sizes, note);
	else
		buf_printf(&sizes, "%s / %s", format_size(done), format_size(size));
	buf_printf(out, "%-*s", LABEL_WIDTH, label);
	if (bar > 0) {
		format_bar(out, MIN(bar, 60u), done, size);
		buf_printf(out, " %*s", SIZES_WIDTH, buf_str(&sizes));
	} else {
		buf_printf(out, "%s", buf_str(&sizes));
	}
	buf_adds(out, "\n");
	buf_finish(&sizes);
}

static void draw_layer(struct buf *out, unsigned columns, const struct pull_layer *l)
{
	struct buf label = { 0 };

	add_digest(&label, l->digest);
	draw_line(
		out, columns, buf_str(&label), l->done, l->size, l->cached ? "already here" : NULL);
	buf_finish(&label);
}

unsigned pull_progress_draw(
	const struct pull_progress *p, unsigned columns, unsigned rows, struct buf *out)
{
	/* Beside the layers: total, disk, and the line of the cursor. */
	size_t room = rows > 4 ? rows - 3 : 1;
	bool all = p->nlayers <= room;
	uint64_t done = 0;
	unsigned lines = 0;

	for (size_t i = 0; i < p->nlayers; i++) {
		const struct pull_layer *l = &p->layers[i];

		done += MIN(l->done, l->size);
		if (lines < room && (all || !l->complete)) {
			draw_layer(out, columns, l);
			lines++;
		}
	}
	if (p->nlayers > 0) {
		draw_line(out, columns, "total", done, total_size(p), NULL);
		lines++;
	}
	if (p->build_size > 0) {
		draw_line(out, columns, "disk", p->build_done, p->build_size, NULL);
		lines++;
	}
	return lines;
}

void pull_progress_finish(struct pull_progress *p)
{
	forget(p);
	free(p->layers);
	free(p->reference);
	*p = (struct pull_progress){ 0 };
}

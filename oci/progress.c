#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/progress.h"

#define INTERVAL_MS 100

/* A line at once, so that lines of two writers of one pipe do not mix. */
static void write_line(const char *text, size_t len)
{
	static bool gone;

	while (len > 0 && !gone) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			log_debug("standard output: %s, going on without", strerror(errno));
			gone = true;
			return;
		}
		text += n;
		len -= (size_t)n;
	}
}

void progress_event(json_t *v)
{
	char *text = v != NULL ? json_text(v) : NULL;
	struct buf line = { 0 };

	if (text != NULL)
		buf_printf(&line, "%s\n", text);
	if (text == NULL || line.bad)
		log_error("no memory to report progress");
	else
		write_line(line.data, line.len);
	buf_finish(&line);
	free(text);
	json_decref(v);
}

void progress_init(struct progress *p, const char *ref)
{
	*p = (struct progress){ .ref = ref };
}

void progress_finish(struct progress *p)
{
	free(p->last_ms);
	*p = (struct progress){ 0 };
}

/* Names and messages here are foreign: what is no UTF-8 in them must not cost the line. */
int progress_start(struct progress *p, const struct descriptor *layers, size_t n, size_t cached,
	struct err *err)
{
	json_t *list = json_array();
	uint64_t *last = calloc(n > 0 ? n : 1, sizeof(*last));

	if (list == NULL || last == NULL) {
		json_decref(list);
		free(last);
		return err_nomem(err);
	}
	free(p->last_ms);
	p->layers = layers;
	p->n = n;
	p->last_ms = last;
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s,s:I}", "digest", layers[i].digest,
						    "size", (json_int_t)layers[i].size));
	progress_event(json_pack("{s:s,s:o,s:o,s:I}", "event", "start", "ref", json_str_new(p->ref),
		"layers", list, "cached", (json_int_t)cached));
	return 0;
}

void progress_end(struct progress *p)
{
	p->layers = NULL;
	p->n = 0;
}

static bool due(uint64_t *last_ms)
{
	uint64_t now = clock_mono_ms();

	if (*last_ms != 0 && now - *last_ms < INTERVAL_MS)
		return false;
	*last_ms = now;
	return true;
}

void progress_layer(struct progress *p, const struct descriptor *layer, uint64_t done)
{
	size_t i;

	for (i = 0; i < p->n && strcmp(p->layers[i].digest, layer->digest) != 0; i++)
		;
	if (i == p->n || !due(&p->last_ms[i]))
		return;
	progress_event(json_pack("{s:s,s:o,s:s,s:I,s:I}", "event", "progress", "ref",
		json_str_new(p->ref), "digest", layer->digest, "done", (json_int_t)done, "size",
		(json_int_t)layer->size));
}

void progress_layer_done(struct progress *p, const struct descriptor *layer, bool cached)
{
	progress_event(json_pack("{s:s,s:o,s:s,s:b}", "event", "layer", "ref", json_str_new(p->ref),
		"digest", layer->digest, "cached", cached));
}

void progress_build(struct progress *p, uint64_t done, uint64_t size)
{
	if (done < size && !due(&p->build_last_ms))
		return;
	progress_event(json_pack("{s:s,s:o,s:I,s:I}", "event", "build", "ref", json_str_new(p->ref),
		"done", (json_int_t)done, "size", (json_int_t)size));
}

void progress_warning(const char *message)
{
	progress_event(
		json_pack("{s:s,s:o}", "event", "warning", "message", json_str_new(message)));
}

void progress_error(const char *ref, const struct err *err)
{
	json_t *v = json_pack("{s:s,s:o*,s:s,s:o}", "event", "error", "ref",
		ref != NULL ? json_str_new(ref) : NULL, "code", err_word(err->code), "message",
		json_str_new(err->msg));

	progress_event(v);
}

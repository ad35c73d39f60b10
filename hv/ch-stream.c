/*
 * hv/ch-stream.c - the bytes of the event monitor: objects as serde_json::to_string_pretty() writes
 * them, each followed by an empty line (vmm/src/lib.rs, start_event_monitor_thread).
 *
 * An object begins and ends in the first column, and nothing else does: so a reader that comes in the
 * middle (an earlier daemon had read the other half), or behind a gap, finds the next one.
 */
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

#define OBJECT_MAX (64u << 10)

static void drop_object(struct ch_stream *s)
{
	s->object.bad ? buf_finish(&s->object) : buf_clear(&s->object);
	s->inside = false;
}

static void whole_line(struct ch_stream *s, ch_object_fn *fn, void *arg)
{
	const char *line = buf_str(&s->line);
	size_t len = s->line.len;
	bool begins = line[0] == '{', ends = line[0] == '}' || (begins && line[len - 1] == '}');
	json_t *event = NULL;

	if (begins) {
		drop_object(s);
		s->inside = true;
	}
	if (s->inside) {
		buf_add(&s->object, line, len);
		buf_adds(&s->object, "\n");
	}
	if (s->object.len > OBJECT_MAX || s->object.bad)
		drop_object(s);
	if (!s->inside || !ends)
		return;
	if (json_parse(s->object.data, s->object.len, &event, NULL) < 0)
		event = NULL;
	drop_object(s);
	if (json_is_object(event))
		fn(arg, event);
	json_decref(event);
}

void ch_stream_feed(struct ch_stream *s, const char *data, size_t len, ch_object_fn *fn, void *arg)
{
	const char *end = data + len, *nl;

	for (; data < end; data = nl + 1) {
		nl = memchr(data, '\n', (size_t)(end - data));
		if (s->line.len <= OBJECT_MAX)
			buf_add(&s->line, data, (size_t)((nl != NULL ? nl : end) - data));
		if (nl == NULL)
			return;
		if (s->line.len > 0 && s->line.data[s->line.len - 1] == '\r')
			s->line.data[--s->line.len] = '\0';
		if (s->line.len > 0 && !s->line.bad)
			whole_line(s, fn, arg);
		s->line.bad ? buf_finish(&s->line) : buf_clear(&s->line);
	}
}

void ch_stream_finish(struct ch_stream *s)
{
	buf_finish(&s->line);
	buf_finish(&s->object);
	s->inside = false;
}

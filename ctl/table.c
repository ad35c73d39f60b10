#include "ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"

void add_clean(struct buf *out, const char *text)
{
	json_t *utf8 = json_str_new(text); /* what is not UTF-8 becomes U+FFFD */

	for (const char *s = json_string_value(utf8); s != NULL && *s != '\0'; s++) {
		unsigned char ch = (unsigned char)*s;

		/* U+0080 to U+009F (0xc2 0x80..0x9f) are control characters too. */
		if (ch == 0xc2 && (unsigned char)s[1] < 0xa0) {
			buf_printf(out, "\\x%02x", (unsigned char)s[1]);
			s++;
		} else if (ch < 0x20 || ch == 0x7f) {
			buf_printf(out, "\\x%02x", ch);
		} else {
			buf_add(out, s, 1);
		}
	}
	json_decref(utf8);
}

size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		if (((unsigned char)*text & 0xc0) != 0x80)
			n++;
	}
	return n;
}

void table_cell(struct table *t, const char *text)
{
	struct buf clean = { 0 };

	if (text == NULL || text[0] == '\0')
		text = "-";
	add_clean(&clean, text);
	strv_add(&t->cells, buf_str(&clean));
	buf_finish(&clean);
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	struct buf text = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	table_cell(t, buf_str(&text));
	buf_finish(&text);
}

void table_format(struct table *t, struct buf *out)
{
	size_t *widths = calloc(t->columns, sizeof(*widths));

	if (widths == NULL) {
		out->bad = true;
		return;
	}
	for (size_t i = 0; i < t->cells.n; i++)
		widths[i % t->columns] = MAX(widths[i % t->columns], text_width(t->cells.v[i]));
	for (size_t i = 0; i < t->cells.n; i++) {
		size_t column = i % t->columns;
		bool last = column + 1 == t->columns;

		buf_adds(out, t->cells.v[i]);
		if (last)
			buf_adds(out, "\n");
		else
			buf_printf(out, "%*s",
				(int)(widths[column] + 2 - text_width(t->cells.v[i])), "");
	}
	free(widths);
	strv_finish(&t->cells);
}

void table_print(struct table *t)
{
	struct buf text = { 0 };

	table_format(t, &text);
	fputs(buf_str(&text), stdout);
	buf_finish(&text);
}

void format_bar(struct buf *out, unsigned width, uint64_t done, uint64_t total)
{
	unsigned room = MAX(width, 10u) - 7; /* brackets, space, "100%" */
	unsigned filled;

	done = MIN(done, total);
	/* In double: a product of bytes could overflow. */
	filled = total > 0 ? (unsigned)((double)done / (double)total * room) : 0;
	buf_adds(out, "[");
	for (unsigned i = 0; i < room; i++)
		buf_adds(out, i < filled ? "=" : i == filled && done > 0 ? ">" : " ");
	buf_adds(out, "]");
	if (total > 0)
		buf_printf(out, " %3u%%", (unsigned)((double)done / (double)total * 100));
	else
		buf_adds(out, "     ");
}

void format_image(struct buf *out, const char *reference)
{
	const char *digest = reference != NULL ? strstr(reference, "@sha256:") : NULL;

	if (digest != NULL && strlen(digest) > 20)
		buf_add(out, reference, (size_t)(digest - reference) + 20);
	else
		buf_adds(out, reference != NULL ? reference : "");
}

void format_value(struct buf *out, const json_t *v)
{
	char *text;

	switch (json_typeof(v)) {
	case JSON_NULL:
		return;
	case JSON_STRING:
		buf_adds(out, json_string_value(v));
		return;
	case JSON_INTEGER:
		buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		buf_adds(out, json_is_true(v) ? "yes" : "no");
		return;
	case JSON_ARRAY:
		for (size_t i = 0; i < json_array_size(v); i++) {
			if (i > 0)
				buf_adds(out, ", ");
			format_value(out, json_array_get(v, i));
		}
		return;
	default:
		text = json_text(v);
		buf_adds(out, text != NULL ? text : "");
		free(text);
	}
}

const char *format_uptime(int64_t seconds)
{
	return seconds >= 0 ? format_duration((uint64_t)seconds) : "-";
}

#include "supervisor/console-lines.h"

#include <string.h>

static void tail_add(struct console_lines *l, const char *line, size_t len)
{
	buf_add(&l->tail, line, len);
	buf_add(&l->tail, "\n", 1);
	if (l->tail.bad)
		console_lines_finish(l);
	/* Dropped in larger portions, so that not every line moves the rest. */
	if (l->tail.len > 2 * CONSOLE_TAIL_MAX) {
		size_t cut = l->tail.len - CONSOLE_TAIL_MAX;
		const char *end = memchr(l->tail.data + cut - 1, '\n', CONSOLE_TAIL_MAX + 1);

		buf_drop(&l->tail, (size_t)(end + 1 - l->tail.data));
	}
}

static void line_end(struct console_lines *l, void (*fn)(void *arg, const char *line), void *arg)
{
	l->line[l->line_len] = '\0';
	tail_add(l, l->line, l->line_len);
	l->line_len = 0;
	if (fn != NULL)
		fn(arg, l->line);
}

/* Whether the byte belongs to an escape sequence. */
static bool escape_eats(struct console_lines *l, unsigned char b)
{
	switch (l->escape) {
	case ESC_NONE:
		if (b == 0x1b)
			l->escape = ESC_SEEN;
		return b == 0x1b;
	case ESC_SEEN:
		if (b == '[')
			l->escape = ESC_CSI;
		else if (b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_')
			l->escape = ESC_STRING;
		else if (b >= 0x20 && b <= 0x2f)
			l->escape = ESC_INTERMEDIATE;
		else
			l->escape = ESC_NONE;
		break;
	case ESC_INTERMEDIATE:
		if (b < 0x20 || b > 0x2f)
			l->escape = ESC_NONE;
		break;
	case ESC_CSI:
		if (b >= 0x40 && b <= 0x7e)
			l->escape = ESC_NONE;
		break;
	case ESC_STRING:
		if (b == 0x1b)
			l->escape = ESC_SEEN; /* a backslash follows, which ends it */
		else if (b == 0x07)
			l->escape = ESC_NONE;
		break;
	}
	/* A guest that breaks off in mid-sequence loses no line by it. */
	if (b == '\n')
		l->escape = ESC_NONE;
	return b != '\n';
}

void console_lines_take(struct console_lines *l, const char *data, size_t len,
	void (*fn)(void *arg, const char *line), void *arg)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char b = (unsigned char)data[i];

		if (escape_eats(l, b))
			continue;
		if (b == '\n')
			line_end(l, fn, arg);
		else if (l->line_len < CONSOLE_LINE_MAX && (b >= 0x20 || b == '\t') && b != 0x7f)
			l->line[l->line_len++] = b == '\t' ? ' ' : (char)b;
	}
}

void console_lines_tail(const struct console_lines *l, unsigned n, struct strv *out)
{
	const char *p = buf_str(&l->tail), *stop = p + l->tail.len, *from = stop;
	size_t left = CONSOLE_TAIL_MAX;

	if (n == 0)
		return;
	n = MIN(n, CONSOLE_TAIL_LINES);
	/* What the guest has begun counts: a prompt, or the last words before a crash. */
	if (l->line_len > 0) {
		left -= l->line_len;
		n--;
	}
	for (; n > 0 && from > p; n--) {
		const char *start = memrchr(p, '\n', (size_t)(from - 1 - p));

		start = start == NULL ? p : start + 1;
		if ((size_t)(from - start) > left)
			break;
		left -= (size_t)(from - start);
		from = start;
	}
	while (from < stop) {
		const char *end = memchr(from, '\n', (size_t)(stop - from));

		strv_addf(out, "%.*s", (int)(end - from), from);
		from = end + 1;
	}
	if (l->line_len > 0)
		strv_addf(out, "%.*s", (int)l->line_len, l->line);
}

void console_lines_finish(struct console_lines *l)
{
	buf_finish(&l->tail);
}

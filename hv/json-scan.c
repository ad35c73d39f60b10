#include "hv/json-scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

/* Goes on inside a string; false when data ends before it does. */
static bool skip_string(struct json_scan *s, const char *data, size_t len)
{
	while (s->pos < len) {
		char c = data[s->pos++];

		if (s->escaped) {
			s->escaped = false;
		} else if (c == '\\') {
			s->escaped = true;
		} else if (c == '"') {
			s->in_string = false;
			return true;
		}
	}
	return false;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Between two messages. Returns as json_scan(), or -EAGAIN to go on. */
static int scan_outside(struct json_scan *s, char c)
{
	bool begins = c == '{' || (s->lenient && (c == '[' || c == '"'));

	if (s->bare && (begins || is_space(c))) {
		s->bare = false;
		return 1;
	}
	if (!begins && !is_space(c) && !s->lenient)
		return -EBADMSG;
	if (begins || (!is_space(c) && !s->bare))
		s->start = s->pos;
	if (begins && c != '"')
		s->depth = 1;
	s->in_string = c == '"' && begins;
	s->bare = !begins && !is_space(c);
	s->pos++;
	return -EAGAIN;
}

int json_scan(struct json_scan *s, const char *data, size_t len)
{
	while (s->pos < len) {
		char c;
		int r;

		if (s->in_string) {
			if (!skip_string(s, data, len))
				return 0;
			if (s->depth == 0)
				return 1;
			continue;
		}
		c = data[s->pos];
		if (s->depth == 0) {
			r = scan_outside(s, c);
			if (r != -EAGAIN)
				return r;
			continue;
		}
		s->pos++;
		if (c == '"') {
			s->in_string = true;
		} else if (c == '{' || c == '[') {
			s->depth++;
		} else if (c == '}' || c == ']') {
			if (--s->depth == 0)
				return 1;
		}
	}
	return 0;
}

void json_scan_dropped(struct json_scan *s, size_t n)
{
	s->pos -= n;
	s->start = s->start > n ? s->start - n : 0;
}

/* Members */

static size_t skip_space(const char *text, size_t len, size_t pos)
{
	while (pos < len && is_space(text[pos]))
		pos++;
	return pos;
}

/* From the opening quote to behind the closing one. */
static size_t string_end(const char *text, size_t len, size_t pos)
{
	for (pos++; pos < len && text[pos] != '"'; pos++)
		if (text[pos] == '\\')
			pos++;
	return MIN(pos + 1, len);
}

static size_t value_end(const char *text, size_t len, size_t pos)
{
	size_t depth = 0;

	while (pos < len) {
		char c = text[pos];

		if (c == '"') {
			pos = string_end(text, len, pos);
			if (depth == 0)
				return pos;
			continue;
		}
		if (c == '{' || c == '[') {
			depth++;
		} else if (c == '}' || c == ']') {
			if (depth == 0)
				return pos;
			if (--depth == 0)
				return pos + 1;
		} else if (depth == 0 && (c == ',' || is_space(c))) {
			return pos;
		}
		pos++;
	}
	return len;
}

/* One character of a string, escapes resolved; -1 for what is not ASCII. */
static int next_char(const char **p, const char *end)
{
	char hex[5] = { 0 };
	unsigned long code;

	if (**p != '\\' || *p + 1 >= end)
		return *(*p)++;
	if ((*p)[1] != 'u' || end - *p < 6) {
		*p += 2;
		/* Of \b, \f, \n, \r, \t none is part of a name that anybody looks for. */
		return strchr("bfnrt", (*p)[-1]) != NULL ? -1 : (*p)[-1];
	}
	memcpy(hex, *p + 2, 4);
	*p += 6;
	code = strtoul(hex, NULL, 16);
	return code < 0x80 ? (int)code : -1;
}

/* key: with its quotes. */
static bool key_is(const char *key, size_t len, const char *name)
{
	const char *p = key + 1, *end = key + len - 1;

	for (; p < end && *name != '\0'; name++)
		if (next_char(&p, end) != *name)
			return false;
	return p == end && *name == '\0';
}

bool json_find(const char *text, size_t len, const char *name, struct json_member *out)
{
	size_t pos = skip_space(text, len, 0) + 1;

	for (;;) {
		struct json_member m;
		size_t key_end;

		m.key = pos = skip_space(text, len, pos);
		if (pos >= len || text[pos] != '"')
			return false;
		key_end = string_end(text, len, pos);
		pos = skip_space(text, len, key_end);
		if (pos >= len || text[pos] != ':')
			return false;
		m.value = skip_space(text, len, pos + 1);
		m.end = value_end(text, len, m.value);
		if (key_is(text + m.key, key_end - m.key, name)) {
			*out = m;
			return true;
		}
		pos = skip_space(text, len, m.end);
		if (pos >= len || text[pos] != ',')
			return false;
		pos++;
	}
}

/* With the comma that joins it to its neighbour. */
static void remove_member(
	struct buf *out, const char *text, size_t len, const struct json_member *m)
{
	size_t from = m->key, to = skip_space(text, len, m->end);

	if (to < len && text[to] == ',') {
		to = skip_space(text, len, to + 1);
	} else {
		while (from > 0 && is_space(text[from - 1]))
			from--;
		if (from > 0 && text[from - 1] == ',')
			from--;
	}
	buf_add(out, text, from);
	buf_add(out, text + to, len - to);
}

void json_splice(struct buf *out, const char *text, size_t len, const char *name, const char *value)
{
	size_t open = skip_space(text, len, 0) + 1;
	struct json_member m;
	bool empty;

	if (json_find(text, len, name, &m)) {
		if (value == NULL) {
			remove_member(out, text, len, &m);
			return;
		}
		buf_add(out, text, m.value);
		buf_adds(out, value);
		buf_add(out, text + m.end, len - m.end);
		return;
	}
	if (value == NULL || open > len) {
		buf_add(out, text, len);
		return;
	}
	empty = skip_space(text, len, open) < len && text[skip_space(text, len, open)] == '}';
	buf_add(out, text, open);
	buf_printf(out, "\"%s\": %s%s", name, value, empty ? "" : ", ");
	buf_add(out, text + open, len - open);
}

bool json_exceeds(const char *text, size_t len, size_t depth, size_t tokens)
{
	size_t now = 0, seen = 0;

	for (size_t pos = 0; pos < len; pos++) {
		char c = text[pos];

		if (c == '"') {
			pos = string_end(text, len, pos) - 1;
			continue;
		}
		if (c == '{' || c == '[')
			now++;
		else if ((c == '}' || c == ']') && now > 0)
			now--;
		else if (c != ',' && c != ':')
			continue;
		if (now > depth || ++seen > tokens)
			return true;
	}
	return false;
}

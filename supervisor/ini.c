/*
 * inih does the parsing of lines that it can take whole. Debian's build of it cuts lines at 199
 * bytes and section names at 49, drops comments in some places only and tells no line numbers, so
 * it never sees the file's own lines: for each of them it gets a short one of the same shape, with
 * the line's number where a value or a section's name would be, and the value waits in the scan.
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"
#include "supervisor/ini.h"

struct scan {
	const char *p, *end;
	unsigned line;
	struct ini *out;
	struct ini_value value; /* of the line that inih has just been given */
	bool in_section;        /* the last heading was good: keys belong to it */
	bool in_key;            /* the last key was good: indented lines go on with it */
	bool bad_key;           /* it was not; what goes on with it is passed over */
	bool refused;           /* the line's value was not good, but its key is there */
	bool seen_heading;
	bool nomem;
	ini_mistake_fn *mistake;
	void *arg;
};

static void mistake(struct scan *s, const char *fmt, ...) PRINTF(2, 3);

static void mistake(struct scan *s, const char *fmt, ...)
{
	char msg[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	s->mistake(s->arg, s->line, msg);
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static void trim(const char **p, const char **end)
{
	while (*p < *end && blank(**p))
		(*p)++;
	while (*end > *p && blank((*end)[-1]))
		(*end)--;
}

/* True for well-formed UTF-8 (RFC 3629) without control characters other than the tab. */
static bool is_text(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;

	while (p < end) {
		unsigned more, min, cp;

		if (*p < 0x80) {
			if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
				return false;
			p++;
			continue;
		}
		if (*p >= 0xc2 && *p < 0xe0)
			more = 1, min = 0x80, cp = *p & 0x1f;
		else if (*p >= 0xe0 && *p < 0xf0)
			more = 2, min = 0x800, cp = *p & 0x0f;
		else if (*p >= 0xf0 && *p < 0xf5)
			more = 3, min = 0x10000, cp = *p & 0x07;
		else
			return false;
		for (p++; more > 0; more--, p++) {
			if (p == end || (*p & 0xc0) != 0x80)
				return false;
			cp = cp << 6 | (*p & 0x3f);
		}
		if (cp < min || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000) ||
			(cp >= 0x80 && cp < 0xa0))
			return false;
	}
	return true;
}

static void *grow(void *v, size_t n, size_t size)
{
	/* Doubles at each power of two, so that appending stays linear. */
	if (n != 0 && (n & (n - 1)) != 0)
		return v;
	return realloc(v, (n == 0 ? 1 : 2 * n) * size);
}

/* What may stand behind a heading or a closing quote: nothing, or white space and a comment. */
static bool only_comment(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && blank(*p))
		p++;
	return p == end || (*p == ';' && p > start);
}

/* p is at the opening quote. */
static char *quoted_value(struct scan *s, const char *p, const char *end)
{
	char *text = malloc((size_t)(end - p)), *o = text;

	if (text == NULL) {
		s->nomem = true;
		return NULL;
	}
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\') {
			p++;
			if (p == end || (*p != '"' && *p != '\\')) {
				mistake(s, "in double quotes a backslash stands before '\"' or "
					   "another backslash only: write '\\\\'");
				goto bad;
			}
		}
		*o++ = *p;
	}
	if (p == end) {
		mistake(s, "the closing double quote is missing");
		goto bad;
	}
	if (!only_comment(p + 1, end)) {
		mistake(s, "after the closing double quote: %s is not a comment",
			quote_n(p + 1, (size_t)(end - p - 1)));
		goto bad;
	}
	*o = '\0';
	return text;
bad:
	free(text);
	return NULL;
}

/* Cuts a comment off; p is behind the '=', or at the start of an indented line. */
static char *plain_value(struct scan *s, const char *p, const char *end)
{
	const char *q, *stop = end;
	unsigned quotes = 0;
	char *text;

	for (q = p; q < end; q++) {
		if (*q == '"')
			quotes++;
		if (*q == ';' && q > p && blank(q[-1])) {
			stop = q;
			break;
		}
	}
	if (stop != end && quotes % 2 != 0) {
		mistake(s, "' ;' inside quotes would cut the value: put all of the value in double "
			   "quotes");
		return NULL;
	}
	trim(&p, &stop);
	text = strndup(p, (size_t)(stop - p));
	if (text == NULL)
		s->nomem = true;
	return text;
}

static bool take_value(struct scan *s, const char *p, const char *end, bool continued)
{
	const char *start = p;
	char *text;

	while (p < end && blank(*p))
		p++;
	s->value = (struct ini_value){ .line = s->line, .continued = continued };
	s->value.quoted = p < end && *p == '"';
	text = s->value.quoted ? quoted_value(s, p, end) : plain_value(s, start, end);
	if (text == NULL)
		return false;
	if (!is_text(text, strlen(text))) {
		mistake(s, "%s has a control character or is not valid UTF-8", quote(text));
		free(text);
		return false;
	}
	s->value.text = text;
	return true;
}

static bool add_section(struct scan *s, const char *p, const char *end)
{
	struct ini_section *v = grow(s->out->v, s->out->n, sizeof(*v)), *sec;
	const char *word = p;

	if (v == NULL) {
		s->nomem = true;
		return false;
	}
	s->out->v = v;
	while (p < end && !blank(*p))
		p++;
	sec = &v[s->out->n];
	*sec = (struct ini_section){ .line = s->line };
	sec->kind = strndup(word, (size_t)(p - word));
	trim(&p, &end);
	sec->name = strndup(p, (size_t)(end - p));
	s->out->n++;
	s->nomem = sec->kind == NULL || sec->name == NULL;
	return !s->nomem;
}

/* p is at the '['. */
static void heading(struct scan *s, const char *p, const char *end, char *line, size_t cap)
{
	const char *close = memchr(p, ']', (size_t)(end - p)), *after;

	s->in_section = s->in_key = s->bad_key = false;
	s->seen_heading = true;
	if (close == NULL) {
		mistake(s, "the closing ']' of a section's heading is missing");
		return;
	}
	after = close + 1;
	if (!only_comment(after, end)) {
		trim(&after, &end);
		mistake(s, "after a section's heading: %s is not a comment (these begin with ' ;')",
			quote_n(after, (size_t)(end - after)));
		return;
	}
	p++;
	trim(&p, &close);
	if (p == close) {
		mistake(s, "a section's heading is empty");
		return;
	}
	s->in_section = add_section(s, p, close);
	if (s->in_section)
		snprintf(line, cap, "[%u]\n", s->line);
}

static bool key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

/* Says what is wrong with the text before '='. */
static bool check_key(struct scan *s, const char *p, const char *end)
{
	const char *q = p;

	while (q < end && key_char(*q))
		q++;
	if (p == end)
		mistake(s, "there is no key before '='");
	else if (q != end)
		mistake(s, "%s is not the name of a key", quote_n(p, (size_t)(end - p)));
	else if (end - p > INI_KEY_MAX)
		mistake(s, "the name of a key has at most %d characters: %s", INI_KEY_MAX,
			quote_n(p, (size_t)(end - p)));
	else
		return true;
	return false;
}

static void key_line(struct scan *s, const char *p, const char *end, char *line, size_t cap)
{
	const char *eq = memchr(p, '=', (size_t)(end - p)), *kend = eq;

	s->in_key = false;
	s->bad_key = true;
	s->refused = false;
	if (eq == NULL) {
		bool colon = memchr(p, ':', (size_t)(end - p)) != NULL;

		mistake(s, "%s is neither a section nor 'key = value'%s",
			quote_n(p, (size_t)(end - p)), colon ? " (write '=', not ':')" : "");
		return;
	}
	trim(&p, &kend);
	if (!check_key(s, p, kend))
		return;
	s->refused = !take_value(s, eq + 1, end, false);
	if (!s->in_section) {
		if (!s->seen_heading)
			mistake(s, "%s stands before the first section",
				quote_n(p, (size_t)(kend - p)));
		free(s->value.text);
		s->value.text = NULL;
		return;
	}
	s->in_key = !s->refused;
	s->bad_key = s->refused;
	snprintf(line, cap, "%.*s=%u\n", (int)(kend - p), p, s->line);
}

static void indented_line(struct scan *s, const char *p, const char *end, char *line, size_t cap)
{
	if (s->bad_key || (s->seen_heading && !s->in_section))
		return;
	if (!s->in_key) {
		mistake(s, "an indented line goes on with the key above it, but there is none");
		return;
	}
	s->refused = false;
	if (take_value(s, p, end, true))
		snprintf(line, cap, " %u\n", s->line);
}

/* inih's reader, in the manner of fgets(): one line for each line of the file. */
static char *next_line(char *line, int cap, void *stream)
{
	struct scan *s = stream;
	const char *p = s->p, *end, *q;

	if (p == s->end || s->nomem)
		return NULL;
	end = memchr(p, '\n', (size_t)(s->end - p));
	s->p = end == NULL ? s->end : end + 1;
	if (end == NULL)
		end = s->end;
	s->line++;
	if (end > p && end[-1] == '\r')
		end--;
	snprintf(line, (size_t)cap, "\n");
	for (q = p; q < end && blank(*q);)
		q++;
	if (q == end || *q == ';' || *q == '#')
		return line;
	if (memchr(p, '\0', (size_t)(end - p)) != NULL)
		mistake(s, "a NUL byte: is this a text file?");
	else if (q > p)
		indented_line(s, p, end, line, (size_t)cap);
	else if (*p == '[')
		heading(s, p, end, line, (size_t)cap);
	else
		key_line(s, p, end, line, (size_t)cap);
	return line;
}

static bool add_value(struct ini_key *key, struct ini_value *value)
{
	struct ini_value *v = grow(key->v, key->n, sizeof(*v));

	if (v == NULL)
		return false;
	key->v = v;
	v[key->n++] = *value;
	value->text = NULL;
	return true;
}

/* inih's handler. `value` is the number of the line whose value waits in the scan. */
static int pair(void *user, const char *section, const char *name, const char *value)
{
	struct scan *s = user;
	struct ini_section *sec = s->out->n == 0 ? NULL : &s->out->v[s->out->n - 1];
	struct ini_key *key;

	if (sec == NULL || (s->value.text == NULL && !s->refused) ||
		strtoul(value, NULL, 10) != s->line || strtoul(section, NULL, 10) != sec->line)
		return 0;
	if (!s->value.continued) {
		key = grow(sec->keys, sec->nkeys, sizeof(*key));
		if (key == NULL)
			goto nomem;
		sec->keys = key;
		key += sec->nkeys++;
		*key = (struct ini_key){ .line = s->line, .name = strdup(name) };
		if (key->name == NULL)
			goto nomem;
	}
	key = &sec->keys[sec->nkeys - 1];
	if (s->refused || add_value(key, &s->value))
		return 1;
nomem:
	s->nomem = true;
	return 1;
}

int ini_read(struct ini *out, const char *data, size_t len, ini_mistake_fn *mistake_fn, void *arg,
	struct err *err)
{
	struct ini ini = { 0 };
	struct scan s = { .p = data, .end = data + len, .out = &ini, .arg = arg };
	int line;

	s.mistake = mistake_fn;
	if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
		s.p += 3;
	line = ini_parse_stream(next_line, &s, pair, &s);
	free(s.value.text);
	if (s.nomem || line == -2) {
		ini_finish(&ini);
		return err_nomem(err);
	}
	if (line != 0) {
		/* inih and the scan disagree about a line; better refused than misread. */
		s.line = line > 0 ? (unsigned)line : 0;
		mistake(&s, "inih does not understand this line");
	}
	*out = ini;
	return 0;
}

int ini_key_append(struct ini_key *key, struct ini_key *from)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < from->n; i++) {
		if (!add_value(key, &from->v[i]))
			rc = -ENOMEM;
		free(from->v[i].text);
	}
	free(from->v);
	from->v = NULL;
	from->n = 0;
	return rc;
}

static void section_finish(struct ini_section *sec)
{
	size_t i, j;

	for (i = 0; i < sec->nkeys; i++) {
		for (j = 0; j < sec->keys[i].n; j++)
			free(sec->keys[i].v[j].text);
		free(sec->keys[i].v);
		free(sec->keys[i].name);
	}
	free(sec->keys);
	free(sec->kind);
	free(sec->name);
}

void ini_finish(struct ini *ini)
{
	size_t i;

	for (i = 0; i < ini->n; i++)
		section_finish(&ini->v[i]);
	free(ini->v);
	*ini = (struct ini){ 0 };
}

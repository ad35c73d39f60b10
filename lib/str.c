#include "lib/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool reserve(struct buf *b, size_t more)
{
	size_t need = b->len + more + 1, cap;
	char *data;

	if (b->bad)
		return false;
	if (need <= b->cap)
		return true;
	cap = MAX(b->cap * 2, 64);
	if (cap < need)
		cap = need;
	data = realloc(b->data, cap);
	if (data == NULL) {
		b->bad = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (!reserve(b, len))
		return;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0)
		b->bad = true;
	else if (reserve(b, (size_t)n)) {
		vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_drop(struct buf *b, size_t n)
{
	if (n >= b->len) {
		buf_clear(b);
		return;
	}
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data != NULL)
		b->data[0] = '\0';
}

void buf_finish(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

char *buf_steal(struct buf *b)
{
	char *data;

	if (!b->bad && b->data == NULL)
		buf_add(b, "", 0);
	data = b->bad ? NULL : b->data;
	if (b->bad)
		free(b->data);
	*b = (struct buf){ 0 };
	return data;
}

const char *buf_str(const struct buf *b)
{
	return b->data != NULL ? b->data : "";
}

static void strv_take(struct strv *s, char *str)
{
	char **v;

	if (str == NULL || s->bad) {
		free(str);
		s->bad = true;
		return;
	}
	/* Grows by doubling: the capacity is the next power of two above n + 1. */
	if (s->v == NULL || ((s->n + 1) & s->n) == 0) {
		v = realloc(s->v, (s->n + 1) * 2 * sizeof(*v));
		if (v == NULL) {
			free(str);
			s->bad = true;
			return;
		}
		s->v = v;
	}
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
}

void strv_add(struct strv *s, const char *str)
{
	strv_take(s, strdup(str));
}

void strv_addf(struct strv *s, const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	strv_take(s, buf_steal(&b));
}

bool strv_has(const struct strv *s, const char *str)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->v[i], str) == 0)
			return true;
	}
	return false;
}

int strv_copy(struct strv *out, const struct strv *from)
{
	struct strv copy = { 0 };

	for (size_t i = 0; i < from->n; i++)
		strv_add(&copy, from->v[i]);
	if (copy.bad) {
		strv_finish(&copy);
		return -ENOMEM;
	}
	*out = copy;
	return 0;
}

void strv_finish(struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct strv){ 0 };
}

char *str_printf(const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	return buf_steal(&b);
}

bool str_eq(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

char *str_trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

/* Buffers that a caller may use several of in one printf. */
#define SCRATCH_SIZE 256
static char *scratch(void)
{
	static _Thread_local char bufs[8][SCRATCH_SIZE];
	static _Thread_local unsigned next;

	return bufs[next++ % 8];
}

size_t utf8_len(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = n == 0                        ? 0
		     : s[0] < 0x80                 ? 1
		     : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		     : (s[0] & 0xf0) == 0xe0       ? 3
		     : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						   : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return len;
}

const char *quote_n(const char *s, size_t n)
{
	char *out = scratch();
	size_t o = 0;

	out[o++] = '\'';
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		size_t len = utf8_len(s + i, n - i);

		if (o > 200) {
			memcpy(out + o, "...", 3);
			o += 3;
			break;
		}
		if (len == 0 || c < 0x20 || c == 0x7f || c == '\'' || c == '\\') {
			o += (size_t)sprintf(out + o, "\\x%02x", c);
			i++;
			continue;
		}
		memcpy(out + o, s + i, len);
		o += len;
		i += len;
	}
	out[o++] = '\'';
	out[o] = '\0';
	return out;
}

const char *quote(const char *s)
{
	return s == NULL ? "(none)" : quote_n(s, strlen(s));
}

int name_check(const char *name, const char *what, struct err *err)
{
	size_t n = strlen(name);

	if (n == 0)
		return err_set(err, -EINVAL, "the name of a %s must not be empty", what);
	if (n > NAME_LEN_MAX)
		return err_set(err, -EINVAL,
			"the name %s of a %s has %zu characters, at most %d are allowed",
			quote(name), what, n, NAME_LEN_MAX);
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!alnum && (i == 0 || i == n - 1 || (c != '.' && c != '_' && c != '-')))
			return err_set(err, -EINVAL,
				"the name %s of a %s is not allowed: a-z, 0-9 and, not first or last, '.', '_', '-'",
				quote(name), what);
	}
	return 0;
}

/* Edit distance in which swapping two neighbours counts as one. At most 64 characters each. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[3][66];

	if (n > 64 || m > 64)
		return 1000;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *cur = d[i % 3], *prev = d[(i - 1) % 3], *before = d[(i + 1) % 3];

		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned same = a[i - 1] == b[j - 1] ? 0 : 1;

			cur[j] = MIN(MIN(prev[j] + 1, cur[j - 1] + 1), prev[j - 1] + same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				cur[j] = MIN(cur[j], before[j - 2] + 1);
		}
	}
	return d[n % 3][m];
}

const char *str_nearest(const char *s, const char *const names[], size_t n)
{
	const char *best = NULL;
	unsigned best_distance = 1000;

	for (size_t i = 0; i < n; i++) {
		unsigned dist = distance(s, names[i]);
		/* One mistake in three letters is a typing error, more is another word. */
		unsigned limit = (unsigned)MAX(strlen(s), strlen(names[i])) / 3;

		if (dist <= MAX(limit, 1u) && dist < best_distance) {
			best = names[i];
			best_distance = dist;
		}
	}
	return best;
}

/* The digits at the start of s; *end gets what follows. */
static int digits(const char *s, uint64_t *out, const char **end)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	}
	*out = v;
	*end = s;
	return 0;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out, struct err *err)
{
	const char *end;
	uint64_t v;

	if (digits(s, &v, &end) < 0 || *end != '\0')
		return err_set(err, -EINVAL, "%s is not a whole number", quote(s));
	if (v < min || v > max)
		return err_set(err, -ERANGE, "%s is out of range: %llu to %llu", quote(s),
			(unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

int parse_size(const char *s, uint64_t *out, struct err *err)
{
	static const char units[] = "KMGT";
	unsigned shift = 0;
	const char *end, *unit;
	uint64_t v;

	if (digits(s, &v, &end) < 0)
		goto bad;
	unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit != NULL) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (end[0] == 'i' && end[1] == 'B')
			end++;
	}
	if (*end == 'B')
		end++;
	if (*end != '\0')
		goto bad;
	if (shift > 0 && v > UINT64_MAX >> shift)
		return err_set(err, -ERANGE, "%s is too large", quote(s));
	*out = v << shift;
	return 0;
bad:
	return err_set(err, -EINVAL, "%s is not a size such as 512M or 8G", quote(s));
}

int parse_duration_ms(const char *s, uint64_t *out, struct err *err)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "min", 60000 },
		{ "h", 3600000 }, { "d", 86400000 } };
	const char *end;
	uint64_t v;

	if (digits(s, &v, &end) == 0) {
		for (size_t i = 0; i < ARRAY_LEN(units); i++) {
			if (strcmp(end, units[i].unit) != 0)
				continue;
			if (__builtin_mul_overflow(v, units[i].ms, out))
				return err_set(err, -ERANGE, "%s is too long", quote(s));
			return 0;
		}
	}
	return err_set(err, -EINVAL, "%s is not a time such as 500ms, 30s, 5m or 2h", quote(s));
}

int parse_bool(const char *s, bool *out, struct err *err)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
			*out = strcmp(s, yes[i]) == 0;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "%s is neither yes nor no", quote(s));
}

const char *format_size(uint64_t bytes)
{
	static const char units[] = "KMGT";
	char *out = scratch();
	double v = (double)bytes;
	int unit = -1;

	while (v >= 1024 && unit < 3) {
		v /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(out, SCRATCH_SIZE, "%llu", (unsigned long long)bytes);
	else if (v == (double)(uint64_t)v || v >= 100)
		snprintf(out, SCRATCH_SIZE, "%.0f%c", v, units[unit]);
	else
		snprintf(out, SCRATCH_SIZE, "%.1f%c", v, units[unit]);
	return out;
}

const char *format_duration(uint64_t s)
{
	char *out = scratch();
	unsigned long long v = s;

	if (v < 60)
		snprintf(out, SCRATCH_SIZE, "%llus", v);
	else if (v < 3600)
		snprintf(out, SCRATCH_SIZE, "%llum %llus", v / 60, v % 60);
	else if (v < 86400)
		snprintf(out, SCRATCH_SIZE, "%lluh %llum", v / 3600, v % 3600 / 60);
	else
		snprintf(out, SCRATCH_SIZE, "%llud %lluh", v / 86400, v % 86400 / 3600);
	return out;
}

uint64_t hash64(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t h = seed;

	for (size_t i = 0; i < len; i++) {
		h ^= p[i];
		h *= 0x100000001b3ull;
	}
	return h;
}

void format_time(char *buf, uint64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(buf, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, 32 - n, ".%03uZ", (unsigned)(unix_ms % 1000));
}

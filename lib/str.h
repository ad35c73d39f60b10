/*
 * lib/str.h - growable strings, string vectors, quoting, names, numbers with units. Any thread.
 */
#ifndef DROVER_LIB_STR_H
#define DROVER_LIB_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

/* A growable string. {0} is an empty one. After a failed allocation it is `bad` and stays so. */
struct buf {
	char *data; /* NUL-terminated when not NULL */
	size_t len, cap;
	bool bad;
};

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
/* Removes the first n bytes. */
void buf_drop(struct buf *b, size_t n);
void buf_clear(struct buf *b);
void buf_finish(struct buf *b);
/* Hands the string over to the caller (free()); NULL when bad. b is empty afterwards. */
char *buf_steal(struct buf *b);
/* Never NULL. */
const char *buf_str(const struct buf *b);

/* A NULL-terminated vector of strings that it owns, e.g. an argv. {0} is an empty one. */
struct strv {
	char **v; /* NULL while empty */
	size_t n;
	bool bad;
};

void strv_add(struct strv *s, const char *str);
void strv_addf(struct strv *s, const char *fmt, ...) PRINTF(2, 3);
bool strv_has(const struct strv *s, const char *str);
/* Returns 0 or -ENOMEM. */
int strv_copy(struct strv *out, const struct strv *from);
void strv_finish(struct strv *s);

/* printf into new memory; NULL when there is none. */
char *str_printf(const char *fmt, ...) PRINTF(1, 2);
bool str_eq(const char *a, const char *b); /* both NULL is equal */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Cuts white space off both ends, in place; returns the new start. */
char *str_trim(char *s);

/*
 * Foreign text for a message: in single quotes, control characters, quotes and invalid UTF-8 as
 * \xNN, cut at about 200 bytes with "...". Returns one of eight static buffers of this thread.
 */
const char *quote(const char *s);
const char *quote_n(const char *s, size_t n);

/* Length of the well-formed UTF-8 sequence (RFC 3629) at s, which has n bytes; 0: there is none. */
size_t utf8_len(const char *s, size_t n);

/* [a-z0-9]([a-z0-9._-]*[a-z0-9])?, at most 63 characters: names of machines, networks, ... */
#define NAME_LEN_MAX 63
int name_check(const char *name, const char *what, struct err *err);

/*
 * The entry of names[0..n) nearest to s by edit distance, NULL when none is near enough to be
 * worth a suggestion.
 */
const char *str_nearest(const char *s, const char *const names[], size_t n);

/* Whole string, decimal. */
int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out, struct err *err);
/* "512M", "8G", "4096": bytes with K, M, G, T = powers of 1024 (an optional iB or B behind). */
int parse_size(const char *s, uint64_t *out, struct err *err);
/* "500ms", "30s", "5m", "2h", "1d", a bare number is seconds; result in ms. */
int parse_duration_ms(const char *s, uint64_t *out, struct err *err);
/* yes/no, true/false, on/off, 1/0. */
int parse_bool(const char *s, bool *out, struct err *err);
/* "512M", "1.5G": shortest form for a person. Static buffers as with quote(). */
const char *format_size(uint64_t bytes);
/* "3s", "2m 5s", "3h 2m", "4d 3h" */
const char *format_duration(uint64_t seconds);

/* FNV-1a, 64 bit: stable over versions, for names in the kernel and subnets; not for security. */
uint64_t hash64(const void *data, size_t len, uint64_t seed);
#define HASH64_SEED 0xcbf29ce484222325ull

/* RFC 3339 in UTC with milliseconds, "2024-05-01T12:00:00.123Z"; buf of at least 32 bytes. */
void format_time(char *buf, uint64_t unix_ms);

#endif

#include "lib/json-add.h"

#include <stdlib.h>
#include <string.h>
#include "lib/json.h"

void json_add_key(struct buf *b, const char *key)
{
	char last = b->len > 0 ? b->data[b->len - 1] : '{';

	if (last != '{' && last != '[' && last != ',')
		buf_add(b, ",", 1);
	if (key == NULL)
		return;
	buf_add(b, "\"", 1);
	buf_adds(b, key);
	buf_add(b, "\":", 2);
}

/* Whether it stands for itself in JSON (RFC 8259, section 7). */
static bool is_plain(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
			return false;
	}
	return true;
}

/* By jansson, which knows what is to be escaped. */
static void add_escaped(struct buf *b, const char *value)
{
	json_t *v = json_str_new(value);
	char *text = v != NULL ? json_text(v) : NULL;

	if (text != NULL)
		buf_adds(b, text);
	else
		b->bad = true;
	free(text);
	json_decref(v);
}

void json_add_str(struct buf *b, const char *key, const char *value)
{
	size_t len = value != NULL ? strlen(value) : 0;

	json_add_key(b, key);
	if (value == NULL) {
		buf_adds(b, "null");
	} else if (is_plain(value, len)) {
		buf_add(b, "\"", 1);
		buf_add(b, value, len);
		buf_add(b, "\"", 1);
	} else {
		add_escaped(b, value);
	}
}

void json_add_int(struct buf *b, const char *key, int64_t value)
{
	char digits[24], *p = digits + sizeof(digits);
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	do
		*--p = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (value < 0)
		*--p = '-';
	json_add_key(b, key);
	buf_add(b, p, (size_t)(digits + sizeof(digits) - p));
}

void json_add_open(struct buf *b, const char *key, char bracket)
{
	json_add_key(b, key);
	buf_add(b, &bracket, 1);
}

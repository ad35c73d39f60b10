#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/file.h"

#define JSON_FILE_MAX (64u << 20)

int json_parse(const char *data, size_t len, json_t **out, struct err *err)
{
	json_error_t je;
	json_t *v = json_loadb(data, len, JSON_DECODE_ANY, &je);

	if (v == NULL) {
		if (json_error_code(&je) == json_error_out_of_memory)
			return err_nomem(err);
		/* jansson's text quotes the input, which is foreign; it is UTF-8 checked by then. */
		return err_set(err, -EINVAL, "not JSON: line %d, column %d: %s", je.line, je.column,
			quote(je.text));
	}
	*out = v;
	return 0;
}

int json_read_file(const char *path, json_t **out, struct err *err)
{
	struct buf text = { 0 };
	int ret = file_read(path, JSON_FILE_MAX, &text, err);

	if (ret == 0) {
		ret = json_parse(buf_str(&text), text.len, out, err);
		if (ret != 0)
			err_wrap(err, "%s", quote(path));
	}
	buf_finish(&text);
	return ret;
}

char *json_text(const json_t *v)
{
	return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

const char *json_str(const json_t *obj, const char *key)
{
	return json_string_value(json_object_get(obj, key));
}

int64_t json_int(const json_t *obj, const char *key, int64_t def)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) ? json_integer_value(v) : def;
}

bool json_flag(const json_t *obj, const char *key, bool def)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : def;
}

const json_t *json_obj(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_object(v) ? v : NULL;
}

const json_t *json_arr(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_array(v) ? v : NULL;
}

static int missing(const json_t *obj, const char *key, const char *type, struct err *err)
{
	if (json_object_get(obj, key) == NULL)
		return err_set(err, -EBADMSG, "%s is missing", quote(key));
	return err_set(err, -EBADMSG, "%s is not %s", quote(key), type);
}

int json_need_str(const json_t *obj, const char *key, const char **out, struct err *err)
{
	const char *s = json_str(obj, key);

	if (s == NULL)
		return missing(obj, key, "a string", err);
	*out = s;
	return 0;
}

int json_need_int(const json_t *obj, const char *key, int64_t *out, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!json_is_integer(v))
		return missing(obj, key, "an integer", err);
	*out = json_integer_value(v);
	return 0;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 if there is none. */
static size_t utf8_len(const unsigned char *s)
{
	static const struct {
		unsigned char lo, hi, second_lo, second_hi;
		unsigned char len;
	} forms[] = {
		{ 0x01, 0x7f, 0, 0, 1 },
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		size_t n = forms[i].len;

		if (s[0] < forms[i].lo || s[0] > forms[i].hi)
			continue;
		if (n > 1 && (s[1] < forms[i].second_lo || s[1] > forms[i].second_hi))
			return 0;
		for (size_t j = 2; j < n; j++) {
			if (s[j] < 0x80 || s[j] > 0xbf)
				return 0;
		}
		return n;
	}
	return 0;
}

/* Console lines and programs' messages can hold any byte; what is not UTF-8 becomes U+FFFD. */
json_t *json_str_new(const char *value)
{
	const unsigned char *s = (const unsigned char *)value;
	struct buf clean = { 0 };
	json_t *v = json_string(value);

	if (v != NULL)
		return v;
	while (*s != '\0') {
		size_t n = utf8_len(s);

		if (n > 0)
			buf_add(&clean, s, n);
		else
			buf_adds(&clean, "\xef\xbf\xbd");
		s += n > 0 ? n : 1;
	}
	if (!clean.bad)
		v = json_string(buf_str(&clean));
	buf_finish(&clean);
	return v;
}

static int put(json_t *obj, const char *key, json_t *value)
{
	/* A NULL value (no memory) is refused by json_object_set_new() too. */
	return json_object_set_new(obj, key, value) == 0 ? 0 : -ENOMEM;
}

int json_put_str(json_t *obj, const char *key, const char *value)
{
	return put(obj, key, value != NULL ? json_str_new(value) : json_null());
}

int json_put_int(json_t *obj, const char *key, int64_t value)
{
	return put(obj, key, json_integer(value));
}

int json_put_bool(json_t *obj, const char *key, bool value)
{
	return put(obj, key, json_boolean(value));
}

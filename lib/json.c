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
		/* Its own text names a flag of its API. */
		if (json_error_code(&je) == json_error_null_character ||
			json_error_code(&je) == json_error_null_byte_in_key)
			return err_set(err, -EINVAL,
				"line %d, column %d: a string with a NUL character (\\u0000) cannot be taken",
				je.line, je.column);
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

/* Console lines and programs' messages can hold any byte; what is not UTF-8 becomes U+FFFD. */
json_t *json_str_new(const char *value)
{
	const char *s = value, *end = value + strlen(value);
	struct buf clean = { 0 };
	json_t *v = json_string(value);

	if (v != NULL)
		return v;
	while (s < end) {
		size_t n = utf8_len(s, (size_t)(end - s));

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

/*
 * Checks what is sent against the API description, which tests/ch-schema converted. Stricter than
 * the real program, which passes over what it does not know: an unknown member is an error here, so
 * that a misspelt one does not go unseen.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/ch/fake.h"

__asm__(".section .rodata\n"
	"schema_text:\n"
	".incbin \"tests/data/cloud-hypervisor/schema.json\"\n"
	"schema_text_end:\n"
	".byte 0\n"
	".previous\n");
extern const char schema_text[], schema_text_end[];

struct check {
	const char *text; /* what was sent */
	char *why;
	size_t cap;
	const char *at; /* where the value ends that does not fit */
};

static json_t *document(void)
{
	static json_t *doc;
	json_error_t e;

	if (doc == NULL)
		doc = json_loadb(schema_text, (size_t)(schema_text_end - schema_text), 0, &e);
	if (doc == NULL) {
		fprintf(stderr, "fake-ch: schema.json:%d: %s\n", e.line, e.text);
		abort();
	}
	return doc;
}

static json_t *schema_named(const char *name)
{
	return json_object_get(json_object_get(document(), "schemas"), name);
}

void schema_route(const char *path, struct schema_route *out)
{
	json_t *r = json_object_get(json_object_get(document(), "routes"), path);

	*out = (struct schema_route){
		.known = r != NULL,
		.method = json_string_value(json_object_get(r, "method")),
		.body = json_string_value(json_object_get(r, "body")),
	};
}

/* Where things are in the text, for serde's "at line 1 column 17" */

static const char *skip_string(const char *p)
{
	for (p++; *p != '\0' && *p != '"'; p++)
		if (*p == '\\' && p[1] != '\0')
			p++;
	return *p == '"' ? p + 1 : p;
}

/* Behind the value that begins at p. */
static const char *skip_value(const char *p)
{
	int depth = 0;

	p += strspn(p, " \t\r\n");
	if (*p == '"')
		return skip_string(p);
	if (*p != '{' && *p != '[')
		return p + strcspn(p, ",]} \t\r\n");
	do {
		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		p++;
	} while (depth > 0 && *p != '\0');
	return p;
}

/* The value of a member of the object at p, or the index-th of the array there. */
static const char *descend(const char *p, const char *key, size_t index)
{
	size_t n = 0;

	p += strspn(p, " \t\r\n");
	for (p++; *p != '\0' && *p != '}' && *p != ']'; n++) {
		const char *name;

		p += strspn(p, " \t\r\n,");
		if (key == NULL && n == index)
			return p;
		if (key != NULL) {
			name = p + 1;
			p = skip_string(p);
			if (strncmp(name, key, strlen(key)) == 0 && name[strlen(key)] == '"')
				return p + strspn(p, " \t\r\n:");
			p += strspn(p, " \t\r\n:");
		}
		p = skip_value(p);
		p += strspn(p, " \t\r\n");
	}
	return p;
}

static bool fail(struct check *c, const char *at, const char *what)
{
	size_t line = 1, column = 0;

	for (const char *p = c->text; p < at; p++) {
		column++;
		if (*p == '\n') {
			line++;
			column = 0;
		}
	}
	snprintf(c->why, c->cap, "%s at line %zu column %zu", what, line, column);
	return false;
}

static bool check_value(struct check *c, const json_t *s, const json_t *v, const char *at);

static bool wrong_type(struct check *c, const json_t *v, const char *at, const char *expected)
{
	char what[256];

	switch (json_typeof(v)) {
	case JSON_STRING:
		snprintf(what, sizeof(what), "invalid type: string \"%s\", expected %s",
			json_string_value(v), expected);
		break;
	case JSON_INTEGER:
		snprintf(what, sizeof(what), "invalid type: integer `%lld`, expected %s",
			(long long)json_integer_value(v), expected);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		snprintf(what, sizeof(what), "invalid type: boolean `%s`, expected %s",
			json_is_true(v) ? "true" : "false", expected);
		break;
	default:
		snprintf(what, sizeof(what), "invalid type: %s, expected %s",
			json_is_null(v)    ? "null"
			: json_is_array(v) ? "sequence"
					   : "map",
			expected);
		/* serde sees of those only how they begin. */
		if (!json_is_null(v))
			return fail(c, at, what);
	}
	return fail(c, skip_value(at), what);
}

static bool check_integer(struct check *c, const json_t *s, const json_t *v, const char *at)
{
	static const struct {
		const char *format, *rust;
		long long min, max;
	} formats[] = {
		{ "uint8", "u8", 0, UINT8_MAX },
		{ "uint16", "u16", 0, UINT16_MAX },
		{ "uint32", "u32", 0, UINT32_MAX },
		{ "int8", "u8", 0, UINT8_MAX },
		{ "int16", "u16", 0, UINT16_MAX },
		{ "int32", "u32", 0, UINT32_MAX },
		{ "int64", "u64", 0, INT64_MAX },
	};
	const char *format = json_string_value(json_object_get(s, "format"));
	const json_t *min = json_object_get(s, "minimum");
	long long value = json_integer_value(v);
	char what[160];
	size_t i;

	for (i = 0; format != NULL && i < N(formats); i++)
		if (strcmp(formats[i].format, format) == 0)
			break;
	if (format == NULL || i == N(formats))
		i = 2;
	if (!json_is_integer(v))
		return wrong_type(c, v, at, formats[i].rust);
	if (value < formats[i].min || value > formats[i].max ||
		(min != NULL && value < json_integer_value(min))) {
		snprintf(what, sizeof(what), "invalid value: integer `%lld`, expected %s", value,
			formats[i].rust);
		return fail(c, skip_value(at), what);
	}
	return true;
}

static bool check_enum(struct check *c, const json_t *words, const json_t *v, const char *at)
{
	char what[512];
	json_t *word;
	size_t i, n;

	json_array_foreach (words, i, word)
		if (json_equal(word, v))
			return true;
	n = (size_t)snprintf(what, sizeof(what), "unknown variant `%s`, expected%s",
		json_string_value(v), json_array_size(words) > 2 ? " one of" : "");
	json_array_foreach (words, i, word)
		n += (size_t)snprintf(what + n, sizeof(what) - n, "%s `%s`",
			i == 0                        ? ""
			: json_array_size(words) == 2 ? " or"
						      : ",",
			json_string_value(word));
	/* serde has looked at what follows by then. */
	return fail(c, skip_value(at) + 1, what);
}

/* net_util/src/mac.rs */
static bool check_mac(struct check *c, const json_t *v, const char *at)
{
	const char *mac = json_string_value(v);
	unsigned char b[6];
	char what[160];
	int n = 0;

	if (mac == NULL || (sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", b, b + 1, b + 2,
				    b + 3, b + 4, b + 5, &n) == 6 &&
				   mac[n] == '\0'))
		return true;
	snprintf(what, sizeof(what),
		"The provided MAC address is invalid: parsing of %s into a MAC address failed",
		mac);
	return fail(c, skip_value(at), what);
}

static bool check_object(struct check *c, const json_t *s, json_t *v, const char *at)
{
	const json_t *props = json_object_get(s, "properties"),
		     *rest = json_object_get(s, "additionalProperties");
	json_t *value, *name;
	const char *key;
	char what[160];
	size_t i;

	json_object_foreach (v, key, value) {
		const json_t *p = json_object_get(props, key);

		if (p == NULL && rest != NULL)
			p = rest;
		if (p == NULL) {
			snprintf(what, sizeof(what), "unknown field `%s`", key);
			return fail(c, descend(at, key, 0), what);
		}
		/* An Option<> takes null as well as its absence. */
		if (!json_is_null(value) && !check_value(c, p, value, descend(at, key, 0)))
			return false;
		if ((strcmp(key, "mac") == 0 || strcmp(key, "host_mac") == 0) &&
			!check_mac(c, value, descend(at, key, 0)))
			return false;
	}
	json_array_foreach (json_object_get(s, "required"), i, name) {
		if (json_object_get(v, json_string_value(name)) != NULL)
			continue;
		snprintf(what, sizeof(what), "missing field `%s`", json_string_value(name));
		return fail(c, skip_value(at), what);
	}
	return true;
}

static bool check_value(struct check *c, const json_t *s, const json_t *v, const char *at)
{
	const char *ref = json_string_value(json_object_get(s, "$ref"));
	const char *type = json_string_value(json_object_get(s, "type"));
	const json_t *words = json_object_get(s, "enum"), *one;
	char expected[96];
	size_t i;

	if (ref != NULL) {
		s = schema_named(ref);
		type = json_string_value(json_object_get(s, "type"));
		words = json_object_get(s, "enum");
	}
	if (type == NULL)
		return true;
	if (strcmp(type, "object") == 0) {
		snprintf(expected, sizeof(expected), "struct %s", ref != NULL ? ref : "map");
		return json_is_object(v) ? check_object(c, s, (json_t *)v, at)
					 : wrong_type(c, v, at, expected);
	}
	if (strcmp(type, "array") == 0) {
		if (!json_is_array(v))
			return wrong_type(c, v, at, "a sequence");
		json_array_foreach (v, i, one)
			if (!check_value(c, json_object_get(s, "items"), one, descend(at, NULL, i)))
				return false;
		return true;
	}
	if (strcmp(type, "boolean") == 0)
		return json_is_boolean(v) || wrong_type(c, v, at, "a boolean");
	if (strcmp(type, "integer") == 0)
		return check_integer(c, s, v, at);
	if (!json_is_string(v))
		return wrong_type(c, v, at, "a string");
	return words == NULL || check_enum(c, words, v, at);
}

bool schema_check(const char *name, const json_t *v, const char *text, char *why, size_t cap)
{
	json_t *ref = json_pack("{s:s}", "$ref", name);
	struct check c = { .text = text, .why = why, .cap = cap };
	bool ok = check_value(&c, ref, v, text + strspn(text, " \t\r\n"));

	json_decref(ref);
	return ok;
}

void schema_syntax(const char *text, size_t len, char *why, size_t cap)
{
	struct check c = { .text = text, .why = why, .cap = cap };
	json_error_t e;
	json_t *v = json_loadb(text, len, JSON_DECODE_ANY, &e);
	size_t begin = strspn(text, " \t\r\n");

	if (v == NULL && json_error_code(&e) == json_error_premature_end_of_input && begin < len)
		fail(&c, text + len,
			text[begin] == '['   ? "EOF while parsing a list"
			: text[begin] == '{' ? "EOF while parsing an object"
					     : "EOF while parsing a value");
	else if (v == NULL && begin < len)
		fail(&c, text + begin + 1, "expected value");
	else if (v == NULL)
		fail(&c, text + len, "EOF while parsing a value");
	json_decref(v);
}

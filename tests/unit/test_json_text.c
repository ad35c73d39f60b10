/* Members of JSON text found and replaced, and what is no object in a lenient stream. Pure. */
#include "tests/unit/rig.h"

#include <stdlib.h>
#include <string.h>

#include "hv/json-scan.h"

static const char *found(const char *text, const char *name)
{
	static char value[128];
	struct json_member m;

	if (!json_find(text, strlen(text), name, &m))
		return NULL;
	snprintf(value, sizeof(value), "%.*s", (int)(m.end - m.value), text + m.value);
	return value;
}

static void test_find(void **state)
{
	static const struct {
		const char *text, *value;
	} cases[] = {
		{ "{\"id\":1}", "1" },
		{ " { \"id\" : null } ", "null" },
		{ "{\"a\":{\"id\":1},\"b\":[{\"id\":2}],\"id\":\"x\"}", "\"x\"" },
		{ "{\"a\":\"\\\"id\\\":3,\",\"id\":{\"id\":[1,{}]}}", "{\"id\":[1,{}]}" },
		{ "{\"a\":\"}\\\\\",\"id\":1.50 ,\"b\":2}", "1.50" },
		{ "{\"id\":18446744073709551615}", "18446744073709551615" },
		{ "{\"\\u0069\\u0064\":7}", "7" },
		{ "{\"i\\u0064\":[\"]\"]}", "[\"]\"]" },
		{ "{\"id\":1,\"id\":2}", "1" },
		{ "{\"id\":\"\\\\\"}", "\"\\\\\"" },
		{ "{\"idx\":1,\"i\":2,\"\":3}", NULL },
		{ "{\"\\nid\":1,\"\\u00e9\":2}", NULL },
		{ "{}", NULL },
		{ "{\"a\":[1,2,\"id\"]}", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *got = found(cases[i].text, "id");

		if (!str_eq(got, cases[i].value))
			fail_msg("%s: %s", cases[i].text, got != NULL ? got : "nothing");
	}
}

/* No cut text makes it read beyond the end (the sanitizers' builds see that). */
static void test_find_cut(void **state)
{
	static const char text[] =
		" {\"a\" : {\"b\":\"\\u0041\\\"\"}, \"i\\u0064\": [1, {}], \"c\":1 }";
	struct json_member m;

	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n > 0 ? n : 1);

		memcpy(copy, text, n);
		if (json_find(copy, n, "id", &m))
			assert_true(m.value <= m.end && m.end <= n);
		json_exceeds(copy, n, 9, 99);
		free(copy);
	}
}

static void test_splice(void **state)
{
	static const struct {
		const char *text, *value, *wanted;
	} cases[] = {
		{ "{\"id\":1,\"x\":2}", "77", "{\"id\":77,\"x\":2}" },
		{ "{\"x\":2, \"id\" : \"a\" }", "77", "{\"x\":2, \"id\" : 77 }" },
		{ "{\"x\":2}", "77", "{\"id\": 77, \"x\":2}" },
		{ " { }", "7", " {\"id\": 7 }" },
		{ "{\"x\":18446744073709551615,\"y\":1e400}", "1",
			"{\"id\": 1, \"x\":18446744073709551615,\"y\":1e400}" },
		{ "{\"return\": {}, \"id\": 5}", NULL, "{\"return\": {}}" },
		{ "{\"id\": 5, \"error\": {\"id\": 1}}", NULL, "{\"error\": {\"id\": 1}}" },
		{ "{\"a\":1,\"id\":5 ,\"b\":2}", NULL, "{\"a\":1,\"b\":2}" },
		{ "{\"id\":5}", NULL, "{}" },
		{ "{\"a\":{\"id\":5}}", NULL, "{\"a\":{\"id\":5}}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf out = { 0 };

		json_splice(&out, cases[i].text, strlen(cases[i].text), "id", cases[i].value);
		assert_string_equal(buf_str(&out), cases[i].wanted);
		buf_finish(&out);
	}
}

static void test_exceeds(void **state)
{
	assert_false(json_exceeds("[[[\"[[[[\"]]]", 12, 3, 100));
	assert_true(json_exceeds("[[[[]]]]", 8, 3, 100));
	assert_false(json_exceeds("{\"a\":[1,2,3]}", 13, 9, 7));
	assert_true(json_exceeds("{\"a\":[1,2,3]}", 13, 9, 6));
}

/* Whatever pieces it comes in, the messages are the same. */
static void test_lenient(void **state)
{
	static const char text[] =
		" 5 [1,{\"a\":\"]\"}]{\"b\":1}nul{\"c\":2}\"{\\\"\" \xff\x01\n}x\r\n";
	static const char *const wanted[] = { "5", "[1,{\"a\":\"]\"}]", "{\"b\":1}", "nul",
		"{\"c\":2}", "\"{\\\"\"", "\xff\x01", "}x" };

	for (size_t step = 1; step < sizeof(text); step++) {
		struct json_scan s = { .lenient = true };
		size_t n = 0, len = 0;

		while (len < sizeof(text) - 1) {
			len = MIN(len + step, sizeof(text) - 1);
			while (json_scan(&s, text, len) == 1) {
				assert_true(n < ARRAY_LEN(wanted));
				assert_int_equal(s.pos - s.start, strlen(wanted[n]));
				assert_memory_equal(text + s.start, wanted[n], strlen(wanted[n]));
				n++;
			}
		}
		assert_int_equal(n, ARRAY_LEN(wanted));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_find_cut),
		cmocka_unit_test(test_splice),
		cmocka_unit_test(test_exceeds),
		cmocka_unit_test(test_lenient),
	};

	return cmocka_run_group_tests_name("json_text", tests, NULL, NULL);
}

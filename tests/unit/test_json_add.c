/* lib/json-add: the same text as jansson's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "lib/json-add.h"
#include "lib/json.h"

static void assert_text(struct buf *b, const char *wanted)
{
	json_t *v = NULL;

	assert_false(b->bad);
	assert_string_equal(buf_str(b), wanted);
	assert_int_equal(json_parse(buf_str(b), b->len, &v, NULL), 0);
	json_decref(v);
	buf_finish(b);
}

static void members_and_elements(void **state)
{
	struct buf b = { 0 };

	json_add_open(&b, NULL, '[');
	json_add_open(&b, NULL, '{');
	json_add_str(&b, "name", "a");
	json_add_str(&b, "none", NULL);
	json_add_open(&b, "list", '[');
	json_add_str(&b, NULL, "x");
	json_add_int(&b, NULL, -7);
	buf_adds(&b, "]");
	json_add_open(&b, "empty", '[');
	buf_adds(&b, "]");
	json_add_int(&b, "n", 0);
	buf_adds(&b, "}");
	json_add_open(&b, NULL, '{');
	buf_adds(&b, "}]");
	assert_text(
		&b, "[{\"name\":\"a\",\"none\":null,\"list\":[\"x\",-7],\"empty\":[],\"n\":0},{}]");
}

static void numbers(void **state)
{
	struct buf b = { 0 };

	json_add_open(&b, NULL, '[');
	json_add_int(&b, NULL, INT64_MIN);
	json_add_int(&b, NULL, INT64_MAX);
	json_add_int(&b, NULL, 10);
	buf_adds(&b, "]");
	assert_text(&b, "[-9223372036854775808,9223372036854775807,10]");
}

/* Every byte, alone and between others, is what jansson makes of it. */
static void any_bytes(void **state)
{
	static const char *const more[] = { "", "/x y/\xc3\xa9", "a\xffz", "\"\\", "\x7f", "\xc3" };

	for (size_t i = 1; i < 256 + sizeof(more) / sizeof(*more); i++) {
		char one[] = { 'a', (char)i, 'z', '\0' };
		const char *value = i < 256 ? one : more[i - 256];
		struct buf b = { 0 };
		json_t *array = json_array();
		char *wanted;

		json_array_append_new(array, json_str_new(value));
		wanted = json_text(array);
		json_add_open(&b, NULL, '[');
		json_add_str(&b, NULL, value);
		buf_adds(&b, "]");
		assert_text(&b, wanted);
		free(wanted);
		json_decref(array);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_and_elements),
		cmocka_unit_test(numbers),
		cmocka_unit_test(any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

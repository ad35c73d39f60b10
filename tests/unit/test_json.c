/* lib/json: parsing with errors, typed look-ups, output in order, strings that are not UTF-8. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/json.h"

static void parses_any_value(void **state)
{
	struct err err;
	json_t *v = NULL;

	assert_int_equal(json_parse("42", 2, &v, &err), 0);
	assert_int_equal(json_integer_value(v), 42);
	json_decref(v);
	assert_int_equal(json_parse(" \"a\" ", 5, &v, &err), 0);
	assert_string_equal(json_string_value(v), "a");
	json_decref(v);
}

static void names_the_line_of_a_mistake(void **state)
{
	const char text[] = "{\"a\": 1,\n \"b\": }";
	json_t *v = NULL;
	struct err err = { 0 };

	assert_int_equal(json_parse(text, strlen(text), &v, &err), -EINVAL);
	assert_null(v);
	assert_non_null(strstr(err.msg, "line 2"));
	assert_int_equal(json_parse("{} x", 4, &v, &err), -EINVAL);
	assert_int_equal(json_parse("", 0, &v, &err), -EINVAL);
	assert_int_equal(json_parse("\"\xff\"", 3, &v, &err), -EINVAL);
	assert_null(v);
}

static void looks_up_by_type(void **state)
{
	const char text[] = "{\"s\":\"x\",\"i\":-7,\"t\":true,\"n\":null,\"o\":{},\"a\":[1]}";
	const char *s = "unchanged";
	int64_t i = 99;
	struct err err = { 0 };
	json_t *v;

	assert_int_equal(json_parse(text, strlen(text), &v, &err), 0);
	assert_string_equal(json_str(v, "s"), "x");
	assert_null(json_str(v, "i"));
	assert_null(json_str(v, "n"));
	assert_null(json_str(v, "absent"));
	assert_null(json_str(NULL, "s"));
	assert_int_equal(json_int(v, "i", 3), -7);
	assert_int_equal(json_int(v, "s", 3), 3);
	assert_true(json_flag(v, "t", false));
	assert_true(json_flag(v, "absent", true));
	assert_false(json_flag(v, "i", false));
	assert_non_null(json_obj(v, "o"));
	assert_null(json_obj(v, "a"));
	assert_non_null(json_arr(v, "a"));
	assert_null(json_arr(v, "o"));

	assert_int_equal(json_need_str(v, "i", &s, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "'i'"));
	assert_string_equal(s, "unchanged");
	assert_int_equal(json_need_int(v, "absent", &i, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "missing"));
	assert_int_equal(i, 99);
	assert_int_equal(json_need_int(v, "i", &i, &err), 0);
	assert_int_equal(i, -7);
	json_decref(v);
}

static void writes_one_line_in_order(void **state)
{
	json_t *v = json_object();
	char *text;

	assert_int_equal(json_put_str(v, "zebra", "a\nb"), 0);
	assert_int_equal(json_put_int(v, "ant", 5), 0);
	assert_int_equal(json_put_bool(v, "bee", false), 0);
	assert_int_equal(json_put_str(v, "none", NULL), 0);
	text = json_text(v);
	assert_string_equal(text, "{\"zebra\":\"a\\nb\",\"ant\":5,\"bee\":false,\"none\":null}");
	free(text);
	json_decref(v);
}

static void keeps_what_is_no_utf8(void **state)
{
	json_t *v = json_object();

	assert_int_equal(json_put_str(v, "s", "a\xff\xc3\xa4\xed\xa0\x80z\xe2\x82"), 0);
	assert_string_equal(json_str(v, "s"),
		"a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd");
	json_decref(v);
}

static void reads_files(void **state)
{
	char path[] = "/tmp/drover-json-XXXXXX";
	int fd = mkstemp(path);
	struct err err = { 0 };
	json_t *v = NULL;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "[1,\n", 4), 4);
	assert_int_equal(json_read_file(path, &v, &err), -EINVAL);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(write(fd, "2]", 2), 2);
	assert_int_equal(json_read_file(path, &v, &err), 0);
	assert_int_equal(json_array_size(v), 2);
	json_decref(v);
	close(fd);
	unlink(path);
	assert_int_equal(json_read_file(path, &v, &err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_any_value),
		cmocka_unit_test(names_the_line_of_a_mistake),
		cmocka_unit_test(looks_up_by_type),
		cmocka_unit_test(writes_one_line_in_order),
		cmocka_unit_test(keeps_what_is_no_utf8),
		cmocka_unit_test(reads_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

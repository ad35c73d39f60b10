#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/str.h"

static void test_err(void **state)
{
	struct err err;

	assert_int_equal(err_errno(&err, -ENOENT, "open %s", quote("/x")), -ENOENT);
	assert_int_equal(err_wrap(&err, "vm %s", "web-1"), -ENOENT);
	/* Whoever does not want the words still learns what it was. */
	err_set(NULL, -ENOSPC, "no room");
	assert_int_equal(err_wrap(NULL, "vm %s", "web-1"), -ENOSPC);
	err_errno(NULL, -EMFILE, "open");
	assert_int_equal(err_wrap(NULL, "vm %s", "web-1"), -EMFILE);
	assert_string_equal(err.msg, "vm web-1: open '/x': No such file or directory");
	assert_string_equal(err_word(-ENOENT), "not-found");
	assert_int_equal(err_from_word("busy"), -EBUSY);
	assert_int_equal(err_from_word("what"), -EIO);
	assert_string_equal(err_word(-12345), "failed");
	/* The message may be an argument of its own successor. */
	err_set(&err, -EIO, "again: %s", err.msg);
	assert_string_equal(err.msg, "again: vm web-1: open '/x': No such file or directory");
}

static void test_buf(void **state)
{
	struct buf b = { 0 };
	char *s;

	assert_string_equal(buf_str(&b), "");
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	assert_int_equal(b.len, 3890);
	buf_drop(&b, 3886);
	assert_string_equal(buf_str(&b), "999,");
	s = buf_steal(&b);
	assert_string_equal(s, "999,");
	free(s);
	assert_null(b.data);
}

static void test_strv(void **state)
{
	struct strv s = { 0 }, copy;

	for (int i = 0; i < 100; i++)
		strv_addf(&s, "%d", i);
	assert_int_equal(s.n, 100);
	assert_null(s.v[100]);
	assert_int_equal(strv_copy(&copy, &s), 0);
	assert_true(strv_has(&copy, "99"));
	assert_false(strv_has(&copy, "100"));
	strv_finish(&s);
	strv_finish(&copy);
}

static void test_quote(void **state)
{
	char longer[400];

	assert_string_equal(quote("a b"), "'a b'");
	assert_string_equal(quote("it's\n\x1b[m"), "'it\\x27s\\x0a\\x1b[m'");
	assert_string_equal(quote("gr\xc3\xbc\xc3\x9f"), "'gr\xc3\xbc\xc3\x9f'");
	assert_string_equal(quote("\xff\xc0\xaf"), "'\\xff\\xc0\\xaf'");
	assert_string_equal(quote(NULL), "(none)");
	memset(longer, '\1', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_true(strlen(quote(longer)) < 256);
}

static void test_names(void **state)
{
	static const char *const good[] = { "a", "ubuntu-6.5", "0", "a_b", "a.b.c" };
	static const char *const bad[] = { "", "-a", "a-", ".", "..", "A", "a b", "a/b", "a\n" };
	char name[65];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(name_check(good[i], "machine", NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(name_check(bad[i], "machine", NULL), -EINVAL);
	memset(name, 'x', 64);
	name[64] = '\0';
	assert_int_equal(name_check(name, "machine", NULL), -EINVAL);
	name[63] = '\0';
	assert_int_equal(name_check(name, "machine", NULL), 0);
}

static void test_nearest(void **state)
{
	static const char *const names[] = { "memory", "vcpus", "kernel", "network" };

	assert_string_equal(str_nearest("memroy", names, 4), "memory");
	assert_string_equal(str_nearest("vcpu", names, 4), "vcpus");
	assert_string_equal(str_nearest("kernal", names, 4), "kernel");
	assert_null(str_nearest("zzz", names, 4));
	assert_null(str_nearest("disk", names, 4));
}

static void test_numbers(void **state)
{
	uint64_t v;
	bool b;

	assert_int_equal(parse_size("512M", &v, NULL), 0);
	assert_int_equal(v, 512ull << 20);
	assert_int_equal(parse_size("8GiB", &v, NULL), 0);
	assert_int_equal(v, 8ull << 30);
	assert_int_equal(parse_size("12", &v, NULL), 0);
	assert_int_equal(v, 12);
	assert_int_equal(parse_size("12X", &v, NULL), -EINVAL);
	assert_int_equal(parse_size("-1", &v, NULL), -EINVAL);
	assert_int_equal(parse_size("99999999999T", &v, NULL), -ERANGE);
	assert_int_equal(parse_size("99999999999999999999999", &v, NULL), -EINVAL);
	assert_int_equal(parse_duration_ms("500ms", &v, NULL), 0);
	assert_int_equal(v, 500);
	assert_int_equal(parse_duration_ms("2h", &v, NULL), 0);
	assert_int_equal(v, 7200000);
	assert_int_equal(parse_duration_ms("2 h", &v, NULL), -EINVAL);
	assert_int_equal(parse_bool("on", &b, NULL), 0);
	assert_true(b);
	assert_int_equal(parse_bool("maybe", &b, NULL), -EINVAL);
	assert_int_equal(parse_u64("12", 1, 10, &v, NULL), -ERANGE);
	assert_string_equal(format_size(512ull << 20), "512M");
	assert_string_equal(format_size(1536ull << 20), "1.5G");
	assert_string_equal(format_duration(3700), "1h 1m");
}

static void test_stable(void **state)
{
	char time[32];

	/* These end up in interface names and subnets: they may never change. */
	assert_true(hash64("a", 1, HASH64_SEED) == 0xaf63dc4c8601ec8cull);
	assert_true(hash64("foobar", 6, HASH64_SEED) == 0x85944171f73967e8ull);
	format_time(time, 1714564800123ull);
	assert_string_equal(time, "2024-05-01T12:00:00.123Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_strv),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

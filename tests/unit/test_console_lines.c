/* Lines out of a guest's bytes: escape sequences in any pieces, bounds, the tail. */
#include "tests/unit/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/console-lines.h"

static struct console_lines l;
static struct buf lines; /* each that fn got, with '|' behind */

static void line(void *arg, const char *text)
{
	buf_printf(&lines, "%s|", text);
}

static int teardown(void **state)
{
	console_lines_finish(&l);
	l = (struct console_lines){ 0 };
	buf_finish(&lines);
	return 0;
}

static void take(const char *data, size_t len)
{
	console_lines_take(&l, data, len, line, NULL);
}

/* Whole, and byte by byte: the same lines. */
static void assert_lines(const char *data, size_t len, const char *want)
{
	for (int step = 0; step < 2; step++) {
		teardown(NULL);
		for (size_t i = 0; i < len; i += step == 0 ? len : 1)
			take(data + i, step == 0 ? len : 1);
		assert_string_equal(buf_str(&lines), want);
	}
	teardown(NULL);
}

#define LINES(data, want) assert_lines(data, sizeof(data) - 1, want)

static void test_plain(void **state)
{
	LINES("", "");
	LINES("no end", "");
	LINES("one\ntwo\r\n\nfour\n", "one|two||four|");
	LINES("a\tb\x01\x7f\x08 c\n", "a b c|");
	LINES("zero\0inside\n", "zeroinside|");
	LINES("\xc3\xa4 \xff\n", "\xc3\xa4 \xff|");
}

static void test_escapes(void **state)
{
	LINES("\x1b[1;31mred\x1b[0m\n", "red|");
	LINES("\x1b[?25l\x1b[2J\x1b[Hat home\n", "at home|");
	LINES("\x1b]0;a title\x07 after\n", " after|");
	LINES("\x1b]0;a title\x1b\\after\n", "after|");
	LINES("\x1bPdevice\x1b\\x\x1bXy\x07z\n", "xz|");
	LINES("\x1b(B\x1b)0text\x1b=\x1b>\n", "text|");
	LINES("\x1b#8\x1b %Gtext\n", "text|");
	/* Broken off: the end of the line ends it, and what comes after is text. */
	LINES("lost\x1b[12\nfound\n", "lost|found|");
	LINES("lost\x1b]title\nfound\n", "lost|found|");
	LINES("lost\x1b\nfound\n", "lost|found|");
	LINES("lost\x1b(\nfound\n", "lost|found|");
}

/* The line is cut, the next one whole. */
static void test_long_line(void **state)
{
	char data[3 * CONSOLE_LINE_MAX];
	const char *got;

	memset(data, 'x', sizeof(data));
	take(data, sizeof(data));
	take("\nnext\n", 6);
	got = buf_str(&lines);
	assert_int_equal(strcspn(got, "|"), CONSOLE_LINE_MAX);
	assert_string_equal(got + CONSOLE_LINE_MAX, "|next|");
}

static void assert_tail(unsigned n, const char *want)
{
	struct strv v = { 0 };
	struct buf got = { 0 };

	console_lines_tail(&l, n, &v);
	for (size_t i = 0; i < v.n; i++)
		buf_printf(&got, "%s|", v.v[i]);
	assert_string_equal(buf_str(&got), want);
	buf_finish(&got);
	strv_finish(&v);
}

static void test_tail(void **state)
{
	assert_tail(5, "");
	take("one\ntwo\nthree\n", 14);
	assert_tail(0, "");
	assert_tail(1, "three|");
	assert_tail(2, "two|three|");
	assert_tail(9, "one|two|three|");
	take("login: ", 7);
	assert_tail(1, "login: |");
	assert_tail(2, "three|login: |");
	take("\n\n", 2);
	assert_tail(2, "login: ||");
}

/* However much was said: the last lines, whole ones, within the bounds. */
static void test_bounds(void **state)
{
	struct strv v = { 0 };
	size_t total = 0;
	char text[64];

	for (unsigned i = 0; i < 5000; i++) {
		int n = snprintf(text, sizeof(text), "line %u\n", i);

		take(text, (size_t)n);
		assert_true(l.tail.len <= 2 * CONSOLE_TAIL_MAX);
	}
	console_lines_tail(&l, 1000, &v);
	assert_int_equal(v.n, CONSOLE_TAIL_LINES);
	assert_string_equal(v.v[0], "line 4950");
	assert_string_equal(v.v[v.n - 1], "line 4999");
	strv_finish(&v);
	/* Long ones: fewer. */
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 1000; k++)
			take("y", 1);
		take("\n", 1);
	}
	console_lines_tail(&l, 50, &v);
	for (size_t i = 0; i < v.n; i++) {
		assert_int_equal(strlen(v.v[i]), 1000);
		total += strlen(v.v[i]) + 1;
	}
	assert_int_equal(v.n, 4);
	assert_true(total <= CONSOLE_TAIL_MAX);
	strv_finish(&v);
}

/* Bytes by chance: no line is longer than it may be, none holds what is no text. */
static void test_noise(void **state)
{
	unsigned seed = 7;

	for (unsigned i = 0; i < 200000; i++) {
		char b;

		seed = seed * 1103515245 + 12345;
		b = (char)(seed >> 16);
		take(&b, 1);
	}
	for (const char *p = buf_str(&lines); *p != '\0'; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
	teardown(NULL);
	take("clean\n", 6);
	assert_string_equal(buf_str(&lines), "clean|");
}

int main(void)
{
#define T(test) cmocka_unit_test_teardown(test, teardown)
	const struct CMUnitTest tests[] = {
		T(test_plain),
		T(test_escapes),
		T(test_long_line),
		T(test_tail),
		T(test_bounds),
		T(test_noise),
	};

	return cmocka_run_group_tests_name("console_lines", tests, NULL, NULL);
}

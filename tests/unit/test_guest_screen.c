/* What of a guest's output reaches the terminal of who works at its console. */
#include "tests/unit/rig.h"

#include <string.h>

#include "ctl/guest-screen.h"

static void assert_shown(const char *in, const char *want)
{
	for (size_t piece = 1; piece <= strlen(in) + 1; piece++) {
		struct guest_screen g = { 0 };
		struct buf out = { 0 };

		for (size_t at = 0; at < strlen(in); at += piece)
			guest_screen_add(&g, in + at, MIN(piece, strlen(in) - at), &out);
		assert_string_equal(buf_str(&out), want);
		buf_finish(&out);
	}
}

static void test_passes(void **state)
{
	static const char *const same[] = { "text\r\n\ttab\b\a", "\033[1;31mred\033[0m",
		"\033[2J\033[H\033[10;20H\033[K", "\033[?1049h\033[?25l", "\0337\0338\033M",
		"\033[6n\033[c", "\033(0lqk\033(B", "\033[5;20r", "\033[2 q", "\033[!p", "\033=",
		"gr\xc3\xb6\xc3\x9f"
		"e \xe2\x94\x80 \xf0\x9f\x98\x80",
		"\033[>c", "\033[?2J" };

	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		assert_shown(same[i], same[i]);
}

static void test_left_out(void **state)
{
	static const char *const none[] = { "\033]0;title\a", "\033]52;c;aGVsbG8=\033\\",
		"\033P$q\"p\033\\", "\033_x\033\\", "\033^x\033\\", "\033Xx\033\\", "\033[21t",
		"\033[5i", "\033[?5i", "\033[1;1;1;1;1;1*y", "\033[>4;1m", "\033[?9999h",
		"\033[?3h", "\033Z", "\005", "\177", "\302\233", "\233", "\220", "\033#8", "\033(Z",
		"\033[?1$p", "\033%G", "\033[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17m" };

	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_shown(none[i], "");
	assert_shown("\033[?25;9999;2004h", "\033[?25h\033[?2004h");
	assert_shown("\302\2332J", "2J");
	assert_shown("\033\033[1m", "\033[1m");
}

static void test_end(void **state)
{
	struct guest_screen g = { 0 };
	struct buf out = { 0 };
	static const char in[] = "\033[?25l\033[?1049h\033[?2004h\033[?2004l\033=\033[2;9r\016";

	guest_screen_end(&g, &out);
	assert_string_equal(buf_str(&out), "\033[0m");
	buf_clear(&out);
	guest_screen_add(&g, in, strlen(in), &out);
	buf_clear(&out);
	guest_screen_end(&g, &out);
	assert_string_equal(buf_str(&out), "\033[?25h\033[?1049l\0337\033[r\0338\033>"
					   "\033(B\033)B\017\033[0m");
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests_name("guest screen", tests, NULL, NULL);
}

/* What of a guest's console output may reach a person's terminal. */
#include "tests/unit/rig.h"

#include <string.h>
#include "ctl/guest-text.h"

/* In one piece, and byte by byte. */
static void expect(const char *in, size_t len, const char *wanted)
{
	struct guest_text whole = { 0 }, crumbs = { 0 };
	struct buf a = { 0 }, b = { 0 };

	guest_text_add(&whole, in, len, &a);
	for (size_t i = 0; i < len; i++)
		guest_text_add(&crumbs, in + i, 1, &b);
	assert_string_equal(buf_str(&a), wanted);
	assert_string_equal(buf_str(&b), wanted);
	buf_finish(&a);
	buf_finish(&b);
}

#define SHOWN(in, wanted) expect(in, sizeof(in) - 1, wanted)

static void text_passes(void **state)
{
	SHOWN("Linux\r\n\tlogin: \n", "Linux\r\n\tlogin: \n");
	SHOWN("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xc2\xa0\xc2\xbd",
		"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xc2\xa0\xc2\xbd");
	SHOWN("[ \033[0;32mOK\033[0m ]", "[ \033[0;32mOK\033[0m ]");
	SHOWN("\033[m\033[38:5:1mx", "\033[m\033[38:5:1mx");
}

static void the_terminal_is_left_alone(void **state)
{
	SHOWN("a\033[2J\033[1;1Hb", "ab");
	SHOWN("a\033]0;title\007b\033]0;title\033\\c", "abc");
	SHOWN("a\033P$q\"p\033\\b\033_x\033\\c\033^x\033\\d\033Xx\033\\e", "abcde");
	SHOWN("a\033c\0337\033(0b\033#8c", "abc");
	SHOWN("a\033[6n\033[>cb\033[?25lc\033[?1mx", "abcx");
	SHOWN("a\007\b\177\0\016b", "ab");
	SHOWN("a\xc2\x9b"
	      "2Jb\xc2\x85",
		"a2Jb");
	SHOWN("a\033\033[31mb", "a\033[31mb");
}

static void what_has_no_end_shows_nothing(void **state)
{
	char in[3000];

	memset(in, '1', sizeof(in));
	memcpy(in, "\033[", 2);
	in[sizeof(in) - 2] = 'm';
	in[sizeof(in) - 1] = 'x';
	expect(in, sizeof(in), "x");
	SHOWN("a\033]0;never ends", "a");
	SHOWN("a\033", "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_passes),
		cmocka_unit_test(the_terminal_is_left_alone),
		cmocka_unit_test(what_has_no_end_shows_nothing),
	};

	return cmocka_run_group_tests_name("guest_text", tests, NULL, NULL);
}

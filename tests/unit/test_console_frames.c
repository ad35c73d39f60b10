/* The console stream's frames, however they are cut. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <string.h>

#include "ctl/console-frames.h"

static void on_output(void *arg, const char *data, size_t len)
{
	buf_add(arg, data, len);
}

static void on_object(void *arg, const char *text, size_t len)
{
	assert_int_equal(strlen(text), len);
	buf_printf(arg, "<%s>", text);
}

static int run(const char *in, size_t len, size_t piece, struct buf *got)
{
	const struct console_frames_to to = { on_output, on_object, got };
	struct console_frames f = { 0 };
	int r = 0;

	for (size_t at = 0; at < len && r == 0; at += piece)
		r = console_frames_add(&f, in + at, MIN(piece, len - at), &to);
	buf_finish(&f.held);
	return r;
}

static void test_pieces(void **state)
{
	static const char in[] = "j 7\n{\"a\":1}o 3\na\nbo 0\no 5\no 1\n\0j 2\n{}";

	for (size_t piece = 1; piece <= sizeof(in); piece++) {
		struct buf got = { 0 };

		assert_int_equal(run(in, sizeof(in) - 1, piece, &got), 0);
		assert_int_equal(got.len, strlen("<{\"a\":1}>a\nb") + 5 + strlen("<{}>"));
		assert_memory_equal(got.data, "<{\"a\":1}>a\nbo 1\n\0<{}>", got.len);
		buf_finish(&got);
	}
}

static void test_nonsense(void **state)
{
	static const char *const bad[] = { "x 3\nabc", "o\n", "o -1\n", "o 1 \n", "o 99999999999\n",
		"j 70000\n", "ooooooooooooooooooooooooooooooooooooooo", "\n", "o a\n" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf got = { 0 };

		if (run(bad[i], strlen(bad[i]), 100, &got) != -EBADMSG)
			fail_msg("%s was taken", bad[i]);
		buf_finish(&got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests_name("console frames", tests, NULL, NULL);
}

/* Event files as crashes leave them, and the search in long ones. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/str.h"
#include "supervisor/events-read.h"

static int fd;

static int setup(void **state)
{
	fd = memfd_create("events", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	close(fd);
	return 0;
}

static uint64_t put(const char *data, size_t len)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, data, len, 0), len);
	return len;
}

#define E1 "{\"seq\":1,\"event\":\"a\"}\n"
#define E2 "{\"seq\":2,\"event\":\"b\"}\n"

static void assert_end(const char *data, size_t len, uint64_t end, uint64_t seq)
{
	uint64_t got_end = 77, got_seq = 77;

	put(data, len);
	assert_int_equal(events_find_end(fd, len, &got_end, &got_seq), 0);
	assert_int_equal(got_end, end);
	assert_int_equal(got_seq, seq);
}

#define END(text, end, seq) assert_end(text, sizeof(text) - 1, end, seq)

static void test_end(void **state)
{
	const size_t one = strlen(E1), two = strlen(E1 E2);

	END("", 0, 0);
	END(E1, one, 1);
	END(E1 E2, two, 2);
	/* Half a line; a line that lacks only its newline; zeros; zeros behind half a line. */
	END(E1 "{\"seq\":2,\"eve", one, 1);
	END(E1 "{\"seq\":2,\"event\":\"b\"}", one, 1);
	END(E1 E2 "\0\0\0\0\0\0\0\0", two, 2);
	END(E1 "{\"seq\":2,\"ev\0\0\0\0\n", one, 1);
	/* Whole lines that are no events, at the end. */
	END(E1 "\n\n", one, 1);
	END(E1 "hello\n", one, 1);
	END(E1 "{\"seq\":\"2\"}\n{\"time\":1,\"seq\":3}\n", one, 1);
	END(E1 "{\"seq\":2,\"event\":\"b\"\n", one, 1);
	/* Nothing sound at all. */
	END("hello\n", 0, 0);
	END("\0\0\0\0", 0, 0);
	END("{\"seq\":0,\"event\":\"a\"}\n", 0, 0);
}

/* A last line that is longer than any piece that is read at once. */
static void test_end_long(void **state)
{
	struct buf text = { 0 };
	uint64_t end, seq;

	buf_adds(&text, E1);
	buf_adds(&text, "{\"seq\":2,\"text\":\"");
	for (unsigned i = 0; i < 200000; i++)
		buf_adds(&text, "x");
	end = text.len;
	put(text.data, text.len);
	assert_int_equal(events_find_end(fd, text.len, &end, &seq), 0);
	assert_int_equal(end, strlen(E1));
	assert_int_equal(seq, 1);
	buf_adds(&text, "\"}\n");
	put(text.data, text.len);
	assert_int_equal(events_find_end(fd, text.len, &end, &seq), 0);
	assert_int_equal(end, text.len);
	assert_int_equal(seq, 2);
	buf_finish(&text);
}

struct seen {
	uint64_t first, last;
	unsigned n;
	bool gap;
	size_t bytes;
};

static void see(void *arg, uint64_t seq, const char *line, size_t len)
{
	struct seen *s = arg;

	assert_int_equal(line[len], '\n');
	assert_int_equal(line[0], '{');
	s->first = s->n == 0 ? seq : s->first;
	s->gap = s->gap || (s->n > 0 && seq != s->last + 1);
	s->last = seq;
	s->n++;
	s->bytes += len + 1;
}

static void test_lines(void **state)
{
	static const char data[] = E1 E2 "{\"seq\":3,\"ev";
	struct seen s = { 0 };

	assert_int_equal(events_read_lines(data, sizeof(data) - 1, 0, see, &s), strlen(E1 E2));
	assert_int_equal(s.n, 2);
	s = (struct seen){ 0 };
	assert_int_equal(events_read_lines(data, sizeof(data) - 1, 1, see, &s), strlen(E1 E2));
	assert_int_equal(s.first, 2);
	assert_int_equal(s.n, 1);
	s = (struct seen){ 0 };
	assert_int_equal(events_read_lines(data, sizeof(data) - 1, 9, see, &s), strlen(E1 E2));
	assert_int_equal(s.n, 0);
	assert_int_equal(events_read_lines("", 0, 0, see, &s), 0);
	/* What is no event takes its place and is not given out. */
	assert_int_equal(
		events_read_lines("junk\n" E2, 5 + strlen(E2), 0, see, &s), 5 + strlen(E2));
	assert_int_equal(s.n, 1);
	assert_int_equal(s.first, 2);
}

/* Lines of all lengths, from a few bytes to more than a piece; every place to begin. */
static void test_file(void **state)
{
	struct buf text = { 0 };
	const unsigned n = 3000;
	unsigned seed = 1;
	uint64_t size;

	for (unsigned i = 1; i <= n; i++) {
		unsigned len;

		seed = seed * 1103515245 + 12345;
		len = i % 500 == 0 ? 150000 : (seed >> 16) % 300;
		buf_printf(&text, "{\"seq\":%u,\"pad\":\"", i);
		for (unsigned k = 0; k < len; k++)
			buf_adds(&text, "y");
		buf_adds(&text, "\"}\n");
	}
	size = put(text.data, text.len);
	buf_finish(&text);
	for (unsigned since = 0; since <= n + 1; since += since < 5 || since > n - 5 ? 1 : 37) {
		struct seen s = { 0 };

		assert_int_equal(events_read_file(fd, size, since, see, &s), 0);
		assert_false(s.gap);
		assert_int_equal(s.n, since >= n ? 0 : n - since);
		if (since < n) {
			assert_int_equal(s.first, since + 1);
			assert_int_equal(s.last, n);
		}
	}
}

/* Only what is within size, even if the file has grown, or lost its end, since. */
static void test_size(void **state)
{
	struct seen s = { 0 };

	put(E1 E2, strlen(E1 E2));
	assert_int_equal(events_read_file(fd, strlen(E1), 0, see, &s), 0);
	assert_int_equal(s.n, 1);
	s = (struct seen){ 0 };
	assert_int_equal(events_read_file(fd, strlen(E1) + 3, 0, see, &s), 0);
	assert_int_equal(s.n, 1);
	s = (struct seen){ 0 };
	assert_int_equal(events_read_file(fd, 100000, 0, see, &s), 0);
	assert_int_equal(s.n, 2);
	assert_int_equal(events_read_file(fd, 0, 0, see, &s), 0);
	assert_int_equal(events_read_file(-1, 10, 0, see, &s), -EBADF);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_end),
		T(test_end_long),
		T(test_lines),
		T(test_file),
		T(test_size),
	};

	return cmocka_run_group_tests_name("events_read", tests, NULL, NULL);
}

#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/events.h"

static char *dir, *path;
static struct events *ev;

static void reopen(uint64_t max)
{
	struct err err = { 0 };

	events_close(ev);
	ev = NULL;
	if (events_open(&ev, NULL, path, max, &err) != 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	dir = rig_tmp();
	path = path_join(dir, "events.jsonl");
	reopen(0);
	return 0;
}

static int teardown(void **state)
{
	events_close(ev);
	ev = NULL;
	free(path);
	rig_tmp_finish(dir);
	return 0;
}

struct seen {
	struct buf seqs; /* "1 2 3 " */
	char last[8192];
	uint64_t count, first, final;
	struct events_sub *unsubscribe;
	bool emit;
};

static void see(void *arg, uint64_t seq, const char *line, size_t len)
{
	struct seen *s = arg;

	assert_int_equal(strnlen(line, len), len);
	assert_null(memchr(line, '\n', len));
	if (s->count++ == 0)
		s->first = seq;
	else
		assert_int_equal(seq, s->final + 1);
	s->final = seq;
	buf_printf(&s->seqs, "%" PRIu64 " ", seq);
	snprintf(s->last, sizeof(s->last), "%.*s", (int)len, line);
	if (s->unsubscribe != NULL)
		events_unsubscribe(s->unsubscribe);
	s->unsubscribe = NULL;
	if (s->emit) {
		s->emit = false;
		events_emit(ev, "drover", NULL, "nested", NULL);
	}
}

static void emit(unsigned n)
{
	while (n-- > 0)
		assert_int_not_equal(events_emit(ev, "vm", "web", "tick", NULL), 0);
}

static uint64_t replay(uint64_t since, struct seen *s)
{
	struct err err = { 0 };

	memset(s, 0, sizeof(*s));
	if (events_replay(ev, since, see, s, &err) != 0)
		fail_msg("%s", err.msg);
	buf_finish(&s->seqs);
	return s->count;
}

static void writes_members_in_order(void **state)
{
	json_t *more = json_object(), *v;
	struct buf text = { 0 };
	struct seen s = { 0 };

	json_put_str(more, "from", "starting");
	json_put_str(more, "to", "bad\xff");
	json_put_int(more, "seq", 77);
	events_subscribe(ev, see, &s);
	assert_int_equal(events_emit(ev, "vm", "web", "state", more), 1);
	assert_int_equal(events_emit(ev, "drover", NULL, "started", NULL), 2);
	assert_int_equal(events_last(ev), 2);
	assert_string_equal(s.seqs.data, "1 2 ");
	assert_int_equal(file_read(path, 1 << 20, &text, NULL), 0);
	assert_true(str_starts(text.data, "{\"seq\":1,\"time\":\"20"));
	assert_non_null(strstr(text.data,
		"\"kind\":\"vm\",\"name\":\"web\",\"event\":\"state\",\"from\":\"starting\","
		"\"to\":\"bad\xef\xbf\xbd\"}\n{\"seq\":2,"));
	assert_int_equal(json_parse(s.last, strlen(s.last), &v, NULL), 0);
	assert_true(json_is_null(json_object_get(v, "name")));
	json_decref(v);
	buf_finish(&text);
	buf_finish(&s.seqs);
}

static void numbers_go_on_after_a_restart(void **state)
{
	struct seen s;

	emit(5);
	reopen(0);
	assert_int_equal(events_last(ev), 5);
	emit(2);
	assert_int_equal(replay(0, &s), 7);
	assert_int_equal(replay(5, &s), 2);
	assert_int_equal(s.first, 6);
	assert_int_equal(replay(7, &s), 0);
	assert_int_equal(replay(700, &s), 0);
}

static void append(const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static void cuts_off_what_a_crash_left(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} tails[] = {
		{ "{\"seq\":4,\"time\":\"20", 18 },
		{ "\0\0\0\0\0\0\0\0", 8 },
		{ "{\"seq\":4,\"time\n", 15 },
		{ "\0\0\0\n{\"seq\":9", 12 },
		{ "{\"seq\":4,\"x\":1}", 15 }, /* whole, but its newline is missing */
		{ "garbage\nmore\n", 13 },
	};
	struct seen s;

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		unlink(path);
		reopen(0);
		emit(3);
		append(tails[i].text, tails[i].len);
		reopen(0);
		assert_int_equal(events_last(ev), 3);
		emit(1);
		assert_int_equal(replay(0, &s), 4);
	}
	/* Nothing but rubbish. */
	unlink(path);
	reopen(0);
	append("rubbish", 7);
	reopen(0);
	assert_int_equal(events_last(ev), 0);
	emit(1);
	assert_int_equal(replay(0, &s), 1);
}

static void rotates_and_replays_over_both_files(void **state)
{
	struct seen s;
	struct stat st;
	char *old = str_printf("%s.1", path);

	reopen(2000);
	emit(100);
	assert_int_equal(stat(old, &st), 0);
	assert_true(st.st_size <= 2000);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= 2000);
	replay(0, &s);
	assert_int_equal(s.final, 100);
	assert_true(s.count > 20 && s.count < 100);
	uint64_t first = s.first;
	for (uint64_t since = first; since < 100; since++)
		assert_int_equal(replay(since, &s), 100 - since);
	/* Killed between the rename and the first line of the new file. */
	assert_int_equal(rename(path, old), 0);
	reopen(2000);
	assert_int_equal(events_last(ev), 100);
	free(old);
}

static void finds_its_place_in_a_large_file(void **state)
{
	struct seen s;
	json_t *big = json_object();
	char *text = malloc(200001);

	emit(5000);
	/* A line longer than any buffer, in the middle. */
	memset(text, 'x', 200000);
	text[200000] = '\0';
	json_put_str(big, "text", text);
	assert_int_equal(events_emit(ev, "vm", "web", "big", big), 5001);
	emit(5000);
	for (uint64_t since = 0; since < 10001; since += since < 4990 || since > 5010 ? 97 : 1) {
		assert_int_equal(replay(since, &s), 10001 - since);
		assert_int_equal(s.first, since + 1);
	}
	free(text);
}

static void subscribers_see_one_order(void **state)
{
	struct seen a = { .emit = true }, b = { 0 }, c = { 0 };
	struct events_sub *sub_a = events_subscribe(ev, see, &a);
	struct events_sub *sub_b = events_subscribe(ev, see, &b);

	/* a emits another one while it gets the first. */
	emit(1);
	assert_string_equal(a.seqs.data, "1 2 ");
	assert_string_equal(b.seqs.data, "1 2 ");
	assert_non_null(strstr(b.last, "nested"));
	/* a removes itself, then b. */
	a.unsubscribe = sub_a;
	emit(2);
	assert_string_equal(a.seqs.data, "1 2 3 ");
	assert_string_equal(b.seqs.data, "1 2 3 4 ");
	struct events_sub *sub_c = events_subscribe(ev, see, &c);
	c.unsubscribe = sub_b;
	emit(1);
	assert_string_equal(c.seqs.data, "5 ");
	emit(1);
	assert_int_equal(b.final, 5);
	events_unsubscribe(sub_c);
	events_unsubscribe(NULL);
	buf_finish(&a.seqs);
	buf_finish(&b.seqs);
	buf_finish(&c.seqs);
}

static void memory_alone_is_bounded(void **state)
{
	struct seen s;

	events_close(ev);
	assert_int_equal(events_open(&ev, NULL, NULL, 0, NULL), 0);
	emit(3);
	assert_int_equal(replay(1, &s), 2);
	emit(20000);
	replay(0, &s);
	assert_int_equal(s.final, 20003);
	assert_true(s.count > 5000 && s.count < 20000);
}

static void a_full_disk_makes_nobody_deaf(void **state)
{
	struct rlimit old, small;
	struct seen s = { 0 }, all;
	struct events_sub *sub = events_subscribe(ev, see, &s);
	struct stat st;

	emit(3);
	assert_int_equal(stat(path, &st), 0);
	/* As on a full disk, the next write is cut short in the middle of a line. */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = (rlim_t)st.st_size + 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	emit(4);
	assert_int_equal(s.count, 7);
	assert_int_equal(replay(0, &all), 7);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	emit(1);
	assert_int_equal(replay(0, &all), 8);
	reopen(0);
	assert_int_equal(events_last(ev), 8);
	assert_int_equal(replay(0, &all), 8);
	(void)sub;
	buf_finish(&s.seqs);
}

static void says_why_it_cannot_open(void **state)
{
	struct events *none = NULL;
	struct err err;

	assert_int_equal(events_open(&none, NULL, "/nonexistent/x", 0, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "'/nonexistent/x'"));
	assert_null(none);
}

/* Moved or deleted by somebody: the numbers go on in a new file, for the next daemon too. */
static void begins_anew_when_its_file_is_gone(void **state)
{
	struct seen s = { 0 };
	char *moved = path_join(dir, "moved");

	events_emit(ev, "drover", NULL, "one", NULL);
	events_check(ev);
	assert_int_equal(events_last(ev), 1);
	assert_int_equal(rename(path, moved), 0);
	events_check(ev);
	events_emit(ev, "drover", NULL, "three", NULL);
	assert_int_equal(unlink(path), 0);
	events_check(ev);
	assert_int_equal(events_last(ev), 4);
	assert_int_equal(events_replay(ev, 0, see, &s, NULL), 0);
	assert_string_equal(buf_str(&s.seqs), "4 ");
	assert_non_null(strstr(s.last, "\"log-begun-anew\""));
	reopen(0);
	assert_int_equal(events_last(ev), 4);
	assert_int_equal(unlink(moved), 0);
	free(moved);
	buf_finish(&s.seqs);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_members_in_order),
		TEST(numbers_go_on_after_a_restart),
		TEST(begins_anew_when_its_file_is_gone),
		TEST(cuts_off_what_a_crash_left),
		TEST(rotates_and_replays_over_both_files),
		TEST(finds_its_place_in_a_large_file),
		TEST(subscribers_see_one_order),
		TEST(memory_alone_is_bounded),
		TEST(a_full_disk_makes_nobody_deaf),
		TEST(says_why_it_cannot_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

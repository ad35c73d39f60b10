/* The files of a console's log: bounds, boots, and what happens when they cannot be written. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/console-log.h"
#include "supervisor/console.h"

static char *top, *dir;

static int setup(void **state)
{
	top = rig_tmp();
	dir = path_join(top, "log/web");
	return 0;
}

static int teardown(void **state)
{
	free(dir);
	rig_tmp_finish(top);
	return 0;
}

static struct console_log start(unsigned boot, uint64_t max)
{
	struct console_log l;
	struct err err;

	if (console_log_init(&l, dir, boot, max, &err) < 0)
		fail_msg("%s", err.msg);
	return l;
}

static void put(struct console_log *l, const char *text)
{
	console_log_write(l, text, strlen(text));
}

static char *read_file(const char *name)
{
	char *path = path_join(dir, name);
	struct buf text = { 0 };
	int r = file_read(path, 1 << 20, &text, NULL);

	free(path);
	return r < 0 ? NULL : text.data != NULL ? buf_steal(&text) : strdup("");
}

static void assert_file(const char *name, const char *want)
{
	char *text = read_file(name);

	if (want == NULL)
		assert_null(text);
	else
		assert_string_equal(text, want);
	free(text);
}

static void test_rotation(void **state)
{
	struct console_log l = start(1, 8);

	put(&l, "abc");
	assert_file("1.log", "abc");
	put(&l, "defgh");
	assert_file("1.0.log", "abcd");
	assert_file("1.log", "efgh");
	put(&l, "i");
	assert_file("1.0.log", "efgh");
	assert_file("1.log", "i");
	/* In one go, more than both hold: the end of it counts. */
	put(&l, "0123456789ABCDEF");
	assert_file("1.0.log", "BCDE");
	assert_file("1.log", "F");
	console_log_finish(&l);
	console_log_finish(&l);
}

/* The next daemon goes on in the same file, and its bound. */
static void test_append(void **state)
{
	struct console_log l = start(3, 8);

	put(&l, "abc");
	console_log_finish(&l);
	l = start(3, 8);
	put(&l, "de");
	assert_file("3.0.log", "abcd");
	assert_file("3.log", "e");
	console_log_finish(&l);
}

static void test_smallest(void **state)
{
	struct console_log l = start(1, 0);

	put(&l, "abc");
	assert_file("1.0.log", "b");
	assert_file("1.log", "c");
	console_log_finish(&l);
}

/* The last ten boots stay, this one among them, by number and not by name. */
static void test_boots(void **state)
{
	struct console_log l;

	for (unsigned boot = 1; boot <= 12; boot++) {
		l = start(boot, 4);
		put(&l, "abc");
		console_log_finish(&l);
	}
	for (unsigned boot = 1; boot <= 12; boot++) {
		char name[32];

		snprintf(name, sizeof(name), "%u.log", boot);
		assert_file(name, boot <= 2 ? NULL : "c");
		snprintf(name, sizeof(name), "%u.0.log", boot);
		assert_file(name, boot <= 2 ? NULL : "ab");
	}
}

/* What is no log of a boot is nobody's business. */
static void test_strangers(void **state)
{
	static const char *const names[] = { "notes.txt", "1.log.gz", "01.log", "1.00.log",
		"dnsmasq.log", "-1.log", "99999999999.log", " 1.log" };
	struct console_log l;

	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = path_join(dir, names[i]);

		assert_int_equal(file_write_atomic(path, "mine", 4, 0600, false, NULL), 0);
		free(path);
	}
	for (unsigned boot = 100; boot < 120; boot++) {
		l = start(boot, 100);
		console_log_finish(&l);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_file(names[i], "mine");
}

/* A full disk: what does not fit is lost, and what comes when there is room again is there. */
static void test_no_room(void **state)
{
	struct console_log l = start(1, 1000);
	struct rlimit old, limit;

	put(&l, "before\n");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ 7, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	put(&l, "lost\n");
	assert_true(l.failing);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	put(&l, "after\n");
	assert_false(l.failing);
	assert_file("1.log", "before\nafter\n");
	console_log_finish(&l);
}

/* No descriptor at the moment of a rotation: written again when there is one. */
static void test_no_descriptors(void **state)
{
	struct console_log l = start(1, 8);
	struct rlimit old, limit;

	put(&l, "abcd");
	getrlimit(RLIMIT_NOFILE, &old);
	limit = (struct rlimit){ 3, old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &limit);
	put(&l, "lost");
	put(&l, "lost");
	assert_int_equal(l.fd, -1);
	setrlimit(RLIMIT_NOFILE, &old);
	put(&l, "efg");
	assert_file("1.0.log", "abcd");
	assert_file("1.log", "efg");
	console_log_finish(&l);
}

/* Somebody has removed the folder under it: nothing breaks, and the bound holds. */
static void test_folder_gone(void **state)
{
	struct console_log l = start(1, 8);
	struct stat st;

	put(&l, "abcd");
	assert_int_equal(remove_tree(dir, NULL), 0);
	for (unsigned i = 0; i < 100; i++)
		put(&l, "0123456789");
	assert_int_equal(fstat(l.fd, &st), 0);
	assert_true(st.st_size <= 4);
	console_log_finish(&l);
}

static void test_cannot_open(void **state)
{
	struct console_log l;
	char *path = path_join(top, "log");
	struct err err;

	assert_int_equal(file_write_atomic(path, "", 0, 0600, false, NULL), 0);
	assert_int_equal(console_log_init(&l, dir, 1, 100, &err), -ENOTDIR);
	unlink(path);
	free(path);
	/* Not through a link: it might lead anywhere. */
	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	path = path_join(dir, "1.log");
	assert_int_equal(symlink("/nonexistent/target", path), 0);
	assert_int_equal(console_log_init(&l, dir, 1, 100, &err), -ELOOP);
	assert_true(str_starts(err.msg, "open the console log "));
	console_log_finish(&l);
	free(path);
}

static void assert_read(int64_t boot, const char *want, unsigned number)
{
	struct buf text = { 0 };
	unsigned got = 0;

	assert_int_equal(console_log_read(dir, boot, &text, &got, NULL), 0);
	assert_string_equal(buf_str(&text), want);
	assert_int_equal(got, number);
	buf_finish(&text);
}

static void test_read(void **state)
{
	struct buf text = { 0 };
	struct console_log l;
	struct err err;

	assert_int_equal(console_log_read(dir, 0, &text, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "there is no console log yet");
	for (unsigned boot = 4; boot <= 6; boot++) {
		l = start(boot, 6);
		put(&l, boot == 4 ? "four" : boot == 5 ? "five" : "six!");
		console_log_finish(&l);
	}
	/* Both parts in order; 0 is the last boot, -1 the one before. */
	assert_read(0, "six!", 6);
	assert_read(-1, "five", 5);
	assert_read(4, "four", 4);
	assert_int_equal(console_log_read(dir, 7, &text, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "there is no console log of boot 7: there are 4 to 6");
	assert_int_equal(console_log_read(dir, -3, &text, NULL, &err), -ENOENT);
	assert_null(text.data);
}

/* ---- positions ---- */

static void assert_from(const struct console_log *l, uint64_t from, size_t max, const char *want,
	uint64_t want_start)
{
	struct buf text = { 0 };
	uint64_t start = 0;
	struct err err;

	if (console_log_from(l, from, max, &text, &start, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(buf_str(&text), want);
	assert_int_equal(start, want_start);
	buf_finish(&text);
}

/* Half of 8 bytes is the size of a file: of 14 bytes the first 4 and then 4 more are gone. */
static void test_position(void **state)
{
	struct console_log l = start(1, 8);

	assert_from(&l, 0, 100, "", 0);
	put(&l, "0123");
	assert_from(&l, 1, 100, "123", 1);
	put(&l, "456789");
	assert_int_equal(console_log_position(&l), 10);
	assert_from(&l, 0, 100, "456789", 4);
	assert_from(&l, 5, 100, "56789", 5);
	assert_from(&l, 9, 100, "9", 9);
	assert_from(&l, 0, 3, "789", 7);
	assert_from(&l, 10, 100, "", 10);
	assert_from(&l, 99, 100, "", 10);
	console_log_finish(&l);
}

static void test_position_of_next_daemon(void **state)
{
	struct console_log l = start(1, 8);

	put(&l, "0123456789abcd");
	console_log_finish(&l);
	l = start(1, 8);
	assert_int_equal(console_log_position(&l), 14);
	put(&l, "ef");
	assert_from(&l, 0, 100, "89abcdef", 8);
	console_log_finish(&l);
	/* Another boot begins at 0, and the file that says otherwise goes with its boot. */
	l = start(2, 8);
	assert_int_equal(console_log_position(&l), 0);
	console_log_finish(&l);
	for (unsigned boot = 3; boot < 3 + CONSOLE_BOOTS; boot++) {
		l = start(boot, 8);
		console_log_finish(&l);
	}
	assert_null(read_file("1.at"));
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rotation),
		T(test_append),
		T(test_smallest),
		T(test_boots),
		T(test_strangers),
		T(test_no_room),
		T(test_no_descriptors),
		T(test_folder_gone),
		T(test_cannot_open),
		T(test_read),
		T(test_position),
		T(test_position_of_next_daemon),
	};

	return cmocka_run_group_tests_name("console_log", tests, NULL, NULL);
}

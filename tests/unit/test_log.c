/* One message is one line, whatever is in it; text, JSON and the journal's form. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

struct fixture {
	char *dir, *path;
	int saved; /* the real standard error */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->path = path_join(f->dir, "log");
	f->saved = dup(STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unsetenv("JOURNAL_STREAM");
	log_setup(&(struct log_opts){ .level = LOG_LVL_INFO });
	dup2(f->saved, STDERR_FILENO);
	close(f->saved);
	rig_tmp_finish(f->dir);
	free(f->path);
	free(f);
	return 0;
}

/* Standard error goes to the file at path. */
static void capture(struct fixture *f)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
}

/* What systemd says of the stderr that it made: device and inode, here with something added. */
static void set_stream(unsigned long add)
{
	struct stat st;
	char text[64];

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%lu:%lu", (unsigned long)st.st_dev,
		(unsigned long)st.st_ino + add);
	setenv("JOURNAL_STREAM", text, 1);
}

static struct buf logged(const char *path)
{
	struct buf b = { 0 };

	assert_int_equal(file_read(path, 1 << 20, &b, NULL), 0);
	return b;
}

static void assert_logged(const char *path, const char *text)
{
	struct buf b = logged(path);

	assert_string_equal(buf_str(&b), text);
	buf_finish(&b);
}

static void text_goes_to_stderr(void **state)
{
	struct fixture *f = *state;

	capture(f);
	assert_int_equal(log_setup(&(struct log_opts){ .level = LOG_LVL_WARN }), 0);
	assert_true(log_enabled(LOG_LVL_ERROR));
	assert_false(log_enabled(LOG_LVL_INFO));
	log_error("the %s", "first");
	log_info("not seen");
	log_debug("nor this");
	log_msg(LOG_LVL_WARN, "web", "the second");
	/* A file was never asked for. */
	assert_int_equal(log_reopen(), 0);
	assert_logged(f->path, "error: the first\nwarning: web: the second\n");
}

static void the_journal_gets_its_prefixes(void **state)
{
	struct fixture *f = *state;

	capture(f);
	set_stream(0);
	assert_int_equal(log_setup(&(struct log_opts){ .level = LOG_LVL_DEBUG }), 0);
	log_error("e");
	log_warn("w");
	log_info("i");
	log_debug("d");
	assert_logged(f->path, "<3>e\n<4>w\n<6>i\n<7>d\n");
}

/* systemd.exec(5): the variable is inherited by programs whose stderr is something else. */
static void what_is_not_the_journal_gets_words(void **state)
{
	struct fixture *f = *state;

	capture(f);
	set_stream(1);
	assert_int_equal(log_setup(&(struct log_opts){ .level = LOG_LVL_INFO }), 0);
	log_error("one");
	setenv("JOURNAL_STREAM", "nonsense", 1);
	assert_int_equal(log_setup(&(struct log_opts){ .level = LOG_LVL_INFO }), 0);
	log_error("two");
	assert_logged(f->path, "error: one\nerror: two\n");
}

/* Line breaks, escape sequences, and names that try the same. */
static void a_message_is_one_line(void **state)
{
	struct fixture *f = *state;

	capture(f);
	assert_int_equal(log_setup(&(struct log_opts){ .level = LOG_LVL_INFO }), 0);
	log_info("a\nerror: forged\r\033[31m\x7f \xc3\xa4");
	log_msg(LOG_LVL_INFO, "x\nerror: forged", "b");
	assert_logged(f->path, "info: a\\x0aerror: forged\\x0d\\x1b[31m\\x7f \xc3\xa4\n"
			       "info: x\\x0aerror: forged: b\n");
}

/* "2024-05-01T12:00:00.123Z " */
#define TIME_LEN 25

static void files_have_times_and_follow_a_rename(void **state)
{
	struct fixture *f = *state;
	struct log_opts opts = { .level = LOG_LVL_INFO, .path = f->path };
	char *old = path_join(f->dir, "old");
	struct stat st;
	struct buf b;

	/* The journal's prefix is not for files. */
	set_stream(0);
	assert_int_equal(log_setup(&opts), 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640, 0);
	log_info("one");
	assert_int_equal(rename(f->path, old), 0);
	log_info("two");
	assert_int_equal(log_reopen(), 0);
	log_warn("three");
	b = logged(f->path);
	assert_string_equal(buf_str(&b) + TIME_LEN, "warning three\n");
	assert_int_equal(b.data[TIME_LEN - 2], 'Z');
	buf_finish(&b);
	b = logged(old);
	assert_non_null(strstr(buf_str(&b), "info one\n"));
	assert_non_null(strstr(buf_str(&b), "info two\n"));
	assert_null(strstr(buf_str(&b), "three"));
	buf_finish(&b);
	/* Appended to, never overwritten. */
	assert_int_equal(log_setup(&opts), 0);
	log_info("four");
	b = logged(f->path);
	assert_non_null(strstr(buf_str(&b), "three\n"));
	assert_non_null(strstr(buf_str(&b), "four\n"));
	buf_finish(&b);
	free(old);
}

static void a_file_that_cannot_be_opened_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char *bad = path_join(f->dir, "none/log");
	unsigned fds;
	struct buf b;

	assert_int_equal(
		log_setup(&(struct log_opts){ .level = LOG_LVL_INFO, .path = f->path }), 0);
	fds = rig_count_fds();
	assert_int_equal(
		log_setup(&(struct log_opts){ .level = LOG_LVL_ERROR, .path = bad }), -ENOENT);
	log_info("still here");
	b = logged(f->path);
	assert_non_null(strstr(buf_str(&b), "info still here\n"));
	buf_finish(&b);
	/* The folder goes away: the open file is written on. */
	assert_int_equal(remove_tree(f->dir, NULL), 0);
	assert_int_equal(log_reopen(), -ENOENT);
	log_info("nobody reads it");
	assert_int_equal(rig_count_fds(), fds);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	free(bad);
}

/* The only line of the file, which must be JSON with exactly these. */
static void assert_json(const char *path, const char *level, const char *name, const char *message)
{
	struct buf b = logged(path);
	struct err err;
	json_t *v = NULL;

	assert_non_null(strchr(buf_str(&b), '\n'));
	assert_string_equal(strchr(buf_str(&b), '\n'), "\n");
	if (json_parse(b.data, b.len, &v, &err) < 0)
		fail_msg("%s: %s", err.msg, buf_str(&b));
	assert_int_equal(strlen(json_str(v, "time")), TIME_LEN - 1);
	assert_string_equal(json_str(v, "level"), level);
	if (name != NULL)
		assert_string_equal(json_str(v, "name"), name);
	else
		assert_null(json_object_get(v, "name"));
	assert_string_equal(json_str(v, "message"), message);
	json_decref(v);
	buf_finish(&b);
	assert_int_equal(truncate(path, 0), 0);
}

static void json_lines_are_json(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(log_setup(&(struct log_opts){
				 .level = LOG_LVL_DEBUG, .format = LOG_JSON, .path = f->path }),
		0);
	log_debug("plain");
	assert_json(f->path, "debug", NULL, "plain");
	log_msg(LOG_LVL_ERROR, "we\"b\\", "a \"quoted\"\nline \\ \t\033[m \x7f \xe2\x82\xac");
	assert_json(
		f->path, "error", "we\"b\\", "a \"quoted\"\nline \\ \t\033[m \x7f \xe2\x82\xac");
	/* What is no UTF-8 would make the whole line unreadable. */
	log_warn("latin \xe4 cut \xe2\x82");
	assert_json(f->path, "warning", NULL, "latin \xef\xbf\xbd cut \xef\xbf\xbd\xef\xbf\xbd");
}

/* A message is cut at some length; the cut may fall into a character. */
static void long_messages_are_cut(void **state)
{
	struct fixture *f = *state;
	struct log_opts opts = { .level = LOG_LVL_INFO, .path = f->path, .format = LOG_JSON };
	char *text = malloc(20001);
	struct buf b;
	json_t *v;

	assert_int_equal(log_setup(&opts), 0);
	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 <= 20000; i += 3)
			memcpy(text + i, "\xe2\x82\xac", 3);
		text[shift + (20000 - shift) / 3 * 3] = '\0';
		log_info("%s", text);
		b = logged(f->path);
		assert_int_equal(json_parse(b.data, b.len, &v, NULL), 0);
		assert_in_range(strlen(json_str(v, "message")), 4000, 20000);
		json_decref(v);
		buf_finish(&b);
		assert_int_equal(truncate(f->path, 0), 0);
	}
	free(text);
}

static void *chatter(void *arg)
{
	for (int i = 0; i < 500; i++)
		log_info("%s", (const char *)arg);
	return NULL;
}

/* Threads of the pool log too: lines do not mix. */
static void threads_do_not_mix_lines(void **state)
{
	struct fixture *f = *state;
	char a[1000], z[1000], *save = NULL;
	pthread_t threads[2];
	unsigned lines = 0;
	struct buf b;

	memset(a, 'a', sizeof(a));
	memset(z, 'z', sizeof(z));
	a[sizeof(a) - 1] = z[sizeof(z) - 1] = '\0';
	assert_int_equal(
		log_setup(&(struct log_opts){ .level = LOG_LVL_INFO, .path = f->path }), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, chatter, a), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, chatter, z), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	b = (struct buf){ 0 };
	assert_int_equal(file_read(f->path, 4 << 20, &b, NULL), 0);
	for (char *line = strtok_r(b.data, "\n", &save); line != NULL;
		line = strtok_r(NULL, "\n", &save)) {
		const char *msg = line + TIME_LEN + strlen("info ");

		lines++;
		assert_true(strcmp(msg, a) == 0 || strcmp(msg, z) == 0);
	}
	assert_int_equal(lines, 1000);
	buf_finish(&b);
}

/* A full disk is no reason to die, nor to lose what comes after it. */
static void a_log_that_cannot_be_written_is_passed_over(void **state)
{
	assert_int_equal(
		log_setup(&(struct log_opts){ .level = LOG_LVL_INFO, .path = "/dev/full" }), 0);
	log_info("into the void");
	assert_int_equal(log_reopen(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(text_goes_to_stderr),
		TEST(the_journal_gets_its_prefixes),
		TEST(what_is_not_the_journal_gets_words),
		TEST(a_message_is_one_line),
		TEST(files_have_times_and_follow_a_rename),
		TEST(a_file_that_cannot_be_opened_changes_nothing),
		TEST(json_lines_are_json),
		TEST(long_messages_are_cut),
		TEST(threads_do_not_mix_lines),
		TEST(a_log_that_cannot_be_written_is_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

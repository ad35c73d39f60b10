/* Programs in a sandbox of their own: what they see, and how they end. */
#include "tests/unit/rig.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/run-alone.h"

static const struct unpack_limits minute = { .memory_bytes = (uint64_t)1 << 30, .time_ms = 60000 };

struct fixture {
	char *dir, *mine, *other;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->mine = path_join(f->dir, "mine");
	f->other = path_join(f->dir, "other");
	assert_int_equal(file_write_atomic(f->mine, "hello\n", 6, 0644, false, NULL), 0);
	assert_int_equal(file_write_atomic(f->other, "secret\n", 7, 0644, false, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_tmp_finish(f->dir);
	free(f->mine);
	free(f->other);
	free(f);
	return 0;
}

/* sh -c SCRIPT FILE, which may read mine, and write it if write. */
static int shell(struct fixture *f, const char *script, bool write, struct buf *out)
{
	char *argv[] = { "sh", "-c", (char *)(uintptr_t)script, f->mine, f->other, NULL };
	struct sandbox_path paths[] = { { f->mine, write }, { "/dev/null", true } };
	struct run_alone spec = {
		.argv = argv, .paths = paths, .n = 2, .limits = &minute, .file_bytes = 100
	};

	return run_alone(&spec, out, &f->err);
}

static void reads_what_it_is_given(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 };

	assert_int_equal(shell(f, "read -r line <\"$0\"; echo \"$line\" there", false, &out), 0);
	assert_string_equal(buf_str(&out), "hello there\n");
	buf_finish(&out);
	if (sandbox_landlock_abi() == 0)
		skip();
	assert_int_equal(shell(f, "read -r line <\"$1\"", false, NULL), -EIO);
	assert_non_null(strstr(f->err.msg, "Permission denied"));
	assert_int_equal(shell(f, "echo x >\"$0\"", false, NULL), -EIO);
	assert_int_equal(shell(f, "read -r line </proc/self/environ", false, NULL), -EIO);
}

static void writes_no_more_than_it_may(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(shell(f, "echo new >\"$0\"", true, NULL), 0);
	assert_int_equal(stat(f->mine, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(shell(f, "printf '%0200d' 1 >\"$0\"", true, NULL), -EIO);
	assert_int_equal(stat(f->mine, &st), 0);
	assert_in_range(st.st_size, 0, 100);
}

/* Of what it may write, too, the mode is not its to say; and nobody is its to end. */
static void changes_nobody(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(shell(f, "exec chmod 04777 \"$0\"", true, NULL), -EIO);
	assert_int_equal(shell(f, "exec chown 1 \"$0\"", true, NULL), -EIO);
	assert_int_equal(stat(f->mine, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(shell(f, "kill -9 $$", false, NULL), -EIO);
	assert_non_null(strstr(f->err.msg, "Operation not permitted"));
}

/* A sanitizer's runtime would not get through this filter either; but this is another program. */
static void makes_no_processes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(shell(f, "(exit 0); exit 0", false, NULL), -EIO);
	assert_non_null(strstr(f->err.msg, "sh was stopped: it made a system call"));
}

static void its_end_is_told(void **state)
{
	struct fixture *f = *state;
	char *none[] = { "no-such-program-here", NULL };
	char *sleep[] = { "sleep", "100", NULL };
	struct unpack_limits soon = { .memory_bytes = (uint64_t)1 << 30, .time_ms = 50 };
	struct run_alone spec = { .argv = none, .limits = &minute };

	assert_int_equal(shell(f, "echo first >&2; echo why >&2; exit 3", false, NULL), -EIO);
	assert_string_equal(f->err.msg, "sh failed: 'why'");
	assert_int_equal(
		shell(f, "ulimit -c 0; exec perl -e 'unpack q(p), pack q(L!), 1'", false, NULL),
		-EIO);
	assert_non_null(strstr(f->err.msg, "sh was ended by signal 11"));
	assert_int_equal(run_alone(&spec, NULL, &f->err), -ENOENT);
	assert_string_equal(f->err.msg, "the program no-such-program-here is not installed");
	spec.argv = sleep;
	spec.limits = &soon;
	assert_int_equal(run_alone(&spec, NULL, &f->err), -ETIMEDOUT);
	assert_non_null(strstr(f->err.msg, "sleep took more than"));
}

static void its_end_is_not_waited_for_for_ever(void **state)
{
	struct fixture *f = *state;
	char *argv[] = { "sh", "-c", "exec >&- 2>&-; exec sleep 100", NULL };
	struct unpack_limits soon = { .memory_bytes = (uint64_t)1 << 30, .time_ms = 100 };
	struct run_alone spec = { .argv = argv, .limits = &soon };

	assert_int_equal(run_alone(&spec, NULL, &f->err), -ETIMEDOUT);
}

static void count(void *arg, const char *data, size_t len)
{
	*(size_t *)arg += len;
}

static void its_words_are_handed_on(void **state)
{
	struct fixture *f = *state;
	char *argv[] = { "sh", "-c", "echo 123; echo 45", NULL };
	size_t n = 0;
	struct run_alone spec = { .argv = argv, .limits = &minute, .said = count, .arg = &n };

	assert_int_equal(run_alone(&spec, NULL, &f->err), 0);
	assert_int_equal(n, 7);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_what_it_is_given),
		TEST(writes_no_more_than_it_may),
		TEST(makes_no_processes),
		TEST(changes_nobody),
		TEST(its_end_is_told),
		TEST(its_end_is_not_waited_for_for_ever),
		TEST(its_words_are_handed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

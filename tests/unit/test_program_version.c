/* supervisor/program-version: a program is asked once for each file that stands at its path. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/program-version.h"

static struct {
	uv_loop_t *loop;
	char *dir, *program, *runs;
	bool told;
	char line[128];
	int code;
} w;

static int setup(void **state)
{
	memset(&w, 0, sizeof(w));
	w.loop = rig_loop();
	w.dir = rig_tmp();
	w.program = path_join(w.dir, "program");
	w.runs = path_join(w.dir, "runs");
	return 0;
}

static int teardown(void **state)
{
	rig_loop_finish(w.loop);
	rig_tmp_finish(w.dir);
	free(w.program);
	free(w.runs);
	return 0;
}

static void install(const char *does)
{
	char *text = str_printf("#!/bin/sh\necho $1 >>%s\n%s\n", w.runs, does);

	assert_int_equal(file_write_atomic(w.program, text, strlen(text), 0755, false, NULL), 0);
	free(text);
}

static void told(void *arg, const char *line, const struct err *err)
{
	assert_ptr_equal(arg, &w);
	assert_true((line == NULL) == (err != NULL));
	snprintf(w.line, sizeof(w.line), "%s", line != NULL ? line : "");
	w.code = err != NULL ? err->code : 0;
	w.told = true;
}

static void ask(void)
{
	w.told = false;
	assert_int_equal(program_version_ask(w.loop, w.program, told, &w, NULL), 0);
	assert_false(w.told);
	rig_run_until(w.loop, &w.told);
}

static void it_is_remembered(void **state)
{
	struct buf runs = { 0 };

	install("echo one; echo two");
	assert_null(program_version_known(w.program));
	ask();
	assert_int_equal(w.code, 0);
	assert_string_equal(w.line, "one");
	assert_string_equal(program_version_known(w.program), "one");
	assert_int_equal(file_read(w.runs, 100, &runs, NULL), 0);
	assert_string_equal(buf_str(&runs), "--version\n");
	buf_finish(&runs);
}

/* Another file in its place, or the same one written anew. */
static void another_file_is_asked_anew(void **state)
{
	install("echo one");
	ask();
	install("echo another");
	assert_null(program_version_known(w.program));
	ask();
	assert_string_equal(program_version_known(w.program), "another");
	assert_int_equal(chmod(w.program, 0700), 0);
	assert_null(program_version_known(w.program));
	unlink(w.program);
	assert_null(program_version_known(w.program));
}

/* What a file says that was replaced while it ran is not taken for the new one's. */
static void one_that_was_replaced_meanwhile(void **state)
{
	char *does = str_printf("mv %s.new %s; echo old", w.program, w.program);
	char *new = str_printf("%s.new", w.program);

	install(does);
	assert_int_equal(file_write_atomic(new, "#!/bin/sh\n", 10, 0755, false, NULL), 0);
	ask();
	assert_string_equal(w.line, "old");
	assert_null(program_version_known(w.program));
	free(does);
	free(new);
}

static void a_failure_is_told_and_not_remembered(void **state)
{
	install("echo one; exit 3");
	ask();
	assert_int_equal(w.code, -EIO);
	assert_null(program_version_known(w.program));
	unlink(w.program);
	ask();
	assert_int_not_equal(w.code, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_is_remembered),
		T(another_file_is_asked_anew),
		T(one_that_was_replaced_meanwhile),
		T(a_failure_is_told_and_not_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

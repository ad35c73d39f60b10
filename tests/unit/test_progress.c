/* The JSON lines of drover-image: each one whole, whatever is in it and whoever has gone. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "oci/progress.h"

#define D(n) "sha256:000000000000000000000000000000000000000000000000000000000000000" #n

static const struct descriptor layers[] = {
	{ .digest = D(1), .size = 100 },
	{ .digest = D(2), .size = UINT64_C(1) << 40 },
};

struct fixture {
	char *dir, *path;
	int saved;
	struct buf text;
	char *next; /* what of text was not looked at yet */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->path = path_join(f->dir, "out");
	f->saved = -1;
	*state = f;
	return 0;
}

static void release(struct fixture *f)
{
	if (f->saved < 0)
		return;
	dup2(f->saved, STDOUT_FILENO);
	close(f->saved);
	f->saved = -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	release(f);
	buf_finish(&f->text);
	rig_tmp_finish(f->dir);
	free(f->path);
	free(f);
	return 0;
}

/* What is written to standard output from now on can be read by line(). */
static void capture(struct fixture *f)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	fflush(stdout);
	f->saved = dup(STDOUT_FILENO);
	assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	close(fd);
}

/* The next line, NULL behind the last one. The caller releases it. */
static json_t *line(struct fixture *f)
{
	json_t *v = NULL;
	struct err err;
	char *start;

	release(f);
	if (f->next == NULL) {
		assert_int_equal(file_read(f->path, 1 << 20, &f->text, NULL), 0);
		f->next = f->text.data;
	}
	start = strsep(&f->next, "\n");
	if (f->next == NULL) {
		assert_string_equal(start, "");
		f->next = start;
		return NULL;
	}
	if (json_parse(start, strlen(start), &v, &err) < 0)
		fail_msg("%s: %s", err.msg, start);
	return v;
}

static void assert_line(struct fixture *f, const char *expected)
{
	json_t *v = line(f);
	char *text;

	assert_non_null(v);
	text = json_text(v);
	assert_string_equal(text, expected);
	free(text);
	json_decref(v);
}

static void assert_end(struct fixture *f)
{
	assert_null(line(f));
}

static void a_pull_is_told(void **state)
{
	struct fixture *f = *state;
	struct progress p;

	capture(f);
	progress_init(&p, "h.x/a:1");
	assert_int_equal(progress_start(&p, layers, 2, 1, NULL), 0);
	progress_layer_done(&p, &layers[0], true);
	progress_layer(&p, &layers[1], 5);
	progress_layer_done(&p, &layers[1], false);
	progress_end(&p);
	progress_finish(&p);
	progress_warning("a \"word\"");
	progress_event(json_pack("{s:s}", "event", "done"));
	assert_line(f,
		"{\"event\":\"start\",\"ref\":\"h.x/a:1\",\"layers\":[{\"digest\":\"" D(
			1) "\",\"size\":100},{\"digest\":\"" D(2) "\",\"size\":1099511627776}],"
								  "\"cached\":1}");
	assert_line(f, "{\"event\":\"layer\",\"ref\":\"h.x/a:1\",\"digest\":\"" D(
			       1) "\",\"cached\":true}");
	assert_line(f, "{\"event\":\"progress\",\"ref\":\"h.x/a:1\",\"digest\":\"" D(
			       2) "\",\"done\":5,\"size\":1099511627776}");
	assert_line(f, "{\"event\":\"layer\",\"ref\":\"h.x/a:1\",\"digest\":\"" D(
			       2) "\",\"cached\":false}");
	assert_line(f, "{\"event\":\"warning\",\"message\":\"a \\\"word\\\"\"}");
	assert_line(f, "{\"event\":\"done\"}");
	assert_end(f);
}

/* A layer that comes in crumbs is told of now and then, each layer for itself. */
static void crumbs_are_not_told_each(void **state)
{
	struct fixture *f = *state;
	struct progress p;
	unsigned n = 0, first = 0;
	json_t *v;

	capture(f);
	progress_init(&p, "r");
	assert_int_equal(progress_start(&p, layers, 2, 0, NULL), 0);
	for (unsigned i = 0; i < 100000; i++)
		progress_layer(&p, &layers[i % 2], i);
	for (unsigned i = 0; i < 100000; i++)
		progress_build(&p, i, 100001);
	/* The end of a build is always told. */
	progress_build(&p, 100001, 100001);
	progress_build(&p, 100001, 100001);
	/* Another's layer, or none any more. */
	progress_layer(&p, &(struct descriptor){ .digest = D(3) }, 1);
	progress_end(&p);
	progress_layer(&p, &layers[0], 1);
	progress_finish(&p);
	while ((v = line(f)) != NULL) {
		if (n++ < 3)
			first += str_eq(json_str(v, "digest"), D(1)) +
				 2 * str_eq(json_str(v, "digest"), D(2));
		assert_false(str_eq(json_str(v, "digest"), D(3)));
		json_decref(v);
	}
	assert_int_equal(first, 3);
	/* start, both layers at once, the build and its end twice: on a slow machine some more. */
	assert_in_range(n, 6, 10000);
	assert_non_null(strstr(f->path, "out"));
}

static void a_pull_without_layers(void **state)
{
	struct fixture *f = *state;
	struct progress p;

	capture(f);
	progress_init(&p, "r");
	assert_int_equal(progress_start(&p, NULL, 0, 0, NULL), 0);
	/* Started again, with others. */
	assert_int_equal(progress_start(&p, layers, 1, 0, NULL), 0);
	progress_finish(&p);
	progress_finish(&p);
	assert_line(f, "{\"event\":\"start\",\"ref\":\"r\",\"layers\":[],\"cached\":0}");
	assert_line(f, "{\"event\":\"start\",\"ref\":\"r\",\"layers\":[{\"digest\":\"" D(
			       1) "\",\"size\":100}],\"cached\":0}");
	assert_end(f);
}

static void errors_say_their_word(void **state)
{
	struct fixture *f = *state;
	struct err err;

	capture(f);
	err_set(&err, -ENOSPC, "no room");
	progress_error("r", &err);
	progress_error(NULL, &err);
	err_set(&err, -EIO, "x");
	progress_error(NULL, &err);
	assert_line(f,
		"{\"event\":\"error\",\"ref\":\"r\",\"code\":\"no-space\",\"message\":\"no room\"}");
	assert_line(f, "{\"event\":\"error\",\"code\":\"no-space\",\"message\":\"no room\"}");
	assert_line(f, "{\"event\":\"error\",\"code\":\"failed\",\"message\":\"x\"}");
	assert_end(f);
}

/* Foreign bytes: the error must be told all the same, for it is the last word. */
static void what_is_no_utf8_is_told_too(void **state)
{
	struct fixture *f = *state;
	struct progress p;
	struct err err;

	capture(f);
	err_set(&err, -EINVAL, "cut \xe2\x82");
	progress_error("r\xff", &err);
	progress_warning("\xe4");
	progress_init(&p, "r\xff");
	assert_int_equal(progress_start(&p, layers, 1, 0, NULL), 0);
	progress_layer(&p, &layers[0], 1);
	progress_layer_done(&p, &layers[0], false);
	progress_build(&p, 1, 1);
	progress_finish(&p);
	assert_line(f, "{\"event\":\"error\",\"ref\":\"r\xef\xbf\xbd\",\"code\":\"invalid\","
		       "\"message\":\"cut \xef\xbf\xbd\xef\xbf\xbd\"}");
	assert_line(f, "{\"event\":\"warning\",\"message\":\"\xef\xbf\xbd\"}");
	for (int i = 0; i < 4; i++) {
		json_t *v = line(f);

		assert_string_equal(json_str(v, "ref"), "r\xef\xbf\xbd");
		json_decref(v);
	}
	assert_end(f);
}

/* Nobody reads any more: what was begun goes on. */
static void a_reader_that_left_is_no_error(void **state)
{
	int p[2], status;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	close(p[0]);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		dup2(p[1], STDOUT_FILENO);
		for (int i = 0; i < 100; i++)
			progress_warning("x");
		_exit(7);
	}
	close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_pull_is_told),
		TEST(crumbs_are_not_told_each),
		TEST(a_pull_without_layers),
		TEST(errors_say_their_word),
		TEST(what_is_no_utf8_is_told_too),
		TEST(a_reader_that_left_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

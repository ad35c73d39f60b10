/* The command line of droverd: what it takes, and what it says to what it does not. */
#include "tests/unit/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/str.h"
#include "supervisor/args.h"

static struct world {
	struct args a;
	char *dir, *path;
	struct buf out; /* standard output or error of the last call */
} w;

static int setup(void **state)
{
	w = (struct world){ .dir = rig_tmp() };
	w.path = path_join(w.dir, "out");
	return 0;
}

static int teardown(void **state)
{
	args_finish(&w.a);
	args_finish(&w.a);
	buf_finish(&w.out);
	free(w.path);
	rig_tmp_finish(w.dir);
	return 0;
}

/* Calls fn with the stream in w.out. */
static int captured(FILE *stream, int (*fn)(void *arg), void *arg)
{
	int fd = open(w.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), keep, r;

	fflush(stream);
	keep = dup(fileno(stream));
	dup2(fd, fileno(stream));
	r = fn(arg);
	fflush(stream);
	dup2(keep, fileno(stream));
	close(keep);
	close(fd);
	buf_finish(&w.out);
	assert_int_equal(file_read(w.path, 1 << 20, &w.out, NULL), 0);
	return r;
}

static int call(void *arg)
{
	char **argv = arg;
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	return args_parse(&w.a, argc, argv);
}

#define PARSE(stream, ...) captured(stream, call, (char *[]){ "droverd", ##__VA_ARGS__, NULL })

static void test_nothing(void **state)
{
	assert_int_equal(PARSE(stderr), -1);
	assert_string_equal(w.a.path, "/etc/drover/drover.ini");
	assert_false(w.a.check || w.a.plan || w.a.json);
	assert_int_equal(w.a.noverrides, 0);
	assert_int_equal(w.a.exit_status, 0);
	assert_string_equal(buf_str(&w.out), "");
}

static void test_all(void **state)
{
	assert_int_equal(PARSE(stderr, "-c", "/x.ini", "-n", "-o", "json", "--run-dir", "/run/x",
				 "--log_level", "debug", "--plan"),
		-1);
	assert_string_equal(w.a.path, "/x.ini");
	assert_true(w.a.check && w.a.plan && w.a.json);
	assert_int_equal(w.a.noverrides, 2);
	assert_string_equal(w.a.overrides[0].key, "run_dir");
	assert_string_equal(w.a.overrides[0].value, "/run/x");
	assert_string_equal(w.a.overrides[0].source, "--run-dir");
	assert_string_equal(w.a.overrides[1].key, "log_level");
	assert_string_equal(w.a.overrides[1].value, "debug");
	args_finish(&w.a);
	assert_int_equal(PARSE(stderr, "--config", "-n", "--check"), -1);
	assert_string_equal(w.a.path, "-n");
}

/* A plan is a check, too. */
static void test_plan(void **state)
{
	assert_int_equal(PARSE(stderr, "--plan"), -1);
	assert_true(w.a.check && w.a.plan);
	assert_false(w.a.json);
}

/* Every key of [drover] is an argument, no other key is. */
static void test_keys(void **state)
{
	for (size_t i = 0; i < config_nkeys; i++) {
		const struct config_key *k = &config_keys[i];
		char arg[80];

		if (k->section != SECTION_DROVER)
			continue;
		snprintf(arg, sizeof(arg), "--%s", k->name);
		for (char *s = arg; *s != '\0'; s++)
			*s = *s == '_' ? '-' : *s;
		assert_int_equal(PARSE(stderr, arg, "v"), -1);
		assert_string_equal(w.a.overrides[w.a.noverrides - 1].key, k->name);
	}
	assert_int_equal(PARSE(stderr, "--memory", "1G"), 2);
	assert_string_equal(buf_str(&w.out),
		"droverd: there is no argument '--memory'\n"
		"usage: droverd [-c FILE] [-n] [--plan [-o json]] [--doctor [--root DIR]] "
		"[--KEY VALUE]...\n");
}

static void test_usage_errors(void **state)
{
	static const struct {
		const char *args[3], *message;
	} rows[] = {
		{ { "-c" }, "droverd: a file is missing after '-c'\n" },
		{ { "--config" }, "droverd: a file is missing after '--config'\n" },
		{ { "--run-dir" }, "droverd: a value is missing after '--run-dir'\n" },
		{ { "-o" }, "droverd: only json is known after '-o'\n" },
		{ { "-o", "xml" }, "droverd: only json is known after '-o'\n" },
		{ { "--root" }, "droverd: an absolute path is missing after '--root'\n" },
		{ { "--root", "tree" }, "droverd: an absolute path is missing after '--root'\n" },
		{ { "--root", "/dev/null" }, "droverd: this is no folder: '/dev/null'\n" },
		{ { "-x" }, "droverd: there is no argument '-x'\n" },
		{ { "file.ini" }, "droverd: there is no argument 'file.ini'\n" },
		{ { "" }, "droverd: there is no argument ''\n" },
		{ { "--" }, "droverd: there is no argument '--'\n" },
		{ { "--run-dir=/x", "y" }, "droverd: there is no argument '--run-dir=/x'\n" },
		{ { "-n", "--no\nsuch", "x" }, "droverd: there is no argument '--no\\x0asuch'\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *argv[] = { "droverd", (char *)(uintptr_t)rows[i].args[0],
			(char *)(uintptr_t)rows[i].args[1], (char *)(uintptr_t)rows[i].args[2],
			NULL };

		assert_int_equal(captured(stderr, call, argv), 2);
		if (!str_starts(buf_str(&w.out), rows[i].message))
			fail_msg("%s", buf_str(&w.out));
	}
}

static void test_information(void **state)
{
	assert_int_equal(PARSE(stdout, "--help"), 0);
	assert_true(str_starts(buf_str(&w.out), "usage: droverd "));
	assert_non_null(strstr(buf_str(&w.out), "Signals: HUP"));
	assert_int_equal(PARSE(stdout, "-h"), 0);
	assert_int_equal(PARSE(stdout, "--version"), 0);
	assert_true(str_starts(buf_str(&w.out), "droverd "));
	assert_int_equal(PARSE(stdout, "-V"), 0);
	assert_int_equal(PARSE(stdout, "--reference"), 0);
	for (size_t i = 0; i < config_nkeys; i++)
		assert_non_null(strstr(buf_str(&w.out), config_keys[i].name));
	/* The first of them counts. */
	assert_int_equal(PARSE(stdout, "-V", "--nonsense"), 0);
}

static int print_plan(void *arg)
{
	args_print_plan(&w.a, arg);
	return 0;
}

static void test_print_plan(void **state)
{
	char *keys[] = { "memory", "vcpus", NULL };
	struct plan_action v[] = {
		{ .op = PLAN_ADD, .kind = SECTION_NETWORK, .name = "taps", .reason = "it is new" },
		{ .op = PLAN_RESTART,
			.kind = SECTION_VM,
			.name = "web",
			.reason = "memory: 512M -> 1G",
			.keys = { .v = keys, .n = 2 } },
	};
	struct plan p = { v, 2 }, none = { 0 };

	captured(stdout, print_plan, &p);
	assert_string_equal(buf_str(&w.out),
		"add network taps: it is new\nrestart vm web: memory: 512M -> 1G\n");
	captured(stdout, print_plan, &none);
	assert_string_equal(buf_str(&w.out), "nothing to do\n");
	w.a.json = true;
	captured(stdout, print_plan, &p);
	assert_string_equal(buf_str(&w.out),
		"{\"actions\":[{\"op\":\"add\",\"kind\":\"network\",\"name\":\"taps\","
		"\"reason\":\"it is new\",\"keys\":[]},"
		"{\"op\":\"restart\",\"kind\":\"vm\",\"name\":\"web\","
		"\"reason\":\"memory: 512M -> 1G\",\"keys\":[\"memory\",\"vcpus\"]}]}\n");
	captured(stdout, print_plan, &none);
	assert_string_equal(buf_str(&w.out), "{\"actions\":[]}\n");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_nothing),
		T(test_all),
		T(test_plan),
		T(test_keys),
		T(test_usage_errors),
		T(test_information),
		T(test_print_plan),
	};

	return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}

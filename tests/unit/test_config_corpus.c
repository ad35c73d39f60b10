/*
 * Every file of tests/config. Comments in it say what to expect:
 *	; expect: [FILE:]LINE: words of the message     (fail-*.ini; exactly these mistakes)
 *	; value: KIND [NAME] KEY = TEXT                 (pass-*.ini; a list's values joined by " | ")
 *	; env: NAME=VALUE                               (set while the file is read)
 * LINE 0 is a mistake of the file as a whole.
 */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/file.h"
#include "supervisor/config.h"

#define FOLDER "tests/config/"

/* The rest of the next line that begins with `prefix`; NULL when there is none. malloc'd. */
static char *next_line(const char **text, const char *prefix)
{
	const char *p = *text;

	while (*p != '\0') {
		const char *line = p;
		size_t n = strcspn(p, "\r\n");

		p += n + (p[n] != '\0');
		if (str_starts(line, prefix)) {
			*text = p;
			return strndup(line + strlen(prefix), n - strlen(prefix));
		}
	}
	return NULL;
}

static bool matches(const struct config_error *e, const char *path, const char *expected)
{
	const char *colon = strchr(expected, ':'), *words;
	bool here = colon != NULL && strspn(expected, "0123456789") == (size_t)(colon - expected);
	struct buf at = { 0 }, want = { 0 };
	bool same;

	/* "7: words" is about the file itself, "x/y.ini:7: words" about another one. */
	words = here || colon == NULL ? colon : strchr(colon + 1, ':');
	if (words == NULL)
		fail_msg("%s: bad '; expect: %s'", path, expected);
	buf_printf(&want, "%s%s%.*s", here ? path : FOLDER, here ? ":" : "",
		(int)(words - expected), expected);
	buf_printf(&at, "%s:%u", e->file, e->line);
	same = strcmp(buf_str(&at), buf_str(&want)) == 0 && strstr(e->message, words + 2) != NULL;
	buf_finish(&at);
	buf_finish(&want);
	return same;
}

static void check_fail(const char *path, const char *text, const struct config_errors *errors)
{
	struct buf said = { 0 };
	unsigned expected = 0;
	char *line;
	size_t i;

	config_errors_print(errors, &said);
	while ((line = next_line(&text, "; expect: ")) != NULL) {
		for (i = 0; i < errors->n && !matches(&errors->v[i], path, line); i++)
			;
		if (i == errors->n)
			fail_msg("%s: nobody said '%s', but:\n%s", path, line, buf_str(&said));
		expected++;
		free(line);
	}
	if (expected != errors->n)
		fail_msg("%s: %u mistakes expected, these were said:\n%s", path, expected,
			buf_str(&said));
	buf_finish(&said);
}

static void check_value(const char *path, const struct config *c, const char *line)
{
	char kind[16], name[64], key[32], *got, *p;
	const char *value = strstr(line, " =");
	const struct config_section *s = NULL;
	struct buf text = { 0 };
	size_t k, i;
	int n;

	/* Of [drover], which has no name, the third word is the '='. */
	n = sscanf(line, "%15s %63s %31s", kind, name, key);
	if (n == 3 && strcmp(kind, "drover") == 0) {
		snprintf(key, sizeof(key), "%.31s", name);
		name[0] = '\0';
	}
	for (k = 0; k < SECTION_KINDS; k++)
		if (strcmp(section_kind_name((enum section_kind)k), kind) == 0)
			s = config_find(c, (enum section_kind)k, name);
	if (n != 3 || s == NULL || value == NULL)
		fail_msg("%s: no such section: %s", path, line);
	for (i = 0; i < config_nkeys; i++)
		if (config_keys[i].section ==
				(s->kind == SECTION_TEMPLATE ? SECTION_VM : s->kind) &&
			strcmp(config_keys[i].name, key) == 0)
			break;
	if (i == config_nkeys)
		fail_msg("%s: no such key: %s", path, line);
	config_value_text(s, &config_keys[i], &text);
	got = strdup(buf_str(&text));
	buf_clear(&text);
	for (p = got; *p != '\0'; p++)
		buf_printf(&text, *p == '\n' ? " | " : "%c", *p);
	value += value[2] == ' ' ? 3 : 2;
	if (strcmp(buf_str(&text), value) != 0)
		fail_msg("%s: '%s' is '%s'", path, line, buf_str(&text));
	free(got);
	buf_finish(&text);
}

/* 7, 8, 9, ... in the order of the files. */
static int64_t guest_id(void *arg, const char *vm)
{
	return (*(int64_t *)arg)++;
}

static void set_environment(const char *text, bool set)
{
	char *line;

	while ((line = next_line(&text, "; env: ")) != NULL) {
		char *eq = strchr(line, '=');

		assert_non_null(eq);
		*eq = '\0';
		if (set)
			setenv(line, eq + 1, 1);
		else
			unsetenv(line);
		free(line);
	}
}

/* What is printed must read back as the same. */
static void check_round_trip(const char *path, const struct config *c)
{
	struct buf first = { 0 }, second = { 0 }, said = { 0 };
	char copy[] = "/tmp/drover-test-config.XXXXXX";
	struct config_load_opts opts = { .path = copy };
	struct config_errors errors;
	struct config *again;
	struct err err;
	int fd = mkstemp(copy);

	assert_true(fd >= 0);
	fclose(fdopen(fd, "w"));
	config_print(c, true, &first);
	assert_int_equal(file_write_atomic(copy, first.data, first.len, 0600, false, &err), 0);
	if (config_load(&again, &opts, &errors, &err) < 0) {
		config_errors_print(&errors, &said);
		unlink(copy);
		fail_msg("%s: printed form: %s\n%s", path, buf_str(&said), buf_str(&first));
	}
	unlink(copy);
	config_print(again, true, &second);
	assert_string_equal(buf_str(&first), buf_str(&second));
	config_destroy(again);
	buf_finish(&first);
	buf_finish(&second);
}

static void check_file(const char *path, bool good)
{
	int64_t next = 7;
	struct config_load_opts opts = { .path = path, .guest_id = guest_id, .arg = &next };
	struct buf text = { 0 }, said = { 0 };
	struct config_errors errors = { 0 };
	struct config *c = NULL;
	const char *p;
	struct err err = { 0 };
	char *line;
	size_t i;
	int rc;

	assert_int_equal(file_read(path, 1 << 20, &text, &err), 0);
	/* A NUL is a mistake that is looked for, not the end of this text. */
	for (i = 0; i < text.len; i++)
		if (text.data[i] == '\0')
			text.data[i] = ' ';
	set_environment(buf_str(&text), true);
	rc = config_load(&c, &opts, &errors, &err);
	config_errors_print(&errors, &said);
	if (good && rc != 0)
		fail_msg("%s does not load:\n%s", path, buf_str(&said));
	if (!good && rc == 0)
		fail_msg("%s loads", path);
	if (good) {
		assert_int_equal(errors.n, 0);
		p = buf_str(&text);
		while ((line = next_line(&p, "; value: ")) != NULL) {
			check_value(path, c, line);
			free(line);
		}
		check_round_trip(path, c);
	} else {
		assert_null(c);
		assert_true(err.code < 0 && err.msg[0] != '\0');
		check_fail(path, buf_str(&text), &errors);
	}
	set_environment(buf_str(&text), false);
	config_destroy(c);
	config_errors_finish(&errors);
	buf_finish(&text);
	buf_finish(&said);
}

static void check_all(const char *pattern, bool good, unsigned least)
{
	unsigned i;
	glob_t g;

	assert_int_equal(glob(pattern, 0, NULL, &g), 0);
	for (i = 0; i < g.gl_pathc; i++)
		check_file(g.gl_pathv[i], good);
	assert_true(i >= least);
	globfree(&g);
}

static void good_files(void **state)
{
	check_all(FOLDER "pass-*.ini", true, 5);
}

static void bad_files(void **state)
{
	check_all(FOLDER "fail-*.ini", false, 15);
}

static void examples(void **state)
{
	check_all("etc/examples/*.ini", true, 1);
	check_all("etc/drover.ini", true, 1);
}

static int setup(void **state)
{
	setenv("HOME", "/home/corpus", 1);
	unsetenv("DROVER_RUN_ID");
	unsetenv("DROVER_RUN_DIR");
	unsetenv("DROVER_STATE_DIR");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_files),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(examples),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}

#include "ctl/doctor-fix.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"

#define MARK     "# Written by `drover doctor --fix`"
#define RUN_MS   60000
#define FILE_MAX 65536

/* ---- one step ---- */

/* That no link of the tree leads out of it. */
static int check_inside(const char *root, const char *path, struct err *err)
{
	char *real_root = NULL, *real = NULL, *dir = strdup(path), *slash;
	int r = 0;

	if (root == NULL || dir == NULL) {
		free(dir);
		return root == NULL ? 0 : err_nomem(err);
	}
	/* The nearest folder that is there already. */
	while (real == NULL && (slash = strrchr(dir, '/')) != NULL && slash != dir) {
		*slash = '\0';
		real = realpath(dir, NULL);
	}
	real_root = realpath(root, NULL);
	if (real == NULL || real_root == NULL || !str_starts(real, real_root) ||
		(real[strlen(real_root)] != '/' && real[strlen(real_root)] != '\0'))
		r = err_set(err, -EXDEV, "%s leads out of %s", quote(path), quote(root));
	free(real);
	free(real_root);
	free(dir);
	return r;
}

/* -EEXIST: a file of this name is there, and not of our making. */
static int check_ours(const char *path, struct err *err)
{
	struct buf old = { 0 };
	int r = 0;

	if (file_read(path, FILE_MAX, &old, NULL) == 0 && !str_starts(buf_str(&old), MARK))
		r = err_set(err, -EEXIST, "%s is there, and not of drover's making", quote(path));
	buf_finish(&old);
	return r;
}

static int write_file(const struct fixing *f, const char *path, const char *text, struct err *err)
{
	char *dir = strdup(path), *slash = dir != NULL ? strrchr(dir, '/') : NULL;
	int r = slash == NULL ? err_nomem(err) : check_inside(f->root, path, err);

	if (r == 0)
		r = check_ours(path, err);
	if (r == 0) {
		*slash = '\0';
		r = mkdir_p(dir, 0755, err);
	}
	if (r == 0)
		r = file_write_atomic(path, text, strlen(text), 0644, true, err);
	free(dir);
	return r;
}

static int remove_file(const struct fixing *f, const char *path, struct err *err)
{
	int r = check_inside(f->root, path, err);

	if (r == 0)
		r = check_ours(path, err);
	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "remove %s", quote(path));
	return r;
}

static void program_ended(void *arg, const struct child_result *res, const struct err *err)
{
	struct err *out = arg;

	if (err != NULL)
		*out = *err;
}

static int run_program(const json_t *words, struct err *err)
{
	struct strv argv = { 0 };
	struct child_run_opts opts = { .timeout_ms = RUN_MS };
	struct child_spec spec = { 0 };
	struct err ended = { 0 };
	const json_t *word;
	uv_loop_t loop;
	char *file;
	size_t i;
	int r;

	json_array_foreach (words, i, word)
		strv_add(&argv, json_string_value(word));
	file = argv.n > 0 && !argv.bad ? find_program(argv.v[0]) : NULL;
	spec.file = file;
	spec.argv = argv.v;
	if (file == NULL) {
		r = err_set(err, -ENOENT, "%s is not installed", argv.n > 0 ? argv.v[0] : "it");
	} else if ((r = uv_loop_init(&loop)) < 0) {
		err_errno(err, r, "loop");
	} else {
		r = child_run(NULL, &loop, &spec, &opts, program_ended, &ended, err);
		uv_run(&loop, UV_RUN_DEFAULT);
		uv_loop_close(&loop);
		if (r == 0 && ended.code != 0) {
			*err = ended;
			r = ended.code;
		}
	}
	free(file);
	strv_finish(&argv);
	return r;
}

static void step_text(const json_t *step, struct buf *out)
{
	const char *what = json_str(step, "do"), *path = json_str(step, "path");
	const json_t *word;
	size_t i;

	buf_printf(out, "%s", what != NULL ? what : "?");
	if (path != NULL) {
		buf_adds(out, " ");
		add_clean(out, path);
	}
	json_array_foreach (json_arr(step, "argv"), i, word) {
		buf_adds(out, " ");
		add_clean(out, json_string_value(word) != NULL ? json_string_value(word) : "?");
	}
}

static int make_step(const struct fixing *f, const json_t *step, struct err *err)
{
	const char *what = json_str(step, "do"), *path = json_str(step, "path"),
		   *text = json_str(step, "text");
	int r;

	if (str_eq(what, "write") && path != NULL && text != NULL)
		r = write_file(f, path, text, err);
	else if (str_eq(what, "remove") && path != NULL)
		r = remove_file(f, path, err);
	else if (str_eq(what, "run"))
		r = run_program(json_arr(step, "argv"), err);
	else
		r = err_set(err, -ENOTSUP, "this drover does not know how to %s",
			quote(what != NULL ? what : "?"));
	return r < 0 && json_flag(step, "may_fail", false) ? 0 : r;
}

/* ---- one change ---- */

/* Until one fails; *n grows by how many were made. */
static int make_steps(const struct fixing *f, const json_t *steps, size_t *n, struct err *err)
{
	const json_t *step;
	struct buf text = { 0 };
	size_t i;
	int r = 0;

	json_array_foreach (steps, i, step) {
		r = make_step(f, step, err);
		*n += r == 0;
		if (r == 0)
			continue;
		step_text(step, &text);
		err_wrap(err, "%s", buf_str(&text));
		buf_finish(&text);
		break;
	}
	return r;
}

/* All of them, whatever becomes of each. */
static void take_back(const struct fixing *f, const json_t *steps)
{
	const json_t *step;
	struct err ignored;
	size_t i;

	json_array_foreach (steps, i, step)
		make_step(f, step, &ignored);
}

static void show(const json_t *change)
{
	struct buf text = { 0 };
	const char *title = json_str(change, "title");
	const json_t *step;
	size_t i;

	buf_adds(&text, "\nTo ");
	add_clean(&text, title != NULL ? title : "?");
	buf_adds(&text, ":\n");
	json_array_foreach (json_arr(change, "steps"), i, step) {
		buf_adds(&text, "    ");
		step_text(step, &text);
		buf_adds(&text, "\n");
	}
	print_text(&text);
	fflush(stdout);
}

/* Nobody at a terminal is a no. */
static bool agreed(const struct fixing *f)
{
	char *line = NULL;
	size_t cap = 0;
	bool yes;

	if (f->yes)
		return true;
	if (f->quiet || !isatty(STDIN_FILENO))
		return false;
	fputs("Do that? [y/N] ", stdout);
	fflush(stdout);
	yes = getline(&line, &cap, stdin) > 0 && (line[0] == 'y' || line[0] == 'Y');
	free(line);
	return yes;
}

static void note(struct fixing *f, const json_t *change, const char *result, const char *message)
{
	json_t *j = json_object();

	json_put_str(j, "check", json_str(change, "check"));
	json_put_str(j, "title", json_str(change, "title"));
	json_put_str(j, "result", result);
	json_put_str(j, "message", message);
	json_array_append_new(f->results, j);
	if (strcmp(result, "done") == 0)
		f->done++;
	else
		f->left++;
	f->failed += strcmp(result, "failed") == 0;
	if (!f->quiet)
		printf("%s%s%s\n", result, message != NULL ? ": " : "",
			message != NULL ? message : "");
}

static void make(struct fixing *f, const json_t *change)
{
	const char *refused = json_str(change, "refused");
	size_t made = 0;
	struct err err;

	if (!f->quiet)
		show(change);
	if (refused != NULL) {
		note(f, change, "refused", refused);
	} else if (f->root == NULL && geteuid() != 0) {
		note(f, change, "refused", "only root may: `sudo drover doctor --fix`");
	} else if (!agreed(f)) {
		note(f, change, "declined",
			f->quiet || !isatty(STDIN_FILENO)
				? "there is nobody to ask; --yes goes ahead"
				: NULL);
	} else if (make_steps(f, json_arr(change, "steps"), &made, &err) < 0) {
		if (made > 0)
			take_back(f, json_arr(change, "back"));
		note(f, change, "failed", err.msg);
	} else {
		note(f, change, "done", NULL);
	}
}

void doctor_make(struct fixing *f, const json_t *changes)
{
	const json_t *change;
	size_t i;

	json_array_foreach (changes, i, change)
		make(f, change);
}

/* The report of a droverd that is run for it alone: ctl/doctor-fix.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "ctl/doctor-fix.h"
#include "ctl/programs.h"
#include "lib/child.h"
#include "lib/json.h"

#define LIMIT_MS   120000
#define OUTPUT_MAX ((size_t)16 << 20)

struct run {
	struct buf out;
	struct err err;
};

static void ended(void *arg, const struct child_result *res, const struct err *err)
{
	struct run *run = arg;

	if (err != NULL)
		run->err = *err;
	else
		buf_add(&run->out, res->out, res->out_len);
}

int doctor_local(const char *root, const char *config, json_t **out, struct err *err)
{
	char *file = find_droverd(), *argv[8] = { file, (char *)"--doctor" };
	struct child_spec spec = { .file = file, .argv = argv };
	struct child_run_opts opts = { .timeout_ms = LIMIT_MS, .max_output = OUTPUT_MAX };
	struct run run = { 0 };
	size_t n = 2;
	uv_loop_t loop;
	int r;

	if (file == NULL)
		return err_set(err, -ENOENT,
			"droverd, which knows what to look at, is neither beside drover nor in PATH");
	if (root != NULL) {
		argv[n++] = (char *)"--root";
		argv[n++] = (char *)(uintptr_t)root;
	}
	if (config != NULL) {
		argv[n++] = (char *)"-c";
		argv[n++] = (char *)(uintptr_t)config;
	}
	r = uv_loop_init(&loop);
	if (r < 0) {
		free(file);
		return err_errno(err, r, "loop");
	}
	r = child_run(NULL, &loop, &spec, &opts, ended, &run, err);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	free(file);
	if (r == 0 && run.err.code != 0) {
		*err = run.err;
		r = run.err.code;
	}
	if (r == 0)
		r = json_parse(run.out.data != NULL ? run.out.data : "", run.out.len, out, err);
	buf_finish(&run.out);
	return r;
}

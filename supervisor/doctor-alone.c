/* The part of supervisor/doctor.h that needs no daemon: `droverd --doctor`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/json.h"
#include "supervisor/doctor.h"
#include "supervisor/examine.h"

struct alone {
	uv_loop_t loop;
	const struct args *args;
	char *path;              /* of the configuration */
	struct config *config;   /* NULL: it cannot be read */
	struct config *defaults; /* then these tell the folders */
	enum finding what;       /* of the configuration */
	struct buf why;
	int status;
};

static void print_report(struct alone *a, struct examination *x)
{
	json_t *report = json_object();
	struct err err;
	char *text;

	found(x, "drover", "config", a->what,
		a->what == FOUND_UNSEEN ? "`sudo drover doctor`" : "`drover check`", "%s",
		buf_str(&a->why));
	if (examine_report(x, report, &err) < 0 || (text = json_text(report)) == NULL) {
		fprintf(stderr, "droverd: %s\n", err.msg);
		a->status = 1;
	} else {
		puts(text);
		free(text);
	}
	json_decref(report);
}

static void examined(void *arg, struct examination *x)
{
	print_report(arg, x);
	examine_destroy(x);
}

/* What an empty file means: the folders, by arguments, environment or default. */
static int load_defaults(struct alone *a, struct err *err)
{
	int fd = memfd_create("defaults", MFD_CLOEXEC), r;
	struct config_errors errors = { 0 };
	struct config_load_opts opts = { .overrides = a->args->overrides,
		.noverrides = a->args->noverrides };
	char path[32];

	if (fd < 0)
		return err_errno(err, -errno, "memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	opts.path = path;
	r = config_load(&a->defaults, &opts, &errors, err);
	config_errors_finish(&errors);
	close(fd);
	return r;
}

/* What the file says, as far as it can be read; all of it counts as needed where it cannot. */
static int load(struct alone *a, struct err *err)
{
	const struct args *args = a->args;
	struct config_errors errors = { 0 };
	struct config_load_opts opts = { .path = a->path,
		.overrides = args->overrides,
		.noverrides = args->noverrides,
		.dropins = args->root == NULL };
	struct err why;

	if (access(a->path, R_OK) < 0) {
		a->what = errno == EACCES ? FOUND_UNSEEN : FOUND_INFO;
		buf_printf(&a->why, "%s: %s: what machines will need is not known", quote(a->path),
			strerror(errno));
	} else if (config_load(&a->config, &opts, &errors, &why) < 0) {
		a->what = FOUND_FAIL;
		if (errors.n > 0)
			buf_printf(&a->why, "%s:%u: %s", errors.v[0].file, errors.v[0].line,
				errors.v[0].message);
		else
			buf_adds(&a->why, why.msg);
	} else {
		a->what = FOUND_OK;
		buf_printf(&a->why, "%s is without mistakes", quote(a->path));
	}
	config_errors_finish(&errors);
	return a->config == NULL ? load_defaults(a, err) : 0;
}

static int examine_alone(struct alone *a, struct err *err)
{
	const struct drover_config *c = (a->config != NULL ? a->config : a->defaults)->drover;
	struct examine_opts opts = { .loop = &a->loop,
		.root = a->args->root,
		.config = a->config,
		.state_dir = c->state_dir,
		.run_dir = c->run_dir };
	int r = uv_loop_init(&a->loop);

	if (r < 0)
		return err_errno(err, r, "loop");
	r = examine_start(&opts, examined, a, err);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_loop_close(&a->loop);
	return r;
}

int doctor_alone(const struct args *args)
{
	const char *root = args->root != NULL ? args->root : "";
	struct alone a = { .args = args };
	struct err err;
	int r;

	/* One that was named is named as it is; the default is that of the tree. */
	a.path = args->path_given ? strdup(args->path) : str_printf("%s%s", root, args->path);
	r = a.path == NULL ? err_nomem(&err) : load(&a, &err);
	if (r == 0)
		r = examine_alone(&a, &err);
	if (r < 0) {
		fprintf(stderr, "droverd: %s\n", err.msg);
		a.status = 1;
	}
	config_destroy(a.config);
	config_destroy(a.defaults);
	buf_finish(&a.why);
	free(a.path);
	return a.status;
}

/* droverd: arguments and configuration; then the daemon, from its start to its end. */
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/daemon.h"
#include "supervisor/doctor.h"
#include "supervisor/notify.h"
#include "supervisor/plan.h"
#include "supervisor/upgrade.h"

static struct daemon g = { .given = { .listen_fd = -1, .lock_fd = -1, .state_lock_fd = -1 } };

static int check_config(struct config *c)
{
	struct plan p = { 0 };
	struct err err;

	if (g.args.plan) {
		if (plan_make(&p, c, NULL, 0, &err) < 0) {
			fprintf(stderr, "droverd: %s\n", err.msg);
			return 1;
		}
		args_print_plan(&g.args, &p);
		plan_finish(&p);
		return 0;
	}
	printf("%s: ok: %zu machine%s\n", c->path, c->by_kind[SECTION_VM].n,
		c->by_kind[SECTION_VM].n == 1 ? "" : "s");
	return 0;
}

int main(int argc, char **argv)
{
	struct config_errors errors = { 0 };
	struct buf text = { 0 };
	struct config *c = NULL;
	struct err err;
	int r;

	inherit_take(&g.given);
	notify_take();
	r = args_parse(&g.args, argc, argv);
	if (r >= 0)
		return r;
	if (g.args.doctor)
		return doctor_alone(&g.args);
	g.self = g.given.path != NULL ? g.given.path : upgrade_path(argv[0]);
	g.argv = argv;
	g.d.load = (struct config_load_opts){ .path = g.args.path,
		.overrides = g.args.overrides,
		.noverrides = g.args.noverrides,
		.dropins = true };
	if (config_load(&c, &g.d.load, &errors, &err) < 0) {
		config_errors_print(&errors, &text);
		fputs(buf_str(&text), stderr);
		if (errors.n == 0)
			fprintf(stderr, "droverd: %s\n", err.msg);
		buf_finish(&text);
		config_errors_finish(&errors);
		return 1;
	}
	config_errors_finish(&errors);
	if (g.args.check) {
		r = check_config(c);
		config_destroy(c);
		return r;
	}
	if (daemon_open(&g, c, &err) < 0) {
		fprintf(stderr, "droverd: %s\n", err.msg);
		return 1;
	}
	daemon_start(&g);
	uv_run(&g.loop, UV_RUN_DEFAULT);
	daemon_finish(&g);
	if (g.reexec) {
		notify_pass();
		upgrade_exec(g.self, argv, &g.given);
	}
	daemon_close_api(&g);
	free(g.self);
	args_finish(&g.args);
	return g.args.exit_status;
}

#include "supervisor/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"

#define CHECK_MS 30000

char *upgrade_path(const char *argv0)
{
	char *path = find_program(argv0), *cwd, *whole;

	if (path == NULL || path[0] == '/')
		return path;
	cwd = getcwd(NULL, 0);
	whole = cwd != NULL ? path_join(cwd, path) : NULL;
	free(cwd);
	free(path);
	return whole;
}

int upgrade_check(struct child_run **out, uv_loop_t *loop, const char *path, char *const *argv,
	child_done_fn *done, void *arg, struct err *err)
{
	struct child_run_opts opts = { .timeout_ms = CHECK_MS };
	/* The paths among the arguments may be relative. */
	struct child_spec spec = { .file = path, .cwd = ".", .die_with_us = true };
	struct strv args = { 0 };
	int r;

	for (size_t i = 0; argv[i] != NULL; i++)
		strv_add(&args, argv[i]);
	strv_add(&args, "-n");
	spec.argv = args.v;
	r = args.bad ? err_nomem(err) : child_run(out, loop, &spec, &opts, done, arg, err);
	strv_finish(&args);
	return r;
}

void upgrade_block_signals(bool block)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

_Noreturn void upgrade_exec(const char *path, char *const *argv, const struct inherited *pass)
{
	int r = inherit_pass(pass, path);

	if (r < 0)
		log_error("re-exec: the API's socket cannot be passed on: %s", strerror(-r));
	execv(path, argv);
	log_error("re-exec: execute %s: %s; this droverd goes on", path, strerror(errno));
	execv("/proc/self/exe", argv);
	log_error("re-exec: execute /proc/self/exe: %s; the machines run on", strerror(errno));
	exit(1);
}

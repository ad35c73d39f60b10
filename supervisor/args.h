/* supervisor/args.h - the command line of droverd. */
#ifndef DROVER_SUPERVISOR_ARGS_H
#define DROVER_SUPERVISOR_ARGS_H

#include "supervisor/plan.h"

struct args {
	const char *path; /* of the configuration */
	bool path_given;
	bool check, plan, json;
	bool doctor;
	const char *root; /* with doctor: absolute; NULL: this host */
	struct config_override *overrides;
	size_t noverrides;
	int exit_status;
};

/* -1: go on; else exit with this (help, version: 0, usage: 2). */
int args_parse(struct args *a, int argc, char **argv);
void args_finish(struct args *a);
void args_print_plan(const struct args *a, const struct plan *p);

#endif

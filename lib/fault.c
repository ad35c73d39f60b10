#include "lib/fault.h"

#ifdef DROVER_FAULTS

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/str.h"

static const struct {
	const char *name;
	int code;
} codes[] = { { "ENOSPC", ENOSPC }, { "EMFILE", EMFILE }, { "ENOMEM", ENOMEM },
	{ "EPERM", EPERM } };

static bool over;

/* What is to happen here ("kill"), or NULL. */
static const char *wanted_at(const char *table, const char *point)
{
	const char *want = getenv("DROVER_FAULT"), *what;
	char here[128];

	if (over || want == NULL || (what = strchr(want, '=')) == NULL)
		return NULL;
	snprintf(here, sizeof(here), "%s/%s", table, point);
	if (strlen(here) != (size_t)(what - want) || strncmp(want, here, strlen(here)) != 0)
		return NULL;
	return what + 1;
}

bool fault_stalls(const char *table, const char *point)
{
	const char *what = wanted_at(table, point);

	if (what == NULL || strcmp(what, "stall") != 0)
		return false;
	over = true;
	log_info("fault %s/%s=stall", table, point);
	return true;
}

/* The loop stands still meanwhile, so that the point is where it happens. */
static void run_program(void)
{
	const char *program = getenv("DROVER_FAULT_RUN");
	siginfo_t info;
	pid_t pid = program != NULL ? fork() : -1;

	if (pid == 0) {
		execl(program, program, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 || info.si_status != 0) {
		log_error("DROVER_FAULT_RUN: it failed");
		abort();
	}
}

int fault_at(const char *table, const char *point, struct err *err)
{
	const char *what = wanted_at(table, point);

	if (what == NULL)
		return 0;
	over = true;
	log_info("fault %s/%s=%s", table, point, what);
	if (strcmp(what, "kill") == 0)
		kill(getpid(), SIGKILL);
	if (strcmp(what, "run") == 0) {
		run_program();
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (strcmp(what, codes[i].name) == 0)
			return err_errno(err, -codes[i].code, "injected at %s/%s", table, point);
	}
	/* A misspelt fault must not pass for a step that went well. */
	log_error("DROVER_FAULT=%s/%s=%s: unknown fault", table, point, what);
	abort();
}

#endif

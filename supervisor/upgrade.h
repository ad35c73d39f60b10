/*
 * supervisor/upgrade.h - re-execution in place (SIGUSR2): whether the program at our path can take
 * our place, and the exec itself. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_UPGRADE_H
#define DROVER_SUPERVISOR_UPGRADE_H

#include "lib/child.h"
#include "supervisor/inherit.h"

/* Absolute, links not followed, because an upgrade may turn them; malloc'd, NULL: not known. */
char *upgrade_path(const char *argv0);

/*
 * Runs `path ARGUMENTS -n`: the new program must be executable and take the configuration. done as
 * in child_run(); what it has to say against it is in res->errout.
 */
int upgrade_check(struct child_run **out, uv_loop_t *loop, const char *path, char *const *argv,
	child_done_fn *done, void *arg, struct err *err);

/*
 * The signals that droverd handles are blocked from before their handlers go until the new
 * program's are there; they wait.
 */
void upgrade_block_signals(bool block);

/*
 * Does not return: when path cannot be executed after all this program takes its own place once
 * more, and only when not even that is possible, exits with 1.
 */
_Noreturn void upgrade_exec(const char *path, char *const *argv, const struct inherited *pass);

#endif

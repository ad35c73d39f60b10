/* lib/spawn.h - the vfork-like part of lib/child.c: from a spec to a pid and a pidfd. Any thread. */
#ifndef DROVER_LIB_SPAWN_H
#define DROVER_LIB_SPAWN_H

#include "lib/child.h"

/* The child is in its own process group (session with new_session), with default signals. */
int spawn_process(const struct child_spec *spec, pid_t *pid, int *pidfd, struct err *err);

#endif

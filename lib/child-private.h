/* lib/child-private.h - what lib/child.c and lib/child-async.c share; nobody else includes it. */
#ifndef DROVER_LIB_CHILD_PRIVATE_H
#define DROVER_LIB_CHILD_PRIVATE_H

#include "lib/child.h"

/* Watches what spawn_process() has made; takes pidfd over, and kills the child if it cannot. */
int child_take(struct child **out, uv_loop_t *loop, pid_t pid, int pidfd, child_exit_fn *exited,
	void *arg, struct err *err);

#endif

/*
 * supervisor/pool-work.h - one function run by a thread of the pool, its outcome told on the loop.
 */
#ifndef DROVER_SUPERVISOR_POOL_WORK_H
#define DROVER_SUPERVISOR_POOL_WORK_H

#include <uv.h>
#include "lib/err.h"

/* Runs in a thread. Returns 0, or -errno with err filled. */
typedef int pool_work_fn(void *arg, struct err *err);
typedef void pool_done_fn(void *arg, const struct err *err);

/* done (may be NULL) fires exactly once, never before this returns. -ENOMEM: neither is called. */
int pool_work(uv_loop_t *loop, pool_work_fn *work, pool_done_fn *done, void *arg);

/* Removes a tree in the pool; what goes wrong is logged. path is copied. */
void pool_remove_tree(uv_loop_t *loop, const char *path);

#endif

/*
 * netcfg/linkdel.h - deletes links off the loop. The kernel takes 15 to 35 ms to delete a link,
 * be it one or thirty, since it waits for its readers (RCU); so it happens in the thread pool, and
 * what is asked for while a deletion runs goes into the next one together. Loop thread.
 */
#ifndef DROVER_NETCFG_LINKDEL_H
#define DROVER_NETCFG_LINKDEL_H

#include <uv.h>
#include "lib/err.h"

struct link_deleter;
typedef void link_deleted_fn(void *arg, const struct err *err);

int link_deleter_create(struct link_deleter **out, uv_loop_t *loop, struct err *err);
/*
 * As tap_delete() of netcfg/link.h: a missing one is no error, a link that is no TAP is left alone
 * (-EBUSY). done fires exactly once, never before this returns. Returns -ENOMEM when nothing was
 * queued; then done does not fire.
 */
int link_deleter_tap(struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg,
	struct err *err);
/* The same for a bridge, whose ports become ports of nothing. */
int link_deleter_bridge(struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg,
	struct err *err);
int link_deleter_ifb(struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg,
	struct err *err);
/* And for a VLAN of a link, which stays. */
int link_deleter_vlan(struct link_deleter *d, const char *name, link_deleted_fn *done, void *arg,
	struct err *err);
/*
 * What runs is finished, what waits completes with -ECANCELED. closed (may be NULL) fires on a
 * later turn of the loop, when the memory is gone. Takes NULL (closed fires at once).
 */
void link_deleter_destroy(struct link_deleter *d, void (*closed)(void *arg), void *arg);

#endif

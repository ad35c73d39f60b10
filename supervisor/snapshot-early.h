/*
 * supervisor/snapshot-early.h - what a hypervisor has saved goes to the disk, and gets its digests,
 * while the guest is let go on: the snapshot's manifest (supervisor/snapshot.h) waits for it. Loop
 * thread.
 */
#ifndef DROVER_SUPERVISOR_SNAPSHOT_EARLY_H
#define DROVER_SUPERVISOR_SNAPSHOT_EARLY_H

#include <sys/stat.h>
#include <uv.h>
#include "supervisor/snapshot.h"

struct snapshot_early;

/*
 * Of the files in dir; but not of those that are named like one of disks, which may be written yet.
 * NULL: it cannot be done, and is no loss.
 */
struct snapshot_early *snapshot_early_begin(
	uv_loop_t *loop, const char *dir, const struct snapshot_disks *disks);
/* Whether it is over. Else done comes when it is. NULL is over. */
bool snapshot_early_over(struct snapshot_early *e, void (*done)(void *arg), void *arg);
/* Once it is over, also in the pool: the digest's hexadecimal digits; NULL: not of this file. */
const char *snapshot_early_digest(
	const struct snapshot_early *e, const char *name, const struct stat *st);
/* Takes NULL; done does not come any more. */
void snapshot_early_destroy(struct snapshot_early *e);

#endif

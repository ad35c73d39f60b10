/*
 * supervisor/reconcile.h - compares the host with what should be there and mends it: when droverd
 * has started, every reconcile_interval, and when the kernel tells of a change to a TAP, an
 * address or the nft table of ours. Loop thread.
 *
 * What no one owns is removed (ledger entries, TAPs with our alias, processes with our marker and
 * folders of machines that do not run), once it has been seen for reconcile_min_age and while nothing is being done to its
 * owner; what a running machine lacks is put back (its TAP, on the descriptor that the hypervisor
 * holds, address, link up, settings, the nft table). Where a TAP cannot be, the machine gets the
 * condition network-lost. What does not prove itself ours is never touched.
 */
#ifndef DROVER_SUPERVISOR_RECONCILE_H
#define DROVER_SUPERVISOR_RECONCILE_H

#include <jansson.h>
#include "supervisor/drover.h"

struct reconciler;

/* Begins with a pass at once. */
int reconcile_create(struct reconciler **out, struct drover *d, struct err *err);
/* Passes that wait or run complete with -ECANCELED; nothing is mended any more. Takes NULL. */
void reconcile_destroy(struct reconciler *r);
/* The configuration was read again. Takes NULL. */
void reconcile_rearm(struct reconciler *r);

enum reconcile_mode {
	RECONCILE_LOOK, /* changes nothing */
	RECONCILE_AGED, /* mends; what no one owns only when it is old enough */
	RECONCILE_NOW   /* mends all, because a person asks for it */
};
/*
 * differences: [{kind, name, owner|null, difference, action, mended}], borrowed: action says what
 * was done, or would be; mended whether that did it. NULL with err.
 */
typedef void reconcile_done_fn(void *arg, json_t *differences, const struct err *err);
/* Passes run one after the other. done fires exactly once, never before this returns. */
int reconcile_run(struct reconciler *r, enum reconcile_mode mode, reconcile_done_fn *done,
	void *arg, struct err *err);

#endif

/*
 * supervisor/doctor.h - what on this host keeps machines from running well, and what differs from
 * what should be there (supervisor/reconcile.h), for `drover doctor`. Loop thread; programs are
 * asked for their versions as children, at most 5 s each.
 */
#ifndef DROVER_SUPERVISOR_DOCTOR_H
#define DROVER_SUPERVISOR_DOCTOR_H

#include <jansson.h>
#include "supervisor/args.h"
#include "supervisor/drover.h"

/*
 * report: what examine_report() adds (supervisor/examine.h), and differences:[{kind, name, owner|null,
 * difference, action, mended}]; borrowed.
 */
typedef void doctor_done_fn(void *arg, json_t *report, const struct err *err);
/* fix: mends the differences, however young. done exactly once, never before this returns. */
int doctor_run(struct drover *d, bool fix, doctor_done_fn *done, void *arg, struct err *err);

/*
 * Without a daemon, as whoever calls it: prints the report, without differences, as JSON; returns the exit
 * status. Of the tree args->root if there is one.
 */
int doctor_alone(const struct args *args);

#endif

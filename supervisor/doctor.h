/*
 * supervisor/doctor.h - what on this host keeps machines from running well, and what differs from
 * what should be there (supervisor/reconcile.h), for `drover doctor`. Loop thread; programs are
 * asked for their versions as children, at most 5 s each.
 */
#ifndef DROVER_SUPERVISOR_DOCTOR_H
#define DROVER_SUPERVISOR_DOCTOR_H

#include <jansson.h>
#include "supervisor/drover.h"

/*
 * report: {checks:[{check, ok, level, message, fix|null}], differences:[{kind, name, owner|null,
 * difference, action, mended}]}, borrowed. level is what a failed check amounts to: "error" (machines will
 * not run), "warning" (something will be missing), "info".
 */
typedef void doctor_done_fn(void *arg, json_t *report, const struct err *err);
/* fix: mends the differences, however young. done exactly once, never before this returns. */
int doctor_run(struct drover *d, bool fix, doctor_done_fn *done, void *arg, struct err *err);

#endif

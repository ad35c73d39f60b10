/*
 * lib/fault.h - points at which a test kills the daemon or makes a step fail. Only a build with
 * -DDROVER_FAULTS (make B=build/faults) has them; else they cost nothing. Loop thread.
 *
 * DROVER_FAULT=TABLE/POINT=kill     SIGKILL to ourselves at the point, the first time
 * DROVER_FAULT=TABLE/POINT=ENOSPC   the step fails so, once (also EMFILE, ENOMEM, EPERM)
 * DROVER_FAULT=TABLE/POINT=run     the program that DROVER_FAULT_RUN names is run there, once, to its
 *                                  end: what else may happen at this moment
 * DROVER_FAULT=TABLE/POINT=stall    the step is under way until it is cancelled, once
 */
#ifndef DROVER_LIB_FAULT_H
#define DROVER_LIB_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#ifdef DROVER_FAULTS
/* 0, or -errno with err filled. */
int fault_at(const char *table, const char *point, struct err *err);
/* Asked before fault_at() by a step that can wait: whether it shall. */
bool fault_stalls(const char *table, const char *point);
#else
static inline int fault_at(const char *table, const char *point, struct err *err)
{
	return 0;
}
static inline bool fault_stalls(const char *table, const char *point)
{
	return false;
}
#endif

#define FAULT_BIT(i) (UINT32_C(1) << (i))
#define FAULT_ALL    UINT32_MAX

/* For `droverd --fault-points`: a module's points, from its own table. */
struct fault_table {
	const char *name;
	const char *(*point)(size_t i); /* NULL behind the last one */
	uint32_t fails; /* FAULT_BITs: where an error can be injected, not only a kill */
};

#endif

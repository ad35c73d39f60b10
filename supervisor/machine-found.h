/*
 * supervisor/machine-found.h - machines whose state file is gone or cannot be read, although their
 * hypervisor may run: what can be known of them without it. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_MACHINE_FOUND_H
#define DROVER_SUPERVISOR_MACHINE_FOUND_H

#include "supervisor/machine.h"
#include "supervisor/marker.h"

/*
 * m could not be loaded: its disk is kept, and one of the marked processes that is its hypervisor
 * is what is to be taken up. Counters, the wanted state and the last run's story are lost. why: for
 * the log.
 */
void machine_found(struct machine *m, const struct marked *processes, size_t n, const char *why,
	struct saved_process *out);
/* The machine whose hypervisor this process is, or its jail; NULL: it is another. */
const char *machine_of_process(const struct marked *p);

#endif

/*
 * supervisor/machine-clone.h - a new machine that is a copy of another one: its disks, with a name,
 * machine-id, SSH host keys, MAC and address of its own, and its section of the configuration as a
 * drop-in (supervisor/dropin.h). Loop thread.
 */
#ifndef DROVER_SUPERVISOR_MACHINE_CLONE_H
#define DROVER_SUPERVISOR_MACHINE_CLONE_H

#include "supervisor/machine.h"

/* snapshot NULL: of the machine as it is, which must be stopped. The new one is stopped. */
int machine_clone(struct machine *m, const char *name, const char *snapshot, struct operation **op,
	struct err *err);

#endif

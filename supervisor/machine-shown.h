/* supervisor/machine-shown.h - what a machine's list entry and its details share. Loop thread. */
#ifndef DROVER_SUPERVISOR_MACHINE_SHOWN_H
#define DROVER_SUPERVISOR_MACHINE_SHOWN_H

#include "supervisor/machine.h"

/* What the present run was started from, else what the next one would be; NULL when removed. */
const struct vm_config *machine_shown_config(const struct machine *m);
/* A removed machine is shown as it was when it last ran; what is missing there was the default. */
const char *machine_applied_key(const struct machine *m, const char *name);
const char *machine_shown_state(const struct machine *m);
bool machine_is_up(const struct machine *m); /* its monitor has answered */

#endif

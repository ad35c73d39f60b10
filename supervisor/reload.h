/*
 * supervisor/reload.h - from files to actions: load, plan, apply. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_RELOAD_H
#define DROVER_SUPERVISOR_RELOAD_H

#include "supervisor/drover.h"
#include "supervisor/plan.h"

/* Reads the files and says what a reload would do. -EINVAL: errors has what is wrong with them. */
int drover_plan(struct drover *d, struct plan *out, struct config_errors *errors, struct err *err);
/* The same, and sets it going. A file with an error changes nothing. */
int drover_reload(
	struct drover *d, struct plan *out, struct config_errors *errors, struct err *err);
/*
 * Takes in the section of a machine that was written a moment ago, and nothing else: -EBUSY when
 * there are other changes, which nobody has asked to be applied.
 */
int drover_take_vm(struct drover *d, const char *name, struct err *err);
/* Plans again from the present configuration: what could not be done while a machine was busy. */
void drover_converge(struct drover *d);
/* Once the saved machines are known: reads the files again for {{guestId}}, gives each machine its
 * section, makes those that are new. */
void drover_bind_first(struct drover *d);
/* At start: the first configuration, which d->box holds already. */
void drover_apply_first(struct drover *d);
/* For config_load: the number that {{guestId}} of a machine stands for. */
int64_t drover_guest_id(void *arg, const char *vm);

#endif

/*
 * supervisor/image-prune.h - keeps the store of images within image_budget and image_age: after pulls,
 * and every hour, never while a pull is under way. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_IMAGE_PRUNE_H
#define DROVER_SUPERVISOR_IMAGE_PRUNE_H

#include "supervisor/drover.h"

struct image_pruner;

int image_pruner_create(struct image_pruner **out, struct drover *d, struct err *err);
/* One under way goes on without us. Takes NULL. */
void image_pruner_destroy(struct image_pruner *p);
/* Something was pulled, or the limits may be others. Takes NULL. */
void image_pruner_kick(struct image_pruner *p);

/* For a pull, or for the verb prune (age): the limits, and what machines need. */
void image_limit_args(struct drover *d, bool age, struct strv *args);

#endif

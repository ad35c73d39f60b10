/*
 * oci/prune.h - what the store may be rid of: images by age and by size, and what no image needs.
 * Part of drover-image: blocks. Times in ms.
 */
#ifndef DROVER_OCI_PRUNE_H
#define DROVER_OCI_PRUNE_H

#include "oci/store.h"

struct prune_limits {
	uint64_t budget;  /* bytes that the store may occupy; 0: any */
	uint64_t age_ms;  /* images that were not used for so long go; 0: never */
	struct strv keep; /* references that machines need, whatever the limits say */
};

/* why: "age" or "budget". */
typedef void prune_told_fn(void *arg, const char *ref, const char *why);
/*
 * Takes images out of the index that are beyond the limits, those that were used longest ago first;
 * never one of keep, nor, by the budget, one that was used in the last ten minutes: whoever has just
 * pulled it wants it. The store is open exclusively.
 */
int prune_index(struct store *s, const struct prune_limits *limits, prune_told_fn *told, void *arg,
	struct err *err);
/*
 * Removes what no image of the index needs, but for built disks that overlays lie above, of which
 * *stayed tells. The store is open exclusively.
 */
int prune_collect(struct store *s, uint64_t *freed, unsigned *stayed, struct err *err);
/* Whether an overlay lies above this built disk. */
bool prune_in_use(struct store *s, const char *key);

/*
 * What those of the images in the store occupy that must stay (keep), beside the image ref, which
 * is about to be pulled. An estimate where others are at work in the store.
 */
int prune_kept_bytes(
	struct store *s, const struct strv *keep, const char *ref, uint64_t *out, struct err *err);

#endif

/*
 * oci/inflate.h - the layers of an image as streams of tar bytes. A second thread reads and
 * inflates ahead into a small ring; everything here is called from one other thread, and blocks.
 *
 * Pieces have a fixed size whatever the compression, so that what is made of them depends on the
 * tar's bytes alone.
 */
#ifndef DROVER_OCI_INFLATE_H
#define DROVER_OCI_INFLATE_H

#include "oci/layers.h"

struct inflate;

/* Starts with layer 0. layers must outlive it. */
int inflate_start(struct inflate **out, const struct layer_src *layers, size_t n, struct err *err);
/*
 * 1: the next piece of the current layer, valid until the next call; 0: the layer ended, and its
 * diff_id is right (the next call gives the next layer's first piece); else -errno.
 */
int inflate_next(struct inflate *in, const void **data, size_t *len, struct err *err);
/* Reads the current layer to its end, so that damage behind the last tar entry is seen too. */
int inflate_drain(struct inflate *in, struct err *err);
/* Compressed bytes taken so far, and of all layers together. */
uint64_t inflate_done(struct inflate *in);
uint64_t inflate_total(const struct inflate *in);
/* Takes NULL. Stops the thread wherever it is. */
void inflate_stop(struct inflate *in);

#endif

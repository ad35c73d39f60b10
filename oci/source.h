/*
 * oci/source.h - an image that is one file (https, http, or of the host), as an image like others:
 * its manifest is ours, with the file as its only layer and the files that it lies above behind it,
 * and their media types say their formats. Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_SOURCE_H
#define DROVER_OCI_SOURCE_H

#include "oci/job.h"

/* The media type of such a layer, "application/vnd.drover.file.v1.qcow2" for one. */
#define SOURCE_MEDIA_TYPE "application/vnd.drover.file.v1."

/*
 * Asks for the file, and has it in the store when it returns: a digest is known only then. Fills
 * in entry and manifest.
 */
int source_resolve(struct image *im, struct err *err);
/* Layers of such an image that the store has lost. */
int source_fetch(struct image *im, const struct descriptor *missing, size_t n, struct err *err);

/* The format of an image's only file; FORMAT_BY_NAME for an image of layers. */
enum image_format source_format(const struct manifest *m);
enum image_format source_layer_format(const struct descriptor *layer);

/*
 * "qcow2" if the file begins as one does, and so on; NULL. Only ever to ask: what a raw disk holds
 * says nothing of its format, its guest could write anything there.
 */
const char *source_magic(const char *path);

#endif

/*
 * oci/bundle.h - an image that lies in files: a folder in the OCI image layout ("oci:"), the same in
 * a tar ("oci-archive:"), or what `docker save` writes ("docker-archive:"). Part of drover-image:
 * blocks. Every byte of it is taken as hostile; no name in it becomes a path of the host.
 */
#ifndef DROVER_OCI_BUNDLE_H
#define DROVER_OCI_BUNDLE_H

#include "oci/image.h"
#include "oci/manifest.h"
#include "oci/store.h"

struct bundle;

/* ref must outlive it. */
int bundle_open(struct bundle **out, const struct image_ref *ref, struct err *err);
void bundle_close(struct bundle *b); /* takes NULL */

/*
 * A manifest or index: the one of that digest, or (NULL) the one that the reference means. -ENOENT
 * names what is there instead.
 */
int bundle_document(struct bundle *b, const char *digest, struct buf *out, struct err *err);
/* A config. */
int bundle_blob(struct bundle *b, const char *digest, struct buf *out, struct err *err);

/* What the file says that the image is called, "ghcr.io/org/name:tag"; nothing if it does not. */
int bundle_name(struct bundle *b, struct buf *out, struct err *err);

typedef void bundle_progress_fn(void *arg, const struct descriptor *blob, uint64_t done);
/* Into the store, verified. *cached: it was there by then. */
int bundle_fetch(struct bundle *b, struct store *s, const struct descriptor *blob,
	bundle_progress_fn *progress, void *arg, bool *cached, struct err *err);

#endif

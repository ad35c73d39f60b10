/*
 * oci/download.h - blobs of one repository fetched into the store, several at a time. Part of
 * drover-image: blocks.
 */
#ifndef DROVER_OCI_DOWNLOAD_H
#define DROVER_OCI_DOWNLOAD_H

#include "oci/manifest.h"
#include "oci/registry.h"
#include "oci/store.h"

struct download_events {
	/* The first bytes of a blob that was not there; done may start above 0. */
	void (*progress)(void *arg, const struct descriptor *blob, uint64_t done);
	/* Complete and verified; cached: nothing of it was fetched by this process. */
	void (*complete)(void *arg, const struct descriptor *blob, bool cached);
	void *arg;
};

/*
 * blobs has no digest twice. A blob that another process is fetching is waited for (and fetched
 * from where that one came to, should it die). On the first failure all others are given up, and
 * what is incomplete is removed.
 */
int download_blobs(struct registry *r, struct store *s, const struct descriptor *blobs, size_t n,
	const struct download_events *events, struct err *err);

#endif

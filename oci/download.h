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
struct download;
int download_create(struct download **out, struct registry *r, struct store *s,
	const struct descriptor *blobs, size_t n, const struct download_events *events,
	struct err *err);
/*
 * Claims all blobs before the first byte is fetched. -EBUSY: another process is fetching one; that
 * is no hindrance for download_run(). Not needed before it.
 */
int download_claim(struct download *d, struct err *err);
/* NULL: it is complete, or not claimed. */
struct blob *download_blob(struct download *d, const char *digest);
int download_run(struct download *d, struct err *err);
/* Gives up what is not complete; takes NULL. */
void download_destroy(struct download *d);

/* All of that. */
int download_blobs(struct registry *r, struct store *s, const struct descriptor *blobs, size_t n,
	const struct download_events *events, struct err *err);

#endif

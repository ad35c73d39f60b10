/*
 * oci/blob.h - one blob on its way into the store: digest and size are checked as the bytes come,
 * and only what is right is ever renamed into place. Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_BLOB_H
#define DROVER_OCI_BLOB_H

#include "oci/feed.h"
#include "oci/store.h"

struct blob;

/*
 * Claims the blob. What an earlier process left of it is read (for the digest) and kept. -EEXIST:
 * the store has it; -EBUSY: another process is fetching it.
 */
int blob_open(
	struct blob **out, struct store *s, const char *digest, uint64_t size, struct err *err);
/* The same, but waits for another process that is fetching it. */
int blob_open_wait(
	struct blob **out, struct store *s, const char *digest, uint64_t size, struct err *err);
/*
 * From now on the feed is told what comes; what is there already is told at once. *broke becomes true
 * when bytes that the feed told of turn out to be wrong: it is memory that the feed's reader does
 * not have. Both must outlive b. The file that grows is blob_path(), as long as b is there.
 */
void blob_feed(struct blob *b, struct feed *feed, bool *broke);
const char *blob_path(const struct blob *b);
/* Bytes that are there already, where to go on. */
uint64_t blob_have(const struct blob *b);
/* -EMSGSIZE when there is more than size says; -ENOSPC names the store. */
int blob_write(struct blob *b, const void *data, size_t len, struct err *err);
/* Forgets all bytes. */
int blob_restart(struct blob *b, struct err *err);
/*
 * With all bytes there: verifies, syncs, puts it into the store and frees b. -EBADMSG: another
 * digest; then (as after any failure) b is still there, to be restarted or abandoned.
 */
int blob_finish(struct blob *b, struct err *err);
/* The two halves of that: is it right? And, if it is, syncs it and puts it into the store. */
int blob_verify(struct blob *b, struct err *err);
int blob_commit(struct blob *b, struct err *err);
/* Removes what came; takes NULL. */
void blob_abandon(struct blob *b);

/* A blob that is in memory, e.g. a manifest. No error when the store has it. */
int blob_put(struct store *s, const char *digest, const void *data, size_t len, struct err *err);

#endif

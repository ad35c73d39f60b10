/*
 * oci/part.h - a file on its way into the store whose digest or size may not be known before it is
 * there: oci/blob.h for what no manifest names. Zeros become holes. Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_PART_H
#define DROVER_OCI_PART_H

#include "oci/digest.h"
#include "oci/store.h"

struct part;

/*
 * digest: what it will be, or NULL; then where, a URL or path, stands for it, and what an earlier
 * process left is not taken up. Waits for another process that makes the same. -EEXIST (with a
 * digest alone): the store has it.
 */
int part_open(
	struct part **out, struct store *s, const char *digest, const char *where, struct err *err);
uint64_t part_have(const struct part *p);
/* Whether it was opened with a digest, which will tell whether its pieces belong together. */
bool part_is_known(const struct part *p);
int part_write(struct part *p, const void *data, size_t len, struct err *err);
/* Forgets all bytes. */
int part_restart(struct part *p, struct err *err);
/*
 * All of it is there: verified, synced, and in the store. -EBADMSG: it has another digest than it
 * should, told in got; it may then be restarted. The claim is held until part_close().
 */
int part_finish(struct part *p, char got[DIGEST_MAX], struct err *err);
/* Removes what is not in the store; takes NULL. */
void part_close(struct part *p);

#endif

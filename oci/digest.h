/*
 * oci/digest.h - content digests, "sha256:HEX" and "sha512:HEX" (OCI image spec, "Digests"). Any
 * thread; a context belongs to one.
 */
#ifndef DROVER_OCI_DIGEST_H
#define DROVER_OCI_DIGEST_H

#include <stdbool.h>
#include "lib/err.h"

#define DIGEST_MAX 136 /* "sha512:", 128 hex digits, NUL */

/* One of the two algorithms, and as many lower-case hex digits as it has. */
bool digest_valid(const char *s);

struct digest;
/* like begins with the name of an algorithm, "sha256:". */
int digest_create(struct digest **out, const char *like, struct err *err);
int digest_update(struct digest *d, const void *data, size_t len);
/* Starts again from nothing. */
int digest_reset(struct digest *d);
/* After this only digest_reset() and digest_destroy(). */
int digest_final(struct digest *d, char out[DIGEST_MAX]);
void digest_destroy(struct digest *d);

/* The digest of a few bytes, by the algorithm of like ("sha256:" is enough). */
int digest_of(
	const char *like, const void *data, size_t len, char out[DIGEST_MAX], struct err *err);

#endif

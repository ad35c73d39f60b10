/*
 * oci/decode.h - one compressed stream from a descriptor: gzip (several members, as eStargz and
 * pigz write them), zstd (several and skippable frames) or neither, told apart by magic. Any one
 * thread; blocks.
 */
#ifndef DROVER_OCI_DECODE_H
#define DROVER_OCI_DECODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "oci/feed.h"

struct decode;

/* fd stays the caller's. taken is increased by the compressed bytes that are read. */
int decode_create(struct decode **out, int fd, _Atomic uint64_t *taken, struct err *err);
/*
 * Of a file that still grows, read from its beginning (oci/feed.h). *stop makes a read that waits
 * for more end with -ECANCELED.
 */
int decode_create_fed(struct decode **out, int fd, struct feed *feed, const atomic_bool *stop,
	_Atomic uint64_t *taken, struct err *err);
/*
 * Fills buf; *got is below cap only at the end of the stream. -EBADMSG when the stream is damaged
 * or cut off.
 */
int decode_read(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err);
void decode_destroy(struct decode *d);

#endif

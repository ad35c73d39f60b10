/*
 * oci/feed.h - a layer that is unpacked while it is still being fetched: one process appends to a
 * file, another reads the same file, and a cell of memory that both have tells how much of it is
 * there. Part of drover-image. Nothing that the reader does to the cell is ever looked at by the
 * writer. Bytes are only ever added; a writer that has to begin again breaks the feed for good.
 */
#ifndef DROVER_OCI_FEED_H
#define DROVER_OCI_FEED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

struct feed {
	_Atomic uint64_t have;
	uint64_t size; /* of the whole layer */
	_Atomic uint32_t turn;
	_Atomic bool broken;
};

void feed_init(struct feed *f, uint64_t size);
/* The writer: so many bytes are in the file now. */
void feed_more(struct feed *f, uint64_t have);
/* The writer, before it takes back what it had written. */
void feed_break(struct feed *f);

/*
 * The reader: waits for bytes after pos. *have is how many there are from the beginning, pos itself
 * at the end of the layer. -ECANCELED once *stop is true, see feed_wake(); -ESTALE when it broke.
 */
int feed_wait(
	struct feed *f, uint64_t pos, const atomic_bool *stop, uint64_t *have, struct err *err);
/* Any thread of the reader's: lets feed_wait() look at *stop. */
void feed_wake(struct feed *f);
/* What was read before this is what the writer wrote: 0, or -ESTALE. */
int feed_check(struct feed *f, struct err *err);
bool feed_whole(const struct feed *f);

#endif

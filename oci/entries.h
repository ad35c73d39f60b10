/*
 * oci/entries.h - the tar entries of an image's layers, one after the other, through libarchive.
 * Blocks; one thread beside that of inflate.h.
 *
 * Names are bytes: the reader's thread runs with the C locale while it reads, because in a UTF-8
 * one libarchive composes characters (NFC) and would give files other names than they have.
 */
#ifndef DROVER_OCI_ENTRIES_H
#define DROVER_OCI_ENTRIES_H

#include <archive.h>
#include <archive_entry.h>
#include "oci/layers.h"

struct entries;

/* layers must outlive it. progress may be NULL. */
int entries_open(struct entries **out, const struct layer_src *layers, size_t n,
	layers_progress_fn *progress, void *arg, struct err *err);
/* 1: an entry, valid until the next call, and its layer; 0: no more; else -errno. */
int entries_next(struct entries *es, struct archive_entry **out, size_t *layer, struct err *err);
/* Data of the current entry at rising offsets: 1, 0 at its end, else -errno. */
int entries_data(
	struct entries *es, const void **data, size_t *len, uint64_t *offset, struct err *err);
/* Takes NULL. */
void entries_close(struct entries *es);

#endif

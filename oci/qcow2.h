/*
 * oci/qcow2.h - the qcow2 files that droverd itself makes and writes into while no hypervisor has
 * them: a layer of a machine's own above a raw disk that is never written (QEMU,
 * docs/interop/qcow2.txt). What a hypervisor may have made of one meanwhile is understood, with
 * compression, encryption, snapshots and data in other files refused. Part of drover-image: blocks;
 * any one thread. Sizes and places in bytes.
 */
#ifndef DROVER_OCI_QCOW2_H
#define DROVER_OCI_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#define QCOW2_NAME_MAX 1023

/* What its header tells. */
struct qcow2_head {
	uint64_t size;                    /* of the disk */
	bool backing_raw;                 /* the header says that its backing file is raw */
	char backing[QCOW2_NAME_MAX + 1]; /* as it is written there; "": none */
};
/* -EINVAL: no qcow2 that is understood. */
int qcow2_head(const char *path, struct qcow2_head *out, struct err *err);

/*
 * Makes an empty one (mode 0600), which must not exist yet: all of it is what the raw file `backing`
 * has, and zeros behind that. backing is the name of a file in the same folder. Removed again on
 * failure.
 */
int qcow2_create(const char *path, const char *backing, uint64_t size, struct err *err);

struct qcow2;
/* With its backing file, which must be raw and have none itself; that is only read. */
int qcow2_open(struct qcow2 **out, const char *path, bool writable, struct err *err);
/* What was written is in the file; fsync is the caller's. Takes NULL. */
void qcow2_close(struct qcow2 *q);
uint64_t qcow2_size(const struct qcow2 *q);
int qcow2_read(struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err);
/* What is there already is not written again, so that the layer has no more than what differs. */
int qcow2_write(struct qcow2 *q, uint64_t at, const void *buf, size_t len, struct err *err);

/* Calls fn for each piece that is the layer's own, in order; data NULL: zeros. */
typedef int qcow2_piece_fn(void *arg, uint64_t at, const void *data, size_t len, struct err *err);
int qcow2_each(struct qcow2 *q, qcow2_piece_fn *fn, void *arg, struct err *err);

#endif

/* oci/qcow2-int.h - what is common to reading and writing a qcow2: oci/qcow2.h. */
#ifndef DROVER_OCI_QCOW2_INT_H
#define DROVER_OCI_QCOW2_INT_H

#include <endian.h>
#include "oci/qcow2.h"

/* docs/interop/qcow2.txt, "Header" and "Cluster mapping" */
#define QCOW2_MAGIC         0x514649fbu
#define QCOW2_HEADER_LEN    104
#define QCOW2_EXT_BACKING   0xe2792acau
#define QCOW2_CLUSTER_BITS  16 /* qemu-img's default */
#define QCOW2_REFCOUNT_BITS 4  /* 1 << 4 bits: qemu-img's default */
#define QCOW2_OFFSET        0x00fffffffffffe00ull
#define QCOW2_COPIED        (1ull << 63) /* refcount is 1: it may be written in place */
#define QCOW2_COMPRESSED    (1ull << 62)
#define QCOW2_ZERO          1ull

struct qcow2_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_len, cluster_bits;
	uint64_t size;
	uint32_t crypt, l1_size;
	uint64_t l1_offset, refcount_offset;
	uint32_t refcount_clusters, snapshots;
	uint64_t snapshots_offset, incompatible, compatible, autoclear;
	uint32_t refcount_order, header_len;
} __attribute__((packed));

struct qcow2 {
	char *path;
	int fd, base; /* base -1: none */
	bool writable;
	uint64_t size, base_size, end; /* end: of the file, at a cluster's border */
	unsigned bits;                 /* of a cluster */
	uint64_t *l1;                  /* in the host's byte order */
	uint32_t l1_size;
	uint64_t l1_offset, refcount_offset;
	uint64_t refcounts;     /* entries that its table has room for */
	unsigned char *cluster; /* one, to work in */
};

static inline uint64_t qcow2_cluster(const struct qcow2 *q)
{
	return 1ull << q->bits;
}

/* Entries of a table that fills a cluster. */
static inline uint64_t qcow2_entries(const struct qcow2 *q)
{
	return qcow2_cluster(q) / 8;
}

int qcow2_read_all(const struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err);
/* The entry of the second level for the cluster of at; 0: the backing file's. */
int qcow2_entry(const struct qcow2 *q, uint64_t at, uint64_t *out, struct err *err);
/* len must not cross a cluster's border. */
int qcow2_read_piece(struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err);

#endif

/* Making a qcow2 and writing into it: oci/qcow2.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/qcow2-int.h"

/* ---- an empty one ---- */

#define CLUSTER (1ull << QCOW2_CLUSTER_BITS)

/* In this order: the header, the table of refcounts, one block of them, the first level. */
enum {
	AT_REFCOUNTS = 1,
	AT_BLOCK,
	AT_L1
};

static uint64_t l1_entries(uint64_t size)
{
	uint64_t each = CLUSTER / 8 * CLUSTER;

	return (size + each - 1) / each;
}

/* The header with the format of the backing file and its name, in one cluster. */
static void put_header(unsigned char *out, const char *backing, uint64_t size)
{
	struct qcow2_header h = {
		.magic = htobe32(QCOW2_MAGIC),
		.version = htobe32(3),
		.backing_offset = htobe64(QCOW2_HEADER_LEN + 24),
		.backing_len = htobe32((uint32_t)strlen(backing)),
		.cluster_bits = htobe32(QCOW2_CLUSTER_BITS),
		.size = htobe64(size),
		.l1_size = htobe32((uint32_t)l1_entries(size)),
		.l1_offset = htobe64(AT_L1 * CLUSTER),
		.refcount_offset = htobe64(AT_REFCOUNTS * CLUSTER),
		.refcount_clusters = htobe32(1),
		.refcount_order = htobe32(QCOW2_REFCOUNT_BITS),
		.header_len = htobe32(QCOW2_HEADER_LEN),
	};
	uint32_t ext[2] = { htobe32(QCOW2_EXT_BACKING), htobe32(3) };

	memcpy(out, &h, sizeof(h));
	memcpy(out + QCOW2_HEADER_LEN, ext, sizeof(ext));
	memcpy(out + QCOW2_HEADER_LEN + 8, "raw", 3);
	/* 8 bytes of zeros end the extensions. */
	memcpy(out + QCOW2_HEADER_LEN + 24, backing, strlen(backing));
}

static int put_empty(int fd, const char *backing, uint64_t size, struct err *err)
{
	uint64_t clusters = AT_L1 + (l1_entries(size) * 8 + CLUSTER - 1) / CLUSTER;
	unsigned char head[QCOW2_HEADER_LEN + 24 + QCOW2_NAME_MAX + 1] = { 0 };
	uint64_t block = htobe64(AT_BLOCK * CLUSTER);
	uint16_t counts[512];
	int r;

	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		counts[i] = htobe16(i < clusters);
	put_header(head, backing, size);
	if (ftruncate(fd, (off_t)(clusters * CLUSTER)) < 0)
		return err_errno(err, -errno, "set the size");
	r = file_write_at(fd, head, sizeof(head), 0, err);
	if (r == 0)
		r = file_write_at(fd, &block, sizeof(block), AT_REFCOUNTS * CLUSTER, err);
	return r == 0 ? file_write_at(fd, counts, sizeof(counts), AT_BLOCK * CLUSTER, err) : r;
}

int qcow2_create(const char *path, const char *backing, uint64_t size, struct err *err)
{
	int fd, r = 0;

	size = (size + 511) & ~511ull;
	if (strlen(backing) > QCOW2_NAME_MAX || size == 0 || size > 64ull << 40)
		return err_set(err, -EINVAL, "no overlay can be made of %s", quote(backing));
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(path));
	r = put_empty(fd, backing, size, err);
	if (close(fd) < 0 && r == 0)
		r = err_errno(err, -errno, "close");
	if (r < 0) {
		unlink(path);
		return err_wrap(err, "%s", quote(path));
	}
	return 0;
}

/* ---- writing ---- */

static int put_entry(struct qcow2 *q, uint64_t at, uint64_t value, struct err *err)
{
	value = htobe64(value);
	return file_write_at(q->fd, &value, sizeof(value), at, err);
}

static int put_zeros(struct qcow2 *q, uint64_t at, struct err *err)
{
	/* Behind the file's end there is nothing yet. */
	if (ftruncate(q->fd, (off_t)(at + qcow2_cluster(q))) < 0)
		return err_errno(err, -errno, "set the size");
	return 0;
}

static int count(struct qcow2 *q, uint64_t block, uint64_t cluster, struct err *err)
{
	uint16_t one = htobe16(1);

	return file_write_at(q->fd, &one, sizeof(one),
		block + cluster % (qcow2_cluster(q) / sizeof(one)) * sizeof(one), err);
}

static int is_counted(struct qcow2 *q, uint64_t block, uint64_t cluster, bool *yes, struct err *err)
{
	uint16_t n = 0;
	int r = qcow2_read_all(q, block + cluster % (qcow2_cluster(q) / sizeof(n)) * sizeof(n), &n,
		sizeof(n), err);

	*yes = n != 0;
	return r;
}

/*
 * A new cluster at the end of the file, all zeros and counted. What is counted there already is
 * somebody's: after a power cut the file may be shorter than its tables say.
 */
static int allocate(struct qcow2 *q, uint64_t *out, struct err *err)
{
	uint64_t n, block;
	bool taken = false;
	int r;

	for (;;) {
		n = q->end >> q->bits;
		if (n / (qcow2_cluster(q) / 2) >= q->refcounts)
			return err_set(err, -EFBIG, "its table of refcounts is full");
		r = qcow2_read_all(
			q, q->refcount_offset + n / (qcow2_cluster(q) / 2) * 8, &block, 8, err);
		if (r == 0)
			r = put_zeros(q, q->end, err);
		if (r < 0)
			return r;
		block = be64toh(block) & QCOW2_OFFSET;
		q->end += qcow2_cluster(q);
		if (block != 0)
			r = is_counted(q, block, n, &taken, err);
		if (r < 0)
			return r;
		if (block != 0 && taken)
			continue;
		if (block != 0)
			break;
		/* A block of refcounts, which counts itself; then what was asked for. */
		r = count(q, n << q->bits, n, err);
		if (r == 0)
			r = put_entry(q, q->refcount_offset + n / (qcow2_cluster(q) / 2) * 8,
				n << q->bits, err);
		if (r < 0)
			return r;
	}
	*out = n << q->bits;
	return count(q, block, n, err);
}

/* The table of the second level that has the entry for at; made if it is missing. */
static int need_l2(struct qcow2 *q, uint64_t at, uint64_t *out, struct err *err)
{
	uint64_t i = (at >> q->bits) / qcow2_entries(q), l2 = q->l1[i];
	int r = 0;

	if (l2 != 0 && !(l2 & QCOW2_COPIED))
		return err_set(err, -ENOTSUP, "a table of its qcow2 is shared with a snapshot");
	if (l2 == 0) {
		r = allocate(q, &l2, err);
		if (r == 0)
			r = put_entry(q, q->l1_offset + i * 8, l2 | QCOW2_COPIED, err);
		if (r < 0)
			return r;
		q->l1[i] = l2 | QCOW2_COPIED;
	}
	*out = (l2 & QCOW2_OFFSET) + (at >> q->bits) % qcow2_entries(q) * 8;
	return 0;
}

/* The cluster of at becomes the layer's own, with this content. */
static int put_cluster(struct qcow2 *q, uint64_t at, uint64_t entry, struct err *err)
{
	uint64_t place = 0, cluster = entry & QCOW2_OFFSET;
	int r = need_l2(q, at, &place, err);

	if (r == 0 && cluster != 0 && !(entry & QCOW2_COPIED))
		r = err_set(err, -ENOTSUP, "a cluster of its qcow2 is shared with a snapshot");
	if (r == 0 && cluster == 0)
		r = allocate(q, &cluster, err);
	if (r == 0)
		r = file_write_at(q->fd, q->cluster, qcow2_cluster(q), cluster, err);
	return r == 0 ? put_entry(q, place, cluster | QCOW2_COPIED, err) : r;
}

/* len does not cross a cluster's border. */
static int write_piece(struct qcow2 *q, uint64_t at, const void *buf, size_t len, struct err *err)
{
	uint64_t start = at & ~(qcow2_cluster(q) - 1), entry;
	int r = qcow2_entry(q, at, &entry, err);

	/* All of the cluster, also where the disk ends within it. */
	if (r == 0)
		r = qcow2_read_piece(q, start, q->cluster, qcow2_cluster(q), err);
	if (r < 0 || memcmp(q->cluster + (at - start), buf, len) == 0)
		return r;
	memcpy(q->cluster + (at - start), buf, len);
	if ((entry & QCOW2_OFFSET) != 0 && (entry & QCOW2_COPIED) && !(entry & QCOW2_ZERO))
		return file_write_at(q->fd, buf, len, (entry & QCOW2_OFFSET) + (at - start), err);
	return put_cluster(q, start, entry, err);
}

int qcow2_write(struct qcow2 *q, uint64_t at, const void *buf, size_t len, struct err *err)
{
	int r = 0;

	if (!q->writable)
		return err_set(err, -EROFS, "it was opened for reading");
	if (at > q->size || len > q->size - at)
		return err_set(err, -EINVAL, "a place behind the disk's end");
	while (r == 0 && len > 0) {
		size_t n = MIN(len, qcow2_cluster(q) - (at & (qcow2_cluster(q) - 1)));

		r = write_piece(q, at, buf, n, err);
		at += n;
		buf = (const char *)buf + n;
		len -= n;
	}
	return r;
}

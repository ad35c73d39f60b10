/* The data of regular files: blocks as they come, extents built on the way. */
#include "oci/ext4-int.h"
#include <errno.h>
#include <string.h>

/* Shorter runs of zeros are written as they are: each hole costs an extent. */
#define HOLE_MIN (32 * 1024 / EXT4_BLOCK)
/* Just under 16 TiB: block numbers within a file have 32 bits. */
#define FILE_MAX ((uint64_t)UINT32_MAX * EXT4_BLOCK)

static bool is_zero(const uint8_t *block)
{
	/* The first bytes decide nearly always. */
	return block[0] == 0 && memcmp(block, block + 1, EXT4_BLOCK - 1) == 0;
}

static bool behind_hole(const struct ext4 *e, uint32_t lblk)
{
	const struct extent *last = e->extents.n ? &e->extents.v[e->extents.n - 1] : NULL;

	return last != NULL ? last->lblk + last->len < lblk : lblk > 0;
}

static int store(
	struct ext4 *e, uint32_t lblk, const uint8_t *data, size_t nblocks, struct err *err)
{
	uint64_t blk;
	uint32_t got;
	int r;

	while (nblocks > 0) {
		r = e4_alloc(e, nblocks, &blk, &got, err);
		if (r == 0)
			r = e4_extents_add(&e->extents, lblk, blk, got, err);
		if (r == 0)
			r = e4_put(e, blk, data, got, err);
		if (r < 0)
			return r;
		lblk += got;
		data += (size_t)got * EXT4_BLOCK;
		nblocks -= got;
	}
	return 0;
}

/* Stores whole blocks but for the runs of zeros among them. */
static int store_sparse(
	struct ext4 *e, uint32_t lblk, const uint8_t *data, size_t n, struct err *err)
{
	size_t start = 0, i = 0, z;
	int r;

	while (i < n) {
		for (z = 0; i + z < n && is_zero(data + (i + z) * EXT4_BLOCK); z++)
			;
		if (z >= HOLE_MIN || (z > 0 && i == start && behind_hole(e, lblk + i))) {
			r = store(e, lblk + start, data + start * EXT4_BLOCK, i - start, err);
			if (r < 0)
				return r;
			start = i + z;
		}
		i += z ? z : 1;
	}
	return store(e, lblk + start, data + start * EXT4_BLOCK, n - start, err);
}

static int flush_tail(struct ext4 *e, struct err *err)
{
	if (e->tail_len == 0)
		return 0;
	e->tail_len = 0;
	return store_sparse(e, e->tail_lblk, e->tail, 1, err);
}

int ext4_data(struct ext4 *e, uint64_t offset, const void *data, size_t len, struct err *err)
{
	const uint8_t *p = data;
	uint32_t lblk;
	size_t in, n;
	int r = 0;

	if (offset > FILE_MAX || len > FILE_MAX - offset)
		return err_set(err, -EFBIG, "larger than the 16 TiB that ext4 allows a file");
	if (len > 0)
		e->data_end = MAX(e->data_end, offset + len);
	while (r == 0 && len > 0) {
		lblk = offset / EXT4_BLOCK;
		in = offset % EXT4_BLOCK;
		if (e->tail_len > 0 && e->tail_lblk != lblk) {
			r = flush_tail(e, err);
			continue;
		}
		if (e->tail_len == 0 && in == 0 && len >= EXT4_BLOCK) {
			n = len / EXT4_BLOCK * EXT4_BLOCK;
			r = store_sparse(e, lblk, p, n / EXT4_BLOCK, err);
		} else {
			if (e->tail_len == 0)
				memset(e->tail, 0, sizeof(e->tail));
			n = MIN(len, EXT4_BLOCK - in);
			memcpy(e->tail + in, p, n);
			e->tail_lblk = lblk;
			e->tail_len = in + n;
			if (e->tail_len == EXT4_BLOCK)
				r = flush_tail(e, err);
		}
		offset += n;
		p += n;
		len -= n;
	}
	return r;
}

int ext4_end(struct ext4 *e, uint64_t size, struct err *err)
{
	union e4_inode inode;
	uint32_t blocks;
	int r = flush_tail(e, err);

	if (r < 0)
		return r;
	/* A sparse file's map may reach beyond the size that its header claims. */
	size = MAX(size, e->data_end);
	if (size > FILE_MAX)
		return err_set(err, -EFBIG, "larger than the 16 TiB that ext4 allows a file");
	if (size == 0 && e->extents.n == 0)
		return 0;
	r = e4_inode_read(e, e->ino, &inode, err);
	if (r == 0)
		r = e4_extents_store(
			e, e->ino, &e->extents, (uint8_t *)inode.i.i_block, &blocks, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < e->extents.n; i++)
		e4_add_blocks(&inode, e->extents.v[i].len);
	e4_add_blocks(&inode, blocks);
	inode.i.i_size = size;
	inode.i.i_size_high = size >> 32;
	return e4_inode_write(e, e->ino, &inode, err);
}

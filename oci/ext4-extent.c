/* Extent trees: four extents fit into the inode, more go to blocks of 340, and so on upwards. */
#include "oci/ext4-int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOT_ENTRIES  4
#define BLOCK_ENTRIES 340
#define EXTENT_MAX    32768 /* blocks; longer ones would read as uninitialized */

/* Both kinds of entries have 12 bytes, as has the header. */
union entry {
	struct ext3_extent extent;
	struct ext3_extent_idx idx;
};

struct node {
	struct ext3_extent_header h;
	union entry entries[BLOCK_ENTRIES];
	uint32_t checksum;
};
_Static_assert(sizeof(struct node) == EXT4_BLOCK, "an extent block is one block");

int e4_extents_add(struct extents *x, uint32_t lblk, uint64_t pblk, uint32_t len, struct err *err)
{
	struct extent *last = x->n ? &x->v[x->n - 1] : NULL;
	uint32_t n;

	if (last != NULL && last->lblk + last->len == lblk && last->pblk + last->len == pblk) {
		n = MIN(len, EXTENT_MAX - last->len);
		last->len += n;
		lblk += n;
		pblk += n;
		len -= n;
	}
	while (len > 0) {
		if (x->n == x->cap) {
			size_t cap = x->cap ? 2 * x->cap : 16;
			struct extent *v = realloc(x->v, cap * sizeof(*v));

			if (v == NULL)
				return err_nomem(err);
			x->v = v;
			x->cap = cap;
		}
		n = MIN(len, EXTENT_MAX);
		x->v[x->n++] = (struct extent){ .lblk = lblk, .pblk = pblk, .len = n };
		lblk += n;
		pblk += n;
		len -= n;
	}
	return 0;
}

static void set_header(struct ext3_extent_header *h, unsigned n, unsigned max, unsigned depth)
{
	*h = (struct ext3_extent_header){
		.eh_magic = EXT3_EXT_MAGIC, .eh_entries = n, .eh_max = max, .eh_depth = depth
	};
}

static void set_leaf(union entry *e, const struct extent *x)
{
	e->extent = (struct ext3_extent){
		.ee_block = x->lblk,
		.ee_len = x->len,
		.ee_start = x->pblk,
		.ee_start_hi = x->pblk >> 32,
	};
}

static void set_index(union entry *e, uint32_t lblk, uint64_t pblk)
{
	e->idx = (struct ext3_extent_idx){
		.ei_block = lblk, .ei_leaf = pblk, .ei_leaf_hi = pblk >> 32
	};
}

/* The first block of the file that an entry is about is at the same place in both kinds. */
static uint32_t entry_block(const union entry *e)
{
	return e->extent.ee_block;
}

/* Packs n entries of this depth into blocks; leaves one index entry for each block in v. */
static int pack(struct ext4 *e, uint32_t ino, union entry *v, size_t *n, unsigned depth,
	uint32_t *blocks, struct err *err)
{
	size_t out = 0, k;
	struct node node;
	uint64_t blk;
	uint32_t got;
	int r;

	for (size_t i = 0; i < *n; i += k) {
		k = MIN(*n - i, BLOCK_ENTRIES);
		memset(&node, 0, sizeof(node));
		set_header(&node.h, k, BLOCK_ENTRIES, depth);
		memcpy(node.entries, v + i, k * sizeof(*v));
		node.checksum = ext2fs_crc32c_le(
			e4_seed(e, ino), (uint8_t *)&node, offsetof(struct node, checksum));
		r = e4_alloc(e, 1, &blk, &got, err);
		if (r == 0)
			r = e4_put(e, blk, &node, 1, err);
		if (r < 0)
			return r;
		++*blocks;
		set_index(&v[out++], entry_block(&node.entries[0]), blk);
	}
	*n = out;
	return 0;
}

int e4_extents_store(struct ext4 *e, uint32_t ino, const struct extents *x, uint8_t root[60],
	uint32_t *blocks, struct err *err)
{
	union entry few[ROOT_ENTRIES], *v = few;
	size_t n = x->n;
	unsigned depth = 0;
	int r = 0;

	*blocks = 0;
	if (n > ROOT_ENTRIES) {
		v = calloc(n, sizeof(*v));
		if (v == NULL)
			return err_nomem(err);
	}
	for (size_t i = 0; i < n; i++)
		set_leaf(&v[i], &x->v[i]);
	while (r == 0 && n > ROOT_ENTRIES)
		r = pack(e, ino, v, &n, depth++, blocks, err);
	if (r == 0) {
		memset(root, 0, 60);
		set_header((struct ext3_extent_header *)root, n, ROOT_ENTRIES, depth);
		memcpy(root + sizeof(struct ext3_extent_header), v, n * sizeof(*v));
	}
	if (v != few)
		free(v);
	return r;
}

static void free_leaf(struct ext4 *e, const struct ext3_extent_header *h, const union entry *v)
{
	for (unsigned i = 0; i < h->eh_entries; i++)
		e4_free(e, v[i].extent.ee_start | (uint64_t)v[i].extent.ee_start_hi << 32,
			v[i].extent.ee_len);
}

static int free_tree(
	struct ext4 *e, const struct ext3_extent_header *h, const union entry *v, struct err *err)
{
	struct node *node;
	uint64_t blk;
	int r = 0;

	if (h->eh_depth == 0) {
		free_leaf(e, h, v);
		return 0;
	}
	node = malloc(sizeof(*node));
	if (node == NULL)
		return err_nomem(err);
	for (unsigned i = 0; r == 0 && i < h->eh_entries; i++) {
		blk = v[i].idx.ei_leaf | (uint64_t)v[i].idx.ei_leaf_hi << 32;
		r = e4_get(e, blk, node, err);
		if (r == 0)
			r = free_tree(e, &node->h, node->entries, err);
		if (r == 0)
			e4_free(e, blk, 1);
	}
	free(node);
	return r;
}

int e4_extents_free(struct ext4 *e, const uint8_t root[60], struct err *err)
{
	struct {
		struct ext3_extent_header h;
		union entry entries[ROOT_ENTRIES];
	} copy;

	/* The inode that root belongs to may leave the cache meanwhile. */
	memcpy(&copy, root, sizeof(copy));
	return free_tree(e, &copy.h, copy.entries, err);
}

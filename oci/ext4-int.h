/* oci/ext4-int.h - what the files of the ext4 writer share; nobody else includes it. */
#ifndef DROVER_OCI_EXT4_INT_H
#define DROVER_OCI_EXT4_INT_H

#include <ext2fs/ext2fs.h>
#include "oci/ext4.h"

_Static_assert(
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "on-disk structures are used as they are");

#define GATHER_BLOCKS 256 /* 1 MiB */
#define CACHE_SLOTS   64  /* blocks of inode tables */

/* Blocks of a file that are contiguous both in the file and on disk. */
struct extent {
	uint32_t lblk, len;
	uint64_t pblk;
};

struct extents {
	struct extent *v;
	size_t n, cap;
};

struct ext4 {
	int fd;
	ext2_filsys fs;
	bool full;

	/* Contiguous blocks that wait for one large write. */
	uint8_t *gather;
	uint64_t gather_blk;
	size_t gather_len;
	uint64_t pushed; /* up to here (bytes) the kernel was told to write */

	/* The free run that blocks are taken from: [run_start, run_cur) is not marked used yet. */
	uint64_t run_start, run_cur, run_end, search;
	bool wrapped, freed;
	uint64_t high; /* no block from here on was ever written */

	/* Inode tables; slot i holds a block whose number modulo CACHE_SLOTS is i. */
	uint8_t *cache;
	uint64_t cache_blk[CACHE_SLOTS];
	bool cache_dirty[CACHE_SLOTS];
	uint32_t next_ino;

	/* The file that data is written to. */
	uint32_t ino;
	struct extents extents;
	uint64_t data_end;        /* of what was written to it */
	uint8_t tail[EXT4_BLOCK]; /* its block tail_lblk, filled up to tail_len */
	uint32_t tail_lblk;
	size_t tail_len;

	char warning[256];
};

/* ext4.c */
int e4_error(struct err *err, errcode_t code, const char *what);
/* Up to want blocks in one run; at least one. */
int e4_alloc(struct ext4 *e, uint32_t want, uint64_t *blk, uint32_t *got, struct err *err);
void e4_free(struct ext4 *e, uint64_t blk, uint32_t n);
int e4_put(struct ext4 *e, uint64_t blk, const void *data, size_t nblocks, struct err *err);
int e4_get(struct ext4 *e, uint64_t blk, void *data, struct err *err);
int e4_flush(struct ext4 *e, struct err *err);

/* ext4-inode.c */
/* An inode with the room for xattrs behind it. */
union e4_inode {
	struct ext2_inode_large i;
	uint8_t raw[256];
};
int e4_inode_read(struct ext4 *e, uint32_t ino, union e4_inode *out, struct err *err);
/* Sets its checksum too. */
int e4_inode_write(struct ext4 *e, uint32_t ino, union e4_inode *inode, struct err *err);
int e4_inode_flush(struct ext4 *e, struct err *err);
/* For i_blocks, which counts sectors. */
void e4_add_blocks(union e4_inode *inode, int64_t blocks);
/* CRC seed of all checksums of one inode's blocks. */
uint32_t e4_seed(const struct ext4 *e, uint32_t ino);

/* ext4-extent.c */
int e4_extents_add(struct extents *x, uint32_t lblk, uint64_t pblk, uint32_t len, struct err *err);
/* Stores x in inode; index blocks are allocated as needed and counted in *blocks. */
int e4_extents_store(struct ext4 *e, uint32_t ino, const struct extents *x, uint8_t root[60],
	uint32_t *blocks, struct err *err);
/* Frees all blocks that the tree in root names, its own as well. */
int e4_extents_free(struct ext4 *e, const uint8_t root[60], struct err *err);

/* ext4-xattr.c */
/*
 * Puts xattrs into inode and, if they do not fit there, into a block of their own. Names that ext4
 * has no place for are left out with a warning in e.
 */
int e4_xattrs_store(struct ext4 *e, union e4_inode *inode, const struct ext4_xattr *xattrs,
	size_t n, struct err *err);
/* Removes what e4_xattrs_store() stored. */
void e4_xattrs_clear(struct ext4 *e, union e4_inode *inode);

#endif

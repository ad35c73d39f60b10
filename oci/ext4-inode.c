/* Inodes behind a small cache of blocks of their tables, and what a new one is made of. */
#include "oci/ext4-int.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INODE_SIZE 256
#define LINKS_MAX  65000

static int cache_flush(struct ext4 *e, unsigned slot, struct err *err)
{
	ssize_t n;

	if (!e->cache_dirty[slot])
		return 0;
	do {
		n = pwrite(e->fd, e->cache + slot * EXT4_BLOCK, EXT4_BLOCK,
			e->cache_blk[slot] * EXT4_BLOCK);
	} while (n < 0 && errno == EINTR);
	if (n != EXT4_BLOCK)
		return err_errno(err, n < 0 ? -errno : -ENOSPC, "write to the disk");
	e->cache_dirty[slot] = false;
	return 0;
}

/* Where the inode is in the cache. */
static int cache_inode(struct ext4 *e, uint32_t ino, bool dirty, uint8_t **out, struct err *err)
{
	uint32_t per_group = e->fs->super->s_inodes_per_group;
	uint64_t byte = (uint64_t)((ino - 1) % per_group) * INODE_SIZE;
	uint64_t blk = ext2fs_inode_table_loc(e->fs, (ino - 1) / per_group) + byte / EXT4_BLOCK;
	unsigned slot = blk % CACHE_SLOTS;
	ssize_t n;
	int r;

	if (e->cache_blk[slot] != blk) {
		r = cache_flush(e, slot, err);
		if (r < 0)
			return r;
		do {
			n = pread(
				e->fd, e->cache + slot * EXT4_BLOCK, EXT4_BLOCK, blk * EXT4_BLOCK);
		} while (n < 0 && errno == EINTR);
		if (n != EXT4_BLOCK) {
			e->cache_blk[slot] = 0;
			return err_errno(err, n < 0 ? -errno : -EIO, "read from the disk");
		}
		e->cache_blk[slot] = blk;
	}
	if (dirty)
		e->cache_dirty[slot] = true;
	*out = e->cache + slot * EXT4_BLOCK + byte % EXT4_BLOCK;
	return 0;
}

int e4_inode_read(struct ext4 *e, uint32_t ino, union e4_inode *out, struct err *err)
{
	uint8_t *p;
	int r = cache_inode(e, ino, false, &p, err);

	if (r == 0)
		memcpy(out->raw, p, INODE_SIZE);
	return r;
}

int e4_inode_write(struct ext4 *e, uint32_t ino, union e4_inode *inode, struct err *err)
{
	uint8_t *p;
	int r = cache_inode(e, ino, true, &p, err);

	if (r < 0)
		return r;
	/* An inode that is free again is all zeros, without a checksum. */
	if (inode->i.i_links_count > 0)
		ext2fs_inode_csum_set(e->fs, ino, &inode->i);
	memcpy(p, inode->raw, INODE_SIZE);
	return 0;
}

int e4_inode_flush(struct ext4 *e, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < CACHE_SLOTS; i++)
		r = cache_flush(e, i, err);
	return r;
}

void e4_add_blocks(union e4_inode *inode, int64_t blocks)
{
	uint64_t n = inode->i.i_blocks | (uint64_t)inode->i.osd2.linux2.l_i_blocks_hi << 32;

	n += blocks * (EXT4_BLOCK / 512);
	inode->i.i_blocks = n;
	inode->i.osd2.linux2.l_i_blocks_hi = n >> 32;
}

uint32_t e4_seed(const struct ext4 *e, uint32_t ino)
{
	uint32_t generation = 0, crc;

	crc = ext2fs_crc32c_le(e->fs->csum_seed, (uint8_t *)&ino, sizeof(ino));
	return ext2fs_crc32c_le(crc, (uint8_t *)&generation, sizeof(generation));
}

uint8_t ext4_file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EXT2_FT_REG_FILE;
	case S_IFDIR:
		return EXT2_FT_DIR;
	case S_IFLNK:
		return EXT2_FT_SYMLINK;
	case S_IFCHR:
		return EXT2_FT_CHRDEV;
	case S_IFBLK:
		return EXT2_FT_BLKDEV;
	case S_IFIFO:
		return EXT2_FT_FIFO;
	case S_IFSOCK:
		return EXT2_FT_SOCK;
	default:
		return EXT2_FT_UNKNOWN;
	}
}

/* Two bits above the 32 of i_*time reach to 2446; what is outside is moved to the nearest end. */
static void set_times(struct ext2_inode_large *i, int64_t seconds, uint32_t ns)
{
	int64_t min = INT32_MIN, max = (INT64_C(3) << 32) + INT32_MAX;
	int64_t s = MAX(min, MIN(max, seconds));
	uint32_t extra = (((s - (int32_t)s) >> 32) & 3) | MIN(ns, 999999999u) << 2;

	i->i_atime = i->i_ctime = i->i_mtime = i->i_crtime = s;
	i->i_atime_extra = i->i_ctime_extra = i->i_mtime_extra = i->i_crtime_extra = extra;
}

static void set_owner(struct ext2_inode_large *i, const struct ext4_meta *m)
{
	i->i_mode = m->mode;
	i->i_uid = m->uid;
	i->osd2.linux2.l_i_uid_high = m->uid >> 16;
	i->i_gid = m->gid;
	i->osd2.linux2.l_i_gid_high = m->gid >> 16;
	set_times(i, m->mtime, m->mtime_ns);
}

/* The kernel's old encoding where the numbers fit it, else the new one in the second word. */
static void set_device(struct ext2_inode_large *i, uint32_t major, uint32_t minor)
{
	if (major < 256 && minor < 256)
		i->i_block[0] = major << 8 | minor;
	else
		i->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

static void set_no_extents(struct ext2_inode_large *i)
{
	struct ext3_extent_header *h = (struct ext3_extent_header *)i->i_block;

	i->i_flags |= EXT4_EXTENTS_FL;
	memset(i->i_block, 0, sizeof(i->i_block));
	h->eh_magic = EXT3_EXT_MAGIC;
	h->eh_max = 4;
}

static int set_target(
	struct ext4 *e, uint32_t ino, union e4_inode *inode, const char *target, struct err *err)
{
	size_t len = strlen(target);
	struct extent x = { .len = 1 };
	struct extents xs = { .v = &x, .n = 1 };
	uint8_t block[EXT4_BLOCK] = { 0 };
	uint32_t blocks, got;
	int r;

	inode->i.i_size = len;
	if (len < sizeof(inode->i.i_block)) {
		memcpy(inode->i.i_block, target, len);
		return 0;
	}
	if (len >= EXT4_BLOCK)
		return err_set(
			err, -ENAMETOOLONG, "a symbolic link's target is longer than 4095 bytes");
	memcpy(block, target, len);
	r = e4_alloc(e, 1, &x.pblk, &got, err);
	if (r == 0)
		r = e4_put(e, x.pblk, block, 1, err);
	if (r == 0)
		r = e4_extents_store(e, ino, &xs, (uint8_t *)inode->i.i_block, &blocks, err);
	inode->i.i_flags |= EXT4_EXTENTS_FL;
	e4_add_blocks(inode, 1);
	return r;
}

static int set_kind(struct ext4 *e, uint32_t ino, union e4_inode *inode, const struct ext4_meta *m,
	struct err *err)
{
	switch (m->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
		set_no_extents(&inode->i);
		return 0;
	case S_IFLNK:
		return set_target(e, ino, inode, m->target, err);
	case S_IFCHR:
	case S_IFBLK:
		set_device(&inode->i, m->major, m->minor);
		return 0;
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return err_set(err, -EINVAL, "unknown file type 0%o", m->mode & S_IFMT);
	}
}

int ext4_add(struct ext4 *e, const struct ext4_meta *m, uint32_t *out, struct err *err)
{
	union e4_inode inode = { .raw = { 0 } };
	uint32_t ino = e->next_ino;
	int r;

	if (ino > e->fs->super->s_inodes_count) {
		e->full = true;
		return err_set(err, -ENOSPC, "more files than the disk has inodes (%u)",
			e->fs->super->s_inodes_count);
	}
	inode.i.i_links_count = 1;
	inode.i.i_extra_isize = sizeof(inode.i) - EXT2_GOOD_OLD_INODE_SIZE;
	set_owner(&inode.i, m);
	r = set_kind(e, ino, &inode, m, err);
	if (r == 0)
		r = e4_xattrs_store(e, &inode, m->xattrs, m->nxattrs, err);
	if (r == 0)
		r = e4_inode_write(e, ino, &inode, err);
	if (r < 0)
		return r;
	ext2fs_inode_alloc_stats2(e->fs, ino, +1, S_ISDIR(m->mode));
	e->next_ino++;
	e->ino = ino;
	e->extents.n = 0;
	e->data_end = 0;
	e->tail_len = 0;
	*out = ino;
	return 0;
}

int ext4_set_meta(struct ext4 *e, uint32_t ino, const struct ext4_meta *m, struct err *err)
{
	union e4_inode inode;
	int r = e4_inode_read(e, ino, &inode, err);

	if (r < 0)
		return r;
	if (inode.i.i_links_count == 0) {
		/* The root, at the beginning. */
		inode.i.i_links_count = 1;
		inode.i.i_extra_isize = sizeof(inode.i) - EXT2_GOOD_OLD_INODE_SIZE;
		set_no_extents(&inode.i);
	}
	e4_xattrs_clear(e, &inode);
	set_owner(&inode.i, m);
	r = e4_xattrs_store(e, &inode, m->xattrs, m->nxattrs, err);
	return r < 0 ? r : e4_inode_write(e, ino, &inode, err);
}

int ext4_link(struct ext4 *e, uint32_t ino, struct err *err)
{
	union e4_inode inode;
	int r = e4_inode_read(e, ino, &inode, err);

	if (r < 0)
		return r;
	if (inode.i.i_links_count == LINKS_MAX)
		return err_set(err, -EMLINK, "a file has more than %d hard links", LINKS_MAX);
	inode.i.i_links_count++;
	return e4_inode_write(e, ino, &inode, err);
}

int ext4_unlink(struct ext4 *e, uint32_t ino, struct err *err)
{
	union e4_inode inode, none = { .raw = { 0 } };
	int r = e4_inode_read(e, ino, &inode, err);

	if (r < 0)
		return r;
	if (--inode.i.i_links_count > 0)
		return e4_inode_write(e, ino, &inode, err);
	if (inode.i.i_flags & EXT4_EXTENTS_FL) {
		r = e4_extents_free(e, (uint8_t *)inode.i.i_block, err);
		if (r < 0)
			return r;
	}
	e4_xattrs_clear(e, &inode);
	ext2fs_inode_alloc_stats2(e->fs, ino, -1, S_ISDIR(inode.i.i_mode));
	return e4_inode_write(e, ino, &none, err);
}

int ext4_readlink(struct ext4 *e, uint32_t ino, char *buf, struct err *err)
{
	const struct ext3_extent *x;
	union e4_inode inode;
	int r = e4_inode_read(e, ino, &inode, err);

	if (r < 0)
		return r;
	if (!S_ISLNK(inode.i.i_mode))
		return err_set(err, -EINVAL, "not a symbolic link");
	if (inode.i.i_flags & EXT4_EXTENTS_FL) {
		x = (void *)((uint8_t *)inode.i.i_block + sizeof(struct ext3_extent_header));
		r = e4_get(e, x->ee_start | (uint64_t)x->ee_start_hi << 32, buf, err);
	} else {
		memcpy(buf, inode.i.i_block, inode.i.i_size);
	}
	buf[inode.i.i_size] = '\0';
	return r;
}

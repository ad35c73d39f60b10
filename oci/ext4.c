/* Layout, blocks and the end of it all; inodes, directories and so on are in ext4-*.c. */
#include "oci/ext4-int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <et/com_err.h>

#include "lib/file.h"

/* Instead of the clock. Not 0, which libext2fs reads as "ask the clock". */
#define FIXED_TIME 1
#define PUSH_BYTES ((uint64_t)8 << 20)

int e4_error(struct err *err, errcode_t code, const char *what)
{
	if (code == EXT2_ET_NO_MEMORY || code == ENOMEM)
		return err_nomem(err);
	/* Codes below this are errno. */
	if (code > 0 && code < 4096)
		return err_errno(err, -(int)code, "ext4: %s", what);
	return err_set(err, -EIO, "ext4: %s: %s", what, error_message(code));
}

/* The features of mke2fs -t ext4 in Debian 12. */
static void set_features(struct ext2_super_block *sb)
{
	ext2fs_set_feature_resize_inode(sb);
	ext2fs_set_feature_dir_index(sb);
	ext2fs_set_feature_xattr(sb);
	ext2fs_set_feature_filetype(sb);
	ext2fs_set_feature_extents(sb);
	ext2fs_set_feature_flex_bg(sb);
	ext2fs_set_feature_64bit(sb);
	ext2fs_set_feature_sparse_super(sb);
	ext2fs_set_feature_large_file(sb);
	ext2fs_set_feature_huge_file(sb);
	ext2fs_set_feature_dir_nlink(sb);
	ext2fs_set_feature_extra_isize(sb);
	ext2fs_set_feature_metadata_csum(sb);
}

static void set_parameters(struct ext2_super_block *sb, const struct ext4_spec *spec)
{
	uint64_t blocks = spec->size_bytes / EXT4_BLOCK;
	uint32_t ratio = spec->bytes_per_inode;
	uint64_t inodes;

	if (ratio == 0)
		ratio = spec->size_bytes < 512ull << 20 ? 4096 : 16384;
	inodes = spec->size_bytes / ratio;
	memset(sb, 0, sizeof(*sb));
	sb->s_rev_level = EXT2_DYNAMIC_REV;
	set_features(sb);
	sb->s_log_block_size = sb->s_log_cluster_size = 2;
	sb->s_inode_size = 256;
	sb->s_inodes_count = MIN(inodes, UINT32_MAX - 1);
	sb->s_log_groups_per_flex = 4;
	sb->s_desc_size = EXT2_MIN_DESC_SIZE_64BIT;
	ext2fs_blocks_count_set(sb, blocks);
	/* 5 % for root, as mke2fs. */
	ext2fs_r_blocks_count_set(sb, blocks / 20);
}

/* What ext2fs_initialize() does not take from its parameters. */
static void set_identity(struct ext2_super_block *sb, const struct ext4_spec *spec)
{
	memcpy(sb->s_uuid, spec->uuid, sizeof(sb->s_uuid));
	memcpy(sb->s_hash_seed, spec->hash_seed, sizeof(sb->s_hash_seed));
	if (spec->label != NULL)
		memcpy(sb->s_volume_name, spec->label,
			strnlen(spec->label, sizeof(sb->s_volume_name)));
	sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
	sb->s_flags |= EXT2_FLAGS_SIGNED_HASH;
	sb->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	sb->s_checksum_type = EXT2_CRC32C_CHKSUM;
	sb->s_max_mnt_count = -1;
	sb->s_mkfs_time = sb->s_lastcheck = FIXED_TIME;
}

/*
 * Inode tables and journal are holes of a fresh file, that is zeros, so no kernel needs to clear
 * them later.
 */
static void set_zeroed(ext2_filsys fs)
{
	for (dgrp_t g = 0; g < fs->group_desc_count; g++)
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
}

/*
 * libext2fs' own syncs the file after it has written what it keeps in its cache, several times while
 * the filesystem is laid out. Nothing of an unfinished disk needs to last, and its caller syncs it in
 * the end.
 */
static errcode_t flush_unsynced(io_channel channel)
{
	errcode_t c = channel->manager->set_option(channel, "cache", "off");

	return c != 0 ? c : channel->manager->set_option(channel, "cache", "on");
}

static struct struct_io_manager unsynced_io;

static errcode_t open_unsynced(const char *name, int flags, io_channel *channel)
{
	errcode_t c = unixfd_io_manager->open(name, flags, channel);

	if (c == 0)
		(*channel)->manager = &unsynced_io;
	return c;
}

static int layout(struct ext4 *e, const struct ext4_spec *spec, struct err *err)
{
	int jblocks, jfd = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);
	struct ext2_super_block sb;
	char name[16];
	errcode_t c;

	if (jfd < 0)
		return err_errno(err, -errno, "ext4: duplicate a descriptor");
	/* This I/O manager takes the descriptor's number for a name, and closes it in the end. */
	snprintf(name, sizeof(name), "%d", jfd);
	set_parameters(&sb, spec);
	unsynced_io = *unixfd_io_manager;
	unsynced_io.open = open_unsynced;
	unsynced_io.flush = flush_unsynced;
	c = ext2fs_initialize(name, EXT2_FLAG_RW | EXT2_FLAG_64BITS, &sb, &unsynced_io, &e->fs);
	if (c) {
		close(jfd);
		if (c == EXT2_ET_TOOSMALL || c == EXT2_ET_TOO_MANY_INODES)
			e->full = c == EXT2_ET_TOOSMALL;
		return e->full ? err_set(err, -ENOSPC,
					 "ext4: %llu bytes are too small for a filesystem",
					 (unsigned long long)spec->size_bytes)
			       : e4_error(err, c, "lay out");
	}
	e->fs->now = FIXED_TIME;
	e->fs->umask = 022;
	set_identity(e->fs->super, spec);
	ext2fs_init_csum_seed(e->fs);
	c = ext2fs_allocate_tables(e->fs);
	if (c)
		return e4_error(err, c, "place the tables");
	set_zeroed(e->fs);
	for (ext2_ino_t i = 1; i < EXT2_FIRST_INODE(e->fs->super); i++)
		ext2fs_inode_alloc_stats2(e->fs, i, +1, i == EXT2_ROOT_INO);
	c = ext2fs_create_resize_inode(e->fs);
	if (c)
		return e4_error(err, c, "make the resize inode");
	jblocks = ext2fs_default_journal_size(ext2fs_blocks_count(e->fs->super));
	if (jblocks > 0) {
		c = ext2fs_add_journal_inode3(e->fs,
			&(struct ext2fs_journal_params){ .num_journal_blocks = jblocks }, ~0ULL,
			EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
		if (c)
			return e4_error(err, c, "make the journal");
	}
	/* From here on libext2fs touches no inode any more: they are in our own cache. */
	c = io_channel_flush(e->fs->io);
	return c ? e4_error(err, c, "write") : 0;
}

int ext4_create(struct ext4 **out, int fd, const struct ext4_spec *spec, struct err *err)
{
	struct ext4_meta root = { .mode = S_IFDIR | 0755, .mtime = FIXED_TIME };
	struct ext4 *e = calloc(1, sizeof(*e));
	int r;

	if (e == NULL)
		return err_nomem(err);
	e->fd = fd;
	e->gather = malloc(GATHER_BLOCKS * EXT4_BLOCK);
	e->cache = malloc(CACHE_SLOTS * EXT4_BLOCK);
	if (e->gather == NULL || e->cache == NULL) {
		r = err_nomem(err);
		goto fail;
	}
	initialize_ext2_error_table();
	if (ftruncate(fd, spec->size_bytes) < 0) {
		r = err_errno(err, -errno, "set the size of the disk");
		goto fail;
	}
	r = layout(e, spec, err);
	if (r < 0)
		goto fail;
	e->search = e->fs->super->s_first_data_block;
	e->next_ino = EXT2_FIRST_INODE(e->fs->super);
	r = ext4_set_meta(e, EXT4_ROOT, &root, err);
	if (r < 0)
		goto fail;
	*out = e;
	return 0;
fail:
	ext4_destroy(e);
	return r;
}

void ext4_destroy(struct ext4 *e)
{
	if (e == NULL)
		return;
	if (e->fs != NULL)
		ext2fs_free(e->fs);
	free(e->gather);
	free(e->cache);
	free(e->extents.v);
	free(e);
}

bool ext4_is_full(const struct ext4 *e)
{
	return e->full;
}

/* Written back as it comes, so that the caller's fsync is short. */
static void push(struct ext4 *e, uint64_t end)
{
	if (end < e->pushed + PUSH_BYTES)
		return;
	sync_file_range(e->fd, (off_t)e->pushed, (off_t)(end - e->pushed), SYNC_FILE_RANGE_WRITE);
	e->pushed = end;
}

int e4_flush(struct ext4 *e, struct err *err)
{
	size_t n = e->gather_len;
	int r;

	e->gather_len = 0;
	if (n == 0)
		return 0;
	e->high = MAX(e->high, e->gather_blk + n);
	r = file_write_at(e->fd, e->gather, n * EXT4_BLOCK, e->gather_blk * EXT4_BLOCK, err);
	if (r == 0)
		push(e, (e->gather_blk + n) * EXT4_BLOCK);
	return r;
}

int e4_put(struct ext4 *e, uint64_t blk, const void *data, size_t nblocks, struct err *err)
{
	const uint8_t *p = data;
	size_t n;
	int r;

	while (nblocks > 0) {
		if (e->gather_len == GATHER_BLOCKS ||
			(e->gather_len > 0 && e->gather_blk + e->gather_len != blk)) {
			r = e4_flush(e, err);
			if (r < 0)
				return r;
		}
		if (e->gather_len == 0)
			e->gather_blk = blk;
		n = MIN(nblocks, GATHER_BLOCKS - e->gather_len);
		memcpy(e->gather + e->gather_len * EXT4_BLOCK, p, n * EXT4_BLOCK);
		e->gather_len += n;
		blk += n;
		p += n * EXT4_BLOCK;
		nblocks -= n;
	}
	return 0;
}

int e4_get(struct ext4 *e, uint64_t blk, void *data, struct err *err)
{
	int r = e4_flush(e, err);
	ssize_t n;

	if (r < 0)
		return r;
	do {
		n = pread(e->fd, data, EXT4_BLOCK, blk * EXT4_BLOCK);
	} while (n < 0 && errno == EINTR);
	if (n != EXT4_BLOCK)
		return err_errno(err, n < 0 ? -errno : -EIO, "read from the disk");
	return 0;
}

/* Marks what was taken from the run. */
static void run_commit(struct ext4 *e)
{
	if (e->run_cur > e->run_start)
		ext2fs_block_alloc_stats_range(e->fs, e->run_start, e->run_cur - e->run_start, +1);
	e->run_start = e->run_cur;
}

static int run_next(struct ext4 *e, struct err *err)
{
	uint64_t last = ext2fs_blocks_count(e->fs->super) - 1, a, b;

	run_commit(e);
	for (;;) {
		if (e->search <= last && ext2fs_find_first_zero_block_bitmap2(e->fs->block_map,
						 e->search, last, (blk64_t *)&a) == 0)
			break;
		/* What later layers have freed is only used when there is nothing else. */
		if (e->wrapped || !e->freed) {
			e->full = true;
			return err_set(err, -ENOSPC, "it does not fit into a disk of %llu MiB",
				(unsigned long long)ext2fs_blocks_count(e->fs->super) *
						EXT4_BLOCK >>
					20);
		}
		e->wrapped = true;
		e->freed = false;
		e->search = e->fs->super->s_first_data_block;
	}
	if (ext2fs_find_first_set_block_bitmap2(e->fs->block_map, a, last, (blk64_t *)&b) != 0)
		b = last + 1;
	e->run_start = e->run_cur = a;
	e->run_end = e->search = b;
	return 0;
}

int e4_alloc(struct ext4 *e, uint32_t want, uint64_t *blk, uint32_t *got, struct err *err)
{
	int r;

	if (e->run_cur == e->run_end) {
		r = run_next(e, err);
		if (r < 0)
			return r;
	}
	*blk = e->run_cur;
	*got = MIN(want, e->run_end - e->run_cur);
	e->run_cur += *got;
	return 0;
}

void e4_free(struct ext4 *e, uint64_t blk, uint32_t n)
{
	run_commit(e);
	ext2fs_block_alloc_stats_range(e->fs, blk, n, -1);
	e->freed = true;
	e->wrapped = false;
}

/* Gives the host its room back for data that was written and freed again. */
static void punch_freed(struct ext4 *e)
{
	uint64_t end = MIN(e->high, ext2fs_blocks_count(e->fs->super)), a, b;

	for (a = e->fs->super->s_first_data_block; a < end; a = b) {
		if (ext2fs_find_first_zero_block_bitmap2(
			    e->fs->block_map, a, end - 1, (blk64_t *)&a) != 0)
			break;
		if (ext2fs_find_first_set_block_bitmap2(
			    e->fs->block_map, a, end - 1, (blk64_t *)&b) != 0)
			b = end;
		/* Only room is lost where this is not possible. */
		if (fallocate(e->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, a * EXT4_BLOCK,
			    (b - a) * EXT4_BLOCK) < 0)
			break;
	}
}

/* Checksums of the bitmaps and counters of the groups come from libext2fs. */
static int finish_metadata(struct ext4 *e, struct err *err)
{
	ext2_filsys fs = e->fs;
	errcode_t c;

	ext2fs_mark_super_dirty(fs);
	ext2fs_mark_bb_dirty(fs);
	ext2fs_mark_ib_dirty(fs);
	c = ext2fs_set_gdt_csum(fs);
	if (c)
		return e4_error(err, c, "sum the groups");
	e->fs = NULL;
	c = ext2fs_close2(fs, EXT2_FLAG_FLUSH_NO_SYNC);
	if (c) {
		/* libext2fs frees a filesystem only when all of it could be written. */
		ext2fs_free(fs);
		return e4_error(err, c, "write");
	}
	return 0;
}

int ext4_finish(struct ext4 *e, struct ext4_stats *out, struct err *err)
{
	struct ext2_super_block *sb = e->fs->super;
	struct ext4_stats stats = { 0 };
	int r;

	run_commit(e);
	r = e4_flush(e, err);
	if (r == 0)
		r = e4_inode_flush(e, err);
	if (r < 0)
		return r;
	punch_freed(e);
	stats.used_bytes = (ext2fs_blocks_count(sb) - ext2fs_free_blocks_count(sb)) * EXT4_BLOCK;
	stats.inodes = sb->s_inodes_count - sb->s_free_inodes_count;
	memcpy(stats.warning, e->warning, sizeof(stats.warning));
	r = finish_metadata(e, err);
	if (r == 0)
		*out = stats;
	return r;
}

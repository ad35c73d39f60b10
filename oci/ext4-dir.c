/*
 * Directories, each written once. One block holds a small one; a larger one gets a hash tree
 * (half MD4, as the kernel's default) with full leaves, at most two levels of index above them.
 * The layout is that of the kernel's fs/ext4/namei.c; see also e2fsprogs' lib/ext2fs/ext2_fs.h.
 */
#include "oci/ext4-int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAIL_SIZE   sizeof(struct ext2_dir_entry_tail)
#define LEAF_ROOM   (EXT4_BLOCK - TAIL_SIZE)
#define DOTS_SIZE   24
#define ROOT_OFFSET 0x20 /* of the index entries in block 0 */
#define NODE_OFFSET 8    /* and in a lower index block */
#define ROOT_LIMIT  ((EXT4_BLOCK - ROOT_OFFSET - 8) / 8)
#define NODE_LIMIT  ((EXT4_BLOCK - NODE_OFFSET - 8) / 8)
#define LINKS_MAX   65000

struct hashed {
	uint32_t hash, minor;
	const struct ext4_dirent *d;
};

/* A leaf: entries [first, end), and the hash that the index has for it. */
struct leaf {
	size_t first, end;
	uint32_t hash;
};

struct dir {
	struct ext4 *e;
	uint32_t ino, parent, seed;
	struct hashed *v;
	size_t n;
	struct leaf *leaves;
	size_t nleaves, ninner; /* inner: index blocks below the root */
	/* Where blocks go. */
	uint32_t next;
	struct extents extents;
	uint64_t run;
	uint32_t run_len;
	uint8_t block[EXT4_BLOCK];
};

static size_t entry_size(size_t name_len)
{
	return (8 + name_len + 3) & ~(size_t)3;
}

/* Writes d->block as the next one of the directory. */
static int append(struct dir *d, size_t left, struct err *err)
{
	int r;

	if (d->run_len == 0) {
		r = e4_alloc(d->e, left, &d->run, &d->run_len, err);
		if (r == 0)
			r = e4_extents_add(&d->extents, d->next, d->run, d->run_len, err);
		if (r < 0)
			return r;
	}
	d->run_len--;
	d->next++;
	return e4_put(d->e, d->run++, d->block, 1, err);
}

static struct ext2_dir_entry_2 *put_entry(
	uint8_t *at, uint32_t ino, size_t rec_len, const char *name, uint8_t name_len, uint8_t type)
{
	struct ext2_dir_entry_2 *de = (void *)at;

	de->inode = ino;
	de->rec_len = rec_len;
	de->name_len = name_len;
	de->file_type = type;
	memcpy(de->name, name, name_len);
	return de;
}

/* Entries [first, end) from offset `at` on; the last one reaches to the checksum. */
static void put_entries(struct dir *d, size_t at, size_t first, size_t end)
{
	struct ext2_dir_entry_tail *tail = (void *)(d->block + LEAF_ROOM);
	struct ext2_dir_entry_2 *last = NULL;
	size_t size, last_at = 0;

	for (size_t i = first; i < end; i++) {
		const struct ext4_dirent *n = d->v[i].d;

		size = entry_size(n->name_len);
		last_at = at;
		last = put_entry(d->block + at, n->ino, size, n->name, n->name_len, n->type);
		at += size;
	}
	if (last != NULL)
		last->rec_len = LEAF_ROOM - last_at;
	tail->det_rec_len = TAIL_SIZE;
	tail->det_reserved_name_len = EXT2_DIR_NAME_LEN_CSUM;
	tail->det_checksum = ext2fs_crc32c_le(d->seed, d->block, LEAF_ROOM);
}

static int write_small(struct dir *d, struct err *err)
{
	memset(d->block, 0, EXT4_BLOCK);
	put_entry(d->block, d->ino, 12, ".", 1, EXT2_FT_DIR);
	put_entry(d->block + 12, d->parent, d->n ? 12 : LEAF_ROOM - 12, "..", 2, EXT2_FT_DIR);
	put_entries(d, DOTS_SIZE, 0, d->n);
	return append(d, 1, err);
}

/* Fills leaf after leaf; a hash that is on both sides of a border is marked by its lowest bit. */
static int plan_leaves(struct dir *d, struct err *err)
{
	size_t room = 0, size, cap = 0;
	struct leaf *v;

	for (size_t i = 0; i < d->n; i++) {
		size = entry_size(d->v[i].d->name_len);
		if (size <= room) {
			room -= size;
			d->leaves[d->nleaves - 1].end = i + 1;
			continue;
		}
		if (d->nleaves == cap) {
			cap = cap ? 2 * cap : 64;
			v = realloc(d->leaves, cap * sizeof(*v));
			if (v == NULL)
				return err_nomem(err);
			d->leaves = v;
		}
		d->leaves[d->nleaves++] = (struct leaf){
			.first = i,
			.end = i + 1,
			.hash = d->v[i].hash | (i > 0 && d->v[i].hash == d->v[i - 1].hash),
		};
		room = LEAF_ROOM - size;
	}
	if (d->nleaves > ROOT_LIMIT)
		d->ninner = (d->nleaves + NODE_LIMIT - 1) / NODE_LIMIT;
	if (d->ninner > ROOT_LIMIT)
		return err_set(err, -EFBIG, "a directory of %zu names is too large", d->n);
	return 0;
}

/*
 * An index: where the entries begin, count of them, block of the first child; the hash of the
 * first entry is not stored, its place holds limit and count.
 */
static void put_index(struct dir *d, size_t offset, size_t limit, size_t n, size_t first_leaf,
	size_t leaves_each, uint32_t first_block)
{
	struct ext2_dx_countlimit *cl = (void *)(d->block + offset);
	struct ext2_dx_entry *v = (void *)(d->block + offset);
	struct ext2_dx_tail *tail = (void *)(d->block + offset + limit * 8);
	uint32_t zero = 0, crc;

	for (size_t i = 0; i < n; i++) {
		v[i].hash = d->leaves[first_leaf + i * leaves_each].hash;
		v[i].block = first_block + i;
	}
	cl->limit = limit;
	cl->count = n;
	crc = ext2fs_crc32c_le(d->seed, d->block, offset + n * 8);
	crc = ext2fs_crc32c_le(crc, (uint8_t *)tail, offsetof(struct ext2_dx_tail, dt_checksum));
	tail->dt_checksum = ext2fs_crc32c_le(crc, (uint8_t *)&zero, sizeof(zero));
}

static int write_root(struct dir *d, size_t total, struct err *err)
{
	struct ext2_dx_root_info *info = (void *)(d->block + DOTS_SIZE);

	memset(d->block, 0, EXT4_BLOCK);
	put_entry(d->block, d->ino, 12, ".", 1, EXT2_FT_DIR);
	put_entry(d->block + 12, d->parent, EXT4_BLOCK - 12, "..", 2, EXT2_FT_DIR);
	info->hash_version = d->e->fs->super->s_def_hash_version;
	info->info_length = sizeof(*info);
	info->indirect_levels = d->ninner > 0;
	if (d->ninner > 0)
		put_index(d, ROOT_OFFSET, ROOT_LIMIT, d->ninner, 0, NODE_LIMIT, 1);
	else
		put_index(d, ROOT_OFFSET, ROOT_LIMIT, d->nleaves, 0, 1, 1);
	return append(d, total, err);
}

static int write_tree(struct dir *d, struct err *err)
{
	size_t total, first, n;
	int r = plan_leaves(d, err);

	if (r < 0)
		return r;
	total = 1 + d->ninner + d->nleaves;
	r = write_root(d, total, err);
	for (size_t i = 0; r == 0 && i < d->ninner; i++) {
		first = i * NODE_LIMIT;
		n = MIN(d->nleaves - first, (size_t)NODE_LIMIT);
		memset(d->block, 0, EXT4_BLOCK);
		((struct ext2_dir_entry_2 *)d->block)->rec_len = EXT4_BLOCK;
		put_index(d, NODE_OFFSET, NODE_LIMIT, n, first, 1, 1 + d->ninner + first);
		r = append(d, total - d->next, err);
	}
	for (size_t i = 0; r == 0 && i < d->nleaves; i++) {
		memset(d->block, 0, EXT4_BLOCK);
		put_entries(d, 0, d->leaves[i].first, d->leaves[i].end);
		r = append(d, total - d->next, err);
	}
	return r;
}

static int compare_hash(const void *a, const void *b)
{
	const struct hashed *x = a, *y = b;
	size_t n = MIN(x->d->name_len, y->d->name_len);
	int c;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->minor != y->minor)
		return x->minor < y->minor ? -1 : 1;
	c = memcmp(x->d->name, y->d->name, n);
	return c ? c : (int)x->d->name_len - (int)y->d->name_len;
}

static int finish_inode(struct dir *d, size_t subdirs, struct err *err)
{
	union e4_inode inode;
	uint32_t blocks;
	int r = e4_inode_read(d->e, d->ino, &inode, err);

	if (r == 0)
		r = e4_extents_store(
			d->e, d->ino, &d->extents, (uint8_t *)inode.i.i_block, &blocks, err);
	if (r < 0)
		return r;
	e4_add_blocks(&inode, (int64_t)d->next + blocks);
	inode.i.i_size = d->next * (uint64_t)EXT4_BLOCK;
	inode.i.i_size_high = (d->next * (uint64_t)EXT4_BLOCK) >> 32;
	/* With dir_nlink, 1 means that they are not counted. */
	inode.i.i_links_count = subdirs + 2 >= LINKS_MAX ? 1 : subdirs + 2;
	if (d->nleaves > 0)
		inode.i.i_flags |= EXT2_INDEX_FL;
	return e4_inode_write(d->e, d->ino, &inode, err);
}

int ext4_write_dir(struct ext4 *e, uint32_t ino, uint32_t parent, struct ext4_dirent *entries,
	size_t n, struct err *err)
{
	struct dir d = { .e = e, .ino = ino, .parent = parent, .seed = e4_seed(e, ino), .n = n };
	struct ext2_super_block *sb = e->fs->super;
	size_t size = DOTS_SIZE, subdirs = 0;
	int r;

	d.v = malloc(MAX(n, (size_t)1) * sizeof(*d.v));
	if (d.v == NULL)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		d.v[i].d = &entries[i];
		ext2fs_dirhash2(sb->s_def_hash_version, entries[i].name, entries[i].name_len, NULL,
			0, sb->s_hash_seed, &d.v[i].hash, &d.v[i].minor);
		size += entry_size(entries[i].name_len);
		subdirs += entries[i].type == EXT2_FT_DIR;
	}
	qsort(d.v, n, sizeof(*d.v), compare_hash);
	r = size <= LEAF_ROOM ? write_small(&d, err) : write_tree(&d, err);
	if (r == 0)
		r = finish_inode(&d, subdirs, err);
	free(d.v);
	free(d.leaves);
	free(d.extents.v);
	return r;
}

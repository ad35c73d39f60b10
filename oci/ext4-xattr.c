/*
 * Extended attributes: behind the inode where they fit, else the rest in one block. Both are the
 * same list of entries that grows upwards and values that grow downwards.
 */
#include "oci/ext4-int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"

#define XATTRS_MAX  256 /* far more than a block holds */
#define ENTRY_SIZE  sizeof(struct ext2_ext_attr_entry)
#define INODE_START sizeof(struct ext2_inode_large)

/* fs/ext4/xattr.h; the rows with a whole name come before "system.". */
static const struct {
	const char *prefix;
	bool whole;
	uint8_t index;
} prefixes[] = {
	{ "user.", false, 1 },
	{ "system.posix_acl_access", true, 2 },
	{ "system.posix_acl_default", true, 3 },
	{ "trusted.", false, 4 },
	{ "security.", false, 6 },
};

struct item {
	uint8_t index;
	const char *name;
	size_t name_len;
	const uint8_t *value;
	size_t len;
	uint8_t *owned; /* a converted value */
};

static void warn(struct ext4 *e, const char *name, const char *why)
{
	if (e->warning[0] == '\0')
		snprintf(e->warning, sizeof(e->warning), "ignoring attribute %s: %s", quote(name),
			why);
}

/*
 * The kernel's xattr form of an ACL (linux/posix_acl_xattr.h: version 2, entries of 8 bytes) to
 * ext4's own (fs/ext4/acl.h: version 1, without an id where the tag has none).
 */
static uint8_t *acl_to_disk(const uint8_t *p, size_t len, size_t *out_len)
{
	static const uint8_t from[] = { 2, 0, 0, 0 }, to[] = { 1, 0, 0, 0 };
	uint8_t *out, *q;
	uint16_t tag;

	if (len < 4 || (len - 4) % 8 != 0 || memcmp(p, from, 4) != 0)
		return NULL;
	out = malloc(len);
	if (out == NULL)
		return NULL;
	memcpy(out, to, 4);
	q = out + 4;
	for (p += 4, len -= 4; len > 0; p += 8, len -= 8) {
		memcpy(&tag, p, sizeof(tag));
		/* ACL_USER and ACL_GROUP. */
		size_t n = tag == 0x02 || tag == 0x08 ? 8 : 4;

		memcpy(q, p, n);
		q += n;
	}
	*out_len = q - out;
	return out;
}

static bool make_item(struct ext4 *e, const struct ext4_xattr *x, struct item *out)
{
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		size_t n = strlen(prefixes[i].prefix);

		if (prefixes[i].whole ? strcmp(x->name, prefixes[i].prefix) != 0
				      : strncmp(x->name, prefixes[i].prefix, n) != 0)
			continue;
		*out = (struct item){
			.index = prefixes[i].index,
			.name = x->name + n,
			.name_len = strlen(x->name + n),
			.value = x->value,
			.len = x->len,
		};
		if (out->name_len > 255 || (out->name_len == 0 && !prefixes[i].whole))
			break;
		if (!prefixes[i].whole)
			return true;
		out->owned = acl_to_disk(x->value, x->len, &out->len);
		out->value = out->owned;
		if (out->owned != NULL)
			return true;
		warn(e, x->name, "it is no access control list");
		return false;
	}
	warn(e, x->name, "ext4 has no place for such a name");
	return false;
}

/* The order that the kernel looks for in a block. */
static int compare(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	if (x->name_len != y->name_len)
		return x->name_len < y->name_len ? -1 : 1;
	return memcmp(x->name, y->name, x->name_len);
}

static size_t item_size(const struct item *x)
{
	return ((ENTRY_SIZE + x->name_len + 3) & ~(size_t)3) + ((x->len + 3) & ~(size_t)3);
}

/* Entries from `entries` up, values from end down; offsets are counted from base. */
static struct ext2_ext_attr_entry *put_items(
	uint8_t *base, uint8_t *entries, uint8_t *end, const struct item *v, size_t n)
{
	struct ext2_ext_attr_entry *x = (void *)entries;

	for (size_t i = 0; i < n; i++) {
		end -= (v[i].len + 3) & ~(size_t)3;
		x->e_name_len = v[i].name_len;
		x->e_name_index = v[i].index;
		x->e_value_offs = v[i].len ? end - base : 0;
		x->e_value_inum = 0;
		x->e_value_size = v[i].len;
		memcpy((uint8_t *)x + ENTRY_SIZE, v[i].name, v[i].name_len);
		if (v[i].len > 0)
			memcpy(end, v[i].value, v[i].len);
		x->e_hash = ext2fs_ext_attr_hash_entry(x, end);
		x = EXT2_EXT_ATTR_NEXT(x);
	}
	return x;
}

static void put_in_inode(union e4_inode *inode, const struct item *v, size_t n)
{
	uint32_t magic = EXT2_EXT_ATTR_MAGIC;
	uint8_t *start = inode->raw + INODE_START;

	memcpy(start, &magic, sizeof(magic));
	start += sizeof(magic);
	put_items(start, start, inode->raw + sizeof(inode->raw), v, n);
}

static int put_in_block(
	struct ext4 *e, union e4_inode *inode, const struct item *v, size_t n, struct err *err)
{
	struct {
		struct ext2_ext_attr_header h;
		uint8_t rest[EXT4_BLOCK - sizeof(struct ext2_ext_attr_header)];
	} b = { 0 };
	struct ext2_ext_attr_entry *end;
	uint64_t blk;
	uint32_t got;
	int r;

	r = e4_alloc(e, 1, &blk, &got, err);
	if (r < 0)
		return r;
	b.h.h_magic = EXT2_EXT_ATTR_MAGIC;
	b.h.h_refcount = 1;
	b.h.h_blocks = 1;
	end = put_items((uint8_t *)&b, b.rest, (uint8_t *)&b + sizeof(b), v, n);
	ext2fs_ext_attr_block_rehash(&b.h, end);
	/* The block's number, then the block with its checksum as 0. */
	b.h.h_checksum = ext2fs_crc32c_le(
		ext2fs_crc32c_le(e->fs->csum_seed, (uint8_t *)&blk, sizeof(blk)), (uint8_t *)&b,
		sizeof(b));
	inode->i.i_file_acl = blk;
	inode->i.osd2.linux2.l_i_file_acl_high = blk >> 32;
	e4_add_blocks(inode, 1);
	return e4_put(e, blk, &b, 1, err);
}

/* As many as fit behind the inode, in order; the rest to a block. Both end with four zero bytes. */
static int place(struct ext4 *e, union e4_inode *inode, struct item *v, size_t n, struct err *err)
{
	size_t room = sizeof(inode->raw) - INODE_START - 4 - 4, block_room;
	struct item in[XATTRS_MAX], out[XATTRS_MAX];
	size_t nin = 0, nout = 0, size;

	block_room = EXT4_BLOCK - sizeof(struct ext2_ext_attr_header) - 4;
	for (size_t i = 0; i < n; i++) {
		size = item_size(&v[i]);
		if (size <= room) {
			room -= size;
			in[nin++] = v[i];
		} else if (size <= block_room) {
			block_room -= size;
			out[nout++] = v[i];
		} else {
			return err_set(err, -E2BIG,
				"its extended attributes do not fit into the 4 KiB that ext4 has for them");
		}
	}
	if (nin > 0)
		put_in_inode(inode, in, nin);
	return nout > 0 ? put_in_block(e, inode, out, nout, err) : 0;
}

int e4_xattrs_store(struct ext4 *e, union e4_inode *inode, const struct ext4_xattr *xattrs,
	size_t n, struct err *err)
{
	struct item v[XATTRS_MAX];
	size_t k = 0;
	int r;

	if (n == 0)
		return 0;
	if (n > XATTRS_MAX)
		return err_set(err, -E2BIG, "more than %d extended attributes", XATTRS_MAX);
	for (size_t i = 0; i < n; i++)
		k += make_item(e, &xattrs[i], &v[k]);
	qsort(v, k, sizeof(*v), compare);
	/* One that is named twice would make a filesystem that the kernel calls damaged. */
	r = 0;
	for (size_t i = 1; r == 0 && i < k; i++) {
		if (compare(&v[i - 1], &v[i]) == 0)
			r = err_set(err, -EINVAL, "an extended attribute is named twice");
	}
	if (r == 0)
		r = place(e, inode, v, k, err);
	for (size_t i = 0; i < k; i++)
		free(v[i].owned);
	return r;
}

void e4_xattrs_clear(struct ext4 *e, union e4_inode *inode)
{
	uint64_t blk = inode->i.i_file_acl | (uint64_t)inode->i.osd2.linux2.l_i_file_acl_high << 32;

	memset(inode->raw + INODE_START, 0, sizeof(inode->raw) - INODE_START);
	if (blk == 0)
		return;
	e4_free(e, blk, 1);
	e4_add_blocks(inode, -1);
	inode->i.i_file_acl = 0;
	inode->i.osd2.linux2.l_i_file_acl_high = 0;
}

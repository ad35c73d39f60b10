#include "oci/rawdisk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <ext2fs/ext2fs.h>
#include "lib/file.h"
#include "lib/str.h"
#include "oci/entries.h"

#define BLOCK 4096

int write_sparse(int fd, const void *data, size_t len, uint64_t offset, struct err *err)
{
	const uint8_t *p = data;
	size_t start = 0, i = 0, n;
	int r = 0;

	while (r == 0 && i < len) {
		n = MIN(len - i, BLOCK - (offset + i) % BLOCK);
		if (p[i] == 0 && memcmp(p + i, p + i + 1, n - 1) == 0) {
			r = file_write_at(fd, p + start, i - start, offset + start, err);
			start = i + n;
		}
		i += n;
	}
	return r < 0 ? r : file_write_at(fd, p + start, len - start, offset + start, err);
}

struct copy {
	struct entries *es;
	int fd;
	/* The superblock, as far as it was seen. */
	union {
		uint8_t raw[SUPERBLOCK_SIZE];
		struct ext2_super_block sb;
	} super;
};

static void keep_super(struct copy *c, const uint8_t *data, size_t len, uint64_t offset)
{
	uint64_t from = MAX(offset, (uint64_t)SUPERBLOCK_OFFSET);
	uint64_t to = MIN(offset + len, (uint64_t)SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE);

	if (from < to)
		memcpy(c->super.raw + (from - SUPERBLOCK_OFFSET), data + (from - offset),
			to - from);
}

static bool is_ext4(const struct copy *c)
{
	return c->super.sb.s_magic == EXT2_SUPER_MAGIC;
}

/* KubeVirt's containerDisk: the one file lies in /disk, and is a disk whatever it holds. */
static bool in_disk_folder(const char *name)
{
	while (*name == '/' || (name[0] == '.' && name[1] == '/'))
		name++;
	return str_starts(name, "disk/") && strchr(name + 5, '/') == NULL;
}

/* 1: copied, and (unless any will do) it is an ext4; 0: it is none. */
static int copy_file(
	struct copy *c, struct archive_entry *entry, bool any, uint64_t *size, struct err *err)
{
	const void *data;
	uint64_t offset;
	size_t len;
	int r;

	*size = MAX(archive_entry_size(entry), 0);
	if (ftruncate(c->fd, *size) < 0)
		return err_errno(err, -errno, "set the size of the disk");
	while ((r = entries_data(c->es, &data, &len, &offset, err)) > 0) {
		keep_super(c, data, len, offset);
		if (offset + len >= SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE && !any && !is_ext4(c))
			return 0;
		r = write_sparse(c->fd, data, len, offset, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : any || is_ext4(c);
}

static int check_size(const struct copy *c, uint64_t size, struct err *err)
{
	const struct ext2_super_block *sb = &c->super.sb;
	uint64_t blocks = sb->s_blocks_count;

	if (sb->s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT)
		blocks |= (uint64_t)sb->s_blocks_count_hi << 32;
	if (sb->s_log_block_size > 6 || blocks > size >> (10 + sb->s_log_block_size))
		return err_set(err, -EBADMSG,
			"the image's only file looks like an ext4, but is shorter than its superblock says");
	return 0;
}

static int scan(
	struct copy *c, bool *found, uint64_t *size, enum image_format *format, struct err *err)
{
	struct archive_entry *entry;
	size_t layer, files = 0;
	int r;

	while ((r = entries_next(c->es, &entry, &layer, err)) > 0) {
		const char *name = archive_entry_pathname(entry),
			   *link = archive_entry_hardlink(entry);
		const char *slash = name ? strrchr(name, '/') : NULL;

		if (link == NULL && archive_entry_filetype(entry) == AE_IFDIR)
			continue;
		if (++files > 1 || name == NULL || link != NULL ||
			archive_entry_filetype(entry) != AE_IFREG ||
			str_starts(slash ? slash + 1 : name, ".wh."))
			return 0;
		/* By the name: what a raw disk holds says nothing of its format. */
		if (in_disk_folder(name))
			*format = image_format_of_name(name);
		r = copy_file(c, entry, in_disk_folder(name), size, err);
		if (r < 0)
			return err_wrap(err, "layer %zu: %s", layer + 1, quote(name));
		if (r == 0)
			return 0;
	}
	if (r < 0 || files == 0)
		return r;
	*found = true;
	return is_ext4(c) ? check_size(c, *size, err) : 0;
}

int raw_disk_copy(const struct layer_src *layers, size_t n, int out_fd,
	layers_progress_fn *progress, void *arg, bool *found, uint64_t *size,
	enum image_format *format, struct err *err)
{
	struct copy *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return err_nomem(err);
	c->fd = out_fd;
	*found = false;
	*format = FORMAT_BY_NAME;
	r = entries_open(&c->es, layers, n, progress, arg, err);
	if (r == 0)
		r = scan(c, found, size, format, err);
	entries_close(c->es);
	free(c);
	return r;
}

#include "oci/ext4-edit.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <et/com_err.h>
#include "oci/ext4-qcow2.h"
#include "oci/run.h"

#define FILE_MAX        (1 << 20)
#define FSCK_TIMEOUT_MS (10 * 60 * 1000)
/* e2fsck(8): 1 is "errors corrected". */
#define FSCK_CORRECTED 1

/* Codes below this are errno. */
#define IS_ERRNO(c) ((c) > 0 && (c) < 4096)

static int fs_error(struct err *err, errcode_t c, const char *what, const char *path)
{
	if (c == EXT2_ET_NO_MEMORY)
		return err_nomem(err);
	if (c == EXT2_ET_BLOCK_ALLOC_FAIL || c == EXT2_ET_INODE_ALLOC_FAIL)
		return err_set(err, -ENOSPC, "%s %s: the disk is full", what, quote(path));
	return err_set(err, IS_ERRNO(c) ? -(int)c : -EIO, "%s %s: %s", what, quote(path),
		error_message(c));
}

int edit_lookup(ext2_filsys fs, ext2_ino_t dir, const char *path, ext2_ino_t *out, struct err *err)
{
	errcode_t c = ext2fs_namei_follow(fs, EXT2_ROOT_INO, dir, path, out);

	if (c == EXT2_ET_FILE_NOT_FOUND || c == EXT2_ET_NO_DIRECTORY || c == EXT2_ET_SYMLINK_LOOP) {
		*out = 0;
		return 0;
	}
	return c ? fs_error(err, c, "look up", path) : 0;
}

static int read_inode(
	ext2_filsys fs, ext2_ino_t ino, struct ext2_inode *out, const char *path, struct err *err)
{
	errcode_t c = ext2fs_read_inode(fs, ino, out);

	return c ? fs_error(err, c, "read", path) : 0;
}

int edit_read(ext2_filsys fs, ext2_ino_t ino, const char *path, struct buf *out, struct err *err)
{
	struct ext2_inode inode;
	ext2_file_t f = NULL;
	char chunk[4096];
	unsigned got;
	errcode_t c;
	int r = read_inode(fs, ino, &inode, path, err);

	if (r < 0)
		return r;
	if (!LINUX_S_ISREG(inode.i_mode) || EXT2_I_SIZE(&inode) > FILE_MAX)
		return err_set(err, -EINVAL, "%s in the image is no regular file of at most %s",
			quote(path), format_size(FILE_MAX));
	c = ext2fs_file_open(fs, ino, 0, &f);
	while (c == 0) {
		c = ext2fs_file_read(f, chunk, sizeof(chunk), &got);
		if (got == 0)
			break;
		buf_add(out, chunk, got);
	}
	if (f != NULL)
		ext2fs_file_close(f);
	if (c)
		return fs_error(err, c, "read", path);
	return out->bad ? err_nomem(err) : 0;
}

int edit_set_owner(ext2_filsys fs, ext2_ino_t ino, const struct edit_owner *u, unsigned mode,
	const char *path, struct err *err)
{
	struct ext2_inode inode;
	int r = read_inode(fs, ino, &inode, path, err);
	errcode_t c;

	if (r < 0)
		return r;
	inode.i_mode = (inode.i_mode & LINUX_S_IFMT) | mode;
	inode.i_uid = u->uid;
	ext2fs_set_i_uid_high(inode, u->uid >> 16);
	inode.i_gid = u->gid;
	ext2fs_set_i_gid_high(inode, u->gid >> 16);
	inode.i_ctime = inode.i_mtime = time(NULL);
	c = ext2fs_write_inode(fs, ino, &inode);
	return c ? fs_error(err, c, "write", path) : 0;
}

static errcode_t link_name(
	ext2_filsys fs, ext2_ino_t dir, const char *name, ext2_ino_t ino, int type)
{
	errcode_t c = ext2fs_link(fs, dir, name, ino, type);

	if (c == EXT2_ET_DIR_NO_SPACE) {
		c = ext2fs_expand_dir(fs, dir);
		if (c == 0)
			c = ext2fs_link(fs, dir, name, ino, type);
	}
	return c;
}

/* Takes the name away, and the inode with its last name. Not for directories. */
static errcode_t remove_name(ext2_filsys fs, ext2_ino_t dir, const char *name, ext2_ino_t ino)
{
	struct ext2_inode inode;
	errcode_t c = ext2fs_read_inode(fs, ino, &inode);

	if (c == 0)
		c = ext2fs_unlink(fs, dir, name, ino, 0);
	if (c)
		return c;
	if (--inode.i_links_count > 0)
		return ext2fs_write_inode(fs, ino, &inode);
	if (ext2fs_inode_has_valid_blocks2(fs, &inode))
		c = ext2fs_punch(fs, ino, &inode, NULL, 0, ~0ULL);
	if (c == 0)
		c = ext2fs_free_ext_attr(fs, ino, NULL);
	if (c == 0)
		c = ext2fs_read_inode(fs, ino, &inode);
	if (c)
		return c;
	inode.i_links_count = 0;
	inode.i_dtime = time(NULL);
	ext2fs_inode_alloc_stats2(fs, ino, -1, 0);
	return ext2fs_write_inode(fs, ino, &inode);
}

/* An empty regular file of root's. */
static errcode_t create_file(ext2_filsys fs, ext2_ino_t dir, const char *name, ext2_ino_t *out)
{
	struct ext2_inode inode = { .i_mode = LINUX_S_IFREG | 0600, .i_links_count = 1 };
	ext2_extent_handle_t h;
	errcode_t c;

	c = ext2fs_new_inode(fs, dir, LINUX_S_IFREG | 0600, NULL, out);
	if (c)
		return c;
	inode.i_atime = inode.i_ctime = inode.i_mtime = time(NULL);
	if (ext2fs_has_feature_extents(fs->super)) {
		/* Opening an empty one gives it its header. */
		inode.i_flags |= EXT4_EXTENTS_FL;
		c = ext2fs_extent_open2(fs, *out, &inode, &h);
		if (c)
			return c;
		ext2fs_extent_free(h);
	}
	c = ext2fs_write_new_inode(fs, *out, &inode);
	if (c == 0)
		c = link_name(fs, dir, name, *out, EXT2_FT_REG_FILE);
	if (c == 0)
		ext2fs_inode_alloc_stats2(fs, *out, +1, 0);
	return c;
}

static errcode_t write_data(ext2_filsys fs, ext2_ino_t ino, const struct buf *data)
{
	size_t at = 0;
	unsigned put;
	ext2_file_t f;
	errcode_t c, c2;

	c = ext2fs_file_open(fs, ino, EXT2_FILE_WRITE, &f);
	if (c)
		return c;
	c = ext2fs_file_set_size2(f, 0);
	while (c == 0 && at < data->len) {
		c = ext2fs_file_write(f, data->data + at, data->len - at, &put);
		at += put;
	}
	c2 = ext2fs_file_close(f);
	return c ? c : c2;
}

int edit_write(ext2_filsys fs, ext2_ino_t dir, const char *name, const struct buf *data,
	const struct edit_owner *owner, unsigned mode, struct err *err)
{
	struct ext2_inode inode;
	ext2_ino_t ino, entry;
	errcode_t c = 0;
	int r = edit_lookup(fs, dir, name, &ino, err);

	if (r < 0)
		return r;
	if (ino == 0) {
		if (ext2fs_lookup(fs, dir, name, strlen(name), NULL, &entry) == 0)
			c = remove_name(fs, dir, name, entry);
		if (c == 0)
			c = create_file(fs, dir, name, &ino);
		if (c)
			return fs_error(err, c, "create", name);
	}
	r = read_inode(fs, ino, &inode, name, err);
	if (r < 0)
		return r;
	if (!LINUX_S_ISREG(inode.i_mode))
		return err_set(err, -EINVAL, "%s in the image is no regular file", quote(name));
	c = write_data(fs, ino, data);
	return c ? fs_error(err, c, "write", name)
		 : edit_set_owner(fs, ino, owner, mode, name, err);
}

int edit_need_dir(ext2_filsys fs, ext2_ino_t dir, const char *name, const struct edit_owner *owner,
	unsigned mode, ext2_ino_t *out, struct err *err)
{
	struct ext2_inode inode;
	errcode_t c;
	int r = edit_lookup(fs, dir, name, out, err);

	if (r < 0)
		return r;
	if (*out == 0) {
		c = ext2fs_mkdir(fs, dir, 0, name);
		if (c == EXT2_ET_DIR_NO_SPACE) {
			c = ext2fs_expand_dir(fs, dir);
			if (c == 0)
				c = ext2fs_mkdir(fs, dir, 0, name);
		}
		if (c)
			return fs_error(err, c, "create", name);
		r = edit_lookup(fs, dir, name, out, err);
		return r < 0 ? r : edit_set_owner(fs, *out, owner, mode, name, err);
	}
	r = read_inode(fs, *out, &inode, name, err);
	if (r == 0 && !LINUX_S_ISDIR(inode.i_mode))
		r = err_set(err, -ENOTDIR, "%s in the image is no directory", quote(name));
	return r;
}

int edit_need_path(ext2_filsys fs, const char *path, const struct edit_owner *owner, unsigned mode,
	ext2_ino_t *out, struct err *err)
{
	static const struct edit_owner root = { 0 };
	const char *p = path + strspn(path, "/");
	ext2_ino_t dir = EXT2_ROOT_INO;
	char name[256];
	size_t len;
	bool last;
	int r = 0;

	while (r == 0 && *p != '\0') {
		len = strcspn(p, "/");
		if (len >= sizeof(name))
			return err_set(err, -ENAMETOOLONG, "the path %s is too long", quote(path));
		memcpy(name, p, len);
		name[len] = '\0';
		p += len;
		p += strspn(p, "/");
		last = *p == '\0';
		r = edit_need_dir(
			fs, dir, name, last ? owner : &root, last ? mode : 0755, &dir, err);
	}
	*out = dir;
	return r;
}

int edit_open(const char *path, bool qcow2, ext2_filsys *out, struct err *err)
{
	char *fsck[] = { "e2fsck", "-p", (char *)path, NULL };
	errcode_t c;
	int r;

	initialize_ext2_error_table();
	for (int i = 0; i < 2; i++) {
		c = ext2fs_open(path, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0,
			qcow2 ? ext4_qcow2_io : unix_io_manager, out);
		if (c == EXT2_ET_BAD_MAGIC || c == EXT2_ET_SHORT_READ)
			return err_set(err, -EINVAL, "%s is no ext4", quote(path));
		if (c)
			return fs_error(err, c, "open", path);
		if (!ext2fs_has_feature_journal_needs_recovery((*out)->super))
			break;
		ext2fs_free(*out);
		*out = NULL;
		if (qcow2)
			return err_set(err, -EUCLEAN,
				"the filesystem in it was not left in order, and is mended when the guest mounts it");
		if (i > 0)
			return err_set(
				err, -EIO, "the journal of %s cannot be replayed", quote(path));
		r = run_program(fsck, FSCK_TIMEOUT_MS, FSCK_CORRECTED, err);
		if (r < 0)
			return r;
	}
	c = ext2fs_read_bitmaps(*out);
	if (c) {
		ext2fs_free(*out);
		return fs_error(err, c, "read the bitmaps of", path);
	}
	return 0;
}

int edit_close(ext2_filsys fs, const char *path, struct err *err)
{
	errcode_t c = ext2fs_close2(fs, EXT2_FLAG_FLUSH_NO_SYNC);

	if (c == 0)
		return 0;
	/* It is freed only when all of it could be written. */
	ext2fs_free(fs);
	return fs_error(err, c, "write", path);
}

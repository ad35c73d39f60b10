/*
 * oci/ext4-edit.h - small changes to an ext4 that is not mounted, through libext2fs: a few files
 * read, written, made. Symbolic links lead nowhere but into the image, and libext2fs bounds them.
 * Blocks; any one thread.
 */
#ifndef DROVER_OCI_EXT4_EDIT_H
#define DROVER_OCI_EXT4_EDIT_H

#include <ext2fs/ext2fs.h>
#include "lib/str.h"

struct edit_owner {
	uint32_t uid, gid;
};

/*
 * A journal that its last user left to be replayed is replayed first (by e2fsck): not in a qcow2,
 * which it does not know; there it is -EUCLEAN. qcow2: the disk is one (oci/qcow2.h), which is never
 * guessed.
 */
int edit_open(const char *path, bool qcow2, ext2_filsys *out, struct err *err);
/* Writes what was changed; to drop it call ext2fs_free() instead. */
int edit_close(ext2_filsys fs, const char *path, struct err *err);

/* The inode at path, seen from dir, links followed; *out is 0 when there is none. */
int edit_lookup(ext2_filsys fs, ext2_ino_t dir, const char *path, ext2_ino_t *out, struct err *err);
/* The whole of a regular file of at most 1 MiB; path is for messages. */
int edit_read(ext2_filsys fs, ext2_ino_t ino, const char *path, struct buf *out, struct err *err);
/*
 * Replaces or makes the file name in dir. A link is followed; one that leads nowhere is replaced
 * by a file.
 */
int edit_write(ext2_filsys fs, ext2_ino_t dir, const char *name, const struct buf *data,
	const struct edit_owner *owner, unsigned mode, struct err *err);
/* mode is without the file's type; path is for messages. */
int edit_set_owner(ext2_filsys fs, ext2_ino_t ino, const struct edit_owner *owner, unsigned mode,
	const char *path, struct err *err);
/* The directory name in dir; made with this owner and mode when it is missing. */
int edit_need_dir(ext2_filsys fs, ext2_ino_t dir, const char *name, const struct edit_owner *owner,
	unsigned mode, ext2_ino_t *out, struct err *err);
/* An absolute path of directories; missing ones are made, root's but for the last one. */
int edit_need_path(ext2_filsys fs, const char *path, const struct edit_owner *owner, unsigned mode,
	ext2_ino_t *out, struct err *err);

#endif

/*
 * oci/clone.h - copies of disks that share their blocks with the original where the filesystem
 * can. Part of drover-image: blocks, and runs resize2fs. Sizes in bytes.
 */
#ifndef DROVER_OCI_CLONE_H
#define DROVER_OCI_CLONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

enum clone_method {
	CLONE_REFLINK,
	CLONE_COPY,   /* sparse */
	CLONE_OVERLAY /* oci/overlay.h */
};
const char *clone_method_name(enum clone_method m); /* "reflink", "copy", "overlay" */

/*
 * Copies the regular file `from` to `to`, which must not exist (mode 0600; removed again on
 * failure). size 0 keeps the size; a smaller one than from's is -EINVAL, since disks are never
 * shrunk. A larger one extends the file, and the ext4 in it (if it is one, without a partition
 * table) by resize2fs.
 */
int clone_file(
	const char *from, const char *to, uint64_t size, enum clone_method *out, struct err *err);
/* The same, but the ext4 in it stays as it is: clone_grow() is left to the caller. */
int clone_file_sized(
	const char *from, const char *to, uint64_t size, enum clone_method *out, struct err *err);
/* The same, in one way alone: -EOPNOTSUPP where blocks cannot be shared; or none are, on purpose. */
int clone_file_by(
	const char *from, const char *to, uint64_t size, enum clone_method how, struct err *err);
/* Whether files in dir can share their blocks. */
bool clone_can_reflink(const char *dir);

/*
 * The same without a size. With reflink_only it is -EOPNOTSUPP where blocks cannot be shared;
 * -ECANCELED once *cancel is true. In both cases `to` is not there afterwards.
 */
int clone_file_until(const char *from, const char *to, bool reflink_only, const atomic_bool *cancel,
	enum clone_method *out, struct err *err);

/* Whether a disk of this size would have an ext4 in it that is to grow. -errno: it cannot be read. */
int clone_must_grow(const char *path, uint64_t size, struct err *err);
/* Grows the ext4 in the file to size, or to the file's size when 0; does nothing to others. */
int clone_grow(const char *path, uint64_t size, struct err *err);

#endif

/*
 * oci/path.h - paths inside an image, resolved in its tree of names and nowhere else. A chroot's
 * view: absolute links begin at the image's root, and ".." stays there. Any one thread.
 */
#ifndef DROVER_OCI_PATH_H
#define DROVER_OCI_PATH_H

#include "oci/tree.h"

struct path_ops {
	/* The target of a symbolic link; buf has 4096 bytes. */
	int (*readlink)(void *arg, uint32_t ino, char *buf, struct err *err);
	/* Makes a directory that is missing on the way. May be NULL: then it stays missing. */
	int (*mkdir)(void *arg, uint32_t parent, const char *name, size_t len, uint32_t *out,
		struct err *err);
};

/*
 * "/usr//./lib/../bin" to "usr/bin"; "" for the root. ".." is taken lexically here, as docker and
 * umoci do it with names in a tar; one that would leave the image is -EINVAL, parts of more than
 * 255 bytes are -ENAMETOOLONG. out is emptied first.
 */
int path_clean(const char *path, struct buf *out, struct err *err);
/* Where the last component of a cleaned path begins. */
const char *path_last(const struct buf *path);

/*
 * The node at path[0..len), seen from base, all symbolic links followed (at most 255, then
 * -ELOOP). *out is TREE_NONE when there is none; with mkdir, something that is no directory on
 * the way is -ENOTDIR.
 */
int path_walk(struct tree *t, const struct path_ops *ops, void *arg, uint32_t base,
	const char *path, size_t len, uint32_t *out, struct err *err);

#endif

/*
 * oci/apply.h - layers applied one over the other to a tree of names, as the OCI image
 * specification's "Image Layer Filesystem Changeset" says. What a file is made of goes to a sink;
 * nothing is written anywhere here. Blocks; one thread beside that of inflate.h.
 *
 * Names are taken as path.h says; symbolic links in the middle of one are followed, and missing
 * directories are made (root, 0755).
 */
#ifndef DROVER_OCI_APPLY_H
#define DROVER_OCI_APPLY_H

#include "oci/ext4.h"
#include "oci/layers.h"
#include "oci/tree.h"

/*
 * Who keeps the files. The numbers (ino) are the sink's; a name's node holds its number. Each
 * returns 0 or -errno; the message gets the file's name in front.
 */
struct apply_sink {
	/* A new object with one name; a directory's entries are only in the tree. */
	int (*add)(void *arg, const struct ext4_meta *m, uint64_t entry, uint32_t *ino,
		struct err *err);
	/* Data of the regular file added last, offsets rise; then its size. Both may be NULL. */
	int (*data)(void *arg, uint64_t offset, const void *data, size_t len, struct err *err);
	int (*end)(void *arg, uint64_t size, struct err *err);
	/* A directory is named again. */
	int (*set_meta)(void *arg, uint32_t ino, const struct ext4_meta *m, struct err *err);
	int (*link)(void *arg, uint32_t ino, struct err *err);
	int (*unlink)(void *arg, uint32_t ino, struct err *err);
	/* buf has 4096 bytes. */
	int (*readlink)(void *arg, uint32_t ino, char *buf, struct err *err);
};

/*
 * Applies all layers. root is the root directory's number. Progress may be NULL. Entries are
 * counted from 0 over all layers (`entry` above).
 */
int apply_layers(struct tree *tree, uint32_t root, const struct layer_src *layers, size_t n,
	const struct apply_sink *sink, void *arg, layers_progress_fn *progress, void *progress_arg,
	struct err *err);

#endif

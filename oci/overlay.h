/*
 * oci/overlay.h - disks that begin as a thin qcow2 above a raw disk that is never written again: a
 * disk built of an image, or that of a snapshot. Blocks, but only for links and small files; any one
 * thread.
 *
 * The raw disk is a hard link beside the overlay, "base-HEX.raw", so that nobody's deleting takes it
 * away from under a machine: not the image store's pruning, not the end of the machine that it came
 * from. How many links a built disk has tells the store whether it is in use. An overlay's header
 * names the base without a folder: the two move together, and copies of an overlay need a link of
 * their own (overlay_link()). There is never a second layer.
 */
#ifndef DROVER_OCI_OVERLAY_H
#define DROVER_OCI_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#define OVERLAY_BASE_PREFIX "base-"
#define OVERLAY_SUFFIX      ".qcow2"

/* Of a base, by the name of a file in the folder of a machine or a snapshot. */
bool overlay_is_base(const char *name);

/*
 * Makes the overlay `to`, which must not exist, above the raw disk `from`, and the base beside it;
 * size 0: as large as that one. -EOPNOTSUPP with the reason where there can be no such link; -EINVAL
 * for a size that is smaller.
 */
int overlay_create(const char *from, const char *to, uint64_t size, struct err *err);

/* Path of the base of the overlay at path, malloc'd; it may be missing. -EINVAL: it has none. */
int overlay_base(const char *path, char **out, struct err *err);
/* That what is written in the overlay can be used: -ENOENT names the base that is missing. */
int overlay_check(const char *path, struct err *err);

/* The base of the overlay `from` gets a name in the folder `dir`, too; one that has it is left. */
int overlay_link(const char *from, const char *dir, struct err *err);

/* Writes what the overlay `from` shows into the new raw file `to`. */
int overlay_flatten(const char *from, const char *to, struct err *err);

/* Removes the bases in dir that no overlay there (*.qcow2, also with .restore, .before, .part) has. */
void overlay_sweep(const char *dir);

#endif

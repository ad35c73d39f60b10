/*
 * oci/bundle-file.h - one file out of a folder or a tar, by its name there. Blocks. A tar is read
 * from its beginning for each; in one that is not compressed what is passed over is not read.
 */
#ifndef DROVER_OCI_BUNDLE_FILE_H
#define DROVER_OCI_BUNDLE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

/* size is the file's, the same in each call; -errno ends it. */
typedef int bundle_data_fn(void *arg, const void *data, size_t len, uint64_t size, struct err *err);

/* -ENOENT: it has no such file. name is relative, and has no "..". */
int bundle_file(const char *path, bool tar, const char *name, bundle_data_fn *fn, void *arg,
	struct err *err);
/* Its size alone. */
int bundle_file_size(const char *path, bool tar, const char *name, uint64_t *out, struct err *err);

#endif

/* oci/rawdisk.h - an image that ships one raw ext4 file and nothing else. Blocks. */
#ifndef DROVER_OCI_RAWDISK_H
#define DROVER_OCI_RAWDISK_H

#include "oci/layers.h"

/*
 * If the layers hold exactly one regular file beside directories, and it has an ext4 superblock or
 * lies in /disk (a KubeVirt containerDisk), writes it to out_fd (zeros as holes): *found is true then,
 * *size its size, and *format what the name of one in /disk says (FORMAT_BY_NAME: nothing). If not,
 * out_fd may have been written to. Other images are read no further than their second file.
 */
int raw_disk_copy(const struct layer_src *layers, size_t n, int out_fd,
	layers_progress_fn *progress, void *arg, bool *found, uint64_t *size,
	enum image_format *format, struct err *err);

/* Writes data at offset but for the 4 KiB blocks of it that are all zeros. */
int write_sparse(int fd, const void *data, size_t len, uint64_t offset, struct err *err);

#endif

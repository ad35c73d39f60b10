/*
 * oci/layers.h - the layers of an image flattened into one raw ext4 disk. Part of drover-image:
 * blocks, and uses a second thread for inflating. Sizes in bytes.
 *
 * Layers are tar streams as the OCI image specification ("Image Layer Filesystem Changeset") has
 * them: whiteouts, opaque directories and later layers replace what is below. Nothing of a layer
 * ever becomes a path of the host: names live in a tree in memory, data goes straight to blocks.
 */
#ifndef DROVER_OCI_LAYERS_H
#define DROVER_OCI_LAYERS_H

#include <stdbool.h>
#include <stdint.h>
#include "oci/feed.h"
#include "oci/image.h"

struct layer_src {
	const char *path;       /* of the blob; NULL: fd is read and stays open */
	int fd;                 /* a pipe, or a regular file, which is read from its beginning */
	const char *media_type; /* OCI or docker layer type; NULL: known by its magic */
	const char *diff_id;    /* "sha256:..." of the tar itself, checked; NULL: not checked */
	struct feed *feed;      /* fd is a regular file that still grows; NULL: it is whole */
};

/*
 * Whether media_type is a layer that this module can unpack: docker and OCI tar, gzip and zstd.
 * Whether the bytes are gzip, zstd or plain tar is read from their magic, as containerd does.
 */
bool layer_media_type_known(const char *media_type);

/* Bytes of compressed input taken, of all layers together. May be NULL. */
typedef void layers_progress_fn(void *arg, uint64_t done, uint64_t total);

struct disk_opts {
	uint64_t size_bytes;  /* of the filesystem; 0: first_bytes, doubled until the image fits */
	uint64_t first_bytes; /* 0: 8 GiB */
	uint64_t max_bytes;   /* bound of that doubling; 0: 1 TiB */
	const char *seed;     /* image digest: UUID and hash seed come from it */
	const char *label;    /* of the volume, at most 16 bytes are kept; NULL: none */
	layers_progress_fn *progress;
	void *arg;
};

enum disk_kind {
	DISK_BUILT, /* an ext4 made of the image's files */
	DISK_RAW    /* the image shipped one regular file, a raw ext4; out_fd is a copy of it */
};

struct disk_result {
	enum disk_kind kind;
	enum image_format format; /* DISK_RAW: what its name says; FORMAT_BY_NAME: nothing */
	uint64_t size_bytes;
	uint64_t used_bytes; /* DISK_BUILT: blocks in use, the journal among them */
	uint64_t files;      /* DISK_BUILT: inodes in use */
	char warning[256]; /* what could not be kept, e.g. an xattr of another system; "" if none */
};

/*
 * out_fd is an empty regular file, open for reading and writing; holes stay holes; the caller
 * fsyncs. On failure its content is undefined. The same layers, seed, label and size give the same
 * bytes. An image whose layers hold exactly one regular file beside directories, and whose file
 * has an ext4 superblock, is taken as it is (DISK_RAW; size_bytes is not applied): an image of
 * several files is never searched for disks.
 *
 * -ENOSPC: it does not fit size_bytes (or max_bytes); -EBADMSG: a layer is damaged or its diff_id
 * is another; -EINVAL: a layer is no tar, or asks for what must not be (names with ".." that leave
 * the image, ...); -ENOTSUP: a media type or a compression that is not known.
 */
int layers_build_disk(const struct layer_src *layers, size_t n, const struct disk_opts *opts,
	int out_fd, struct disk_result *out, struct err *err);

#endif

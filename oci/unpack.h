/*
 * oci/unpack.h - the layers of an image unpacked by a process of its own that has nothing but open
 * descriptors: the layers, where the result goes, and a pipe to us (oci/sandbox.h, closed). What it
 * says is taken as hostile, too. Part of drover-image: blocks. Times in ms.
 */
#ifndef DROVER_OCI_UNPACK_H
#define DROVER_OCI_UNPACK_H

#include "oci/extract.h"
#include "oci/layers.h"
#include "oci/look.h"

struct unpack_limits {
	uint64_t memory_bytes; /* of address space */
	uint64_t time_ms;
};
#define UNPACK_LIMITS_DEFAULT                                                                      \
	{                                                                                          \
		.memory_bytes = (uint64_t)1 << 30, .time_ms = 3600000                              \
	}

/*
 * As layers_build_disk() and extract_kernel_to(); the layers are regular files, by descriptor or
 * by path. -ETIMEDOUT: not done in time; -EIO: the process died, the message says how.
 */
int unpack_disk(const struct layer_src *layers, size_t n, const struct disk_opts *opts,
	const struct unpack_limits *limits, int out_fd, struct disk_result *out, struct err *err);
int unpack_kernel(const struct layer_src *layers, size_t n, const struct unpack_limits *limits,
	int kernel_fd, int initrd_fd, layers_progress_fn *progress, void *arg,
	struct kernel_files *out, struct err *err);
int unpack_look(const struct layer_src *layers, size_t n, const struct unpack_limits *limits,
	struct look *out, struct err *err);

/*
 * The same process started before there is anything to unpack, so that it never knew what its parent
 * learns afterwards (the credentials for a registry), and given layers that are still being fetched.
 */
struct unpacker;
#define UNPACKER_LAYERS_MAX 128
/* forget (may be NULL) is called in that process, to wipe what the parent knew before. */
typedef void unpack_forget_fn(void *arg);
int unpacker_start(struct unpacker **out, unpack_forget_fn *forget, void *arg, struct err *err);
/* Where the fetching part tells how far layer i is, i < UNPACKER_LAYERS_MAX. */
struct feed *unpacker_feed(struct unpacker *u, size_t i);
/*
 * Begins, once, and returns at once. layers by descriptors, those that are still fetched with a feed
 * of this unpacker's; of opts, size and seed count. -ENOTSUP: too many layers, or too long names.
 */
int unpacker_disk(struct unpacker *u, const struct layer_src *layers, size_t n,
	const struct disk_opts *opts, const struct unpack_limits *limits, int out_fd,
	struct err *err);
/*
 * Waits, from now on as long as the limits say; opts' progress is called. All layers have been
 * fetched. -ESTALE: one had to be fetched a second time, so that nothing came of it.
 */
int unpacker_result(struct unpacker *u, struct disk_result *out, struct err *err);
void unpacker_stop(struct unpacker *u); /* takes NULL */

/* Runs fn in such a process, for the tests of it; fn's return and err are handed on. */
typedef int unpack_fn(void *arg, struct err *err);
int unpack_run(const struct unpack_limits *limits, const int *fds, size_t n, unpack_fn *fn,
	void *arg, struct err *err);

#endif

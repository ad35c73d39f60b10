/*
 * oci/convert.h - a disk in another format made raw, by qemu-img in a sandbox of its own. The
 * formats are the caller's word; what the files say of other files is not followed. Part of
 * drover-image: blocks.
 */
#ifndef DROVER_OCI_CONVERT_H
#define DROVER_OCI_CONVERT_H

#include "oci/image.h"
#include "oci/unpack.h"

/* One file of a chain, each above the next. */
struct convert_file {
	const char *path; /* absolute */
	enum image_format format;
};

struct convert_spec {
	const struct convert_file *files;
	size_t n;
	uint64_t max_bytes; /* of the disk, as the guest sees it */
	const struct unpack_limits *limits;
	layers_progress_fn *progress;
	void *arg;
};

/*
 * Makes the raw disk at the path `to`, where nothing is yet: zeros are holes, and it is synced.
 * -EINVAL: it has a backing file that the chain does not name, or names other files; -EFBIG.
 */
int convert_disk(const struct convert_spec *spec, const char *to, struct err *err);

#endif

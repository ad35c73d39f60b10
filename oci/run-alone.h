/*
 * oci/run-alone.h - a program of the system that parses what came from outside, run in a sandbox of
 * its own (oci/sandbox.h, alone): it sees the files that it is given, and nothing else. Part of
 * drover-image: blocks.
 */
#ifndef DROVER_OCI_RUN_ALONE_H
#define DROVER_OCI_RUN_ALONE_H

#include "lib/str.h"
#include "oci/sandbox.h"
#include "oci/unpack.h"

struct run_alone {
	char *const *argv;                /* argv[0] is found by PATH */
	const struct sandbox_path *paths; /* files, by absolute path */
	size_t n;
	const struct unpack_limits *limits;
	uint64_t file_bytes; /* of what it writes; 0: nothing to be bounded */
	/* What it writes to standard output, as it comes; NULL: it is kept in *out. */
	void (*said)(void *arg, const char *data, size_t len);
	void *arg;
};

/*
 * out may be NULL. -ENOENT: it is not installed; -ETIMEDOUT; -EIO: it failed, err has the last line
 * of what it said.
 */
int run_alone(const struct run_alone *spec, struct buf *out, struct err *err);

#endif

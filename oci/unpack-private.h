/* oci/unpack-private.h - what unpack.c and unpack-ahead.c share: see oci/unpack.h. */
#ifndef DROVER_OCI_UNPACK_PRIVATE_H
#define DROVER_OCI_UNPACK_PRIVATE_H

#include <sys/types.h>
#include "oci/unpack.h"

/* Written in one go, at most PIPE_BUF. */
struct unpack_message {
	enum {
		MSG_PROGRESS,
		MSG_RESULT
	} kind;
	int code; /* of a result: 0 or -errno */
	uint64_t done, total;
	char text[ERR_MSG_MAX];
	union {
		struct disk_result disk;
		struct kernel_files kernel;
		struct look look;
	} result;
};
_Static_assert(sizeof(struct unpack_message) <= 4096, "a pipe takes it in one piece");

#define UNPACK_FDS_MAX 1040 /* as many layers as a manifest may have, and then some */

struct unpack_job {
	const struct unpack_limits *limits;
	int fds[UNPACK_FDS_MAX]; /* all that the process keeps */
	size_t n;
	/* In the process. */
	int (*run)(struct unpack_job *j, struct unpack_message *m, struct err *err);
	layers_progress_fn *progress;
	void *arg;
	int pipe; /* the end that is ours, in the one process or the other */

	struct layer_src *layers;
	size_t nlayers;
	struct disk_opts disk;
	int out[2];
	unpack_fn *fn;
	void *fn_arg;
};

/* In the process: closes all but the job's descriptors and the pipe. */
void unpack_close_others(struct unpack_job *j);
/* In the process: the job, in the sandbox. */
_Noreturn void unpack_child(struct unpack_job *j, pid_t parent);
int unpack_run_disk(struct unpack_job *j, struct unpack_message *m, struct err *err);
/* In ours: takes the messages until the result, or the limit of time, and ends the process. */
int unpack_follow(struct unpack_job *j, pid_t pid, struct unpack_message *m, struct err *err);

#endif

/*
 * supervisor/image-job.h - runs of drover-image, shared: who asks for what is already under way
 * joins it. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_IMAGE_JOB_H
#define DROVER_SUPERVISOR_IMAGE_JOB_H

#include <jansson.h>
#include "supervisor/drover.h"

/* Embedded by who waits. */
struct image_sub {
	struct list entry;
	/* A line of progress, as drover-image wrote it (oci/image.h). May be NULL. It may take any
	 * subscriber out, itself too. */
	void (*line)(void *arg, const char *line);
	/* Exactly once; result is the "done" object, NULL with err. */
	void (*done)(void *arg, const json_t *result, const struct err *err);
	void *arg;
	struct image_job *job; /* while it waits for one */
};

enum image_verb {
	IMAGE_PULL,
	IMAGE_KERNEL,
	IMAGE_ROOTFS
};

/* policy: enum pull_policy; size 0: the default. Waits for the registry that the image goes
 * through. On failure nothing was begun. */
int image_job_ref(struct drover *d, enum image_verb verb, const char *ref, int policy,
	uint64_t size, struct image_sub *sub, struct err *err);
/* The same for a disk; unshared: of this size only where copies of it cannot share its blocks. */
int image_job_rootfs(struct drover *d, const char *ref, int policy, uint64_t size, bool unshared,
	struct image_sub *sub, struct err *err);
/* What a job that may pull is told beside: mirrors, credentials, limits. */
void image_pull_args(struct drover *d, struct strv *args);
/* Any other call, not shared: args without the program. */
int image_job_args(
	struct drover *d, const struct strv *args, struct image_sub *sub, struct err *err);
/* The job goes on; done does not fire. */
void image_unsub(struct image_sub *sub);
/* Of image_job_args(): kills it; done fires, unless it had ended well, with -ECANCELED. */
void image_cancel(struct image_sub *sub);
/* Ends all jobs under way; for the daemon's end. */
void image_jobs_stop(struct drover *d);

#endif

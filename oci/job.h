/*
 * oci/job.h - the verbs of drover-image, one function each. They report what they did, and the
 * error that ended them, on standard output (oci/progress.h).
 */
#ifndef DROVER_OCI_JOB_H
#define DROVER_OCI_JOB_H

#include "oci/bundle.h"
#include "oci/clone.h"
#include "oci/download.h"
#include "oci/index.h"
#include "oci/progress.h"
#include "oci/prune.h"
#include "oci/registry.h"
#include "oci/sandbox.h"
#include "oci/unpack.h"

enum pull_policy {
	PULL_MISSING, /* what the store has is not asked for again */
	PULL_ALWAYS,  /* the registry is asked what the tag names now */
	PULL_NEVER
};

struct job_opts {
	const char *store;
	struct strv refs;
	struct registry_conf registry;
	struct platform platform;
	enum pull_policy policy;
	uint64_t size;                  /* of a disk; 0: by default */
	uint64_t size_if_copied;        /* likewise, unless copies can share its blocks */
	const char *name;               /* that an imported image gets; NULL: its own */
	const char *from, *to, *inject; /* to: the copy, or the disk to inject into */
	struct unpack_limits limits;
	struct prune_limits prune; /* of prune; of a pull, what it may not exceed */
	uint64_t max_bytes;        /* of an image that is one file, and of the disk made of it */
	bool look_only; /* image_resolve(): what an image that is one file is now, without taking it */
	/* Of a clone: how it is to be made; `to` in place of which an overlay would be made. */
	bool method_given;
	enum clone_method method;
	const char *overlay; /* NULL: none is */
	bool qcow2;          /* the disk to inject into is an overlay */
	const char *flatten; /* in place of which this is made where that must be; or NULL */
	bool no_sync;        /* the clone need not outlive a crash of the host */
	/* Of the relay (oci/relay.h). */
	int listen_fd;
	const char *upstream, *spool;
	/* Of cache-prune. */
	const char *storage;
	bool dry_run;
};

/* Returns 0 or -errno. */
typedef int job_fn(const struct job_opts *o);
job_fn job_pull, job_kernel, job_rootfs, job_clone, job_flatten, job_inject, job_list, job_rm,
	job_prune, job_relay, job_cache_prune, job_prefetch, job_sandbox_report, job_inspect,
	job_verify, job_outdated, job_import, job_export;

/* oci/sandbox.h for a process of drover-image; a kernel without Landlock is told of at the log's
 * debug level, and by the verb sandbox. */
int job_sandbox(const struct sandbox_path *paths, size_t n, bool network, struct err *err);
/* For the store of the job, which is made if it is not there, and its credentials. */
int job_sandbox_store(const struct job_opts *o, bool network, struct err *err);

/* One image of the job: its manifest and config are in the store once image_resolve() succeeded. */
struct image {
	const struct job_opts *opts;
	struct store *store;
	const char *name; /* as given */
	struct image_ref ref;
	char *canonical;
	struct registry *registry; /* NULL until it was needed */
	struct bundle *bundle;     /* likewise, of an image in files */
	struct index_entry entry;
	struct manifest manifest;
	struct image_config config;
	struct progress progress;
	bool wants_disk; /* an unpacking process is to be started before the registry is asked */
	struct ahead *ahead; /* that process; NULL as long as nothing had to be asked */
	bool came;           /* all of it, while it was resolved: oci/source.h */
	uint64_t came_bytes; /* until now */
};

int image_open(struct image *im, const struct job_opts *o, struct store *s, const char *name,
	struct err *err);
void image_close(struct image *im);
/* Finds out the manifest: in the store or, as the policy says, from the registry. */
int image_resolve(struct image *im, struct err *err);
/* Fetches the layers that the store lacks. */
int image_fetch(struct image *im, struct err *err);
/* -ENOSPC: the store's filesystem has not so many bytes left. */
int image_check_space(struct image *im, uint64_t need, struct err *err);
/*
 * -EDQUOT: an image of so many bytes does not fit the budget, once all is gone that may go; the store is
 * pruned by who asked for it.
 */
int image_check_budget(const struct image *im, uint64_t bytes, struct err *err);
/* How many bytes an image may have, by that; UINT64_MAX: any. */
int image_budget_room(const struct image *im, uint64_t *out, struct err *err);
/* Forgets the registry, and the credentials for it. */
void image_disconnect(struct image *im);
/* struct image's progress in arg. */
void image_on_build(void *arg, uint64_t done, uint64_t total);

/* oci/job-ahead.c: the disk made while the layers are fetched. */
int ahead_start(struct image *im, struct err *err);
/* That the disk with this key is what the layers are fetched for. */
void ahead_expect(struct image *im, const char *key);
/* Begins with it if that is possible; d has not been run yet. */
void ahead_begin(struct image *im, struct download *d);
/* With all layers in the store: 1: the disk is there, too; 0: it has to be made; -errno. */
int ahead_finish(struct image *im, struct err *err);
/* Leaves nothing of a disk that was not finished. */
void ahead_close(struct image *im);

/* Its layers, in the store. */
int image_sources(const struct image *im, struct layer_src **out, struct err *err);
void image_sources_free(struct layer_src *src, size_t n);
/* Pins the reference to what was found. */
int image_record(struct image *im, struct err *err);
/* The event "done" with what every verb tells; the verb adds to it. */
json_t *image_done(const struct image *im);

/*
 * Runs each for every reference, in order, until one fails; afterwards removes what dead processes
 * left in the store.
 */
typedef int image_fn(struct image *im, struct err *err);
int job_each_image(const struct job_opts *o, image_fn *each);

#endif

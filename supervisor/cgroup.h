/*
 * supervisor/cgroup.h - a cgroup (v2) below a delegated tree, its limits and what the kernel tells
 * of it (Linux, Documentation/admin-guide/cgroup-v2.rst). Small files of the kernel's that do not
 * block. Loop thread. Sizes in bytes.
 *
 * With DROVER_CGROUP_FAKE=1 in the environment an ordinary folder counts as such a tree: for tests
 * on hosts without controllers. Without it nothing but cgroup2 does, so that no limit is only
 * written into a file.
 */
#ifndef DROVER_SUPERVISOR_CGROUP_H
#define DROVER_SUPERVISOR_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/err.h"

/* Of contrib/systemd/drover-machines.service: a service, because a slice cannot be delegated. */
#define CGROUP_DEFAULT_ROOT                                                                        \
	"/sys/fs/cgroup/drover.slice/drover-machines.slice/drover-machines.service"

/* 0: none, or the kernel's default. */
struct cgroup_limits {
	uint64_t memory;                /* memory.max */
	bool memory_if_possible;        /* without its controller it is no failure */
	uint64_t memory_high;           /* memory.high */
	uint64_t cpu_percent;           /* of one processor: cpu.max */
	uint64_t cpu_weight, io_weight; /* 1 to 10000 */
	uint64_t pids;                  /* pids.max */
	/* io.max of one device. major 0: none is known; then limits are a failure. */
	struct cgroup_io {
		unsigned major, minor;
		uint64_t read_bytes, write_bytes, read_ops, write_ops; /* a second */
	} io;
};

/*
 * The whole disk that a file lies on, or that it is. -ENODEV: none, because the filesystem has no
 * block device of its own (overlayfs, tmpfs, btrfs). sys: /sys, but for tests.
 */
int cgroup_io_device(const char *sys, const char *path, unsigned *out_major, unsigned *out_minor,
	struct err *err);

/*
 * Whether cgroups can be made in root; hands its controllers down to them. -ENOENT, -ENOTSUP (no
 * cgroup2), -EACCES.
 */
int cgroup_prepare_root(const char *root, struct err *err);
/* One that is empty. One of this name without processes is made anew: it counts from 0. */
int cgroup_make(const char *path, struct err *err);
/*
 * Writes all limits, also those that are none any more. The error is of the first that could not
 * be set, and the others are set all the same.
 */
int cgroup_set(const char *path, const struct cgroup_limits *limits, struct err *err);
bool cgroup_has(const char *path, pid_t pid);

/* What memory.events counts; all 0 where there is no such file. */
struct cgroup_memory_events {
	uint64_t oom_kills; /* processes that were killed, for whatever lack of memory */
	uint64_t ooms;      /* times that the cgroup's own limit could not be kept otherwise */
	uint64_t max;       /* memory.max; 0: none */
};
void cgroup_memory_events(const char *path, struct cgroup_memory_events *out);
/* Times that pids.max kept a thread or a process from being made (pids.events). */
uint64_t cgroup_pids_refused(const char *path);

/*
 * Removes it, and kills what is left in it (cgroup.kill). done exactly once, not before this
 * returns; err NULL: it is gone. Returns -ENOMEM (then done does not fire).
 */
int cgroup_remove(uv_loop_t *loop, const char *path, void (*done)(void *arg, const struct err *err),
	void *arg);

#endif

/*
 * hv/qemu-probe.h - what a QEMU binary can do, asked of itself: features are probed, never assumed
 * from a version. Loop thread.
 *
 * Asking takes a process and about 0.2 s, so the answers are kept, in memory and in a file, for as
 * long as path, inode, ctime and the host's kernel are the same: a start finds them there.
 */
#ifndef DROVER_HV_QEMU_PROBE_H
#define DROVER_HV_QEMU_PROBE_H

#include <stdbool.h>
#include <uv.h>
#include "lib/err.h"

/* One binary's answers; they do not change. */
struct qemu_probe;

enum qemu_set {
	QEMU_MACHINES,     /* "q35", "microvm": names and aliases (query-machines) */
	QEMU_DEVICES,      /* "vhost-user-fs-pci" (qom-list-types) */
	QEMU_COMMANDS,     /* of QMP: "snapshot-save" */
	QEMU_CAPABILITIES, /* of migration: "mapped-ram", "x-ignore-shared" */
	QEMU_OPTIONS,      /* of the command line: "run-with", "run-with.chroot" */
	QEMU_SETS
};
bool qemu_probe_has(const struct qemu_probe *p, enum qemu_set set, const char *name);
/* 70200 for 7.2.0; "7.2.22". */
unsigned qemu_probe_version(const struct qemu_probe *p);
const char *qemu_probe_version_text(const struct qemu_probe *p);
/* `migrate` takes "file:" (QEMU 8.2); mapped-ram is a capability of its own (9.0). */
bool qemu_probe_migrates_to_file(const struct qemu_probe *p);

/* The probes of all binaries. */
struct qemu_prober;

/* Reads cache_path if it is there; a file that cannot be read is as good as none. */
int qemu_prober_create(
	struct qemu_prober **out, uv_loop_t *loop, const char *cache_path, struct err *err);
/* NULL: it is not known (now, or any more); good until the loop's next turn. */
const struct qemu_probe *qemu_prober_known(struct qemu_prober *q, const char *binary);
/*
 * Asks it, unless it is known; two who ask at once share one process. done fires exactly once, not
 * before this returns; p is NULL with err.
 */
typedef void qemu_probe_fn(void *arg, const struct qemu_probe *p, const struct err *err);
void qemu_prober_ask(struct qemu_prober *q, const char *binary, qemu_probe_fn *done, void *arg);
/* Those that were asked with this arg: done does not fire any more. True: there were some. */
bool qemu_prober_forget(struct qemu_prober *q, const void *arg);
/* Nobody may be waiting any more but by forgotten asks. Takes NULL. */
void qemu_prober_destroy(struct qemu_prober *q);

#endif

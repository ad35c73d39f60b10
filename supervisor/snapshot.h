/*
 * supervisor/snapshot.h - what a snapshot is on disk: a folder with manifest.json, the files of its
 * disks and, if it has the guest's memory, what hv_save() made. It is made under a name that ends in
 * ".tmp" and renamed when it is whole and on disk; who starts removes what still has such a name.
 *
 * manifest: {version, name, vm, created, description|null, kind: "full"|"disks"|"suspend"|"warm",
 *   consistency: "memory"|"frozen"|"stopped"|"crash", running (the guest ran, and shall),
 *   hypervisor, hypervisor_version ("QEMU 7.2.9"), binary, accel, host_cpu, config: {KEY: VALUE},
 *   macs (of the nics, in their order),
 *   files: [{name, size, allocated, mtime_ns, sha256|null, disk (its id), path (of the machine's
 *   file)}]}
 * A file of at most SNAPSHOT_DIGEST_MAX bytes has a digest; of a larger one size and time of
 * modification have to do, or each restore would read all of it twice. A file without a name is the
 * machine's own, which must not have changed since (suspend).
 *
 * Functions marked "pool" may take long; they belong into a thread.
 */
#ifndef DROVER_SUPERVISOR_SNAPSHOT_H
#define DROVER_SUPERVISOR_SNAPSHOT_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct stat;
struct vm_config;

#define SNAPSHOT_DISKS_MAX  32
#define SNAPSHOT_ID_MAX     80
#define SNAPSHOT_DIGEST_MAX (64ull << 20)
#define SNAPSHOT_MANIFEST   "manifest.json"

/* A file of a machine that belongs to it and is written to. */
struct snapshot_disk {
	char id[SNAPSHOT_ID_MAX]; /* "disk0", "volume-data", "vars.fd", "tpm": its name in the folder */
	char *path;
	bool disk;   /* and not what the firmware or the TPM keeps */
	bool cloned; /* in the snapshot already */
};

struct snapshot_disks {
	struct snapshot_disk v[SNAPSHOT_DISKS_MAX];
	size_t n;
};
void snapshot_disks_finish(struct snapshot_disks *d);

/* Its manifest; -ENOENT, or what is wrong with it. */
int snapshot_read(const char *dir, json_t **out, struct err *err);
/* Array of what `drover snapshot list` shows, oldest first; folder: .../snapshots. */
json_t *snapshot_list(const char *folder);
/* The same of one. */
json_t *snapshot_summary(const json_t *manifest);
/* The entry of a file of the manifest for a disk; NULL: there is none. */
const json_t *snapshot_file_of(const json_t *manifest, const char *disk);
bool snapshot_has_memory(const json_t *manifest);

/*
 * -EINVAL with the sentence that tells what does not match: keys of the configuration that shape the
 * machine, the host's processor. It is looked at before anything is touched.
 */
int snapshot_check_config(const json_t *manifest, const struct vm_config *cfg, struct err *err);
/* The first line of `BINARY --version` against the manifest. */
int snapshot_check_version(const json_t *manifest, const char *line, struct err *err);
/* Whether the files are there, in their size and with their time. Quick. */
int snapshot_check_files(const char *dir, const json_t *manifest, struct err *err);
/* pool: and with their digests. */
int snapshot_verify(const char *dir, const json_t *manifest, struct err *err);

/*
 * pool: copies the disks into dir (shared blocks where the filesystem can). With reflink_only those
 * that cannot be cloned at once are left, and `cloned` tells. -ECANCELED once *cancel is true.
 */
int snapshot_copy_disks(struct snapshot_disks *disks, const char *dir, bool reflink_only,
	const atomic_bool *cancel, struct err *err);
struct snapshot_early;
/*
 * pool: adds `files` to the manifest, writes it, and sees everything onto the disk. early (may be
 * NULL): what has been looked at already.
 */
int snapshot_seal(const char *dir, json_t *manifest, const struct snapshot_disks *disks,
	const struct snapshot_early *early, struct err *err);
/* pool: gives it its name, for good. */
int snapshot_commit(const char *tmp, const char *dir, struct err *err);

/* pool: "sha256:..." into out, of DIGEST_MAX bytes. */
int snapshot_digest(const char *path, char *out, struct err *err);
/* What a manifest tells of the time of modification. */
int64_t snapshot_mtime_ns(const struct stat *st);

/* The processor's name, for /proc/cpuinfo; "" where it has none. */
const char *snapshot_host_cpu(void);

#endif

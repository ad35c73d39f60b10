/*
 * supervisor/warm.h - warm images: what is kept of a machine that was frozen when it was ready, for
 * others to begin with. Each is a folder state_dir/warm/NAME/NUMBER, of which the highest number is
 * the newest; it is made under a name that ends in ".tmp" and renamed when it is whole.
 *
 * In it: `ram`, the guest's memory, which every machine maps copy-on-write and nobody writes to;
 * `memory`, the devices (hv_save()); the disks; and manifest.json (supervisor/snapshot.h, kind
 * "warm") with, besides, `inputs`: [{path, size, mtime_ns}] of the files that it was made from, and
 * `drover`: the version.
 *
 * An image goes once it is neither its template's newest nor that of a machine that has not become
 * itself yet. A hypervisor that has mapped the memory keeps it beyond that, as any mapped file.
 * Loop thread; "pool" as in supervisor/snapshot.h.
 */
#ifndef DROVER_SUPERVISOR_WARM_H
#define DROVER_SUPERVISOR_WARM_H

#include <jansson.h>
#include <stdbool.h>
#include "lib/err.h"

#define WARM_DIR "warm"
#define WARM_RAM "ram"

struct drover;
struct machine;
struct vm_config;

/* state_dir/warm/NAME; malloc'd, or NULL. */
char *warm_folder(const struct drover *d, const char *name);
/* The newest one in that folder; malloc'd, NULL: there is none. */
char *warm_newest(const char *folder);
/* The version and the files that t's run was made from, into its manifest. */
void warm_describe(const struct machine *t, json_t *manifest);
/*
 * The image that a machine which is configured as cfg can begin with: 0 with *dir and *manifest.
 * -ENOENT: there is none; -ESTALE: what there is was made from something else than t is now; err
 * says what. -EINVAL: it is good, but not for cfg.
 */
int warm_find(const struct machine *t, const struct vm_config *cfg, char **dir, json_t **manifest,
	struct err *err);
/* Whether t has one, as it is now. */
int warm_check(const struct machine *t, const char *dir, const json_t *manifest, struct err *err);

/* Removes what nobody needs, in the pool. At the start also what is unfinished. */
void warm_sweep(struct drover *d, bool at_start);

/* Whether the memory of what lies there is a file to be mapped, and no part of the stream. */
bool warm_has_ram(const char *dir);
/* Removes one that could not be loaded. */
void warm_drop(struct drover *d, const char *image);

#endif

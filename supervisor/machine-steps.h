/* supervisor/machine-steps.h - the steps of a start that have a file of their own. Loop thread. */
#ifndef DROVER_SUPERVISOR_MACHINE_STEPS_H
#define DROVER_SUPERVISOR_MACHINE_STEPS_H

#include <stdatomic.h>
#include "supervisor/machine.h"

/* Every step ends in this, once: on to the next one, or err and the start has failed. */
void machine_start_next(struct machine *m, const struct err *err);

/* Network, MAC and TAP of each nic, as the configuration has them; a known subnet stays. */
int machine_set_nics(struct machine *m, struct err *err);
/*
 * The first step, in this turn of the loop or a later one: only so many begin in each
 * (machine-begin.c). Until then the machine is in d->begin_queue.
 */
void machine_begin_steps(struct machine *m);

void machine_step_keys(struct machine *m);   /* machine-keys.c */
void machine_step_kernel(struct machine *m); /* machine-disk.c */
void machine_step_rootfs(struct machine *m);
void machine_step_disk(struct machine *m);
/*
 * machine-overlay.c: how its own disk is made, and what it is then, by its name.
 */
#define MACHINE_DISK    "disk.raw"
#define MACHINE_OVERLAY "disk.qcow2"
enum hv_disk_format machine_disk_format(const struct machine *m);
/* A disk of the user's that is used as it is; one in another format is an image to be made raw. */
bool machine_is_raw_path(const char *rootfs);
/* Whether disks of it may be overlays, where there is something for them to lie above. */
bool machine_may_overlay(const struct vm_config *cfg);
/* drover-image's options for the run's clone. */
void machine_clone_args(const struct machine *m, struct strv *args);
/* The one that is in dir, malloc'd; NULL: there is none. */
char *machine_find_disk(const char *dir);
bool machine_is_own_disk(const char *name);
/* The path of the other kind beside one of these, malloc'd. */
char *machine_other_disk(const char *path);
void machine_add_other_disk(const char *path, struct strv *args);
/* That one goes. */
int machine_drop_other_disk(const char *path, struct err *err);
/* The file of a saved state may have been replaced by the other kind before that was saved. */
void machine_find_flattened(struct machine *m);
/* The run's hypervisor takes no overlay: drover-image is to write the disk out. */
bool machine_must_flatten(const struct machine *m);
void machine_flatten_args(const struct machine *m, struct strv *args);
/* -ENOENT names what the disk lies above and is gone. */
int machine_check_overlay(const struct machine *m, struct err *err);
/* If it is an overlay, what it lies above gets a name in dir. */
int machine_link_base(const char *overlay, const char *dir, struct err *err);
/* The same for those of a manifest's files, which are in the folder `from`. */
int machine_link_bases(const char *from, const json_t *files, const char *dir, struct err *err);
/* {format, backing, virtual_size} of its disk, or null. */
json_t *machine_layers_json(const struct machine *m);

/*
 * pool: the disk of a snapshot or a warm image, which nobody writes, becomes `to`, or an overlay above
 * it beside that: *made is which, malloc'd.
 */
int machine_take_disk(const struct vm_config *cfg, const char *from, const char *to,
	const atomic_bool *cancel, char **made, struct err *err);

/* What is no plain file or block device cannot be a disk, and a FIFO would be waited for for ever. */
int machine_check_file(const char *path, struct err *err);
/* -EBUSY names the machine that has it as a disk, when one of the two writes (machine-file.c). */
int machine_file_free(const struct machine *m, const char *path, bool readonly, struct err *err);
/* The start is cancelled while m->image_busy. */
void machine_cancel_image(struct machine *m);
void machine_step_cgroup(struct machine *m); /* machine-cgroup.c */

/* machine-volume.c: the volumes that are missing are made. */
void machine_step_volumes(struct machine *m);
/* Those of the run, all with a path; the caller finishes the first *n, also after an error. */
int machine_volumes(const struct machine *m, struct volume *out, size_t *n, struct err *err);
/* Where the volume of that name lies; malloc'd. */
#define VOLUME_PREFIX "volume-"
char *machine_volume_path(const struct machine *m, const char *name, enum hv_disk_format format);
/* What machine_throw_away() left when the host crashed goes before a run begins. */
void machine_throw_away_stale(struct machine *m);
/* Whether there are volumes in its folder. */
bool machine_has_volumes(const struct machine *m);
/* machine-firmware.c: what it boots by, and the variables of its own. */
void machine_step_firmware(struct machine *m);

/* machine-hardware.c: disks, boot order and what else is plugged in. */
int machine_spec_hardware(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err);

/* machine-probe.c: whether QEMU can do it; waits for an answer only where one is not known. */
void machine_step_probe(struct machine *m);
/* The hypervisor's program, malloc'd (machine-hv.c). */
int machine_binary(const struct machine *m, char **out, struct err *err);
const char *machine_board_name(const struct vm_config *cfg); /* "q35" */

/* Whether the host's kernel moves the packets of its nics (machine-hardware.c). */
bool machine_vhost(const struct machine *m);
int machine_check_vhost(const struct machine *m, struct err *err);

/* machine-helpers.c: swtpm, virtiofsd, the vsock address. */
void machine_step_helpers(struct machine *m);
int machine_spec_helpers(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err);
void spec_hold_finish_helpers(struct spec_hold *hold);
/* Watches those that an earlier daemon started. */
void machine_helpers_adopt(struct machine *m);
/* The one that the ledger knows by this name; NULL: none is watched. */
struct service **machine_helper_find(struct machine *m, const char *name);
/* Lets go of them; those that run live on. */
void machine_helpers_release(struct machine *m);

/*
 * Copies from (NULL: `to` with ".part" behind it is there already) to a file that is whole or not
 * there, and outlives the host's crash; in the thread pool. Ends in done, with m->attaching set
 * until then.
 */
int machine_publish(struct machine *m, const char *from, const char *to,
	void (*done)(struct machine *m, const struct err *err), struct err *err);

/* The public line of a [key] section; what is generated was generated by the step. */
int key_public(struct drover *d, const struct key_config *key, struct buf *out, struct err *err);
/* A value of the running configuration with its {{references}} put in. */
int machine_expand(struct machine *m, const char *value, char **out, struct err *err);

#endif

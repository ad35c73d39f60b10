/*
 * supervisor/migrate-disks.h - the disks of a machine that migrates with them: those that lie in its
 * folder. The target makes empty ones and has its hypervisor serve them; the source's writes them,
 * through connections between the two droverds (supervisor/tunnel.h) that begin with an id of their
 * own. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_MIGRATE_DISKS_H
#define DROVER_SUPERVISOR_MIGRATE_DISKS_H

#include <jansson.h>
#include "supervisor/hardware.h"

struct machine;
struct migrate_out;
struct migrate_in;

#define MIGRATE_DISKS_MAX (VOLUMES_MAX + 1)

struct migrate_disks {
	unsigned n;                     /* 0: all disks are shared */
	unsigned reached;               /* at the source: connections that there are */
	unsigned made;                  /* at the target: files */
	char key[32 + 1];               /* who says it may write them; "": not known yet */
	char ids[MIGRATE_DISKS_MAX][8]; /* of the devices */
	const char *names[MIGRATE_DISKS_MAX];
};

/* Those that body (the prepare) says are copied; ids have been checked. */
void migrate_disks_read(struct migrate_disks *d, const json_t *body);

/* ---- the source ---- */
/* place: of the device; volume: its name, or NULL for the machine's first disk. */
void migrate_add_copy(json_t *array, unsigned place, const char *volume, enum hv_disk_format format,
	const char *path);
/* One more connection is there: fd, taken over. When it was the last the hypervisor can come. */
int migrate_disk_reached(struct migrate_out *o, int fd, struct err *err);
/* Where the hypervisor finds them; malloc'd. */
char *migrate_nbd_path(const struct machine *m);

/* ---- the target ---- */
int migrate_check_copy(const json_t *j, struct err *err);
/*
 * Makes them, empty, once the machine has its section; disks that lie there of an earlier stay are put
 * aside. done comes once, never from within this, with migrate_came_back() to be called.
 */
void migrate_make_disks(
	struct migrate_in *in, void (*done)(struct migrate_in *in, const struct err *err));
/* Has the hypervisor serve them; done as of hv.h. */
int migrate_serve_disks(
	struct migrate_in *in, void (*done)(void *arg, const struct err *err), struct err *err);
/* Somebody wants to write one: fd is taken over. */
void migrate_disk_wanted(struct migrate_in *in, int fd);
/*
 * made: the machine runs here, and what was put aside goes. Or it does not, and that comes back. done
 * comes unless this fails (-errno) or the migration is let go of; never from within this.
 */
int migrate_keep_disks(struct migrate_in *in, bool made, void (*done)(struct migrate_in *in));

#endif

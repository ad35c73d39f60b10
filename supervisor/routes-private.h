/* supervisor/routes-private.h - what the files of routes share. The API is in routes.h. */
#ifndef DROVER_SUPERVISOR_ROUTES_PRIVATE_H
#define DROVER_SUPERVISOR_ROUTES_PRIVATE_H

#include "supervisor/machine.h"
#include "supervisor/routes.h"

/* routes.c */
/* The machine that the path names; NULL: there is none, and the request was answered. */
struct machine *route_machine(struct drover *d, struct request *rq);
/* -ENOENT, with the nearest name that there is. */
int route_no_machine(struct drover *d, const char *name, struct err *err);
/* As reply_err(), for what went wrong with m. */
void route_machine_err(struct request *rq, const struct machine *m, const struct err *err);
/*
 * -EACCES unless the client is root or droverd's own user: for what opens files of the host, which a
 * member of the group could not open himself. what: "add a file of the host to a machine".
 */
int route_owner_only(const struct request *rq, const char *what, struct err *err);
/* ?name=1 (yes, true). false: it makes no sense, and the request was answered. */
bool route_flag(struct request *rq, const char *name, bool *out);

/* routes-operation.c */
/*
 * Answers with op, at once or, as ?wait= says, when it has ended. as_resource: a failed operation
 * is an answer like any other, not an error.
 */
void route_operation(struct drover *d, struct request *rq, struct operation *op, bool as_resource);
route_fn route_operations, route_operation_show, route_operation_cancel;

/* routes-vm.c */
route_fn route_vms, route_vm, route_vm_why, route_vm_rm, route_vm_qmp, route_vm_ch;
route_fn route_vm_start, route_vm_stop, route_vm_kill, route_vm_restart, route_vm_pause,
	route_vm_resume, route_vm_suspend;

/* routes-clone.c */
route_fn route_vm_clone;

/* routes-migrate.c */
route_fn route_vm_migrate, route_migrations, route_migration, route_migration_prepare,
	route_migration_commit, route_migration_abort, route_migration_farewell;

/* routes-snapshot.c */
route_fn route_snapshots, route_snapshot, route_snapshot_create, route_snapshot_restore,
	route_snapshot_rm;

/* routes-device.c */
route_fn route_vm_reset, route_vm_nmi, route_vm_dump, route_vm_resize, route_vm_disk_add,
	route_vm_disk_remove, route_vm_nic_add, route_vm_nic_remove, route_vm_counters,
	route_vm_screendump;

/* routes-stream.c */
route_fn route_vm_log, route_events;

/* routes-console.c */
route_fn route_vm_console, route_vm_console_type;

/* routes-doctor.c */
route_fn route_doctor, route_doctor_fix;

/* routes-image.c */
route_fn route_images, route_image_rm, route_image_pull;
/* -EACCES for an image in files of the host, unless the client may name those. */
int image_reference_allowed(const struct request *rq, const char *reference, struct err *err);

/* Runs drover-image and answers with its lines as they come; what: named in the last if it dies. */
void image_stream_job(
	struct drover *d, struct request *rq, const char *what, const struct strv *args);

/* routes-image-file.c */
route_fn route_image_import, route_image_export;

/* routes-image-look.c */
route_fn route_image_prune, route_image_verify, route_image_outdated, route_image_inspect;

/* routes-network.c */
route_fn route_networks, route_network, route_ca;

#endif

/*
 * hv/qemu-row.h - commands to QEMU one after the other; when one fails, those before it are taken
 * back. Private to hv/. Loop thread.
 */
#ifndef DROVER_HV_QEMU_ROW_H
#define DROVER_HV_QEMU_ROW_H

#include "hv/qemu.h"

/* How long a guest may take to let go of a device. */
#define QEMU_UNPLUG_MS 30000

struct qemu_row;

/*
 * NULL without memory. done as in hv.h, with the failed command's error; it does not fire when the
 * machine's hv_destroy() comes first.
 */
struct qemu_row *qemu_row_new(struct qemu *q, hv_done_fn *done, void *arg);
/* args is taken over; NULL is a failed json_pack(): then the row fails for want of memory. */
void qemu_row_add(struct qemu_row *row, const char *name, json_t *args);
/* What takes back the command added last. */
void qemu_row_undo(struct qemu_row *row, const char *name, json_t *args);
/* A descriptor that goes with the command added last; copied. */
void qemu_row_fd(struct qemu_row *row, int fd);
/* Values for "bus" of the command added last, tried in turn; NULL-terminated, static. */
void qemu_row_buses(struct qemu_row *row, const char *const *buses);
/* The command added last is done only when the guest has let go of this device. */
void qemu_row_until_gone(struct qemu_row *row, const char *id);
/*
 * Looks at the reply of the command added last, and may add more to the row, with `values` of
 * qemu_row_values(). Negative, with err: the row fails.
 */
typedef int qemu_row_then_fn(struct qemu_row *row, const json_t *reply, struct err *err);
void qemu_row_then(struct qemu_row *row, qemu_row_then_fn *then);
uint64_t *qemu_row_values(struct qemu_row *row); /* two, the caller's */
struct qemu *qemu_row_owner(struct qemu_row *row);
/* Nothing of it is sent: running it fails with err. */
void qemu_row_refuse(struct qemu_row *row, const struct err *err);
/* Begins; the row frees itself when it is done. */
void qemu_row_run(struct qemu_row *row);

/* DEVICE_DELETED, and DEVICE_UNPLUG_GUEST_ERROR with refused. */
void qemu_rows_device(struct qemu *q, const char *id, bool refused);
/* The process is gone: those that wait for the guest fail. */
void qemu_rows_fail(struct qemu *q);
/* hv_destroy(): without a call. */
void qemu_rows_forget(struct qemu *q);

#endif

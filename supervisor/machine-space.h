/*
 * supervisor/machine-space.h - I/O errors of a machine's disks. Loop thread.
 *
 * QEMU's default stops the guest at ENOSPC and reports all else to it (werror=enospc). A guest that
 * was stopped so loses nothing: it has the condition nospace, and goes on when its disk's
 * filesystem has room again, looked for ever less often (1 s to 30 s), unless a person wants it to
 * stand still. Stopped by another error it has the condition io-error and waits for a person.
 */
#ifndef DROVER_SUPERVISOR_MACHINE_SPACE_H
#define DROVER_SUPERVISOR_MACHINE_SPACE_H

#include "supervisor/machine.h"

/* HV_EVENT_IO_ERROR. */
void machine_space_error(struct machine *m, const struct hv_event *ev);
/* What hv_status() says has changed, or is known now. */
void machine_space_status(struct machine *m);
/* A person's wish: it stands still although there is room; or no longer. */
void machine_space_hold(struct machine *m, bool hold);

/* The conditions nospace and io-error. */
bool machine_space_full(const struct machine *m);
bool machine_space_failed(const struct machine *m);
/* The I/O error that was reported to the guest just before, for the cause of its death; or NULL. */
const char *machine_space_recent(const struct machine *m);

/* What outlives the daemon, in the state file. */
void machine_space_save(const struct machine *m, json_t *j);
void machine_space_load(struct machine *m, const json_t *j);
/* The run is over, or the daemon: nothing of it is heard any more. */
void machine_space_forget(struct machine *m);

#endif

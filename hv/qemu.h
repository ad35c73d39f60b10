/*
 * hv/qemu.h - the parts of the QEMU backend: qemu-args.h (the command line), qemu.c (start,
 * adoption, end of a run), qemu-ops.c (pause, reset and their like), qemu-monitor.c (connections,
 * slow and lost ones), qemu-agent.c (the guest agent), qemu-tap.c (its end of a TAP),
 * qemu-events.c (what the monitor's events and status words mean), qemu-stream.c (migration
 * streams), qemu-save.c (into a file and back), qemu-migrate.c (to another QEMU), qemu-mirror.c
 * (disks to another QEMU). Private to hv/.
 */
#ifndef DROVER_HV_QEMU_H
#define DROVER_HV_QEMU_H

#include "hv/agent.h"
#include "hv/backend.h"
#include "hv/serial.h"
#include "hv/process.h"
#include "hv/qmp.h"
#include "hv/qmp-mux.h"
#include "lib/deadline.h"
#include "lib/list.h"

/* qemu-args.c, qemu-tsc.c */

int qemu_arguments(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
	bool use_kvm, struct hv_command *out, struct err *err);
/* Whether the command line needs spec->tsc_khz, and the value; 0: unknown here. */
bool qemu_wants_tsc(const struct hv_spec *spec);
unsigned qemu_host_tsc_khz(void);

/* The rest */

/* How long after a reset the firmware may make more of it. */
#define QEMU_RESET_SETTLE_MS 2000

enum qemu_phase {
	QEMU_IDLE,
	QEMU_STARTING, /* spawned; done of hv_start() or hv_adopt() has not fired */
	QEMU_UP,
	QEMU_FAILED, /* done has fired with an error; the process is dying */
	QEMU_GONE,   /* no process; only hv_destroy() is left */
	QEMU_CLOSING
};

/* What we asked for, noted before the command is sent: whose doing an event was. */
struct qemu_intents {
	bool pause, resume, reset, powerdown, quit, signal;
};

/* The same for clients of the passthrough: who asked for an effect last; "" for nobody. */
struct qemu_by {
	char who[48];
	uint64_t at; /* in the loop's time */
};

/* A migration stream under way; the file or socket at its other end is the giver's. */
struct qemu_stream_opts {
	bool incoming; /* migrate-incoming of a QEMU that was started with -incoming defer */
	/* Of a running guest: what completes in spite of a cancel, is completed. */
	bool live;
	const char *uri; /* copied; NULL: fd */
	int fd;          /* passed; stays the caller's */
	/* Beside `events` and the bandwidth; objects of names and values, borrowed; may be NULL. */
	const json_t *capabilities, *parameters;
	uint64_t max_bandwidth; /* bytes a second; 0: no limit */
	hv_progress_fn *progress;
	/*
	 * Of an outgoing one that is to wait when the guest stands still, before QEMU lets go of the
	 * disks, until qemu_stream_go_on(). NULL: it does not.
	 */
	void (*held)(void *arg);
	hv_done_fn *done;
	void *arg;
};

struct qemu_stream {
	unsigned step;      /* 0: there is none under way */
	unsigned awaited;   /* answers to what comes before it */
	struct err refused; /* the first of them that is an error */
	bool incoming, live, cancelled, stalled, is_held;
	char *uri;
	int fd;
	json_t *capabilities, *parameters;
	hv_progress_fn *progress;
	void (*held)(void *arg);
	hv_done_fn *done;
	void *arg;
	struct deadline poll;
	uint64_t moved, moved_at; /* bytes, and when there were more for the last time */
};

struct qemu_save;

struct qemu {
	struct hv hv; /* first */
	enum qemu_phase phase;
	struct process *process;
	struct qmp *qmp;
	struct qmp_mux *mux; /* the passthrough, as long as hv lives */
	struct serial *console;
	struct agent *agent; /* made when it is needed, or with the machine */
	char *run_dir, *mon_path, *serial_path, *agent_path, *log_path;
	long long log_offset; /* where this run's own lines begin */
	struct qemu_intents intents;
	struct qemu_by by[QMP_EFFECTS];
	bool reboot_is_exit;
	struct deadline settle; /* after our reset, until a reboot is an exit again */
	uint64_t reset_at;      /* the last reset, in QEMU's time */
	bool spoken;            /* the guest has, on its console, since then */

	/* The start or adoption under way. */
	struct deadline ready;
	hv_spawned_fn *spawned;
	hv_done_fn *done;
	void *arg;
	bool adopting, is_spawned, answered;
	bool failing;         /* start_err is to be told as soon as is_spawned */
	struct err start_err; /* why the start fails, or will if nothing better is known */

	struct deadline later; /* fires at once: what must not be told from within a call */
	struct deadline retry; /* connects again, or asks again while nothing is answered */
	uint64_t retry_ms;
	bool lost_told;
	bool io_told;     /* which I/O error the guest stands still for */
	struct list ops;  /* under way */
	struct list rows; /* qemu-row.c */
	struct list counters;
	struct qemu_dump *dump;   /* under way, or NULL */
	const char *const *buses; /* where devices can be added; NULL: QEMU's own choice */
	uint64_t base_mib;        /* the memory it was started with */
	uint64_t max_mib;         /* memory_max */
	struct list taps;         /* qemu-tap.c */

	struct qemu_stream stream;
	struct qemu_save *save;     /* under way */
	struct qemu_copy *copy;     /* likewise; qemu-copy.c */
	struct qemu_mirror *mirror; /* likewise; qemu-mirror.c */
	bool serving;               /* its disks, to who copies them here */
	hv_done_fn *served;
	void *served_arg;
	int restore_fd; /* of a start from a file, until that is loaded; else -1 */
	bool restoring;
	bool memory_file;       /* the guest's memory is in a file: saves leave it out */
	bool restore_file;      /* so did the one that it is started from */
	struct list migrations; /* qemu-migrate.c */

	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static inline struct qemu *qemu_of(struct hv *hv)
{
	return container_of(hv, struct qemu, hv);
}

static inline bool qemu_alive(const struct qemu *q)
{
	return q->phase == QEMU_STARTING || q->phase == QEMU_UP;
}

/* qemu.c */

/* One of the parts that q->handles counts has closed. */
void qemu_part_closed(void *arg);
/* The first status has come: ends a start or an adoption. */
void qemu_answered(struct qemu *q);
/* The monitor has gone during a start: the process follows, or is made to. */
void qemu_start_lost(struct qemu *q, const struct err *err);

/* qemu-ops.c: these as in hv.h */

void qemu_pause(struct hv *hv, hv_done_fn *done, void *arg);
void qemu_resume(struct hv *hv, hv_done_fn *done, void *arg);
void qemu_powerdown(struct hv *hv, hv_done_fn *done, void *arg);
void qemu_reset(struct hv *hv, hv_done_fn *done, void *arg);
void qemu_quit(struct hv *hv, hv_done_fn *done, void *arg);
int qemu_kill(struct hv *hv, int sig);
void qemu_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
int qemu_console_write(struct hv *hv, const char *data, size_t len);
/* A whole command; reply comes once, with -ESRCH when the process goes first. cmd NULL: -ENOMEM. */
void qemu_send(struct qemu *q, const json_t *cmd, const struct qmp_opts *opts, hv_reply_fn *reply,
	void *arg);

/* Completes those that were never sent, and all of them once the process is gone. */
void qemu_fail_ops(struct qemu *q);
/* Drops them without a call. */
void qemu_forget_ops(struct qemu *q);
/* What a guest's reboot does from now on: "reset" or "shutdown". */
void qemu_set_reboot_action(struct qemu *q, const char *action);
deadline_fn qemu_reset_settled;

/* qemu-monitor.c */

/* Connects what is not connected; -errno of the monitor's socket. */
int qemu_connect(struct qemu *q, struct err *err);
/* Takes a connected socket as monitor or console. */
int qemu_take_monitor(struct qemu *q, int fd, struct err *err);
int qemu_take_console(struct qemu *q, int fd, struct err *err);
/* Reads and reports what monitor and console still hold after the process's end. */
void qemu_drain(struct qemu *q);
void qemu_drop_monitor(struct qemu *q);
void qemu_drop_console(struct qemu *q);
void qemu_emit_event(struct qemu *q, const struct hv_event *ev);
void qemu_emit(struct qemu *q, enum hv_event_kind kind, bool by_us, const char *reason,
	const json_t *data);
/* A command's deadline has passed, or an adopted monitor is silent. */
void qemu_set_unresponsive(struct qemu *q, const char *command);
/* Tries again in a while, longer each time. */
void qemu_retry_later(struct qemu *q);
deadline_fn qemu_retry;

/* qemu-agent.c: the first three as in hv.h */

void qemu_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
void qemu_agent(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
void qemu_agent_forget(struct hv *hv, const void *arg);
/* fd: a connection, taken over; -1: it is made at the first command. */
int qemu_take_agent(struct qemu *q, int fd, struct err *err);
void qemu_drop_agent(struct qemu *q);

/* qemu-device.c, qemu-resize.c, qemu-inspect.c: these as in hv.h */

void qemu_add_disk(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg);
void qemu_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg);
void qemu_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg);
void qemu_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg);
void qemu_nmi(struct hv *hv, hv_done_fn *done, void *arg);
void qemu_screendump(struct hv *hv, const char *path, hv_done_fn *done, void *arg);
void qemu_dump(
	struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg);
void qemu_counters(struct hv *hv, hv_reply_fn *reply, void *arg);

/* What this machine can of them, and why not. */
void qemu_device_caps(struct qemu *q, const struct hv_spec *spec);
void qemu_resize_caps(struct qemu *q, const struct hv_spec *spec);
void qemu_inspect_caps(struct qemu *q, const struct hv_spec *spec);
void qemu_dump_completed(struct qemu *q, const json_t *data);
/* The process is gone; and hv_destroy(). */
void qemu_dump_fail(struct qemu *q);
void qemu_inspect_forget(struct qemu *q);

/* qemu-passthrough.c: the first three as in hv.h */

void qemu_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg);
int qemu_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err);
void qemu_passthrough_write(struct hv *hv, bool write);
int qemu_make_mux(struct qemu *q, struct err *err);
/* Who of the clients caused this, if one did: NULL or his words; once. */
const char *qemu_take_by(struct qemu *q, enum qmp_effect effect, char out[48]);

/* qemu-tap.c: as in hv.h; and drops without a call what is under way. */

int qemu_tap(struct hv *hv, const char *nic_id, hv_tap_fn *done, void *arg, struct err *err);
void qemu_forget_taps(struct qemu *q);

/* qemu-stream.c */

/*
 * done fires exactly once, never before this returns, unless qemu_stream_drop() comes first.
 * -EBUSY, -ENOMEM, -EHOSTUNREACH (no monitor) are returned; then it does not fire. Codes of done:
 * -ECANCELED, -ETIMEDOUT when nothing moved for a minute, -EIO with QEMU's words.
 */
int qemu_stream_start(struct qemu *q, const struct qemu_stream_opts *opts, struct err *err);
bool qemu_stream_active(const struct qemu *q);
/* After held. */
void qemu_stream_go_on(struct qemu *q);
/* Also of a stream that an earlier daemon has begun. */
void qemu_stream_cancel(struct qemu *q);
/* The process is gone: done fires. */
void qemu_stream_fail(struct qemu *q);
void qemu_stream_drop(struct qemu *q);
/* QEMU's MIGRATION event. */
void qemu_stream_event(struct qemu *q, const json_t *data);
deadline_fn qemu_stream_poll;

/* qemu-save.c: the first two as in hv.h */

void qemu_save(
	struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg);
void qemu_job_cancel(struct hv *hv);
/* Of a start: the file to load. */
int qemu_restore_open(struct qemu *q, const struct hv_spec *spec, struct err *err);
/* Loads it, and asks for the status again. */
void qemu_restore(struct qemu *q);
/* The process is gone, or hv_destroy(). */
void qemu_save_lost(struct qemu *q);
void qemu_save_drop(struct qemu *q);

/* qemu-copy.c: the first as in hv.h */

void qemu_copy_disks(struct hv *hv, const struct hv_disk_copy *copies, size_t n,
	hv_progress_fn *progress, hv_done_fn *begun, hv_done_fn *done, void *arg);
/* Also what an earlier daemon has begun. */
void qemu_copy_cancel(struct qemu *q);
/* Removes every job and node of ours that is there. done fires when they are gone. */
int qemu_copy_clean(struct qemu *q, hv_done_fn *done, void *arg, struct err *err);
/* hv_destroy(): after qemu_forget_ops() and the rows. */
void qemu_copy_drop(struct qemu *q);
/* Jobs and nodes of ours, whoever of us began them. */
#define QEMU_COPY_PREFIX "drover-copy-"

/* qemu-mirror.c: the first as in hv.h */

void qemu_serve_disks(
	struct hv *hv, int fd, const char *const *ids, size_t n, hv_done_fn *done, void *arg);
/* Fires after the end of hv_migrate_in(), when nobody writes the disks any more. */
void qemu_serve_no_more(struct qemu *q, hv_reply_fn *reply, void *arg);

struct qemu_mirror_opts {
	const char *nbd;        /* path of a Unix socket */
	const char *const *ids; /* of the disks and of their exports there */
	size_t n;
	uint64_t max_bandwidth; /* bytes a second; 0: no limit */
	hv_progress_fn *progress;
	/* The copies have come up to the disks, and stay so. */
	void (*ready)(void *arg);
	/*
	 * Once, never from within qemu_mirror_start(), when nothing of it is left in QEMU. NULL: after
	 * qemu_mirror_finish(), and the copies are whole and written out.
	 */
	hv_done_fn *done;
	void *arg;
};
/* -EBUSY, -ENOMEM: then nothing fires. */
int qemu_mirror_start(struct qemu *q, const struct qemu_mirror_opts *opts, struct err *err);
/* After ready, of a guest that stands still: the copies are as the disks are now. */
void qemu_mirror_finish(struct qemu *q);
/* done gets -ECANCELED, unless something else was wrong already. */
void qemu_mirror_cancel(struct qemu *q);
void qemu_mirror_drop(struct qemu *q);

/* qemu-migrate.c: the first two as in hv.h */

void qemu_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg);
void qemu_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg);
/* hv_destroy(): after qemu_forget_ops() and the drop of the stream. */
void qemu_migrate_drop(struct qemu *q);

/* qemu-events.c */

void qemu_event(void *arg, const char *name, const json_t *event);
/* query-status: what it tells goes into hv.status, and out as an event when it is news. */
void qemu_ask_status(struct qemu *q);

/* qemu-drives.c */

void qemu_ask_drives(struct qemu *q);
void qemu_tray_moved(struct qemu *q, const json_t *data, const json_t *event);

#endif

/*
 * supervisor/machine.h - one machine: its state, what is wanted of it, its runs. Loop thread.
 *
 * The actual state is one enum that changes in one table (machine-table.c); the wanted state is
 * stored apart from it. Every change is logged, persisted and published by machine_set_state().
 */
#ifndef DROVER_SUPERVISOR_MACHINE_H
#define DROVER_SUPERVISOR_MACHINE_H

#include <jansson.h>
#include "hv/hv.h"
#include "lib/deadline.h"
#include "netcfg/ip6.h"
#include "supervisor/cgroup.h"
#include "supervisor/console.h"
#include "supervisor/drover.h"
#include "supervisor/hardware.h"
#include "supervisor/image-job.h"
#include "supervisor/operation.h"
#include "supervisor/restart.h"

enum machine_state {
	MACHINE_STOPPED,
	MACHINE_PREPARING,
	MACHINE_STARTING,
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_SAVING,
	MACHINE_RESTORING,
	MACHINE_MIGRATING,
	MACHINE_STOPPING,
	MACHINE_BACKOFF,
	MACHINE_FAILED,
	MACHINE_UNKNOWN,
	MACHINE_STATES
};
const char *machine_state_name(enum machine_state s);

/* What happens to a machine. */
enum machine_event {
	EV_START,        /* somebody, the plan or the backoff wants it to run */
	EV_PREPARED,     /* disk and network are there */
	EV_LOAD,         /* the same, and a saved memory is to be loaded */
	EV_START_FAILED, /* a step of the start failed or was cancelled; m->error says why */
	EV_UP,           /* the monitor has answered; of an adopted one: the guest runs */
	EV_PAUSED,
	EV_RESUMED,
	EV_SAVE,    /* its memory or its disks are about to be copied */
	EV_MIGRATE, /* it goes to another host, or is to come from one */
	EV_SAVED,   /* that is over, and the guest stands still as before */
	EV_STOP,    /* stop or kill, by m->intent */
	EV_EXITED,  /* the hypervisor is gone and reaped */
	EV_CLEAN,   /* teardown has released everything */
	EV_REST,    /* after the teardown: it stays stopped */
	EV_WAIT,    /* it starts again after the backoff */
	EV_GIVE_UP, /* it failed and stays so */
	EV_AGAIN,   /* it starts again at once */
	MACHINE_EVENTS
};

/* How far the state file is behind, and what waits for it (machine-save.c). */
enum save {
	SAVE_NOTHING,
	SAVE_WRITTEN, /* to be fsynced; nobody waits for it */
	SAVE_PROMISED /* an operation ends only after its fsync */
};

/* What we ourselves are about to do to the run, recorded before it is done. */
enum intent {
	INTENT_NONE,
	INTENT_STOP,
	INTENT_KILL,
	INTENT_RESTART,
	INTENT_RECREATE,
	INTENT_SUSPEND, /* its memory is on disk */
	INTENT_RESTORE, /* it becomes what it was in m->restore */
	INTENT_WARM,    /* it is frozen: its memory is a warm image */
	INTENT_MIGRATE  /* it runs on another host, or is not to run here */
};

enum {
	NICS_MAX = 8,
	/* The first disk, the volumes, the CD-ROM. */
	MACHINE_DISKS_MAX = VOLUMES_MAX + 2,
	/* After a kernel panic: for the rest of its words, if the guest does not reboot before. */
	MACHINE_PANIC_SILENCE_MS = 3000
};

/* A nic that comes and goes while its machine runs (machine-nic.c). */
enum nic_stage {
	NIC_CONFIGURED, /* of the configuration, or a gap where one was removed */
	NIC_ADDING,
	NIC_ADDED,
	NIC_REMOVING
};

/* m->nics[N] is "nicN" for as long as the run lasts: one that is removed leaves a gap. */
struct nic {
	char *network; /* name of the section; NULL: a gap */
	char mac[18];
	char tap[16];
	struct ip4_prefix net; /* p2p: its /30; len 0: none given yet */
	char bridge[16];       /* else the bridge that its TAP is a port of; "": none yet */
	bool user;             /* its network is inside of the hypervisor: it has no TAP */
	bool macvtap;          /* its link shares one of the host's (netcfg/macvtap.h) */
	bool bare;             /* the configuration wants no address to be kept for it */
	uint32_t fixed;        /* the configuration chose this address; 0: none */
	uint32_t address;      /* on a bridge: the one that is kept for it; 0: none */
	uint32_t seen;         /* it has none of ours, and the guest says that it has this one */
	struct in6_addr seen6; /* the same of IPv6; zero: none */
	bool leased;           /* the guest has asked for it */
	struct in6_addr fixed6;
	struct in6_addr address6;  /* the one that is kept for it; zero: none */
	struct ip6_prefix prefix6; /* the one that is delegated to it; len 0: none */
	struct ip6_prefix net6;    /* p2p: its prefix; len 0: none */
	struct service *dnsmasq;
	int tap_fd;  /* between its making and the spawn; else -1 */
	int ifindex; /* of the TAP that the run uses; 0: not known */
	bool lost;   /* somebody deleted that TAP, and it could not be put back */
	bool lost_told;
	enum nic_stage stage;
	struct tap_mend *mend; /* supervisor/network-tap.c's */
};

/* A program that works for one machine beside its hypervisor. */
struct machine_helper {
	char *name; /* as in the ledger: "swtpm-web-1" */
	struct service *service;
	bool told; /* its death */
};

struct machine {
	struct list entry, bucket;
	struct list queue; /* in d->begin_queue, d->after_queue or d->start_queue */
	struct drover *d;
	char *name;
	char *owner;                   /* in the ledger: "vm/NAME" */
	char *dir, *run_dir, *log_dir; /* state_dir/vm/NAME, run_dir/vm/NAME, state_dir/log/NAME */

	const struct vm_config *cfg;     /* of the current configuration; NULL: removed from it */
	struct config_box *run_box;      /* what the present run was started from */
	const struct vm_config *run_cfg; /* in run_box; NULL when there is no run */
	json_t *deferred; /* a change that waits for the next start (on_change = defer); or NULL */
	json_t *applied;  /* of the present or last run; may be NULL */

	enum machine_state state;
	bool want_known, want_running;
	bool want_before[2]; /* the two above, before a client's quit */
	enum intent intent;
	struct operation *op; /* what is being done; NULL: nothing */
	const char *asked;    /* the verb of the operation that the hypervisor was asked for last */

	struct machine_job *job; /* snapshot, suspend, restore; it may outlive its operation */
	bool hold;               /* the guest stands still for our sake, and is to go on */
	bool frozen;             /* its filesystems likewise */
	bool copying;            /* the hypervisor copies its disks */
	bool suspended;          /* what is in the folder `suspend` is its memory */
	char *restore;           /* the snapshot that it is about to become; NULL: none */
	bool restore_back;       /* no: the old disks are to come back */
	bool restore_memory, restore_run;
	char *load_dir; /* of the start: its memory; NULL: the guest boots */

	/* Warm templates and what is made from them: machine-warm.c, machine-warm-start.c. */
	char *warm_image;   /* that its disk was copied from; NULL: it is itself */
	int64_t warm_mtime; /* of that copy, which has not been written to; 0: it is not made yet */
	bool warm_load;     /* load_dir is a warm image's */
	bool warm_tried;    /* a hypervisor has seen it */
	bool warm_asked;    /* in this start the template was set going */
	bool warm_cold;     /* this start is to be a boot */
	bool warm_told;     /* the memory was loaded, but the guest did not become itself */
	char *warm_note;    /* why it booted, or, of a template, is not frozen; or NULL */
	struct deadline warm_timer;
	struct warm_start *warm; /* a copy or an identity under way */

	/* Live migration. */
	struct migrate_out *out; /* supervisor/migrate.h; NULL: it goes nowhere */
	struct migrate_in *in;   /* NULL: it is from here */
	bool receiving;          /* the start is of a hypervisor that waits for the guest */
	bool migrated_disks;     /* those there are copies: what lies here is used by nobody */
	char *migrated_to;       /* where it runs since, with the disks that it had; or NULL */

	struct hv *hv;
	char *cgroup;           /* of the run; NULL: none */
	uint64_t run_memory;    /* bytes, of the run, whatever the configuration says now */
	unsigned run_vcpus;     /* of a run that was resized; 0: as configured */
	uint64_t memory_before; /* of the two, while they are being changed */
	unsigned vcpus_before;
	json_t *added; /* disks that came to the run: [{id, path, format, readonly, serial}]; or NULL */
	bool no_cgroup;                            /* limits are asked for that nothing enforces */
	struct cgroup_memory_events memory_events; /* of the run that ended */
	struct hv_process left; /* by an earlier daemon, until it is taken up; pid 0: none */
	bool process;           /* the hypervisor was spawned or adopted and has not exited */
	struct console *console;
	struct health *health; /* of a machine that is up and has checks */
	struct space *space;   /* supervisor/machine-space.c's; NULL: no I/O error yet */
	struct nic nics[NICS_MAX];
	unsigned nnics;
	struct list questions; /* of clients, that the hypervisor is to answer (routes-device.c) */
	struct nic_job *nic_job; /* one of them is being added or removed */
	struct machine_helper helpers[SHARES_MAX + 1];
	unsigned nhelpers;
	char *degraded;     /* why, if it is not a nic's dnsmasq; or NULL */
	uint32_t vsock_cid; /* of the run, and kept for the next one; 0: none */
	bool has_slot;      /* counted in d->starting */

	/* Start (machine-start.c). */
	unsigned step;
	bool cancelled;
	struct image_sub image;
	bool image_busy;
	char *kernel_path, *initrd_path; /* found by the start */
	char *rootfs_path;               /* the built image that the disk is cloned from */
	char *disk_path;                 /* NULL: the machine has none */
	char *firmware_path;             /* found by the start; NULL: the board's own */
	char *vars_path;                 /* the firmware's variables; NULL: none */
	bool is_uki;                     /* the kernel has its own command line */
	char *kernel_ref, *rootfs_ref;   /* what those were made from */

	/* The present or last run. */
	unsigned boot;                         /* its number */
	unsigned reboots;                      /* by the guest, in this run */
	uint64_t run_started_ms, run_ended_ms; /* unix */
	uint64_t up_mono_ms;                   /* when the monitor had answered; 0: not yet */
	bool ended;         /* its end was found and written down; a later daemon keeps to that */
	uint64_t ended_seq; /* the number of the event that tells it */
	struct child_status exit_status;
	enum cause hint;       /* what the monitor or the console told of the end */
	char *hint_text;       /* its sentence */
	char *unhealthy;       /* the sentence of a restart by the health checks */
	char *quit_by;         /* who of the passthrough's clients told the hypervisor to quit */
	const char *by;        /* who changes the state just now, for the event; or NULL */
	bool ready;            /* all health checks have passed since the guest booted */
	enum cause last_cause; /* of the last run that ended */
	char *sentence;        /* of it */
	json_t *story;         /* [{time, event, text}] of the present or last run */
	json_t *drives;        /* what they hold, in HV_EVENT_DRIVES's form; NULL: as configured */
	json_t *last_console;  /* last lines of the last run */
	struct err error;      /* why the last start failed; code 0: it did not */

	uint64_t retry_at_ms;        /* in backoff: when it starts again, unix */
	unsigned restarts, failures; /* in all, and in a row */
	int64_t guest_id;
	struct deadline timer; /* backoff, or a step of the shutdown */
	unsigned shutdown_step;
	uint64_t shutdown_mono_ms; /* when the escalation began */
	bool guest_time_given;     /* for this stop, in place of stop_timeout: */
	uint64_t guest_time_ms;
	struct deadline panic_timer;
	bool panicked;                 /* or broken: the run is to be ended */
	bool disk_stale;               /* disk = run: made anew at the next start */
	bool tearing_down;             /* the network releases what the run needed */
	bool attaching;                /* a step's work is under way, whose callback has m */
	bool removing;                 /* by machine_rm() */
	struct deadline save_timer;    /* armed for the loop's next turn when there is to do: */
	bool unsaved;                  /* the state file is to be written */
	bool outdated;                 /* likewise, but there is no hurry */
	bool save_failed;              /* it could not be, and is tried again */
	int sync_error;                /* of the last promised fsync of it: -errno */
	enum save save, syncing;       /* it is to be fsynced; its fsync is under way */
	uint64_t saves;                /* how often the state was written: which of two is newer */
	uint64_t sync_due_ms;          /* when SAVE_WRITTEN is to be, in clock_mono_ms() */
	bool op_cancelled;             /* m->op was, by who asked for it */
	bool op_ending;                /* m->op ends with op_error once its state is saved */
	struct err op_error;           /* code 0: it ends well */
	unsigned closing;              /* close callbacks to come before the memory goes */
	enum machine_event pending[8]; /* what came while an event was being handled */
	unsigned npending;
	bool handling;
	void (*adopted)(void *arg);
	void *adopted_arg;
};

/* ---- machines.c: all of them ---- */
struct machine *machine_find(struct drover *d, const char *name);
int machine_create(struct machine **out, struct drover *d, const char *name, struct err *err);
/* Of a stopped machine; its files stay. */
void machine_destroy(struct machine *m);
/* One close callback of m has come: the last gives the memory back. */
void machine_closed(struct machine *m);
/* Lets go of everything for the next daemon: hypervisors and services live on. */
void machines_release(struct drover *d);

/* ---- machine.c: what is asked of one ---- */
/*
 * Each begins an operation, given to *op (may be NULL), or says why not: -EBUSY (names the one
 * that is under way and its age), -EBADFD (wrong state). by: "a person", "the plan", ... for the
 * story. want: records the wanted state too.
 */
int machine_start(
	struct machine *m, const char *by, bool want, struct operation **op, struct err *err);
int machine_stop(struct machine *m, enum intent how, const char *by, bool want,
	struct operation **op, struct err *err);
/*
 * The same as a person's stop, with guest_ms in place of stop_timeout. A stop that finds one under
 * way joins it (*op is that one's) and can only shorten what the guest has left.
 */
int machine_stop_within(struct machine *m, uint64_t guest_ms, const char *by, struct operation **op,
	struct err *err);
int machine_restart(
	struct machine *m, enum intent how, const char *by, struct operation **op, struct err *err);
int machine_pause(struct machine *m, struct operation **op, struct err *err);
int machine_resume(struct machine *m, struct operation **op, struct err *err);
/* Of a machine that does not run. Without disks only what is not a disk goes. */
int machine_rm(struct machine *m, bool disks, struct operation **op, struct err *err);

/* ---- machine-device.c: what is asked of a run ---- */
int machine_reset(struct machine *m, struct operation **op, struct err *err);
int machine_nmi(struct machine *m, struct operation **op, struct err *err);
/* 0: as it is; memory in bytes. Until the run ends. */
int machine_resize(
	struct machine *m, unsigned vcpus, uint64_t memory, struct operation **op, struct err *err);
/* The guest's memory as an ELF core, in m->dir; one for each boot. */
char *machine_core_path(const struct machine *m); /* malloc'd, or NULL */
int machine_dump(struct machine *m, struct operation **op, struct err *err);
/*
 * A disk for this run: {"path", "format" (raw), "readonly", "serial", "id"}. It goes with the run,
 * the file stays.
 */
int machine_add_disk(struct machine *m, const json_t *disk, struct operation **op, struct err *err);
/* One that was added to this run. */
int machine_remove_disk(struct machine *m, const char *id, struct operation **op, struct err *err);
/* The run has ended: what was added to it is no more. */
void machine_forget_devices(struct machine *m);
/* The hypervisor is let go of: it answers no more (routes-device.c). */
void machine_forget_questions(struct machine *m);
/* Whether the run can be asked for this now, and begins the operation, which machine_asked ends. */
int machine_begin_asking(struct machine *m, const char *verb, enum hv_cap cap,
	struct operation **op, struct err *err);

/* ---- machine-nic.c: nics for this run ---- */
/* {"network", "mac"}; the latter may be missing. It goes with the run. */
int machine_add_nic(struct machine *m, const json_t *nic, struct operation **op, struct err *err);
/* id: "nic1", one that was added to this run. */
int machine_remove_nic(struct machine *m, const char *id, struct operation **op, struct err *err);
const char *nic_stage_name(enum nic_stage s);
enum nic_stage nic_stage_from_name(const char *name);
unsigned machine_added_nics(const struct machine *m);
/* What an earlier daemon had begun with them is brought to an end. */
void machine_nics_adopt(struct machine *m);
/* Whether the teardown has to wait for what is done to the host's side of one. */
bool machine_nic_holds(const struct machine *m);
/* The hypervisor is let go of: it answers no more. */
void machine_nic_lost(struct machine *m);
/* The run has ended, and their objects are released. */
void machine_forget_nics(struct machine *m);

/* ---- machine-snapshot.c, machine-suspend.c, machine-restore.c ---- */
struct snapshot_opts {
	const char *name, *description; /* the latter may be NULL */
	bool disks_only;
	bool crash_consistent; /* disks of a running guest that cannot be frozen */
};
int machine_snapshot(
	struct machine *m, const struct snapshot_opts *o, struct operation **op, struct err *err);
int machine_snapshot_delete(
	struct machine *m, const char *name, struct operation **op, struct err *err);
/* Its manifest. -ENOENT names what is not there. */
int machine_snapshot_read(struct machine *m, const char *name, json_t **out, struct err *err);
/* Of one snapshot, or the folder of all (name NULL); malloc'd. */
char *machine_snapshot_dir(const struct machine *m, const char *name);
int machine_restore(struct machine *m, const char *name, struct operation **op, struct err *err);
int machine_suspend(struct machine *m, struct operation **op, struct err *err);

/* Between the runs, with m->restore set: whether it has caused the next event. */
bool machine_restore_settle(struct machine *m);
void machine_forget_restore(struct machine *m);
/* The disks are in their places, and the run is up if there is to be one. */
void machine_restore_done(struct machine *m);
bool machine_restored_disks(struct machine *m);
/* Of a machine that is suspended: it is not any more; the guest would boot. */
void machine_drop_suspended(struct machine *m);
/* Before the start of such a one: whether what is on disk fits. */
int machine_check_suspended(struct machine *m, struct err *err);
/* Sets m->load_dir for the start that begins. */
int machine_find_memory(struct machine *m, struct err *err);
/* An adopted guest that an earlier daemon had stand still goes on. */
void machine_unhold(struct machine *m);
/* Removes what a daemon that was killed has left unfinished. */
void machine_sweep(struct machine *m);
void machine_restore_sweep(struct machine *m);
/* The job's run has ended; its operation was ended by somebody else. */
void machine_job_lost(struct machine *m);
void machine_job_overruled(struct machine *m);
/* m is being released: how many callbacks are to come. */
unsigned machine_job_release(struct machine *m);

/* ---- machine-warm.c: a warm template ---- */
/* It is ready, or an earlier daemon has found it so: it is frozen as soon as nobody is busy with it. */
void machine_warm_ready(struct machine *m);
/* The folder for the memory of a run that is to be frozen; made for it, and gone with it. */
int machine_warm_prepare(struct machine *m, struct err *err);
void machine_warm_forget_run(struct machine *m);
char *machine_warm_ram(const struct machine *m); /* malloc'd, or NULL */
bool machine_is_warm_template(const struct machine *m);
/* It is at rest, and machines can begin with it unless something has changed. */
bool machine_is_frozen(const struct machine *m);
json_t *machine_warm_json(const struct machine *m);

/* ---- machine-warm-start.c: a machine that begins with a warm image ---- */
void machine_step_warm(struct machine *m);
/* m->warm_timer; of a template as of a machine that waits for one. */
void machine_warm_timer(void *arg);
/* Its memory is loaded and it runs, as another one: it is told who it is, then its start is over. */
void machine_warm_loaded(struct machine *m);
/* An adopted guest that may not have been told. */
void machine_warm_adopted(struct machine *m);
/* Whether it still is another one. */
bool machine_warm_foreign(const struct machine *m);
/* The run has ended: whether the start that failed is to be done again, as a boot. */
bool machine_warm_settle(struct machine *m);
/* A template has come to rest or a machine has gone: who waits looks again. */
void machine_warm_wake(struct drover *d);
/* Drops what is under way; how many callbacks are to come. */
unsigned machine_warm_release(struct machine *m);
void machine_warm_cancel(struct machine *m);
/* The run is over. */
void machine_warm_lost(struct machine *m);

/* ---- machine.c: for those ---- */
int machine_busy(const struct machine *m, struct err *err);
int machine_wrong_state(const struct machine *m, const char *verb, struct err *err);
int machine_begin_op(struct machine *m, const char *verb, operation_cancel_fn *cancel,
	struct operation **op, struct err *err);

hv_done_fn machine_asked; /* ends the operation of the verb m->asked */

/* The one door for all that happens. */
void machine_event(struct machine *m, enum machine_event ev);
/* Whether it has a run (anything but stopped, failed, backoff). */
bool machine_active(const struct machine *m);

/* ---- machine-table.c ---- */
typedef void machine_action_fn(struct machine *m);
struct transition {
	bool valid;
	enum machine_state next;
	machine_action_fn *action; /* after the state was set; may be NULL */
};
const struct transition *machine_transition(enum machine_state s, enum machine_event ev);

void machine_timer(void *arg);
void machine_panic_timer(void *arg);                                          /* machine-panic.c */
void machine_give_guest_time(struct machine *m, uint64_t ms, bool only_less); /* machine-stop.c */
void machine_shutdown_next(struct machine *m); /* machine-stop.c: the next step of the escalation */
/* Machines that wait for others look again whether they still have to. */
void machine_wake_waiting(struct drover *d); /* machine-start.c */
void machine_leave_slot(struct machine *m);  /* machine-start.c */
/* Who waits for a slot gets one as long as there are any: max_starts may have grown. */
void machine_fill_slots(struct drover *d); /* machine-start.c */
/* Deletes the disk, so that the next start makes it anew (machine-disk.c). */
int machine_forget_disk(struct machine *m, struct err *err);
/* The run of an ephemeral machine has ended: its disks go (machine-ephemeral.c). */
void machine_throw_away(struct machine *m);
/* Those of any machine: its next start makes them anew. */
void machine_throw_disks(struct machine *m);

/* Emits the event of the run's end, unless the log has it (machine-stop.c). */
void machine_announce_end(struct machine *m);

/* The actions, each in its file. */
void machine_begin_prepare(struct machine *m);  /* machine-start.c */
void machine_begin_spawn(struct machine *m);    /* machine-start.c */
void machine_cancel_start(struct machine *m);   /* machine-start.c */
void machine_now_up(struct machine *m);         /* machine.c */
void machine_now_loaded(struct machine *m);     /* machine-suspend.c */
void machine_begin_shutdown(struct machine *m); /* machine-stop.c */
void machine_begin_teardown(struct machine *m); /* machine-stop.c */
void machine_settle(struct machine *m);         /* machine-stop.c */
void machine_at_rest(struct machine *m);        /* machine-stop.c: stopped, failed or in backoff */
void machine_leave_rest(struct machine *m);     /* machine.c: out of backoff or failed */

/* ---- machine-save.c, machine-state.c: persistence ---- */
/*
 * Writes the state file now. Its fsync follows by itself, and no operation of m ends before it:
 * what a person was told outlives the host's crash.
 */
int machine_save(struct machine *m, struct err *err);
/*
 * Has it written when the loop comes round, so that what happens together is written once; an
 * operation ends after that, but does not wait for the fsync. For what a daemon after a reboot
 * finds out anew: which state the run had come to, and its processes.
 */
void machine_save_soon(struct machine *m);
/*
 * Within a tenth of a second, and no operation waits for it: for what the hypervisor itself tells
 * the next daemon, whether its guest stands still.
 */
void machine_save_later(struct machine *m);
/* Writes now what is to be written soon: before something is done that the next daemon must know
 * the reason of. */
void machine_flush(struct machine *m);
void machine_save_turn(void *arg);         /* of save_timer */
void machine_save_last(struct machine *m); /* before it goes: written, and its fsync begun */
/* Ends m->op, if there is one, as soon as its state is saved; err NULL: well. */
void machine_end_op(struct machine *m, const struct err *err);
/* What state.json says, owned by the caller. */
json_t *machine_state_json(const struct machine *m);
/* The file, or the one before it if the host has lost it; -ENOENT when there is none. */
int machine_read_file(const struct machine *m, json_t **out, struct err *err);
/* Takes over what the file says; -ENOENT when there is none. */
struct saved_process {
	struct hv_process process;
	bool this_boot;
	enum machine_state state;
};
int machine_load(struct machine *m, struct saved_process *out, struct err *err);
void machine_set_state(struct machine *m, enum machine_state s);
/* A line of the run's story (`drover why`). */
void machine_tell(struct machine *m, const char *event, const char *fmt, ...) PRINTF(3, 4);

/* ---- machine-adopt.c ---- */
/* Takes up what the state file says; done exactly once, when its state is known. */
void machine_adopt(
	struct machine *m, const struct saved_process *saved, void (*done)(void *arg), void *arg);

/* Takes up m->left: now, or when it can be done. */
void machine_take_up(struct machine *m);

/* Says so, if that was not said yet. */
void machine_adopt_finished(struct machine *m);

/* ---- machine-hv.c: between the machine and hv ---- */
/* Callbacks of the hypervisor. */
void machine_hv_event(void *arg, const struct hv_event *ev);
void machine_hv_exited(void *arg, const struct child_status *status);
void machine_hv_console(void *arg, const char *data, size_t len);
/* What the monitor or the console tells of the end that comes; text is taken over. The first sign
 * tells most. */
void machine_set_hint(struct machine *m, enum cause cause, char *text);
int machine_console_open(struct machine *m, struct err *err);
void machine_hv_passed(void *arg, const struct hv_passed *p);
void machine_hv_quitting(void *arg, const char *by, bool undone);
/* The callbacks above; and the console and the passthrough that a run has from its start on. */
struct hv_callbacks machine_hv_callbacks(struct machine *m);
int machine_passthrough_open(struct machine *m, struct err *err);
/* Its key may have changed. */
void machine_passthrough_reload(struct machine *m);
/* The spec for m's run, whose strings live in *hold until hold is finished. */
struct spec_hold {
	struct hv_disk disks[MACHINE_DISKS_MAX];
	struct hv_share shares[SHARES_MAX];
	struct volume volumes[VOLUMES_MAX];
	size_t nvolumes;
	struct share parsed[SHARES_MAX];
	char *sockets[SHARES_MAX], *tpm, *vnc;
	struct hv_nic nics[NICS_MAX];
	char nic_ids[NICS_MAX][8];
	struct hv_user_net users[NICS_MAX];
	char *binary, *jail, *cmdline, *log_path, *marker, *memory;
	char *base; /* what the first disk lies above; NULL: nothing */
	struct strv extra;
};
int machine_spec(struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err);
void spec_hold_finish(struct spec_hold *hold);
/* The hypervisor's program, malloc'd; NULL: it is not there. */
char *machine_program(const struct vm_config *cfg);

/* ---- machine-panic.c: a guest whose kernel has panicked, or with which KVM cannot go on ---- */
/* A line of its console. */
void machine_panic_line(struct machine *m, const char *line);
/* Its panic device has rung. */
void machine_panic_event(struct machine *m, const char *reason);
/* The hypervisor holds it since. */
void machine_panic_held(struct machine *m);
/* It can only be reset or ended (HV_STATUS_BROKEN): this ends the run, whatever on_panic says. */
void machine_broken(struct machine *m);

/* ---- machine-health.c: checks of the guest (supervisor/health.h) ---- */
/* The machine's state was set. */
void machine_health_state(struct machine *m, enum machine_state from);
/* Its keys have changed. */
void machine_health_reload(struct machine *m);
/* The guest boots anew in the same run. */
void machine_health_boot(struct machine *m);
/* Something was said on the console; a whole line. */
void machine_health_console(struct machine *m);
void machine_health_line(struct machine *m, const char *line);

/* ---- machine-cgroup.c ---- */
/* The hypervisor was spawned or adopted: whether it is in its cgroup. */
void machine_cgroup_check(struct machine *m);
/* Of a machine that was adopted, or whose keys have changed: the limits, as they are now. */
void machine_cgroup_apply(struct machine *m);
/* A start has failed with err: when it was for a limit, err says so afterwards. */
void machine_cgroup_blame(struct machine *m, struct err *err);
/* What the kernel counted, before the cgroup goes. */
void machine_cgroup_end(struct machine *m);
bool machine_oom_killed(const struct machine *m);
char *machine_oom_text(const struct machine *m); /* malloc'd, or NULL */

/* ---- machine-summary.c, machine-json.c: for the API ---- */
/* The address of a nic's guest end; false when it is not known. */
bool machine_address(const struct machine *m, unsigned nic, char out[16]);
/* As an element of a list. */
void machine_add_summary(const struct machine *m, struct buf *b);
json_t *machine_summary(const struct machine *m); /* the same as a tree */
json_t *machine_detail(const struct machine *m);
json_t *machine_why(const struct machine *m);

#endif

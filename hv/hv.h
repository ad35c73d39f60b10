/*
 * hv/hv.h - one hypervisor process, whichever program it is. Loop thread only. Times in ms,
 * memory in MiB.
 *
 * A backend is a const struct hv_ops and a private file (hv/qemu.c). The owner of a struct hv is
 * the machine: it makes what the hypervisor uses (TAPs, disks, folders) beforehand and releases
 * it after `exited`. Only the exit of the process ends a run: a closed monitor, SHUTDOWN or a
 * reply to quit are hints for the cause, never the end (FACTS, "Twenty lessons", 1).
 */
#ifndef DROVER_HV_HV_H
#define DROVER_HV_HV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/child.h"
#include "lib/err.h"
#include "lib/str.h"

struct hv;
struct hv_ops;

enum hv_accel {
	HV_ACCEL_AUTO,
	HV_ACCEL_KVM,
	HV_ACCEL_TCG
};
enum hv_disk_format {
	HV_DISK_RAW,
	HV_DISK_QCOW2
};

struct hv_disk {
	const char *id; /* of the device, unique in the machine; NULL: "diskN" by its place */
	const char *path;
	enum hv_disk_format format;
	bool readonly;
	bool cdrom;
	unsigned boot_index; /* 1 is tried first by firmware; 0: not by order */
	const char *serial;  /* NULL: none */
	/* A raw file that a qcow2 lies above, only read; NULL: as the qcow2 itself says. */
	const char *backing;
};

/* A port of the host that is one of the guest. */
struct hv_forward {
	bool udp;
	unsigned port, to;
};

/* A network that the hypervisor itself is, in place of a TAP: it needs no privilege. */
struct hv_user_net {
	char net[19], host[16], dns[16], guest[16]; /* "10.0.2.0/24", and addresses in it */
	const char *hostname, *domain;              /* NULL: none */
	bool restricted;                            /* reaches neither host nor world */
	struct hv_forward *forwards;
	size_t nforwards;
};

struct hv_nic {
	const char *id;      /* "nic0", unique in the machine */
	const char *mac;     /* aa:bb:cc:dd:ee:ff */
	int tap_fd;          /* opened by the caller, who keeps its own copy; -1: no TAP */
	bool vhost;          /* let the kernel move the packets: /dev/vhost-net must open */
	const char *tap;     /* name of the TAP, for backends that take names, and for messages */
	unsigned boot_index; /* as of a disk */
	unsigned mtu;        /* that the guest is told of by the device; 0: it is not */
	const struct hv_user_net *user; /* NULL: it has a TAP */
};

/* A folder of the host in the guest; virtiofsd listens at socket already. */
struct hv_share {
	const char *tag; /* by which the guest mounts it */
	const char *socket;
};

/* What a machine is to be: values only, borrowed for the duration of the call. */
struct hv_spec {
	const char *name;    /* of the machine; also the process title shown by ps */
	const char *uuid;    /* may be NULL */
	const char *run_dir; /* run_dir/vm/NAME: sockets of the machine, exists, mode 0700 */
	const char *binary;  /* absolute path of the hypervisor */
	const char *machine; /* q35, pc, microvm, virt; NULL: the backend's default */
	enum hv_accel accel;
	const char *cpu; /* NULL: host under KVM, max under TCG */
	unsigned vcpus;
	unsigned vcpus_max;               /* up to which it can be resized; 0: as vcpus */
	unsigned sockets, cores, threads; /* their product is vcpus_max; 0: the backend's choice */
	uint64_t memory_mib;
	uint64_t memory_max_mib; /* up to which it can be resized; 0: as memory_mib */
	bool hugepages;
	bool memory_shared; /* with other processes: vhost-user, memory clones */
	/*
	 * The guest's memory is this file, shared with whoever maps it, and hv_save() leaves it there;
	 * NULL: anonymous. With memory_private it is mapped copy-on-write and never written: then
	 * restore_dir is what was saved of the guest that had the file.
	 */
	const char *memory_file;
	bool memory_private;
	const char *firmware;      /* code image; NULL: the backend's default */
	const char *firmware_vars; /* the machine's own, writable; NULL: none */
	bool secure_boot;          /* only the firmware may write the variables (q35, SMM) */
	const char *kernel, *initrd, *cmdline; /* kernel may be NULL when a disk boots */
	const struct hv_disk *disks;
	size_t ndisks;
	const struct hv_nic *nics;
	size_t nnics;
	const char *const *extra_args; /* qemu_args; NULL-terminated or NULL */
	bool start_paused;             /* created, but the guest does not run (QEMU -S) */
	bool reboot_is_exit;           /* a guest's reboot ends the run (QEMU -no-reboot) */
	bool sandbox;                  /* QEMU -sandbox on */
	bool agent;                    /* a port for the QEMU guest agent */
	unsigned hotplug_slots; /* "hp0", "hp1" ...: for devices that are added while it runs */
	bool balloon;
	uint32_t vsock_cid;     /* 0: no vsock */
	const char *tpm_socket; /* swtpm's control socket; NULL: no TPM */
	const struct hv_share *shares;
	size_t nshares;
	const char *vnc; /* path of the socket for a VNC server; NULL: no display */
	/*
	 * Instead of booting: what hv_save() left in this folder is loaded, and the guest stands
	 * still until hv_resume(). The rest of the spec must describe the same machine.
	 */
	const char *restore_dir;
	/* Instead of booting: waits for hv_migrate_in(). */
	bool incoming;
	const char *watchdog;        /* device: i6300esb, ib700; NULL: none */
	const char *watchdog_action; /* reset, poweroff, pause, none; NULL: reset */
	bool panic_device;           /* by which the guest tells of its panic; not for microvm */
	bool panic_is_pause;         /* the guest stands still after that; else it goes on */
	const char *jail;            /* path of drover-jail; NULL: the hypervisor is our child */
	const char *cgroup;        /* folder that it and its jail enter, if they can; NULL: none */
	const char *env;           /* "NAME=value", added to its environment; NULL: none */
	const char *log_path;      /* O_APPEND file for its stdout and stderr */
	uint64_t ready_timeout_ms; /* until the monitor answers; 0: 60 s */
	unsigned tsc_khz; /* of the host, for microvm under TCG; 0: hv_start() finds it out */
};

/* Descriptors that arguments() wants in the child, e.g. the monitor's listening socket. */
#define HV_FDS_MAX 64
struct hv_command {
	struct strv argv;
	struct child_fd fds[HV_FDS_MAX];
	size_t nfds;
};
void hv_command_finish(struct hv_command *c);

enum hv_status {
	HV_STATUS_UNKNOWN, /* not asked yet, or it does not answer */
	HV_STATUS_CREATED, /* started with start_paused, never ran (QEMU prelaunch) */
	HV_STATUS_RUNNING,
	HV_STATUS_PAUSED,
	HV_STATUS_IO_ERROR,
	HV_STATUS_PANICKED,
	HV_STATUS_BROKEN,   /* the accelerator cannot go on with the guest (QEMU internal-error) */
	HV_STATUS_SHUTDOWN, /* the guest is off, the process may still be there */
	HV_STATUS_SAVING,
	HV_STATUS_INCOMING,
};
const char *hv_status_name(enum hv_status s);

enum hv_event_kind {
	HV_EVENT_STATUS, /* status changed; `by_us` when hv_pause() or hv_resume() did it */
	/*
	 * The guest ends the run: reason is the protocol's word (guest-shutdown, guest-panic, and
	 * guest-reset with reboot_is_exit). by_us when hv_powerdown() had asked for it.
	 */
	HV_EVENT_GUEST_SHUTDOWN,
	HV_EVENT_GUEST_RESET,  /* the guest rebooted itself; the run goes on */
	HV_EVENT_HOST_RESET,   /* somebody reset it by the monitor; by_us tells whether we did */
	HV_EVENT_HOST_QUIT,    /* quit over the monitor or a signal; by_us as above */
	HV_EVENT_PANIC,        /* GUEST_PANICKED; reason: action and info */
	HV_EVENT_WATCHDOG,     /* expired; reason: what it does (watchdog_action) */
	HV_EVENT_IO_ERROR,     /* reason: device and text; nospace set for ENOSPC */
	HV_EVENT_DEVICE_GONE,  /* reason: device id; now its TAP, disk, descriptor may be freed */
	HV_EVENT_MONITOR_LOST, /* EOF while the process lives */
	HV_EVENT_UNRESPONSIVE, /* a command's deadline passed */
	HV_EVENT_RESPONSIVE,   /* it answers again */
	/* A drive's tray was opened or closed; reason: device id, as in hv_disk or QEMU's choice. */
	HV_EVENT_TRAY,
	/* What the drives for media hold: data is [{"id", "open", "medium": file or null}]. */
	HV_EVENT_DRIVES,
	HV_EVENT_OTHER, /* reason: the protocol's name of the event; data has all of it */
};

struct hv_event {
	enum hv_event_kind kind;
	enum hv_status status; /* after the event */
	bool by_us;
	bool nospace;
	bool open; /* the tray is */
	/* The client of the passthrough who did it: "uid 0 (pid 77) at the monitor"; else NULL. */
	const char *by;
	const char *reason; /* borrowed, may be NULL */
	const json_t *data; /* the protocol's own event, borrowed, may be NULL */
};

/* Somebody at the passthrough. */
struct hv_peer {
	uid_t uid;
	pid_t pid;
};

/* A command that came by the passthrough, for the record. */
struct hv_passed {
	struct hv_peer who;
	const char *command; /* "query-status" */
	const char *line;    /* the human monitor's line, where it is one; or NULL */
	bool changes;        /* it is none of those that are known to change nothing */
	bool refused;        /* for that or for the descriptor's name: it did not go out */
};

/*
 * All callbacks come from the loop, never from within a call, in the order things happened. Any of
 * them may be NULL, and any may call hv_destroy().
 */
struct hv_callbacks {
	/* Events may come before done of hv_start(): the guest already runs then. */
	void (*event)(void *arg, const struct hv_event *ev);
	/*
	 * The process is gone and reaped; the last callback. status->known is false when nobody
	 * could tell (adopted without a jail).
	 */
	void (*exited)(void *arg, const struct child_status *status);
	/* Bytes from the guest's serial console, which is drained even if this is NULL. */
	void (*console)(void *arg, const char *data, size_t len);
	/* A command of the passthrough; from within hv_execute_text() too. */
	void (*passed)(void *arg, const struct hv_passed *p);
	/*
	 * A client's command that ends the run is about to go out: what must outlive us is to be saved
	 * before this returns. With undone the hypervisor refused it. by as in struct hv_event.
	 */
	void (*quitting)(void *arg, const char *by, bool undone);
	void *arg;
};

/* Exactly once, never before the call returns; err is borrowed, NULL means success. */
typedef void hv_done_fn(void *arg, const struct err *err);
/* reply is what "return" held; borrowed; NULL with err. */
typedef void hv_reply_fn(void *arg, const json_t *reply, const struct err *err);

/* text: a whole answer in the backend's protocol, {"return": ...} or {"error": ...}; NULL with err. */
typedef void hv_text_fn(void *arg, const char *text, size_t len, const struct err *err);

/* The hypervisor's end of a nic's TAP. */
struct hv_tap {
	int fd;           /* a copy of its own descriptor, closed when the callback returns */
	int vnet_hdr_len; /* bytes that it expects before each packet, as the guest's driver is */
};
typedef void hv_tap_fn(void *arg, const struct hv_tap *tap, const struct err *err);

/* What identifies a running hypervisor across daemons; saved in state.json. */
struct hv_process {
	pid_t pid; /* of the hypervisor itself, never of the jail */
	uint64_t starttime;
	pid_t jail_pid; /* 0: none */
	uint64_t jail_starttime;
};

enum hv_cap {
	HV_CAP_PAUSE,
	HV_CAP_POWERDOWN,
	HV_CAP_RESET,
	HV_CAP_NMI,
	HV_CAP_SCREENDUMP,
	HV_CAP_DUMP, /* of the guest's memory: hv_dump() */
	HV_CAP_COUNTERS,
	HV_CAP_SNAPSHOT,
	HV_CAP_COPY_DISKS, /* while the guest runs on */
	HV_CAP_MIGRATE,
	HV_CAP_MEMORY_CLONE, /* memory_file with memory_private */
	HV_CAP_ADD_DISK,
	HV_CAP_ADD_NIC,
	HV_CAP_RESIZE_CPU,
	HV_CAP_RESIZE_MEMORY,
	HV_CAP_PASSTHROUGH,
	HV_NCAPS
};
const char *hv_cap_name(enum hv_cap cap); /* "resize-memory" */

struct hv_caps {
	const char *program; /* "QEMU 7.2.9" */
	/*
	 * NULL: it can. Else why not, for a sentence that begins with the hypervisor's name and
	 * version: "a microvm has no slots to add devices to". Lives as long as the run.
	 */
	const char *why_not[HV_NCAPS];
	bool agent; /* this run has a guest agent's port; whether somebody listens is not known */
};

/* Of a save, a copy or a migration; total 0: not known yet. Bytes. */
struct hv_progress {
	uint64_t done, total;
	const char *step; /* one word: "memory", "disks"; "copied": they are there, once */
};
typedef void hv_progress_fn(void *arg, const struct hv_progress *p);

struct hv_disk_copy {
	const char *id;     /* of the disk */
	const char *target; /* a file that is not there yet; gets the disk's own format */
};

/* Where a guest goes, or comes from. */
struct hv_migration {
	const char *uri;          /* "unix:PATH" or "tcp:HOST:PORT" */
	int fd;                   /* a connected socket instead of uri; -1: none */
	uint64_t max_downtime_ms; /* 0: 300 */
	uint64_t max_bandwidth;   /* bytes a second; 0: no limit */
	/*
	 * Out: disks that the other side does not share, by their ids. They are copied first, to the
	 * Unix socket where hv_serve_disks() of the other side answers, and agree with the memory.
	 */
	const char *nbd;
	const char *const *disks;
	size_t ndisks;
};

/* Fires once, when pid and start time are known. */
typedef void hv_spawned_fn(void *arg, const struct hv_process *p);

/*
 * A backend. Every member is there; what they must do is said at the function of hv.c that has the
 * same name, below.
 */
struct hv_ops {
	const char *name; /* "qemu": the value of `hypervisor =` */
	/*
	 * Pure: the command line for spec, given the descriptors of the listening sockets; agent_fd
	 * counts with spec->agent only.
	 */
	int (*arguments)(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
		bool use_kvm, struct hv_command *out, struct err *err);
	int (*create)(
		struct hv **out, uv_loop_t *loop, const struct hv_callbacks *cb, struct err *err);
	void (*start)(struct hv *hv, const struct hv_spec *spec, hv_spawned_fn *spawned,
		hv_done_fn *done, void *arg);
	void (*start_cancel)(struct hv *hv);
	void (*adopt)(struct hv *hv, const struct hv_spec *spec, const struct hv_process *process,
		struct child_status *status, hv_done_fn *done, void *arg);
	void (*pause)(struct hv *hv, hv_done_fn *done, void *arg);
	void (*resume)(struct hv *hv, hv_done_fn *done, void *arg);
	void (*powerdown)(struct hv *hv, hv_done_fn *done, void *arg);
	void (*reset)(struct hv *hv, hv_done_fn *done, void *arg);
	void (*quit)(struct hv *hv, hv_done_fn *done, void *arg);
	int (*kill)(struct hv *hv, int sig);
	void (*execute)(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply,
		void *arg);
	void (*execute_text)(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
		bool write, hv_text_fn *reply, void *arg);
	int (*passthrough)(struct hv *hv, const char *path, gid_t group, struct err *err);
	void (*passthrough_write)(struct hv *hv, bool write);
	void (*ping)(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
	void (*agent)(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply,
		void *arg);
	void (*agent_forget)(struct hv *hv, const void *arg);
	int (*console_write)(struct hv *hv, const char *data, size_t len);
	/* NULL where it cannot. */
	int (*tap)(struct hv *hv, const char *nic_id, hv_tap_fn *done, void *arg, struct err *err);
	/* From here to destroy a backend may have NULL: it cannot, and its caps say why. */
	void (*nmi)(struct hv *hv, hv_done_fn *done, void *arg);
	void (*screendump)(struct hv *hv, const char *path, hv_done_fn *done, void *arg);
	void (*dump)(struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done,
		void *arg);
	void (*counters)(struct hv *hv, hv_reply_fn *reply, void *arg);
	void (*save)(struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done,
		void *arg);
	void (*copy_disks)(struct hv *hv, const struct hv_disk_copy *copies, size_t n,
		hv_progress_fn *progress, hv_done_fn *begun, hv_done_fn *done, void *arg);
	void (*migrate_out)(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
		hv_done_fn *done, void *arg);
	void (*serve_disks)(struct hv *hv, int fd, const char *const *ids, size_t n,
		hv_done_fn *done, void *arg);
	void (*migrate_in)(
		struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg);
	void (*job_cancel)(struct hv *hv);
	void (*add_disk)(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg);
	void (*add_nic)(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg);
	void (*remove_device)(struct hv *hv, const char *id, hv_done_fn *done, void *arg);
	void (*resize)(
		struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg);
	void (*destroy)(struct hv *hv, void (*closed)(void *arg), void *arg);
};
extern const struct hv_ops hv_qemu, hv_cloud_hypervisor;
/* NULL for a name that is not known. */
const struct hv_ops *hv_find(const char *name);

/*
 * One object for one run. hv_create, then either hv_start or hv_adopt, then after `exited` (or a
 * start that failed) hv_destroy.
 */
int hv_create(struct hv **out, const struct hv_ops *ops, uv_loop_t *loop,
	const struct hv_callbacks *cb, struct err *err);

/*
 * Makes the sockets, spawns, connects, negotiates, asks for the status. done(NULL) when the
 * monitor has answered and the serial console is drained. When it fails after the spawn, the
 * process is killed and both done(err) and exited come (done first); when nothing was spawned only
 * done comes. err then holds the hypervisor's last words where it said any.
 * `spawned` (may be NULL) fires once as soon as pid and start time are known: the caller writes
 * them to the state file; done comes later.
 */
void hv_start(struct hv *hv, const struct hv_spec *spec, hv_spawned_fn *spawned, hv_done_fn *done,
	void *arg);
/*
 * Cancels a start under way: the process is killed, done gets -ECANCELED. Does nothing when done
 * has fired.
 */
void hv_start_cancel(struct hv *hv);

/*
 * Takes over a process of an earlier daemon: watches it, connects monitor and console again,
 * queries the status. done(-ESRCH) when it is gone: then no `exited`, and *status is filled,
 * before this returns, from the jail's exit file if there is one (else status->known is false). A
 * monitor that does not answer is no failure: done(NULL) with status unknown, and
 * HV_EVENT_RESPONSIVE when it comes back.
 */
void hv_adopt(struct hv *hv, const struct hv_spec *spec, const struct hv_process *process,
	struct child_status *status, hv_done_fn *done, void *arg);

enum hv_status hv_status(const struct hv *hv); /* cached, never asks */
bool hv_unresponsive(const struct hv *hv);
const struct hv_process *hv_process(const struct hv *hv);
const struct hv_caps *hv_caps(const struct hv *hv);
/* The accelerator in use and why: "tcg (no vmx or svm among the CPU flags)". */
const char *hv_accel_text(const struct hv *hv);

void hv_pause(struct hv *hv, hv_done_fn *done, void *arg);
void hv_resume(struct hv *hv, hv_done_fn *done, void *arg);
void hv_powerdown(struct hv *hv, hv_done_fn *done, void *arg); /* ACPI power button */
void hv_reset(struct hv *hv, hv_done_fn *done, void *arg);
/* Asks the hypervisor to end; done when the command was sent or failed: a reply may never come. */
void hv_quit(struct hv *hv, hv_done_fn *done, void *arg);
/* -ESRCH when the process is gone. */
int hv_kill(struct hv *hv, int sig);
/* A command in the backend's own protocol. cmd is copied. timeout 0: 5 s. */
void hv_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
/*
 * A command of somebody else, as text: it goes out and is answered verbatim but for "id", and has no
 * deadline. Without write one that may change something is refused: -EACCES. Other codes:
 * -ECONNRESET and -ENOTCONN for the connection, -ESRCH when hv goes first; what the hypervisor
 * refuses is an answer. reply fires exactly once, never before the call returns.
 */
void hv_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg);
/*
 * Opens the passthrough: a socket at path where any number of unmodified clients of the backend's
 * protocol can be at once, beside us (hv/qmp-mux.h). group: whose members may connect beside root
 * and our own uid; -1: none. It goes with hv_destroy(). They only read until write is opened.
 */
int hv_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err);
void hv_passthrough_write(struct hv *hv, bool write);
/* Asks the monitor something that changes nothing: whether it answers. timeout 0: 5 s. */
void hv_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
/*
 * A command for the guest agent (QEMU's qga/qapi-schema.json); cmd is copied; one is under way at a
 * time, the time includes the waiting. timeout 0: 5 s. guest-shutdown has no answer when it
 * succeeds, so -ETIMEDOUT and -ECONNRESET mean nothing there. Codes as in hv/agent.h: -ENOENT when
 * the run has no agent's port.
 */
void hv_agent(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
/* The agent's commands that were given this arg: their reply does not fire any more. */
void hv_agent_forget(struct hv *hv, const void *arg);
/*
 * To the guest's serial console. -EAGAIN when it does not fit the bounded queue (64 KiB): then
 * nothing of it was taken. -ENOTCONN without a console.
 */
int hv_console_write(struct hv *hv, const char *data, size_t len);

/*
 * A nic's TAP was deleted, which only detaches the descriptor that the hypervisor holds: gives a
 * copy of that, so that it can be attached again (tap_attach() of netcfg). done fires once;
 * hv_destroy() before that forgets it. -ENOTSUP: this hypervisor has no such descriptor; then done
 * does not fire.
 */
int hv_tap(struct hv *hv, const char *nic_id, hv_tap_fn *done, void *arg, struct err *err);

/*
 * 0 when this run can do it; else -ENOTSUP with the sentence that names the hypervisor, its version
 * and the reason. The functions below give their done the same error.
 */
int hv_can(const struct hv *hv, enum hv_cap cap, struct err *err);
void hv_nmi(struct hv *hv, hv_done_fn *done, void *arg);
/* A picture of the display in path (PNG where the hypervisor can, else PPM), made by it. */
void hv_screendump(struct hv *hv, const char *path, hv_done_fn *done, void *arg);
/* The guest's memory as an ELF core in path. */
void hv_dump(
	struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg);
/* {"disks": {ID: {"read-bytes": ...}}}: what the hypervisor counts; more where it counts more. */
void hv_counters(struct hv *hv, hv_reply_fn *reply, void *arg);
/*
 * Memory and device state into dir, an empty folder that is there. Only of a guest that stands still
 * (-EBUSY else), which it does afterwards, too, whether it went well or not. The caller sees to the
 * fsync, for which the guest need not wait. After a failure or a cancel there may be files in dir.
 */
void hv_save(struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg);
/*
 * Copies disks as they are now, without stopping the guest for the time that takes: begun fires when
 * it may run on, or with the error; done (which comes last, also after an error of begun) when the
 * copies are whole and written out.
 */
void hv_copy_disks(struct hv *hv, const struct hv_disk_copy *copies, size_t n,
	hv_progress_fn *progress, hv_done_fn *begun, hv_done_fn *done, void *arg);
/*
 * Sends the running guest away. done(NULL): it has arrived and stands still here for good; the
 * caller ends this process, or has hv_resume() let the guest go on here when the other side has
 * dropped it. cloud-hypervisor's process stands still, too, and answers nothing. done(err): it runs here as before. What a lost connection in the last
 * moment left open, or the end of this process, is -EUNATCH: then the caller asks the other side
 * before it goes on. -EBUSY: the guest does not run. A cancel that comes too late is done(NULL).
 */
void hv_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg);
/*
 * For spec->incoming, before hv_migrate_in(): until the guest has arrived, the disks with these ids
 * can be written through fd, a listening Unix socket that stays the caller's (NBD; each export has
 * the id as its name). done: who connects from now on is answered.
 */
void hv_serve_disks(
	struct hv *hv, int fd, const char *const *ids, size_t n, hv_done_fn *done, void *arg);
/*
 * For spec->incoming: done when the guest is here, standing still. Its disks are left alone until
 * hv_resume(), so that the sender can still take it back; cloud-hypervisor has them open by then. After
 * an error the process is of no more use, and may have ended by itself.
 */
void hv_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg);
/* Ends the save, copy or migration under way: its done gets -ECANCELED. A dump goes on to its end. */
void hv_job_cancel(struct hv *hv);
/*
 * While it runs. The descriptor of nic->tap_fd is passed and stays the caller's. remove_device asks
 * the guest, which may take its time or refuse (-EBUSY): only after done may what the device used
 * be freed.
 */
void hv_add_disk(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg);
void hv_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg);
void hv_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg);
/* 0: as it is. */
void hv_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg);

/*
 * Lets go of everything; a process that still runs lives on for the next daemon, one that is just
 * being spawned is killed. No callback
 * fires afterwards but closed (may be NULL), when the memory is gone. Takes NULL.
 */
void hv_destroy(struct hv *hv, void (*closed)(void *arg), void *arg);

/*
 * On x86 KVM is taken only if /dev/kvm opens read-write and cpuinfo's flags have vmx or svm
 * (FACTS, "/dev/kvm that is no use"). why gets one sentence. Pure but for reading the two paths,
 * which tests replace.
 */
bool hv_kvm_usable(const char *dev_kvm, const char *cpuinfo, char *why, size_t cap);

#endif

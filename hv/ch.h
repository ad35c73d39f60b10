/*
 * hv/ch.h - the parts of the cloud-hypervisor backend: ch-config.c (command line, vm.create's body),
 * ch-version.c (which release a binary is), ch-api.c (requests, one at a time), ch-error.c (what its
 * errors mean), ch-stream.c (the event monitor's bytes), ch.c (start, adoption, end of a run),
 * ch-boot.c (from the first answer to the guest), ch-monitor.c (events, console, slow and lost
 * connections), ch-events.c (what events mean), ch-ops.c (pause, reset and their like), ch-device.c
 * (hotplug, resizing), ch-job.c (snapshots), ch-migrate.c with ch-freeze.c, ch-relay.c and ch-wire.c (migration),
 * ch-text.c (requests of others). Private to hv/.
 *
 * Citations "vmm/..." are of cloud-hypervisor's own source, v53.
 */
#ifndef DROVER_HV_CH_H
#define DROVER_HV_CH_H

#include "hv/backend.h"
#include "hv/process.h"
#include "hv/serial.h"
#include "lib/deadline.h"
#include "lib/list.h"

#define CH_OLDEST 50

/* After an answer its event is a matter of microseconds; a busy host may take longer. */
#define CH_SETTLE_MS 2000

/* ch-config.c */

/*
 * Pure. The descriptors: monitor_fd is the API's listening socket, serial_fd the event monitor's
 * end; the serial console is a socket that the hypervisor makes itself, so there is none for it.
 */
int ch_arguments(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
	bool use_kvm, struct hv_command *out, struct err *err);
/* Pure: the body of vm.create; of vm.add-disk and vm.add-net. The caller's reference. */
int ch_vm_config(const struct hv_spec *spec, json_t **out, struct err *err);
int ch_disk_config(const struct hv_disk *d, size_t i, json_t **out, struct err *err);
/* fd: the TAP goes with the request as a descriptor, and not by its name. */
json_t *ch_net_config(const struct hv_nic *n, bool fd);

/* ch-restore.c */

/* Pure: puts the files of our configuration into the one that a snapshot was taken with. -ENOMEM. */
int ch_restore_config(json_t *theirs, const json_t *ours);
/* Makes `to`, which is to be restored in place of the snapshot `from`; from is absolute. */
int ch_restore_folder(const char *from, const char *to, const json_t *ours, struct err *err);

/* ch-version.c */

struct ch_version {
	unsigned major, minor;
	char text[40]; /* "v53.0", "v53.0-12-gabcdef" */
};
/* Pure: of `--version`, "cloud-hypervisor v53.0\n...", or of vmm.ping, "v53.0", "53.0.0". */
int ch_version_parse(const char *text, struct ch_version *out);
/* -ENOTSUP with the sentence when it is too old. */
int ch_version_check(const struct ch_version *v, const char *binary, struct err *err);

struct ch_probe;
/* Once, never before the call returns; v is NULL with err. */
typedef void ch_probed_fn(void *arg, const struct ch_version *v, const struct err *err);
/* Runs `binary --version`, or knows it already: the answer is kept by path, inode and ctime. */
int ch_probe(struct ch_probe **out, uv_loop_t *loop, const char *binary, ch_probed_fn *done,
	void *arg, struct err *err);
/* Before done: it does not fire. Takes NULL. */
void ch_probe_abandon(struct ch_probe *p);

/* ch-error.c */

/*
 * Pure: the error of an answer with this HTTP status, whose body is an array of strings, outermost
 * first (vmm/src/api/http/mod.rs, error_response). Returns 0 for a status that is none.
 */
int ch_error(int status, const char *body, size_t len, struct err *err);
/* Pure: an answer's body. Counters have 64 bits without a sign, which become reals. NULL: no JSON. */
json_t *ch_parse(const char *text, size_t len);

/* ch-stream.c */

/* Pretty-printed objects with blank lines between them, in any fragments. {0} is an empty one. */
struct ch_stream {
	struct buf line, object;
	bool inside;
};
typedef void ch_object_fn(void *arg, json_t *event);
/* Every whole object is reported; fn must not finish the stream. */
void ch_stream_feed(struct ch_stream *s, const char *data, size_t len, ch_object_fn *fn, void *arg);
void ch_stream_finish(struct ch_stream *s);

/* ch-api.c */

struct ch_api;

struct ch_answer {
	int status;       /* of HTTP */
	const char *text; /* the body, NUL-terminated, borrowed */
	size_t len;
};
/* a is NULL with err; an HTTP status that is an error comes with both. */
typedef void ch_answer_fn(void *arg, const struct ch_answer *a, const struct err *err);

struct ch_request {
	const char *method, *path; /* "PUT", "/vm.pause" */
	const json_t *body;        /* NULL: none (an empty one is refused by most) */
	const char *text;          /* or this */
	int pass_fd;               /* goes with it; 0 or less: none */
	uint64_t timeout_ms;       /* from when it is sent; 0: 5 s; UINT64_MAX: none */
	/* As long as it is under way nothing else is answered, and that is no sign of anything. */
	bool slow;
	ch_answer_fn *done;
	void *arg;
};

struct ch_api_callbacks {
	void (*late)(void *arg, const char *path); /* no answer in time, while the socket stands */
	void (*alive)(void *arg);                  /* any answer */
	void (*lost)(void *arg, const struct err *err); /* a request found nobody */
	void *arg;
};

int ch_api_create(struct ch_api **out, uv_loop_t *loop, const char *socket,
	const struct ch_api_callbacks *cb, struct err *err);
/* done fires exactly once, never before this returns, unless ch_api_destroy() comes first. */
void ch_api_send(struct ch_api *a, const struct ch_request *r);
bool ch_api_busy(const struct ch_api *a); /* with a slow one */
/* Nothing of what waits or is under way is told any more. Takes NULL, then closed fires at once. */
void ch_api_destroy(struct ch_api *a, void (*closed)(void *arg), void *arg);

/* ch-fd.c: one request with a descriptor, which libcurl cannot send (SCM_RIGHTS). */
struct ch_fd_call;
int ch_fd_call(struct ch_fd_call **out, uv_loop_t *loop, const char *socket, const char *method,
	const char *path, const char *body, int fd, ch_answer_fn *done, void *arg, struct err *err);
/* done does not fire any more. Takes NULL. */
void ch_fd_abandon(struct ch_fd_call *c);
/* Pure: 1 when data holds a whole answer, 0 when more is to come, -EBADMSG. */
int ch_http_parse(const char *data, size_t len, struct ch_answer *out);

/* The rest */

enum ch_phase {
	CH_IDLE,
	CH_STARTING, /* done of hv_start() or hv_adopt() has not fired */
	CH_UP,
	CH_FAILED, /* done has fired with an error; the process is dying */
	CH_GONE,   /* no process; only hv_destroy() is left */
	CH_CLOSING
};

/*
 * What we asked for, noted before the request is sent: whose doing an event is. Answers and events
 * come on two ways, in any order; so the events that are still to come of our doing are counted.
 */
struct ch_intents {
	unsigned pause, resume, reset;
	bool runs; /* what we asked for last: that it runs, or that it stands still */
	bool powerdown, quit, signal;
};

/* Somebody's request of the passthrough whose event is still to come. */
enum ch_effect {
	CH_EFFECT_PAUSE,
	CH_EFFECT_RESUME,
	CH_EFFECT_RESET,
	CH_EFFECT_POWERDOWN,
	CH_EFFECT_SHUTDOWN,
	CH_EFFECT_QUIT,
	CH_EFFECTS
};

struct ch_job;
struct ch_migration;

struct ch {
	struct hv hv; /* first */
	enum ch_phase phase;
	struct process *process;
	struct ch_api *api;
	struct serial *console;
	struct ch_probe *probe;
	char *run_dir, *api_path, *serial_path, *events_path, *marker_path, *log_path;
	char *stream_path;    /* of a migration's socket */
	char *frozen_path;    /* is there while the process was stopped by us */
	char *freezer_path;   /* of its cgroup; NULL: it has none */
	long long log_offset; /* where this run's own lines begin */
	struct ch_intents intents;
	char by[CH_EFFECTS][48]; /* "" for nobody */
	bool reboot_is_exit, panic_is_pause, start_paused, incoming;
	bool ended;     /* the guest's end was told */
	bool frozen;    /* the process: its guest is given to another host */
	unsigned major; /* of the version; 0: not known yet */
	bool held;      /* paused by us for a panic */

	/* What is kept of the spec for the time after the probe. */
	struct hv_command command;
	int listener, events_out, log_fd;
	char *binary, *jail, *cgroup, *env, *restore_dir;
	json_t *config; /* vm.create's body; NULL: not to be made from an adopted machine's spec */
	json_t *own;    /* the same of one whose guest comes from another host */

	struct list boot_nics; /* ch-boot-nic.c: to be added before the boot */
	bool lacks_nics;       /* such ones, whose descriptors an earlier daemon had */

	uv_poll_t events;
	int events_fd; /* -1: closed */
	struct ch_stream stream;

	/* The start or adoption under way. */
	struct deadline ready;
	hv_spawned_fn *spawned;
	hv_done_fn *done;
	void *arg;
	bool adopting, is_spawned, answered;
	bool failing;         /* start_err is to be told as soon as is_spawned */
	struct err start_err; /* why the start fails, or will if nothing better is known */

	struct deadline later;  /* fires at once: what must not be told from within a call */
	struct deadline retry;  /* asks again while nothing is answered */
	struct deadline dial;   /* connects the console again */
	struct deadline settle; /* after the last answer, until its events are no longer expected */
	uint64_t retry_ms, dial_ms;
	bool lost, lost_told, asking;
	struct list ops;      /* under way */
	struct list removals; /* devices that the guest is to let go of */
	struct ch_job *job;
	struct ch_migration *migration;

	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static inline struct ch *ch_of(struct hv *hv)
{
	return container_of(hv, struct ch, hv);
}

static inline bool ch_alive(const struct ch *c)
{
	return c->phase == CH_STARTING || c->phase == CH_UP;
}

/* ch.c */

void ch_part_closed(void *arg);
void ch_set_program(struct ch *c, const struct ch_version *v);
/* The guest is where the spec wants it: ends a start or an adoption. */
void ch_answered(struct ch *c);
/* Ends a start for this; the process is killed. */
void ch_start_failed(struct ch *c, const struct err *err);
/* The socket has closed during a start: the process follows, or is made to. */
void ch_start_lost(struct ch *c, const struct err *err);

/* ch-boot.c: the requests of a start; and of an adoption that finds a start half done. */

/*
 * Leaves a file while a start has not come to the guest's boot: a daemon that finds the hypervisor
 * without a guest goes on from there, and never boots one that waits for a migration.
 */
int ch_mark_boot(struct ch *c, struct err *err);
void ch_boot(struct ch *c);

/* ch-monitor.c */

int ch_open_api(struct ch *c, struct err *err);
void ch_drop_api(struct ch *c);
/* Makes the FIFO and opens our end; *out is the hypervisor's. */
int ch_make_events(struct ch *c, int *out, struct err *err);
int ch_open_events(struct ch *c, struct err *err);
void ch_drop_events(struct ch *c);
/* Now, and again until it succeeds. */
void ch_dial_console(struct ch *c);
void ch_drop_console(struct ch *c);
/* Reads and reports what events and console still hold after the process's end. */
void ch_drain(struct ch *c);
void ch_emit_event(struct ch *c, const struct hv_event *ev);
void ch_emit(
	struct ch *c, enum hv_event_kind kind, bool by_us, const char *reason, const json_t *data);
/* Tells that it answers again, if it did not. */
void ch_came_back(struct ch *c);
deadline_fn ch_retry, ch_dial;

/* ch-events.c */

void ch_set_status(
	struct ch *c, enum hv_status status, bool by_us, const char *by, const char *word);
void ch_event(void *arg, json_t *event);
/* The guest's end, once; event is NULL when nothing but the process's exit tells it. */
void ch_tell_end(struct ch *c, const json_t *event);
/* vm.info: what it tells goes into hv.status, and out as an event when it is news. */
void ch_ask_status(struct ch *c);
void ch_take_info(struct ch *c, const json_t *info);
/* Who of the clients asked for this, if one did: NULL or his words; once. */
const char *ch_take_by(struct ch *c, enum ch_effect effect, char out[48]);
deadline_fn ch_settled;

/* ch-ops.c: these as in hv.h */

void ch_pause(struct hv *hv, hv_done_fn *done, void *arg);
void ch_resume(struct hv *hv, hv_done_fn *done, void *arg);
void ch_powerdown(struct hv *hv, hv_done_fn *done, void *arg);
void ch_reset(struct hv *hv, hv_done_fn *done, void *arg);
void ch_quit(struct hv *hv, hv_done_fn *done, void *arg);
int ch_kill(struct hv *hv, int sig);
void ch_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
int ch_console_write(struct hv *hv, const char *data, size_t len);
void ch_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
void ch_agent(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg);
void ch_agent_forget(struct hv *hv, const void *arg);
void ch_nmi(struct hv *hv, hv_done_fn *done, void *arg);
void ch_counters(struct hv *hv, hv_reply_fn *reply, void *arg);

/* One request for an owner's operation. */
struct ch_op {
	struct list list;
	struct ch *c;
	hv_done_fn *done;
	hv_reply_fn *reply;
	void *arg;
	bool owns_arg; /* arg is malloc'd, and freed with what nobody is told of any more */
	void (*good)(struct ch *c, const struct ch_op *op); /* it succeeded: before done */
	unsigned *expect; /* counted up before it is sent, down when it fails */
	bool *intent;
	json_t *(*convert)(const json_t *reply); /* the owner gets this; NULL: as it is */
	bool lost_is_done;                       /* the answer may be lost, and that is none */
	struct err fail; /* told by `later`; code 1: nothing is wrong, and nothing to send */
};
void ch_op_send(struct ch *c, const struct ch_request *r, const struct ch_op *values);
/* Tells values' owner err, or success with NULL, on a later turn of the loop. */
void ch_op_later(struct ch *c, const struct err *err, const struct ch_op *values);
/* Completes those that were never sent, and all of them once the process is gone. */
void ch_fail_ops(struct ch *c);
void ch_forget_ops(struct ch *c);

/* ch-boot-nic.c */

/* Of the spec's nics those whose TAP has no name; they go with ch_forget_boot_nics(). */
int ch_keep_boot_nics(struct ch *c, const struct hv_spec *spec, struct err *err);
void ch_forget_boot_nics(struct ch *c);
/* Sends r for one that is left; false: none is. */
bool ch_next_boot_nic(struct ch *c, struct ch_request *r);

/* ch-device.c */

void ch_add_disk(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg);
void ch_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg);
void ch_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg);
void ch_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg);
/* The event has come: whoever waits for it is told. */
void ch_device_gone(struct ch *c, const char *id);
/* Their owners are told err; with NULL they are forgotten. */
void ch_end_removals(struct ch *c, const struct err *err);

/* ch-job.c */

void ch_dump(
	struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg);
void ch_save(struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg);
void ch_job_cancel(struct hv *hv);
/* The process is gone, or with NULL all is to be forgotten. */
void ch_end_job(struct ch *c, const struct err *err);

/* ch-migrate.c */

void ch_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg);
void ch_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg);
/* These three are true when there is a migration whose business it is. */
bool ch_migrate_cancel(struct ch *c);
bool ch_migrate_resume(struct ch *c, hv_done_fn *done, void *arg);
bool ch_migrate_quit(struct ch *c);
/* An event of one: "migration-failed". */
void ch_migration_event(struct ch *c, const char *name);
/* The guest is on its way from here, or has gone, or is about to go on here. */
bool ch_migrates(const struct ch *c);
bool ch_migrating(const struct ch *c); /* or comes here */
/* As ch_end_job(). */
void ch_end_migration(struct ch *c, const struct err *err);

/* ch-freeze.c */

/* Sends SIGSTOP; ch_all_stopped() tells when it is so. */
int ch_freeze(struct ch *c, struct err *err);
/* It is so: whoever sends a SIGCONT now does not change it, if it has a cgroup (v2). */
void ch_hold(struct ch *c);
/* It was killed, or is gone: its jail can tell how. */
void ch_let_end(struct ch *c);
void ch_thaw(struct ch *c);
/* Whether every thread of the process is stopped by a signal. */
bool ch_all_stopped(pid_t pid);

/* ch-text.c */

void ch_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg);
int ch_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err);
void ch_passthrough_write(struct hv *hv, bool write);
/* Pure: the words of "METHOD PATH [JSON]", with or without the base path. */
struct ch_line {
	char method[8], path[64];
	const char *body; /* "" for none; within text */
	bool changes;     /* not among those known to change nothing */
};
int ch_line_parse(const char *text, size_t len, struct ch_line *out, struct err *err);

#endif

/*
 * supervisor/machine-job.h - work on a machine in steps that undo themselves: snapshot, suspend, and
 * what comes before a restore. Loop thread. One at a time for each machine.
 *
 * A job has an array of steps and one exit. When a step fails, somebody cancels, or the run ends, the
 * rest of the steps is left out and the undo steps follow: the machine goes on as it did before, and
 * nothing is left behind. A daemon that is killed meanwhile leaves that to the next one: `hold` and
 * `frozen` in the state file say what the guest waits for, and names that end in .tmp what to remove.
 */
#ifndef DROVER_SUPERVISOR_MACHINE_JOB_H
#define DROVER_SUPERVISOR_MACHINE_JOB_H

#include <stdatomic.h>
#include "lib/fault.h"
#include "supervisor/machine.h"
#include "supervisor/pool-work.h"
#include "supervisor/snapshot.h"

struct machine_job;

struct job_step {
	const char *name; /* of the fault point, and the operation's step */
	void (*fn)(struct machine_job *j);
};

struct job_kind {
	const char *verb;               /* "snapshot" */
	const char *table;              /* of its fault points */
	const struct job_step *steps;   /* end with a NULL name */
	const struct job_step *undo;    /* likewise */
	const char *begun, *done, *bad; /* events */
};

struct machine_job {
	struct machine *m;
	const struct job_kind *kind;
	struct operation *op; /* NULL: somebody else has ended it */
	size_t step;
	bool undoing;
	bool waits_hv; /* for a callback of the hypervisor's, which does not come once that is gone */
	bool in_pool; /* a thread has it, or a process of ours */
	bool lost;    /* the run has ended */
	atomic_bool cancelled;
	struct err err;
	void (*pool_next)(struct machine_job *j); /* after the pool; NULL: the next step */

	char *name; /* of the snapshot, or of the machine that is made */
	char *tmp, *dir;
	json_t *manifest;
	struct snapshot_disks disks;
	struct snapshot_early *early; /* of what the hypervisor has saved; or NULL */
	bool disks_only, crash_consistent;
	bool stays; /* its disks are not copied: suspend */
	bool was_running;
	bool copying;     /* by the hypervisor, while the guest runs: */
	bool copy_waited; /* the step that waits for its end is there */
	bool copy_refused;
	struct err copy_err; /* code 0: it went well */

	/* Of a clone. */
	char *text;        /* the section of the new machine */
	bool warm;         /* of a warm template: manifest and dir are its image's */
	bool memory;       /* of a snapshot that has one: the new machine begins with it */
	bool placed, made; /* its folder is in its place; it is among the machines */
};

/* NULL without memory. */
struct machine_job *job_create(struct machine *m, const struct job_kind *kind);
void job_destroy(struct machine_job *j);
/* Begins the operation and the first step, on the loop's next turn. Destroys j when it fails. */
int job_begin(struct machine_job *j, struct operation **op, struct err *err);
/* Every step ends in this, once. */
void job_next(struct machine_job *j, const struct err *err);
/* A step's work in the pool; job_next() follows. */
void job_pool(struct machine_job *j, pool_work_fn *fn);
/* The done of a step's hv call. */
void job_hv_done(void *arg, const struct err *err);
void job_hv_progress(void *arg, const struct hv_progress *p);
/* Whether the next run would be like this one: nothing was added to it. */
int job_check_run(const struct machine *m, struct err *err);
/* Its disks and the beginning of its manifest. */
int job_manifest(struct machine_job *j, const char *kind, const char *consistency, struct err *err);

/* ---- the files that are its state (machine-own.c) ---- */
/*
 * Its disks and the variables of its firmware, those that are there. With foreign also the volumes
 * that are somebody's file; without, -EBADFD when it writes to one. out is to be empty, and is to be
 * finished also after an error.
 */
int machine_own_disks(const struct machine *m, const struct vm_config *cfg, bool foreign,
	struct snapshot_disks *out, struct err *err);
/* The same, without foreign ones, and what its TPM keeps. */
int machine_own_files(const struct machine *m, const struct vm_config *cfg,
	struct snapshot_disks *out, struct err *err);
bool machine_has_disks(const struct machine *m, const struct vm_config *cfg);
/* Whether a snapshot has the machine's disks, as it is configured now, and no others. */
int machine_check_disks(const struct machine *m, const json_t *manifest, struct err *err);
/* Removes what lies beside them under the name with that suffix. */
void machine_sweep_own(struct machine *m, const char *suffix);

/* ---- steps that jobs share ---- */
void job_folder(struct machine_job *j); /* makes j->tmp */
void job_hold(struct machine_job *j);   /* the machine is saving, and on record as such */
void job_pause(struct machine_job *j);
void job_memory(struct machine_job *j);
/*
 * The disks are in j->tmp, or are on their way there and may change: those whose blocks cannot be
 * shared are copied by the hypervisor, if it can, and job_await_copies() waits for that
 * (machine-copy.c). When the job is undone, that ends it.
 */
void job_copy_disks(struct machine_job *j);
void job_await_copies(struct machine_job *j);
void job_seal(struct machine_job *j);
void job_resume(struct machine_job *j); /* the guest goes on, if it ran */
void job_remove(struct machine_job *j); /* undo of job_folder */
/* Whether the program that would run it is of the manifest's version (machine-suspend.c). */
void job_version(struct machine_job *j);

extern const struct job_step job_undo_steps[];

#endif

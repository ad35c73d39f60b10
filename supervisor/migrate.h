/*
 * supervisor/migrate.h - live migration to and from another droverd: what supervisor/handover.h has
 * decided is written down, asked for and done here. Loop thread. Times in ms.
 *
 * Both sides are driven by their record and by what is: migrate_*_drive() may be called at any time,
 * again and again, and does what is still to be done. So a daemon that has found a record goes on
 * like one that has just written it.
 */
#ifndef DROVER_SUPERVISOR_MIGRATE_H
#define DROVER_SUPERVISOR_MIGRATE_H

#include "lib/http.h"
#include "supervisor/handover.h"
#include "supervisor/machine.h"
#include "supervisor/migrate-disks.h"
#include "supervisor/pool-work.h"
#include "supervisor/server.h"
#include "supervisor/tunnel.h"
#include "supervisor/wire.h"

#define MIGRATE_ID_LEN 32

/* What both sides have. */
struct migrate {
	struct machine *m; /* NULL: let go of, and freed when nothing is pending any more */
	struct drover *d;
	char id[MIGRATE_ID_LEN + 1];
	struct deadline timer;
	struct wire *wire;
	struct tunnel *tunnel; /* through which its disks are copied */
	int fd;                /* the stream's, until the hypervisor has it; -1: none */
	bool unsaved;          /* the record is not on disk yet: nothing follows from it */
	bool saving;           /* it is written, and waits for its fsync */
	bool failed;           /* it could not be written the last time */
	bool free;             /* the file says what means the same: nothing waits for the record */
	unsigned pending;      /* callbacks to come */
	void (*saved)(struct migrate *g);
};

struct migrate_out {
	struct migrate g;
	enum handover_source state;
	char *url;             /* the other droverd's API */
	char *via;             /* where it takes the guest's memory */
	struct http_req *http; /* under way; NULL: none */
	json_t *body;          /* of the prepare */
	uint64_t max_bandwidth;
	struct migrate_disks disks; /* that are copied */
	bool cancelled;             /* before there is an id */
	bool sending;               /* hv_migrate_out() is under way */
	bool resuming;              /* hv_resume() */
	bool doubted;               /* a person was told */
	bool both_told;             /* that the target has it, though it was kept */
	bool was_silent;            /* likewise, that no answer comes */
	bool copied;                /* its disks go with it */
	bool copying;               /* and are under way */
	bool all_copied;            /* and are there, up to what the guest writes */
	bool died;                  /* the hypervisor, in `giving` */
	bool stopped;               /* what an earlier daemon has left under way */
	bool kept; /* the guest goes on here, and stands still by no doing of ours any more */
	/* A daemon before us had sent it: until then all of it may turn out to have gone; or 0. */
	uint64_t unsure_until_ms;
	struct err err; /* why it is kept; code 0: for no reason of ours */
};

struct migrate_in {
	struct migrate g;
	enum handover_target state;
	char *from; /* who sends it, for messages */
	char *want_via, *via;
	json_t *facts;              /* of the sender's run; NULL: an earlier daemon had them */
	struct migrate_disks disks; /* that are copied here */
	char *section;              /* to be written; NULL: it has one already */
	bool writing;               /* the pool has it */
	struct request
		*rq;    /* the prepare, or a request that waits for what it has caused; or NULL */
	bool told;      /* the id has gone out */
	bool came_back; /* the machine was here before, and stays whatever becomes of this */
	bool ran;       /* it was let run, or has ended since */
	bool resuming;
	bool ending;
	bool copied;            /* its disks come with it */
	bool settled;           /* those that were here before are gone, or back in their places */
	bool loading;           /* hv_migrate_in() is under way */
	uint64_t since_ms;      /* of `dropped`, unix */
	uint64_t heard_mono_ms; /* when the source last said something, or this daemon began */
	struct err err;
};

struct migrate_opts {
	const char *to;         /* unix:PATH or http://HOST:PORT */
	const char *via;        /* tcp:ADDRESS:PORT or unix:PATH; NULL: as the target likes */
	uint64_t max_bandwidth; /* bytes a second; 0: no limit */
	bool copy_disks;        /* those that lie in its folder: the hosts share none of them */
};

/* ---- of a machine, for the rest of the supervisor ---- */
/* Whether it may be started or made to go on, or -EBUSY and why not. */
bool machine_may_run(const struct machine *m);
/* Where it has gone, and what is still here; malloc'd. */
char *machine_migrated_text(const struct machine *m);
int machine_check_may_run(const struct machine *m, const char *verb, struct err *err);
/* Whether it is on its way from or to here, so that nobody but the migration ends or changes it. */
bool machine_is_given(const struct machine *m);
/* An operation on it begins: -EBUSY while a migration has it. */
int machine_check_settled(const struct machine *m, const char *verb, struct err *err);
void machine_migrate_save(const struct machine *m, json_t *j);
/* All that was promised to be on disk is. */
void machine_migrate_saved(struct machine *m);
void machine_migrate_load(struct machine *m, const json_t *j);
/* Found by a new daemon: it migrates, or is to be taken back from that. */
bool machine_is_migrating(const struct machine *m);
/* A new daemon has found its record, before the process is adopted; and when it is. */
void machine_migrate_restarted(struct machine *m);
void machine_migrate_adopted(struct machine *m);
/* Its run has ended: the hypervisor is about to be let go of. */
void machine_migrate_lost(struct machine *m);
/* It has come to rest. false: its operation goes on. */
bool machine_migrate_at_rest(struct machine *m);
/* A stop has taken the place of its operation. */
void machine_migrate_overruled(struct machine *m);
void machine_migrate_release(struct machine *m);
/* The hypervisor waits for the guest. */
void machine_now_waiting(struct machine *m);
/* The end of a machine that migrates: of its start, or of its process. */
void machine_end_migrating(struct machine *m);
json_t *machine_migrate_json(const struct machine *m);

int machine_migrate(
	struct machine *m, const struct migrate_opts *o, struct operation **op, struct err *err);

/*
 * What a person has found out of one that is in doubt: whether it stays here, or is gone; or that the
 * other side of one that is decided is lost, and will never say its last word. -EBADFD when there is
 * none, or it is decided otherwise; -EBUSY while the other side, which may be about to take it, has
 * neither failed to answer nor said that it does not know of it.
 */
int machine_migrate_resolve(struct machine *m, bool keep_it, struct err *err);

/* ---- the target's side, for the routes ---- */
/* Answers rq, when the hypervisor waits or with what is in the way. */
void migrate_receive(struct drover *d, const json_t *body, struct request *rq);
/* Of commit, abort or farewell. */
void migrate_heard(
	struct drover *d, const char *id, enum handover_target_event ev, struct request *rq);
json_t *migrations_json(struct drover *d);
json_t *migration_json(struct drover *d, const char *id);

/* ---- what the files share ---- */
/* machine_migrate_resolve() of either side. */
int migrate_out_resolve(struct migrate_out *o, bool keep_it, struct err *err);
int migrate_in_resolve(struct migrate_in *in, bool keep_it, struct err *err);
void migrate_init(struct migrate *g, struct machine *m, deadline_fn *timer, void *arg);
/*
 * Writes the machine's state file, with the record; saved() follows when it would outlive the host's
 * crash, too. What cannot be written is tried again until it can; -errno says that this is so. err may
 * be NULL.
 */
int migrate_record(struct migrate *g, struct err *err);
/* Frees the object that g begins, as soon as nothing is pending; m forgets it at once. */
void migrate_release(struct migrate *g);
/* To be called by each callback that was counted in pending: whether there is still a machine. */
bool migrate_came_back(struct migrate *g);
/* And the disks' connections. */
void migrate_close_stream(struct migrate *g);

void migrate_out_event(struct migrate_out *o, enum handover_source_event ev);
void migrate_out_free(struct migrate_out *o);
void migrate_in_event(struct migrate_in *in, enum handover_target_event ev);
void migrate_in_free(struct migrate_in *in);
struct migrate_in *migrate_in_load(struct machine *m, const json_t *j);
struct migrate_out *migrate_out_load(struct machine *m, const json_t *j);
void migrate_out_drive(struct migrate_out *o);
void migrate_in_drive(struct migrate_in *in);

/* ---- migrate-check.c ---- */
/* What a machine is, as INI. */
void migrate_section(const struct vm_config *cfg, const char *name, struct buf *out);
/* Whether it can go at all; copies: with its disks. */
int migrate_check_source(const struct machine *m, bool copies, struct err *err);
/* What the target is told of it; NULL with err. */
json_t *migrate_prepare_json(
	const struct machine *m, const char *via, bool copies, struct err *err);
/* Whether this is a machine that can come here. */
int migrate_check_body(struct drover *d, const json_t *body, struct err *err);
/* Whether the hypervisor that was started for it is one that can load it. */
int migrate_check_program(const struct machine *m, const json_t *facts, struct err *err);
/* Takes its disk and its subnets over. */
int migrate_take_facts(struct machine *m, const json_t *body, struct err *err);

/* ---- migrate-look.c ---- */
/* Puts what the target compares o->body's disks by into it. done, on the loop, was counted in pending. */
int migrate_look_source(struct migrate_out *o, pool_done_fn *done, struct err *err);
/* Whether the disks that are shared are the same here. done does not come when rq has gone. */
typedef void migrate_looked_fn(
	struct drover *d, const json_t *body, struct request *rq, const struct err *err);
void migrate_look_target(
	struct drover *d, const json_t *body, struct request *rq, migrate_looked_fn *done);

#endif

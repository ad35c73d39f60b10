/*
 * supervisor/handover.h - who owns a machine that migrates from one droverd (the source) to another
 * (the target). Pure: two tables of what each side's record says next, and what is done then. The
 * record is part of the machine's state file, and is on disk before what follows it is done.
 *
 * The protocol, for one migration with an id of its own that every later message bears:
 *
 *   source                                        target
 *   none                                          none
 *     prepare ------------------------------------> checks, makes a new id, records `receiving`,
 *                                                   starts a hypervisor that waits, and answers with
 *                                                   the id and its address
 *   records `sending`, sends the guest ~~~~~~~~~~~> records `arrived` when it is here, standing still
 *   hv_migrate_out() says that it stands still
 *   here for good: records `giving`
 *     commit -------------------------------------> records `taken`, lets the guest run
 *   records `gone`  <---------------------- `taken`
 *   ends its own process
 *     farewell -----------------------------------> forgets the id; the machine is an ordinary one
 *   forgets it; the machine is stopped
 *
 * Disks that the two do not share are copied while the source is `sending`, and hv_migrate_out() says
 * that the guest stands still only when they are whole: before that the copies count for nothing, as
 * the target's memory does.
 *
 * What holds, whoever is killed whenever and whichever messages are lost, late or come twice:
 * - The guest runs at the target only after a commit, and a commit is sent only after `giving` is on
 *   record, which is not left but by the target's word. So until then the source may keep the guest
 *   for any reason, and does so for every one: an error, a cancel, its hypervisor's death, a droverd
 *   that was killed and finds `sending` (its QEMU may run, stand still or be gone: the target, which
 *   has no commit, does not run in any case).
 * - From `giving` on nothing but `dropped`, which the target has on record and never goes back on,
 *   lets the guest run at the source again: neither a restart by policy nor a start nor a resume by
 *   a person (handover_source_may_run()). An unreachable target is asked again, for as long as it
 *   takes. `unknown` is no `dropped`: somebody has removed the machine there, which after a farewell
 *   alone is no loss. It leaves the source in doubt, for a person to decide.
 * - A hypervisor that dies in `giving` has stood still since its guest arrived: the target's memory
 *   and the disks agree, and the commit is still good. One that dies in `sending` may have run on
 *   after a lost connection, and written: then the target's memory must never run, so the source
 *   keeps the guest and boots it as its policy says.
 * - Until the commit the target may drop the guest for any reason: its hypervisor's end, a stream
 *   that breaks off, a source that is silent for too long, a droverd that was killed in `receiving`.
 *
 * - What a record asks for is done before the next request is obeyed: until then, each is answered
 *   `not-yet` and changes nothing. So `taken` means that the guest runs there or has ended since,
 *   and `dropped` that its hypervisor is gone. A new daemon does once more what its record asks for.
 * - A prepare that comes twice makes another id, to which no commit of the first belongs; and it is
 *   refused while the target has a machine or a record of that name.
 *
 * tests/unit/test_handover.c goes through every order of all of these.
 */
#ifndef DROVER_SUPERVISOR_HANDOVER_H
#define DROVER_SUPERVISOR_HANDOVER_H

#include <stdbool.h>

/* ---- the source ---- */

enum handover_source {
	SOURCE_NONE,    /* there is no migration */
	SOURCE_SENDING, /* the guest runs here, as far as it runs */
	SOURCE_GIVING,  /* it stands still here; whether it runs there is not known */
	SOURCE_KEEPING, /* it is ours; the target may not know yet */
	SOURCE_GONE,    /* it is the target's, which may not know that we know */
	SOURCE_STATES
};

enum handover_source_event {
	SOURCE_BEGIN,     /* the target has answered the prepare */
	SOURCE_SENT,      /* hv_migrate_out(): done(NULL), of this daemon's own call */
	SOURCE_NOT_SENT,  /* any other end of it, or of the run */
	SOURCE_RESTARTED, /* a new daemon has found the record */
	SOURCE_AGAIN,     /* no answer has come for a while */
	/* The target's answers. */
	SOURCE_HEARD_TAKEN,
	SOURCE_HEARD_DROPPED,
	SOURCE_HEARD_NOT_YET,
	SOURCE_HEARD_UNKNOWN, /* of this id */
	SOURCE_EVENTS
};

enum handover_source_action {
	SOURCE_DO_NOTHING,
	SOURCE_DO_SEND,   /* hv_migrate_out() */
	SOURCE_DO_COMMIT, /* tell the target; SOURCE_AGAIN unless it answers */
	/* The guest goes on, if it stands still; and tell the target that it is to abort, as above. */
	SOURCE_DO_KEEP,
	SOURCE_DO_END, /* end the process, if it is there; and bid the target farewell, as above */
	SOURCE_DO_DOUBT, /* tell a person, and commit again later */
};

/* ---- the target ---- */

enum handover_target {
	TARGET_NONE,      /* of this id nothing is known */
	TARGET_RECEIVING, /* a hypervisor waits for the guest */
	TARGET_ARRIVED,   /* which stands still in it */
	TARGET_TAKEN,     /* it is ours, like any machine here */
	TARGET_DROPPED,   /* it will never run here; its hypervisor is to end */
	TARGET_STATES
};

enum handover_target_event {
	TARGET_GUEST_ARRIVED, /* hv_migrate_in(): done(NULL) */
	TARGET_LOST,          /* any other end of it or of the run; or the source is silent */
	TARGET_RESTARTED,     /* a new daemon has found the record, and adopted the process */
	/* The source's requests. */
	TARGET_HEARD_PREPARE,
	TARGET_HEARD_COMMIT,
	TARGET_HEARD_ABORT,
	TARGET_HEARD_FAREWELL,
	TARGET_EVENTS
};

enum handover_target_action {
	TARGET_DO_NOTHING,
	TARGET_DO_RECEIVE, /* start a hypervisor with spec->incoming */
	TARGET_DO_RUN,     /* hv_resume(), if it stands still */
	TARGET_DO_END,     /* end the hypervisor, if it is there */
};

/* What a request is answered with, once the record that follows from it is on disk. */
enum handover_answer {
	ANSWER_UNKNOWN,
	ANSWER_NOT_YET,
	ANSWER_TAKEN,
	ANSWER_DROPPED,
};

/* ---- what follows ---- */

struct handover_step {
	int next;   /* record this if it is another one, */
	int action; /* then do this */
};

/* An event that changes nothing, because it comes late or twice: the same state, and nothing to do. */
struct handover_step handover_source_step(enum handover_source s, enum handover_source_event ev);
struct handover_step handover_target_step(enum handover_target s, enum handover_target_event ev);
/*
 * To commit, abort and farewell alike. busy: what was to be done last is not done yet; then the
 * request is no event either.
 */
enum handover_answer handover_target_answer(enum handover_target s, bool busy);
/* What the source makes of it. */
enum handover_source_event handover_heard(enum handover_answer a);
/*
 * Whether its guest may be resumed, or the machine be started. In `sending` it runs, but nobody may
 * make it run.
 */
bool handover_source_may_run(enum handover_source s);
/* The same of a machine that has come here, or is about to. */
bool handover_target_may_run(enum handover_target s);

/* As they are in the state file and in messages; false: no such name. */
const char *handover_source_name(enum handover_source s);
bool handover_source_from_name(const char *name, enum handover_source *out);
const char *handover_target_name(enum handover_target s);
bool handover_target_from_name(const char *name, enum handover_target *out);
const char *handover_answer_name(enum handover_answer a);
bool handover_answer_from_name(const char *name, enum handover_answer *out);

#endif

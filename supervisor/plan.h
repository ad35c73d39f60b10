/*
 * supervisor/plan.h - the difference between the wanted state and what is, as an ordered list of
 * actions. A pure function; any thread. Start-up, SIGHUP, the API and `drover plan` all end here.
 */
#ifndef DROVER_SUPERVISOR_PLAN_H
#define DROVER_SUPERVISOR_PLAN_H

#include <jansson.h>
#include "supervisor/config.h"

enum plan_op {
	PLAN_START,    /* make it run, whatever that needs */
	PLAN_STOP,     /* wanted state is stopped */
	PLAN_RESTART,  /* keys of class restart changed */
	PLAN_RECREATE, /* keys of class recreate changed: stop, new disk or network, start */
	PLAN_UPDATE,   /* only live keys changed */
	PLAN_REMOVE,   /* no longer in the configuration: stopped, disks stay */
	PLAN_DEFER,    /* on_change = defer: waits for the next start */
	PLAN_ADD,      /* a network, key, or machine that shall not run yet */
};
const char *plan_op_name(enum plan_op op); /* "start" ... */

/*
 * What is, of one thing that the plan may touch. Of [drover] itself too, if changes to it are to be
 * planned: a run_id that differs recreates the machines.
 */
struct observed {
	enum section_kind kind;
	const char *name;
	/* Keys and values it was made from (config_value_text of each), as persisted; a key that is
	 * missing counts as its default. */
	const json_t *applied; /* object of strings; NULL: nothing was applied yet */
	/* Machine: has a run, or waits for its next one (anything but stopped or failed); network
	 * and registry: up. */
	const json_t *deferred; /* what was put off already, in the form of applied; or NULL */
	bool active;
	bool failed; /* gave up; a plan does not start it again unless it changed */
	bool want_known,
		want_running; /* a persisted start or stop by a person, which beats autostart */
	bool removed;         /* kept as `removed` (disks stay) */
};

struct plan_action {
	enum plan_op op;
	enum section_kind kind;
	const char *name; /* owned by the plan */
	char *reason;     /* one sentence: "memory: 512M -> 1G" */
	struct strv keys; /* that changed */
};

struct plan {
	struct plan_action *v;
	size_t n;
};

/*
 * A machine runs if a person said so last, else if it is new, or has no run, and autostart says so;
 * autostart = no does not stop one that runs. One that shall not run needs nothing, whatever
 * changed: the next plan that starts it sees the difference. A failed one needs nothing before a
 * key changes. A network that is recreated recreates the machines in it.
 *
 * Order: removals and stops first, then registries, networks, keys, then machines in the order of
 * the file, but a machine that another one's values refer to before that one. -ELOOP names the
 * machines of a loop.
 */
int plan_make(struct plan *out, const struct config *wanted, const struct observed *observed,
	size_t nobserved, struct err *err);
void plan_finish(struct plan *p);
/* {"actions":[{op, kind, name, reason, keys}]}; NULL without memory. */
json_t *plan_json(const struct plan *p);
/* The `applied` object for a section: what is not a default. NULL without memory. */
json_t *plan_applied(const struct config_section *s);

#endif

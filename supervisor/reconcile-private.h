/*
 * supervisor/reconcile-private.h - the parts of the reconciler: reconcile.c (passes, timer,
 * monitors), reconcile-find.c (differences), reconcile-mend.c (what is done about them).
 */
#ifndef DROVER_SUPERVISOR_RECONCILE_PRIVATE_H
#define DROVER_SUPERVISOR_RECONCILE_PRIVATE_H

#include "netcfg/monitor.h"
#include "netcfg/nft-monitor.h"
#include "netcfg/survey.h"
#include "supervisor/machine.h"
#include "supervisor/network-bridge.h"
#include "supervisor/reconcile.h"

enum difference_kind {
	DIFF_OBJECTS,  /* name: owner in the ledger that needs nothing any more */
	DIFF_TAP,      /* name: TAP with our alias which the ledger does not know */
	DIFF_FOLDER,   /* name: path below run_dir/vm */
	DIFF_STRAY,    /* name: pid of a process with our marker */
	DIFF_HOST,     /* the host's settings and the table, which nobody needs */
	DIFF_TAP_LOST, /* name: TAP of a running machine */
	DIFF_BRIDGE,   /* name: network whose bridge is not as it was made */
	DIFF_LINK,     /* name: TAP that lacks its address or is down */
	DIFF_SETTING,  /* forwarding, rp_filter */
	DIFF_FIREWALL, /* the table inet drover */
	DIFF_SERVICE,  /* name: TAP whose dnsmasq is down */
	DIFF_KINDS
};

struct difference {
	enum difference_kind kind;
	char *name, *owner; /* owner may be NULL */
	char *text;         /* "its address 172.16.0.1/30 is missing" */
	uint64_t starttime; /* of a process */
	char *action;       /* what was done, or would be */
	bool young;         /* not old enough to be removed */
	bool mended;
};

struct pass;

/* The rows of reconcile-mend.c. */
struct difference_row {
	const char *word; /* in the API */
	bool aged;        /* what no one owns: only after the minimum age */
	unsigned limit;   /* at most so often an hour without a person; 0: always */
	const char *would, *did;
	/* 0: done; 1: done comes by pass_mended(); -errno with err. NULL: nothing can be done. */
	int (*mend)(struct pass *p, struct difference *diff, struct err *err);
};
extern const struct difference_row difference_rows[DIFF_KINDS];

/* Something that no one owns, and since when we know of it. */
struct sighting {
	struct list entry;
	enum difference_kind kind;
	char *name;
	uint64_t since_ms; /* clock_mono_ms() */
	bool seen;         /* in this pass */
};

struct pass {
	struct list entry; /* in r->passes; the first one runs */
	struct reconciler *r;
	enum reconcile_mode mode;
	reconcile_done_fn *done;
	void *arg;
	struct difference *v;
	size_t n, cap, at;
	bool nomem;
	unsigned tries;    /* of the listing */
	uint64_t requests; /* firewall_requests() when it began */
	enum firewall_table table;
	bool firewall_differs;
	struct bridge_wait wait; /* of a bridge's mending */
};

struct reconciler {
	struct drover *d;
	struct net_monitor *links;
	struct nft_monitor *nft;
	struct deadline timer; /* the next pass of our own */
	struct deadline step;  /* the next step of the one that runs */
	void (*step_fn)(struct pass *p);
	struct list passes, sightings;
	struct firewall_list *listing;
	bool busy;      /* the first pass waits for something that will call back */
	bool kicked;    /* a pass comes soon */
	bool destroyed; /* what calls back finds the end */
	uint64_t last_pass_ms;
	uint64_t strays_ms; /* when the processes were looked at; 0: not yet */
	uint64_t young_ms;  /* until something is old enough; UINT64_MAX: nothing waits for that */
	struct {
		uint64_t since_ms;
		unsigned n;
	} mends[DIFF_KINDS];
	unsigned handles; /* close callbacks to come */
};

/* reconcile.c: the pass goes on with fn on a later turn of the loop. */
void pass_later(struct pass *p, uint64_t ms, void (*fn)(struct pass *p));
/* What made the pass wait has come. false: the reconciler was destroyed meanwhile. */
bool pass_resume(struct pass *p);

/* reconcile-find.c */
/* fmt: what differs. NULL without memory, which the pass remembers. */
struct difference *add_difference(struct pass *p, enum difference_kind kind, const char *name,
	const char *owner, const char *fmt, ...) PRINTF(5, 6);
/* No one owns it: since when that is known, and whether that is long enough. Takes NULL. */
void sight(struct pass *p, struct difference *diff);
void find_differences(struct pass *p); /* all but the firewall's */
void find_firewall(struct pass *p);    /* goes on with pass_mend() */
/* Whether the machine's hypervisor uses its nics, and nobody is about to change that. */
bool reconcile_settled(const struct machine *m);
bool reconcile_owner_in_use(struct drover *d, const char *owner);
bool reconcile_rp_filter_all(struct drover *d);

/* reconcile-stray.c */
void find_strays(struct pass *p);
bool stray_is_unowned(struct pass *p, const struct difference *diff);
int mend_stray(struct pass *p, struct difference *diff, struct err *err);

/* reconcile-mend.c */
/* What mend() began has ended. */
void pass_mended(struct pass *p, const struct err *err);
void pass_mend(struct pass *p); /* ends with pass_finish() */
void pass_finish(struct pass *p);

#endif

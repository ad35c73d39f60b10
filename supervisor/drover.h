/*
 * supervisor/drover.h - the daemon: what its parts share. Loop thread. One object for the life of
 * the process, made by main() and given to everything.
 */
#ifndef DROVER_SUPERVISOR_DROVER_H
#define DROVER_SUPERVISOR_DROVER_H

#include <stdbool.h>
#include <uv.h>
#include "lib/deadline.h"
#include "lib/http.h"
#include "lib/list.h"
#include "netcfg/firewall.h"
#include "netcfg/link.h"
#include "netcfg/linkdel.h"
#include "supervisor/config.h"
#include "supervisor/events.h"
#include "supervisor/ledger.h"
#include "supervisor/operation.h"

/* A config lives as long as a machine runs from it: reloads do not pull it away. */
struct config_box {
	unsigned refs;
	struct config *config;
};
struct config_box *config_box_create(struct config *c); /* takes c over; NULL without memory */
struct config_box *config_box_ref(struct config_box *box);
void config_box_unref(struct config_box *box); /* takes NULL */

#define MACHINE_BUCKETS 1024

struct drover {
	uv_loop_t *loop;
	struct config_box *box;
	struct config_load_opts load;    /* how to read the configuration again */
	const char *state_dir, *run_dir; /* of the first configuration: they do not change */
	gid_t group;                     /* whose members may use the sockets; -1: none */
	char *libexec;                   /* where drover-jail and drover-image are */

	struct events *events;
	uint64_t first_event; /* the number of our first one */
	struct operations *ops;
	struct ledger *ledger;
	struct http_client *http;
	struct firewall *firewall;
	struct netlink *nl;
	struct network_seen *seen;     /* NULL: not needed yet */
	struct network_uplink *uplink; /* NULL before the start is over */
	struct link_deleter *linkdel;
	struct reconciler *reconciler; /* NULL before the start is over */
	struct pulse *pulse;           /* likewise */
	struct image_pruner *pruner;   /* likewise */
	struct qemu_prober *prober;    /* NULL: nothing is probed */

	struct list machines; /* by name */
	struct list machine_buckets[MACHINE_BUCKETS];
	struct list registries;
	struct list image_jobs;
	struct list after_queue; /* machines that wait for others (`after`) */
	struct list warm_queue;  /* machines that wait for a warm template */
	struct list begin_queue; /* machines whose start's first step is due, in order */
	struct begins *begins;   /* NULL: nobody is in it */
	struct list start_queue; /* machines that wait for a slot, in order */
	unsigned starting;       /* machines that have one */
	bool no_cgroup_said;     /* the log has it that limits are not enforced */
	bool host_ready;         /* the nft tables are there, and what they need of the host */
	bool host_forwards;      /* forwarding is on */
	bool host_forwards6;     /* that of IPv6 */
	struct list bridges;     /* networks with a bridge (network-bridge.h) */
	struct address_book *addresses; /* which are whose on them; NULL: not asked yet */
	bool bridges_due;               /* they are made from now on */

	uint64_t started_ms; /* unix */
	/* Puts back what droverd itself needs (API socket, event log); with each pass. May be NULL. */
	void (*look_after)(struct drover *d);
	bool unconverged;     /* an action of the plan found its machine busy, or failed */
	bool first_plan_due;  /* the first plan could not be made yet */
	uint64_t converge_ms; /* until what failed is tried again */
	struct deadline converge;
	bool stopping; /* on the way out: nothing new starts */
	bool leaving;  /* everything is being let go of: nothing is released any more either */
};

/* A machine has come to rest; the daemon may be waiting for the last one. daemon-leave.c */
void drover_machine_rests(struct drover *d);

static inline const struct config *drover_config(const struct drover *d)
{
	return d->box->config;
}

#endif

/* supervisor/network-bridge-private.h - the files of supervisor/network-bridge.h. Loop thread. */
#ifndef DROVER_SUPERVISOR_NETWORK_BRIDGE_PRIVATE_H
#define DROVER_SUPERVISOR_NETWORK_BRIDGE_PRIVATE_H

#include "supervisor/network-bridge.h"
#include "supervisor/service.h"

enum bridge_state {
	BRIDGE_DOWN, /* could not be made; tried again */
	BRIDGE_MAKING,
	BRIDGE_UP,
	BRIDGE_GOING /* its objects are being released */
};

struct bridge_net {
	struct list entry;
	struct drover *d;
	char *name, *owner;
	char *log_path, *dir, *dhcp_dir, *names_dir, *lease_file;
	char bridge[16];
	struct config_box *box; /* that cfg is in */
	const struct network_config *cfg;
	struct network_values v;
	json_t *applied;
	enum bridge_state state;
	int index;        /* of the bridge */
	bool foreign;     /* the bridge was there before us, and stays as it is */
	bool conflict;    /* others have addresses of it, which was told */
	bool changed;     /* the link that the dnsmasq knows is another one by now */
	bool egress_anew; /* its table of egress was not made yet for the list as it is now */
	bool pending;     /* it is to be another one, when no machine uses it any more */
	bool rebuilding;  /* bridge_made() is to come */
	bool release_due; /* when it has come */
	struct service *dnsmasq; /* NULL: it needs none */
	struct servers6 *six;    /* network6-serve-private.h; NULL: it has none */
	struct mirrors *mirrors; /* network-mirror-private.h; NULL: it has none */
	char *mirrors_wanted;    /* they were made from this */
	size_t step;
	struct deadline timer; /* the next try, or done on a later turn */
	void (*timer_fn)(struct bridge_net *b);
	uint64_t retry_ms;
	struct err err;
	struct list waiters;
	uv_fs_event_t *watch; /* of the lease file; NULL: none */
	struct deadline lease_timer;
	bool lease_quiet; /* it waits for the end of a change */
	struct list leases;
	void (*gone)(void *arg); /* of bridges_stop() */
	void *gone_arg;
};

/* network-bridge-steps.c: 0: done; 1: bridge_made() comes; -errno with err. */
struct bridge_step {
	const char *name;
	int (*fn)(struct bridge_net *b, struct err *err);
};
extern const struct bridge_step bridge_steps[];
extern const size_t bridge_nsteps;
void bridge_made(void *arg, const struct err *err);
/* After a step that returned 1 with `rebuilding` set, and is not the last: the others follow. */
void bridge_resume(struct bridge_net *b, const struct err *err);

/* Of its link, by its name. */
void bridge_mac(const struct bridge_net *b, char out[18]);

/* network-lease.c: begins to follow the lease file; what it says already is taken over. */
void bridge_watch_leases(struct bridge_net *b);
void bridge_unwatch_leases(struct bridge_net *b);

#endif

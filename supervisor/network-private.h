/*
 * supervisor/network-private.h - the parts of supervisor/network.h: network.c (what is the same for
 * every kind), and for each kind of link a file with its operations. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_PRIVATE_H
#define DROVER_SUPERVISOR_NETWORK_PRIVATE_H

#include "netcfg/survey.h"
#include "supervisor/config.h"
#include "supervisor/network.h"

/* One nic being attached. */
struct attach {
	struct machine *m;
	unsigned i;
	const struct network_ops *ops;
	network_done_fn *done;
	void *arg;
	unsigned step;
	struct deadline soon; /* done never comes from within the call */
	struct err err;
};

struct attach_step {
	const char *name; /* its fault point */
	/* 0: done; 1: attach_resume() comes on a later turn; -errno with err. */
	int (*fn)(struct attach *a, struct nic *nic, struct err *err);
};

/* How nics are on a network, by its kind. */
struct network_ops {
	const char *table;               /* of fault points */
	const struct attach_step *steps; /* the last one is of those that return 1 */
	size_t nsteps;
	/* What has to be waited for before the first step: true, attach_resume() comes. May be NULL. */
	bool (*wait)(struct attach *a, struct nic *nic);
	/* network_adopt_nic(), network_set_link(), network_guest_address() of network.h. */
	int (*adopt)(struct machine *m, struct nic *nic, struct err *err);
	int (*set_link)(struct machine *m, const struct nic *nic, struct err *err);
	bool (*guest_address)(const struct nic *nic, uint32_t *out);
	bool (*service_down)(const struct drover *d, const struct nic *nic);
	/* What of the link is not as set_link() left it, as text; false: nothing. */
	bool (*differs)(const struct machine *m, const struct nic *nic, const struct survey *s,
		const struct survey_tap *tap, struct buf *text);
};
extern const struct network_ops network_p2p, network_bridged, network_user, network_macvtap;

/* The operation that a step has begun has ended. */
void attach_resume(struct attach *a, const struct err *err);
/* Gives text to the firewall and goes on; makes the table again if somebody has removed it. */
int attach_firewall(struct attach *a, const char *text);

bool network_is_our_tap(void *arg, const char *ifname);
int attach_save(struct attach *a, struct nic *nic, struct err *err);
int attach_record_tap(struct attach *a, struct nic *nic, struct err *err);
int attach_make_tap(struct attach *a, struct nic *nic, struct err *err);

#endif

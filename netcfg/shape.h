/*
 * netcfg/shape.h - how fast a TAP is, over rtnetlink. What goes to the guest waits in a token bucket (tbf) on
 * the TAP; what comes from it is led through one on an ifb of its own, since a link's way in has no queue.
 * The buckets go with the links. Loop thread; rates in bits a second.
 */
#ifndef DROVER_NETCFG_SHAPE_H
#define DROVER_NETCFG_SHAPE_H

#include "netcfg/link.h"

struct shape {
	uint64_t up, down; /* from the guest, to it; 0: no limit */
};
/* "10M" for both, or "UP/DOWN"; k, M, G are thousands; 0 is no limit. */
int shape_parse(const char *text, struct shape *out, struct err *err);

/* "ifb" and the TAP's hash. */
void shape_ifb_name(const char *tap, char out[16]);
/* Makes it so, whatever was there before. The ifb is the caller's to delete (link_deleter_ifb()). */
int shape_set(struct netlink *nl, const char *tap, const struct shape *shape, struct err *err);
/* Whether it is not so any more. */
bool shape_differs(struct netlink *nl, const char *tap, const struct shape *shape);

#endif

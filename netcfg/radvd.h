/*
 * netcfg/radvd.h - what a radvd is told of its link (radvd.conf(5)). Pure. Times in seconds.
 */
#ifndef DROVER_NETCFG_RADVD_H
#define DROVER_NETCFG_RADVD_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/str.h"
#include "netcfg/ip6.h"

struct radvd_spec {
	const char *link;
	struct ip6_prefix net;
	bool managed, other, autonomous, on_link; /* flags M, O, A, L */
	uint64_t interval, router_lifetime, lifetime;
	uint64_t preferred;                     /* 0: as long as lifetime */
	unsigned mtu;                           /* 0: not told */
	const char *const *dns, *const *search; /* NULL-terminated, may be NULL */
};
void radvd_config_text(const struct radvd_spec *spec, struct buf *out);

#endif

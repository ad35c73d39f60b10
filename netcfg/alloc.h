/*
 * netcfg/alloc.h - which subnet, MAC and interface name a machine's nic gets. Pure: the same input
 * gives the same output on every host and in every version. Addresses in host byte order.
 */
#ifndef DROVER_NETCFG_ALLOC_H
#define DROVER_NETCFG_ALLOC_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

struct ip4_prefix {
	uint32_t addr;
	uint8_t len; /* 0 to 32 */
};

/* "172.16.0.0/16"; host bits must be zero unless host_ok. */
int ip4_prefix_parse(const char *s, bool host_ok, struct ip4_prefix *out, struct err *err);
bool ip4_parse(const char *s, uint32_t *out);
void ip4_format(uint32_t addr, char out[16]);
void ip4_prefix_format(struct ip4_prefix p, char out[19]);
bool ip4_overlap(struct ip4_prefix a, struct ip4_prefix b);

/*
 * The /30 of a machine's p2p link in range: starts at hash(run_id, machine) and probes on until
 * one is neither in used (given to others) nor overlaps one of host (the host's own addresses and
 * routes). *probes (may be NULL) gets the number of steps. -EADDRNOTAVAIL when range is full.
 * The host (the TAP) has network + 1, the guest network + 2.
 */
int alloc_p2p(struct ip4_prefix range, const char *run_id, const char *machine,
	const struct ip4_prefix *used, size_t nused, const struct ip4_prefix *host, size_t nhost,
	struct ip4_prefix *out, unsigned *probes, struct err *err);

/* Locally administered unicast MAC from (run_id, machine, nic index), "52:..."; stable for ever. */
void alloc_mac(const char *run_id, const char *machine, unsigned nic, char out[18]);
/* "tap" + 12 hex digits of a hash over (run_id, machine, nic index). */
void alloc_tap_name(const char *run_id, const char *machine, unsigned nic, char out[16]);

#endif

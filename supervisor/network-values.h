/*
 * supervisor/network-values.h - what the keys of a [network] and of a machine's nics say, as values.
 * Pure. Addresses in host byte order.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_VALUES_H
#define DROVER_SUPERVISOR_NETWORK_VALUES_H

#include "netcfg/alloc.h"
#include "netcfg/shape.h"
#include "supervisor/config.h"
#include "supervisor/network6-values.h"

/* The IPv4 part of a network with a bridge. */
struct network4 {
	struct ip4_prefix net; /* len 0: there is no such part */
	uint32_t gateway, first, last;
};
struct network_values {
	struct network4 v4;
	struct network6 v6;
};

/* *key gets the key that is wrong. */
int network4_values(
	const struct network_config *n, struct network4 *out, const char **key, struct err *err);
int network_values(const struct network_config *n, struct network_values *out, const char **key,
	struct err *err);
bool network4_has(const struct network4 *v4, uint32_t address); /* a machine may have it */

/* One value of `network` of a [vm]. */
struct nic_spec {
	char network[NAME_LEN_MAX + 1];
	uint32_t address;         /* 0: any */
	bool none;                /* address=none: nothing is kept for it */
	struct in6_addr address6; /* ::: any */
	char mac[18];             /* "": one made from the names */
	struct shape rate;        /* of its own */
	bool rated;
};
int nic_spec_parse(const char *text, struct nic_spec *out, struct err *err);
bool vm_is_on_network(const struct vm_config *vm, const char *network);

/* One value of `open` of a [network]: proto 0 is ping. */
enum {
	PROTO_TCP = 6,
	PROTO_UDP = 17
};
struct port_spec {
	unsigned proto;
	uint16_t port;
};
int port_spec_parse(const char *text, struct port_spec *out, struct err *err);
const char *proto_name(unsigned proto); /* "tcp" */

/* One value of `forward` of a [vm]. */
struct forward_spec {
	unsigned proto;
	uint16_t port, to;
};
int forward_spec_parse(const char *text, struct forward_spec *out, struct err *err);

/* The bridge's name: the section's, or "dbr" and 12 hex digits over (run_id, network). */
void network_bridge_name(const char *run_id, const struct network_config *n, char out[16]);
/* The group of its links, never 0. */
unsigned network_group(const char *run_id, const char *network);
bool network_has_bridge(const struct network_config *n); /* neither p2p nor user nor macvtap */
/* Whether dns = none, and whether it asks servers of its own. */
bool network_without_dns(const struct network_config *n);

#endif

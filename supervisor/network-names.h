/*
 * supervisor/network-names.h - what a [network] says of names, as values: `record`, `mirror`, and the
 * names that a [registry] stands in for. Pure. Addresses in host byte order.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_NAMES_H
#define DROVER_SUPERVISOR_NETWORK_NAMES_H

#include "supervisor/config.h"

/* One value of `record` of a [network]. */
struct record_spec {
	char name[254]; /* in small letters */
	char address[46];
	int family; /* AF_INET, AF_INET6 */
};
int record_spec_parse(const char *text, struct record_spec *out, struct err *err);

/* One value of `mirror` of a [network]. */
struct mirror_spec {
	char registry[NAME_LEN_MAX + 1];
	uint32_t address; /* 0: any */
	bool http;
	uint16_t port;
};
int mirror_spec_parse(const char *text, struct mirror_spec *out, struct err *err);

/* So many of first to last do mirrors take: those that are given these, and all without any. */
unsigned network_mirrors_in(const struct network_config *n, uint32_t first, uint32_t last);

/* The hosts whose images come through it, with their ports: `hosts`, or the upstream's. */
int registry_hosts(const struct registry_config *r, struct strv *out);
/*
 * Those that a guest looks up to get there: without addresses and hosts with a port, whose clients
 * would come to a port of ours that nobody serves. Docker Hub's images have one host in their names
 * and another that serves them.
 */
int registry_redirected(const struct registry_config *r, struct strv *out);

/* Whether the host serves names on a network of kind = p2p. */
bool network_p2p_serves(const struct network_config *n);

#endif

/*
 * supervisor/network-mirror.h - the mirrors of a network with a bridge: each [registry] that `mirror`
 * names is on an address of its own there, served by one haproxy for them all (netcfg/mirror.h), and
 * its hosts' names lead to it. Loop thread.
 *
 * An address that is not chosen is the last free one of the range, and is kept while it can be. The
 * certificates are of drover's own CA (lib/ca.h, in state_dir/ca); they lie in run_dir, with their
 * keys, and are made anew at each boot and before their end.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_MIRROR_H
#define DROVER_SUPERVISOR_NETWORK_MIRROR_H

#include <jansson.h>
#include "netcfg/dnsmasq-dns.h"
#include "netcfg/survey.h"
#include "supervisor/network-bridge-private.h"

/* What the sections say now, as text; NULL without memory. Another one is another network. */
char *mirrors_wanted(
	const struct bridge_net *b, const struct network_config *cfg, const struct config *config);

/* The steps: addresses, files and haproxy. Of a bridge without mirrors there is nothing to do. */
int mirrors_addresses(struct bridge_net *b, struct err *err);
int mirrors_serve(struct bridge_net *b, struct err *err);

/* Machines do not get it. */
bool mirrors_have(const struct bridge_net *b, uint32_t address);
/* "10.0.0.254 . 443" for the firewall. */
json_t *mirrors_ports(const struct bridge_net *b);
/* Names are borrowed from b; reallocs *v of *n records. */
int mirrors_records(const struct bridge_net *b, struct dnsmasq_record **v, size_t *n);
/* As bridge_differs(). */
void mirrors_differ(const struct bridge_net *b, const struct survey *s, struct buf *text);
struct service **mirrors_service(struct bridge_net *b, const char *name); /* NULL: not its */
json_t *mirrors_json(const struct bridge_net *b);
void mirrors_destroy(struct bridge_net *b);

/* Of an address in the ledger; data: {bridge}. */
int mirror_release_address(
	struct drover *d, const char *address, const json_t *data, struct err *err);

#endif

/*
 * netcfg/egress.h - what machines of one network may reach beyond it, where that is a list: a table of
 * its own for each such network, `inet drover_HASH`, which only refuses. It is apart from `inet drover`
 * because dnsmasq adds to its sets (--nftset) the addresses that it tells guests for the names of the list: they
 * outlive the making anew of the other one. Pure.
 */
#ifndef DROVER_NETCFG_EGRESS_H
#define DROVER_NETCFG_EGRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include "lib/str.h"

/* [tcp/|udp/]HOST[:PORT]; HOST is an address, a prefix or a name; [ADDRESS]:PORT for IPv6. */
struct egress_entry {
	char host[256]; /* as nft has it: without host bits; a name in lower case */
	int family;     /* AF_INET, AF_INET6; 0: a name, and what is below it */
	unsigned proto; /* IPPROTO_TCP, IPPROTO_UDP; 0: all of them, to any port */
	uint16_t port;
};
int egress_parse(const char *text, struct egress_entry *out, struct err *err);

struct egress_spec {
	const char *table, *link;
	const struct egress_entry *v;
	size_t n;
};
/*
 * One transaction that makes the table as it should be. Without anew what is in its sets stays, which
 * asks for the same entries as before.
 */
void egress_text(struct buf *out, const struct egress_spec *spec, bool anew);
/* One that is not there is no error. */
void egress_delete_text(struct buf *out, const char *table);

/* Of dnsmasq, so that what it answers for the names is in the sets when guests have the answer. */
void egress_dnsmasq_args(struct strv *argv, const struct egress_spec *spec);

#endif

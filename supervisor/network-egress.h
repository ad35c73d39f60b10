/*
 * supervisor/network-egress.h - `egress` of a [network]: its table (netcfg/egress.h) while the network is
 * there, under its owner in the ledger. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_EGRESS_H
#define DROVER_SUPERVISOR_NETWORK_EGRESS_H

#include "supervisor/network-bridge.h"

/* Writes down what the section asks for; network_egress_text() makes it so. */
int network_egress_record(struct bridge_net *b, struct err *err);
/* What its dnsmasq is to be told. */
int network_egress_args(const struct bridge_net *b, struct strv *argv, struct err *err);
/* The tables of all networks, to be applied with whatever else is in text. */
void network_egress_text(struct drover *d, struct buf *text);
/* Puts back what somebody may have taken away. */
void network_egress_refresh(struct drover *d);
/* Of the ledger's name of such a table: what removes it; false: it is none. */
bool network_egress_delete(const char *name, struct buf *text);

#endif

/* supervisor/network6-serve-private.h - the files of supervisor/network6-serve.h. Loop thread. */
#ifndef DROVER_SUPERVISOR_NETWORK6_SERVE_PRIVATE_H
#define DROVER_SUPERVISOR_NETWORK6_SERVE_PRIVATE_H

#include "supervisor/network6-serve.h"

struct servers6 {
	struct bridge_net *b;
	struct service *kea, *radvd; /* NULL: it has none */
	char *kea_name, *radvd_name;
	char *kea_conf, *radvd_conf;
	char *pid_file; /* kea's */
	char *lease_file;
	struct deadline soon;
	bool guests_due;         /* kea's configuration is to be written again */
	bool kea_due, radvd_due; /* it is to read its configuration again */
	struct list routes;      /* struct delegated */
	bool known;              /* those of the ledger are among them */
};

/* What is made for one prefix that is leased. */
struct delegated {
	struct list entry;
	struct ip6_prefix to;
	struct in6_addr via;
	char tap[16];
	bool seen;
	bool going; /* its objects are being released */
};
void delegated_free(struct delegated *g);

#endif

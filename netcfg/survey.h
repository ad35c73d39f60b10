/*
 * netcfg/survey.h - what TAPs there are on the host and which IPv4 addresses, read in one go, for
 * comparing with what should be there. Two dumps of the kernel: some microseconds for each link.
 * Loop thread.
 */
#ifndef DROVER_NETCFG_SURVEY_H
#define DROVER_NETCFG_SURVEY_H

#include "netcfg/link.h"

#define LINK_ALIAS_MAX 255

struct survey_tap {
	int index;
	char name[16];
	int master;  /* index of the bridge that it is a port of; 0: none */
	bool up;     /* administratively */
	char *alias; /* NULL: it has none */
};

struct survey_address {
	int index; /* of its link */
	struct ip4_prefix address;
};

struct survey {
	struct survey_tap *taps; /* by name */
	size_t ntaps;
	struct survey_address *addresses; /* by index */
	size_t naddresses;
};

int survey_take(struct netlink *nl, struct survey *out, struct err *err);
void survey_finish(struct survey *s); /* takes a zeroed one */
/* NULL when there is none. */
const struct survey_tap *survey_tap(const struct survey *s, const char *name);
bool survey_has_address(const struct survey *s, int index, struct ip4_prefix address);

#endif

/* supervisor/network-mirror-private.h - the files of supervisor/network-mirror.h. Loop thread. */
#ifndef DROVER_SUPERVISOR_NETWORK_MIRROR_PRIVATE_H
#define DROVER_SUPERVISOR_NETWORK_MIRROR_PRIVATE_H

#include "netcfg/mirror.h"
#include "supervisor/network-names.h"
#include "supervisor/network-mirror.h"

struct mirror {
	struct mirror_spec spec;
	struct strv names; /* that lead to it */
	char *backend;     /* where its registry listens */
	char *cert;        /* path; NULL: plain HTTP */
	uint32_t address;
	char text[16];    /* of mirrors_records() */
	int64_t renew_at; /* of the certificate, unix seconds */
};

struct mirrors {
	struct mirror *v;
	size_t n;
	struct service *service; /* its haproxy; NULL: it has none yet */
	char *service_name;
};

#endif

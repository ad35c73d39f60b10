/*
 * netcfg/mirror.h - the configuration of the one haproxy by which the guests of a network reach our
 * registry caches: each cache on an address of its own, since the registries that it stands in for
 * are told apart by nothing else (one port 443 each). Pure.
 */
#ifndef DROVER_NETCFG_MIRROR_H
#define DROVER_NETCFG_MIRROR_H

#include "lib/str.h"

struct mirror_front {
	const char *name;    /* of the registry */
	const char *address; /* that it is reached at, numeric */
	uint16_t port;
	const char *cert;    /* file of certificate and key; NULL: plain HTTP */
	const char *backend; /* 127.0.0.1:5000 */
};
struct mirror_config {
	const struct mirror_front *fronts;
	size_t n;
	const char *ca;     /* file, given out as http://ADDRESS/drover-ca.pem where there is TLS */
	const char *chroot; /* it is root and gives that up, into this folder; NULL: it is not */
};
#define MIRROR_CA_PORT 80

/* The file for `haproxy -db -f FILE`. -EINVAL: a path that cannot be said in it. */
int mirror_config_text(const struct mirror_config *config, struct buf *out, struct err *err);

#endif

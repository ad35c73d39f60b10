/*
 * oci/cache.h - configuration of the distribution project's registry (Debian's docker-registry 2.8)
 * as a pull-through cache. Pure.
 */
#ifndef DROVER_OCI_CACHE_H
#define DROVER_OCI_CACHE_H

#include "lib/str.h"

struct cache_spec {
	const char *upstream; /* NULL: serve the storage without a proxy section (offline) */
	const char *listen;   /* host:port */
	const char *storage;  /* folder */
};
/* The YAML for `docker-registry serve FILE`. Every value is quoted for YAML. */
int cache_config_text(const struct cache_spec *spec, struct buf *out, struct err *err);

#endif

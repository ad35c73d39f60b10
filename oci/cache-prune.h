/*
 * oci/cache-prune.h - the storage of docker-registry as a pull-through cache kept to a size and an
 * age. It must not run. Part of drover-image: blocks. Times in ms.
 *
 * What it has of a blob: blobs/ALGORITHM/XX/HEX/data, and in repositories/NAME files called "link" that
 * hold its digest (of layers, of revisions and tags of manifests). A proxy that finds no data for a
 * link asks its upstream again (proxyblobstore.go, proxymanifeststore.go of 2.8).
 */
#ifndef DROVER_OCI_CACHE_PRUNE_H
#define DROVER_OCI_CACHE_PRUNE_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

struct cache_limits {
	uint64_t budget; /* bytes of all blobs; 0: any */
	uint64_t age_ms; /* since a blob was read or came; 0: never */
};

struct cache_pruned {
	uint64_t bytes, freed; /* there were, and of these are removed, or would be */
	uint64_t blobs;        /* removed, or would be */
};

/*
 * Removes those blobs first that were used longest ago; with look_only nothing. Last use is the later
 * of a file's times of reading and writing: mounted with relatime, as usual, the former is exact to a
 * day. A storage that is not there is empty.
 */
int cache_prune(const char *storage, const struct cache_limits *limits, bool look_only,
	struct cache_pruned *out, struct err *err);

#endif

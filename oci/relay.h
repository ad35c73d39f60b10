/*
 * oci/relay.h - an HTTP server on the loopback that passes GET and HEAD below /v2/ on to one
 * registry, and fetches a blob once for all who ask for it at about the same time. It stands
 * between docker-registry as a pull-through cache, which asks twice for each blob that it lacks (to
 * store it, and to pass it on to its client), and that cache's upstream. Threads of its own; part
 * of drover-image. Times in ms.
 *
 * Blobs are shared between requests with the same Authorization; for another one the upstream is
 * first asked by HEAD whether it may have the blob. Answers other than 200 are never shared.
 */
#ifndef DROVER_OCI_RELAY_H
#define DROVER_OCI_RELAY_H

#include "lib/err.h"

struct relay;

struct relay_opts {
	int listen_fd;        /* taken over on success */
	const char *upstream; /* "https://ghcr.io" */
	const char *spool;    /* folder of the unlinked files; room for the blobs under way */
	uint64_t stall_ms;    /* an upstream that is silent for so long is given up */
	uint64_t keep_ms;     /* how long a whole blob stays for who comes late */
	uint64_t keep_bytes;  /* of all such blobs */
	int count_fd;         /* the caller's: a line for each blob fetched; -1: none */
};
#define RELAY_OPTS_DEFAULT                                                                         \
	{                                                                                          \
		.stall_ms = 60000, .keep_ms = 10000, .keep_bytes = (uint64_t)256 << 20,            \
		.count_fd = -1                                                                     \
	}

/* curl_global_init() was called. Copies opts. */
int relay_start(struct relay **out, const struct relay_opts *opts, struct err *err);
/* Cuts everybody off; takes up to about a second. Takes NULL. */
void relay_stop(struct relay *r);

#endif

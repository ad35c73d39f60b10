/*
 * oci/fetch.h - one file by https or http, from where it was cut off if need be. Part of
 * drover-image: blocks. Times in ms.
 */
#ifndef DROVER_OCI_FETCH_H
#define DROVER_OCI_FETCH_H

#include "oci/part.h"
#include "oci/registry.h"

struct fetch_spec {
	const char *url;
	const struct registry_conf *conf; /* tries, stall_ms, connect_timeout_ms */
	uint64_t max_bytes;
	/* What was said of what the store has; both "" if it is to be fetched in any case. */
	const char *etag, *modified;
	/* May be -errno; size UINT64_MAX: it does not say. Again if it begins anew. */
	int (*begin)(void *arg, uint64_t size, struct err *err);
	void (*progress)(void *arg, uint64_t done);
	void *arg;
};

struct fetch_result {
	char digest[DIGEST_MAX];
	uint64_t size;
	char etag[160], modified[64]; /* "": it has none */
	bool unchanged;               /* it is still what was given: nothing was fetched */
};

/*
 * Into part, and finished. What part has already is the beginning of it: taken for that by its
 * digest in the end. -EFBIG: more than max_bytes; -EBADMSG: another digest than part's.
 */
int fetch_file(const struct fetch_spec *spec, struct part *part, struct fetch_result *out,
	struct err *err);

#endif

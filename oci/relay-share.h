/*
 * oci/relay-share.h - which blobs are being fetched, and by whom they are read: the table by which
 * requests for one blob share one fetch. A whole blob stays for a short time after its last reader
 * (times in ms). Any thread. Part of drover-image.
 */
#ifndef DROVER_OCI_RELAY_SHARE_H
#define DROVER_OCI_RELAY_SHARE_H

#include "oci/relay-fetch.h"

struct shares;
struct share;

/* Of whole blobs without a reader, at most keep_bytes stay. */
int shares_create(struct shares **out, uint64_t keep_ms, uint64_t keep_bytes, struct err *err);
/* When all have left. Takes NULL. */
void shares_destroy(struct shares *t);

struct share_spec {
	const char *digest;
	/* Who shows the same as who began it needs no permission of his own. */
	const char *path, *authorization; /* the latter may be NULL */
	struct fetcher *fetcher;
	const struct fetch_spec *fetch; /* for who comes first */
};
enum share_role {
	SHARE_FIRST, /* began the fetch */
	SHARE_SAME,  /* joined it, and may have what it brings */
	SHARE_OTHER  /* joined it; the upstream has to be asked whether he may */
};
int shares_join(struct share **out, enum share_role *role, struct shares *t,
	const struct share_spec *spec, struct err *err);
struct fetch *share_fetch(const struct share *s);
void shares_leave(struct shares *t, struct share *s);

#endif

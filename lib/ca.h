/*
 * lib/ca.h - a certificate authority of our own (libcrypto), for servers that guests talk to. Any
 * thread, one at a time; a few ms, and files are synced: not on the loop. Times in unix seconds.
 *
 * In its folder: ca.key (mode 0600) and ca.pem, the certificate, which is for everybody. Keys are on
 * P-256 (RFC 5480). The authority's certificate lives for ten years and is made anew, with the same
 * name and key, two years before its end: what it has signed stays good, and who has the old one
 * goes on with it. Servers' live for 90 days, made anew 30 days before their end.
 */
#ifndef DROVER_LIB_CA_H
#define DROVER_LIB_CA_H

#include "lib/str.h"

/* What is missing is made, and what ends soon made anew. The folder is made, too (0755). */
int ca_ensure(const char *dir, int64_t now, struct err *err);
/*
 * path gets a key and a certificate for the names (of hosts, or addresses), mode 0600, unless they
 * are there already, for the same names and for long enough. *changed: whether it was written.
 * *renew_at: when it is due. The CA is there.
 */
int ca_issue(const char *dir, const char *path, const struct strv *names, int64_t now,
	bool *changed, int64_t *renew_at, struct err *err);

struct ca_info {
	char fingerprint[96]; /* SHA-256, "AB:CD:.." */
	int64_t from, until;
};
/* Of a certificate's text. */
int ca_info(const char *pem, struct ca_info *out, struct err *err);

#endif

/*
 * oci/auth-helper.h - credentials from a program, docker-credential-NAME, as a docker config.json
 * names it ("credHelpers", "credsStore"). Part of drover-image: blocks, at most 30 s.
 */
#ifndef DROVER_OCI_AUTH_HELPER_H
#define DROVER_OCI_AUTH_HELPER_H

#include "lib/str.h"

/* "Basic ..." for the host; out stays empty when no helper is named, or it knows nothing. */
int auth_helper_basic(const char *config, const char *host, struct buf *out, struct err *err);

#endif

/*
 * oci/auth.h - how a registry wants to be asked: WWW-Authenticate challenges (RFC 7235; the
 * distribution project's token authentication) and the credentials of a docker config.json. Pure
 * but for reading that file.
 */
#ifndef DROVER_OCI_AUTH_H
#define DROVER_OCI_AUTH_H

#include "lib/str.h"

enum auth_scheme {
	AUTH_BASIC,
	AUTH_BEARER
};

struct auth_challenge {
	enum auth_scheme scheme;
	char realm[1024]; /* Bearer: URL of the token service */
	char service[256];
	char scope[512];
};

/* Value of a WWW-Authenticate header. -EBADMSG, -ENOTSUP for another scheme. */
int auth_challenge_parse(const char *value, struct auth_challenge *out, struct err *err);

/* URL that gives a token to pull from repository. */
int auth_token_url(
	const struct auth_challenge *c, const char *repository, struct buf *out, struct err *err);
/* {"token":T} or {"access_token":T} made into "Bearer T". */
int auth_token_parse(const char *data, size_t len, struct buf *out, struct err *err);

/* "Basic ..." made of both. */
int auth_basic(const char *user, const char *password, struct buf *out, struct err *err);
/*
 * "Basic ..." for the host ("ghcr.io", "127.0.0.1:5000", "docker.io") from a docker config.json;
 * out stays empty when the file has nothing for it.
 */
int auth_file_basic(const char *path, const char *host, struct buf *out, struct err *err);

#endif

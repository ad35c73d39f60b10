/*
 * oci/registry.h - client of one repository in one registry, to the OCI distribution spec: where
 * it is (mirrors, plain http), authentication, manifests, and the transfers of blobs, which
 * oci/download.h drives. Part of drover-image: blocks. Times in ms.
 */
#ifndef DROVER_OCI_REGISTRY_H
#define DROVER_OCI_REGISTRY_H

#include "oci/image.h"
#include "oci/transfer.h"

struct registry;

/* How registries are reached; borrowed while a registry that was opened with it lives. */
struct registry_conf {
	struct strv mirrors;    /* "HOST=URL": that host's pulls go to URL and nowhere else */
	struct strv plain_http; /* hosts without TLS; the loopback is one of them anyway */
	const char *auth_file;  /* docker config.json; NULL: anonymous */
	struct strv basic;      /* "HOST Basic ...", of registry_ask_helpers() */
	unsigned tries;         /* of a request that fails in a way that may pass */
	uint64_t stall_ms;
	uint64_t connect_timeout_ms;
};
#define REGISTRY_CONF_DEFAULT                                                                      \
	{                                                                                          \
		.tries = 5, .stall_ms = 30000, .connect_timeout_ms = 10000                         \
	}

/* "HOST=URL" with a URL of http or https. */
int registry_mirror_check(const char *mirror, struct err *err);

/*
 * Asks the credential helpers that conf's auth_file names for the registry of each reference, which
 * has to be before the sandbox is entered: they are programs that know about files and services.
 */
int registry_ask_helpers(struct registry_conf *conf, const struct strv *refs, struct err *err);
void registry_forget_helpers(struct registry_conf *conf);

int registry_open(struct registry **out, const struct registry_conf *conf,
	const struct image_ref *ref, struct err *err);
void registry_close(struct registry *r);
/* "http://127.0.0.1:5000", for messages. */
const char *registry_url(const struct registry *r);

struct registry_answer {
	struct buf body;
	char content_type[128];
	char content_digest[160]; /* Docker-Content-Digest; "" when not sent */
};
void registry_answer_finish(struct registry_answer *a);

/*
 * A manifest by tag or digest, or a small blob. Tried again, authenticated, bounded by max. Not
 * verified. -ENOENT: the registry has no such thing; other messages name the registry.
 */
int registry_get_manifest(struct registry *r, const char *tag_or_digest, size_t max,
	struct registry_answer *out, struct err *err);
int registry_get_blob(struct registry *r, const char *digest, size_t max,
	struct registry_answer *out, struct err *err);

/* How often one request failed, and in which way. {0} for a new one. */
struct registry_attempts {
	unsigned failed, absent, auth;
	unsigned generation; /* of the credentials that the request was sent with */
};
/* Prepares the transfer of a blob from byte `from` on. */
int registry_blob_transfer(struct registry *r, const char *digest, uint64_t from,
	transfer_body_fn *body, void *arg, struct registry_attempts *attempts, struct transfer *out,
	struct err *err);
/*
 * What to do after a transfer that ended with code: 0: it succeeded; 1: start it again in
 * *wait_ms (new credentials may have been fetched meanwhile); -errno: give up, err says why.
 */
int registry_after(struct registry *r, struct transfer *t, CURLcode code,
	struct registry_attempts *attempts, uint64_t *wait_ms, struct err *err);

#endif

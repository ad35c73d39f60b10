/*
 * oci/manifest.h - what a registry says an image is made of: image index (manifest list), image
 * manifest, image config. OCI image spec 1.0 and Docker's schema 2; schema 1 is refused. Pure;
 * every byte of the input is taken as hostile.
 */
#ifndef DROVER_OCI_MANIFEST_H
#define DROVER_OCI_MANIFEST_H

#include <stdint.h>
#include "lib/str.h"
#include "oci/digest.h"

#define MANIFEST_SIZE_MAX ((size_t)4 << 20)
#define MANIFEST_ACCEPT                                                                            \
	"application/vnd.oci.image.index.v1+json, "                                                \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.docker.distribution.manifest.list.v2+json, "                              \
	"application/vnd.docker.distribution.manifest.v2+json"

struct descriptor {
	char media_type[128];
	char digest[DIGEST_MAX];
	uint64_t size;
};

struct platform {
	char os[32];
	char architecture[32];
	char variant[32]; /* "" : any */
};

/* "linux/amd64", "linux/arm/v7". */
int platform_parse(const char *s, struct platform *out, struct err *err);

struct manifest {
	struct descriptor config;
	struct descriptor *layers; /* base first */
	size_t n;
};

enum manifest_kind {
	MANIFEST_IMAGE,
	MANIFEST_INDEX
};
/* By the document's mediaType, else by the answer's Content-Type (may be NULL), else by its keys. */
int manifest_kind(const char *data, size_t len, const char *content_type, enum manifest_kind *out,
	struct err *err);
int manifest_parse(const char *data, size_t len, struct manifest *out, struct err *err);
void manifest_finish(struct manifest *m);
/*
 * -ENOENT when the index has nothing for the platform; the message lists what it has. An index of
 * one image without a platform gives that.
 */
int index_choose(const char *data, size_t len, const struct platform *want, struct descriptor *out,
	struct err *err);

struct image_config {
	struct platform platform;     /* empty strings where it names none */
	char (*diff_ids)[DIGEST_MAX]; /* of the layers unpacked, in their order; may be fewer */
	size_t n;
};
int image_config_parse(const char *data, size_t len, struct image_config *out, struct err *err);
void image_config_finish(struct image_config *c);
/* Whether the descriptor of a config says an image config, not that of some artifact. */
bool config_is_image(const struct descriptor *config);

#endif

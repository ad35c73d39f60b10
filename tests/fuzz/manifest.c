/* Manifests and configs of images. */
#include <stdlib.h>
#include <string.h>
#include "oci/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	enum manifest_kind kind;
	struct image_config c;
	struct manifest m;
	struct err err;

	manifest_kind(text, len, NULL, &kind, &err);
	manifest_kind(text, len, "application/vnd.oci.image.manifest.v1+json", &kind, &err);
	if (manifest_parse(text, len, &m, &err) == 0) {
		/* What is accepted can be a file's name in the store. */
		for (size_t i = 0; i < m.n; i++) {
			if (!digest_valid(m.layers[i].digest))
				abort();
		}
		if (!digest_valid(m.config.digest))
			abort();
		manifest_finish(&m);
	}
	if (image_config_parse(text, len, &c, &err) == 0) {
		for (size_t i = 0; i < c.n; i++) {
			if (!digest_valid(c.diff_ids[i]))
				abort();
		}
		image_config_finish(&c);
	}
	return 0;
}

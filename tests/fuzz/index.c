/* Image indexes, for several platforms. */
#include <stdlib.h>
#include "oci/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const wanted[] = { "linux/amd64", "linux/arm64/v8", "linux/arm/v7" };
	struct descriptor d;
	struct platform p;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		if (platform_parse(wanted[i], &p, &err) < 0)
			abort();
		if (index_choose((const char *)data, len, &p, &d, &err) == 0 &&
			!digest_valid(d.digest))
			abort();
	}
	return 0;
}

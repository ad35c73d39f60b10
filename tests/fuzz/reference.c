/* References to images, as users and configurations write them. */
#include <stdlib.h>
#include <string.h>
#include "oci/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = strndup((const char *)data, len);
	struct image_ref ref, again;
	struct buf first = { 0 }, second = { 0 };
	struct err err;

	if (image_ref_parse(text, &ref, &err) == 0) {
		/* The full form means the same, and is its own full form. */
		image_ref_format(&ref, &first);
		if (image_ref_parse(buf_str(&first), &again, &err) < 0)
			abort();
		image_ref_format(&again, &second);
		if (strcmp(buf_str(&first), buf_str(&second)) != 0)
			abort();
	}
	buf_finish(&first);
	buf_finish(&second);
	free(text);
	return 0;
}
